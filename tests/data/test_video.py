"""Videos are read frame by frame or as clips, each frame at its own time, by either decoder."""

import logging
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from levyjepa.data import readers
from levyjepa.data.video import (
    MemoryVideo,
    UnreadableVideoError,
    Video,
    Videos,
    read_frames,
)

av = pytest.importorskip("av", reason="videos are made by PyAV, which is not installed")

HEIGHT, WIDTH = 48, 64


def gray(number: int) -> np.ndarray:
    """A picture that tells its number."""
    return np.full((HEIGHT, WIDTH, 3), 8 * number, np.uint8)


def number(image: np.ndarray) -> int:
    return round(float(image.mean()) / 8)


def numbers(frames: torch.Tensor) -> list[int]:
    return [number(frame.numpy()) for frame in frames]


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory, write_film) -> Path:
    """30 frames that tell their numbers, with frames that refer to later ones."""
    path = tmp_path_factory.mktemp("film") / "film.mp4"
    return write_film(path, [gray(n) for n in range(30)], bf="3", g="12")


@pytest.fixture(params=["av", "torchcodec"])
def decoder(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, film: Path) -> str:
    """Each decoder in turn, as if the other were not installed."""
    name = request.param
    if name == "torchcodec":
        try:
            from torchcodec.decoders import VideoDecoder

            VideoDecoder(str(film))
        except (ImportError, RuntimeError):
            pytest.skip("torchcodec, or the FFmpeg libraries that it needs, is not installed")
    monkeypatch.setattr(readers, "DECODERS", {name: readers.DECODERS[name]})
    return name


@pytest.mark.parametrize(
    ("name", "codec"),
    [("x.mp4", "libx264"), ("x.mkv", "libx264"), ("x.ts", "libx264"), ("x.avi", "mpeg4")],
)
def test_frames_come_in_order_and_are_found_again_by_number(
    tmp_path, name, codec, decoder, write_film
):
    gop = {"bf": "2", "g": "12", "b": "4000000"}
    path = write_film(tmp_path / name, [gray(n) for n in range(30)], codec=codec, **gop)
    if decoder == "torchcodec" and name in ("x.ts", "x.avi"):  # it does not find their frames
        with pytest.raises(UnreadableVideoError, match=name):
            Video(path)
        return
    frames = list(read_frames(path))
    assert [frame.index for frame in frames] == list(range(30))
    assert [number(frame.image) for frame in frames] == list(range(30))
    np.testing.assert_allclose([frame.time for frame in frames], np.arange(30) / 25, atol=1e-6)
    video = Video(path)
    np.testing.assert_allclose(video.times, np.arange(30) / 25, atol=1e-6)
    order = [20, 3, 3, 11, 29, 0]
    wanted = np.stack([frames[n].image for n in order])
    np.testing.assert_array_equal(video.take(order), wanted)


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_a_clip_at_a_rate_shows_what_was_shown_at_its_moments(
    tmp_path, suffix, decoder, write_film
):
    """Frames tell their numbers, so the moment of each is known from how it was written."""
    times = np.random.default_rng(0).integers(10, 90, 25).cumsum()
    path = write_film(tmp_path / f"x.{suffix}", [gray(n) for n in range(25)], times.tolist())
    shown, video = (times - times[0]) / 1000, Video(path)
    for chosen in (2.0, 5.0, 12.5, 30.0):
        clip = video.clip(3, 6, rate=chosen)
        moments = shown[3] + np.arange(6) / chosen
        expected = [int((shown <= moment + 1e-3).sum()) - 1 for moment in moments]
        assert numbers(clip.frames) == expected
        np.testing.assert_allclose(clip.times, shown[expected], atol=1e-3)
        assert clip.valid.tolist() == (moments <= shown[-1] + 1e-3).tolist()


def test_a_clip_at_a_videos_own_rate_holds_every_frame_whatever_the_file_rounds(
    tmp_path, write_film
):
    """Matroska states 33, 67, 100 ms for frames a thirtieth of a second apart."""
    path = write_film(tmp_path / "x.mkv", [gray(n) for n in range(30)], rate=30)
    for start in range(20):
        assert numbers(Video(path).clip(start, 10, rate=30).frames) == list(
            range(start, start + 10)
        )


def test_starts_count_the_frames_that_begin_a_whole_clip():
    """Ten frames, one a second."""
    still = MemoryVideo(
        torch.arange(10, dtype=torch.uint8)[:, None, None, None].expand(10, 3, 2, 2)
    )
    assert still.starts(4) == 7
    assert still.starts(4, stride=3) == 1
    assert still.starts(4, rate=0.5) == 4
    assert still.starts(4, rate=2.0) == 8  # from number 7 on, the last is shown at 8.5
    assert still.starts(40, rate=0.5) == 1
    assert still.clip(7, 4, rate=2.0).frames[:, 0, 0, 0].tolist() == [7, 7, 8, 8]
    for start in range(10):
        whole = still.clip(start, 4, rate=2.0).valid.all()
        assert whole == (start < 8)


def test_a_quarter_turn_that_the_file_states_is_made(tmp_path, decoder, write_film):
    upright = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    upright[:24, :32] = 255  # top left
    path = write_film(tmp_path / "phone.mp4", [upright] * 3, sideways=True)
    size = WIDTH, HEIGHT
    for image in (next(read_frames(path)).image, Video(path, size).take([0])[0]):
        assert image.shape == (WIDTH, HEIGHT, 3)
        np.testing.assert_allclose(image, np.rot90(upright, -1), atol=60)
        assert image[:32, 24:].mean() > 240


def test_a_size_that_changes_midway_is_met_by_a_size_or_shown(tmp_path, decoder):
    path = tmp_path / "changing.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuvj420p"
        packets = []
        for wide, tall in ((64, 48), (32, 32)):
            coder = av.CodecContext.create("mjpeg", "w")
            coder.width, coder.height, coder.pix_fmt = wide, tall, "yuvj420p"
            coder.time_base = Fraction(1, 25)
            for _ in range(3):
                image = np.full((tall, wide, 3), 100, np.uint8)
                frame = av.VideoFrame.from_ndarray(image, "rgb24").reformat(format="yuvj420p")
                frame.pts, frame.time_base = len(packets), Fraction(1, 25)
                packets += coder.encode(frame)
            packets += coder.encode(None)
        for packet in packets:
            packet.stream = stream
            container.mux(packet)
    shapes = [frame.image.shape[:2] for frame in read_frames(path)]
    assert shapes == [(48, 64)] * 3 + [(32, 32)] * 3
    assert Video(path, size=(16, 24)).clip(0, 6).frames.shape == (6, 3, 16, 24)
    with pytest.raises(UnreadableVideoError, match="`size` must be set"):
        Video(path).clip(0, 6)


def test_photographs_of_several_sizes_are_no_video(tmp_path):
    for n, size in enumerate([(40, 30), (40, 30), (30, 40)]):
        Image.new("RGB", size).save(tmp_path / f"{n}.png")
    with pytest.raises(UnreadableVideoError, match="must be frames of one size, got 40 x 30 and "):
        Video(tmp_path)


def test_a_folder_of_pictures_is_a_video(tmp_path):
    for n in range(5):
        Image.fromarray(gray(n)).save(tmp_path / f"{n}.png")
    frames = list(read_frames(tmp_path, rate=2))
    assert [number(frame.image) for frame in frames] == list(range(5))
    assert [frame.time for frame in frames] == [0, 0.5, 1, 1.5, 2]
    assert [number(image) for image in Video(tmp_path, (8, 8), rate=2).take([4, 1])] == [4, 1]


@pytest.fixture
def broken(tmp_path: Path, film: Path, write_film, write_sound):
    """A maker of files that are no whole video."""

    def make(kind: str) -> Path:
        path = tmp_path / f"{kind}.mp4"
        if kind == "text":
            path.write_text("no video")
        elif kind == "without pictures":
            path.mkdir()
        elif kind == "without frames":
            with av.open(str(path), "w") as container:
                stream = container.add_stream("libx264", rate=25)
                stream.height, stream.width, stream.pix_fmt = HEIGHT, WIDTH, "yuv420p"
                container.start_encoding()
        elif kind == "cut before its index":
            path.write_bytes(film.read_bytes()[:-500])
        elif kind == "cut in its middle":
            noise = np.random.default_rng(0).integers(0, 255, (30, HEIGHT, WIDTH, 3), np.uint8)
            write_film(path, list(noise), container={"movflags": "faststart"})
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        elif kind == "sound":
            write_sound(path)
        return path

    return make


BROKEN = ["absent", "text", "without pictures", "without frames"]
BROKEN += ["cut before its index", "cut in its middle", "sound"]


@pytest.mark.parametrize("kind", BROKEN)
def test_what_is_no_whole_video_is_named(kind, broken, decoder):
    path = broken(kind)
    with pytest.raises(UnreadableVideoError, match=kind):
        list(read_frames(path))
    with pytest.raises(UnreadableVideoError, match=kind):
        Video(path)


def test_a_matroska_file_that_is_cut_short_is_a_shorter_video(tmp_path, decoder, write_film):
    """It states neither frames nor index ahead."""
    path = write_film(tmp_path / "x.mkv", [gray(n) for n in range(30)], g="1")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    frames = list(read_frames(path))
    assert 5 < len(frames) < 25
    assert [number(frame.image) for frame in frames] == list(range(len(frames)))
    assert len(Video(path)) == len(frames)


def test_the_bytes_of_a_file_are_read_as_the_file_is(film, decoder):
    video = Video(film.read_bytes(), 24)
    np.testing.assert_array_equal(video.times, Video(film).times)
    np.testing.assert_array_equal(video.take([13, 2]), Video(film, 24).take([13, 2]))


def test_a_clip_beyond_the_end_repeats_the_last_frame_and_says_so(film, decoder):
    for form in ({"stride": 3}, {"rate": 25 / 3}):
        clip = Video(film, (8, 8)).clip(24, 4, **form)
        assert clip.frames.shape == (4, 3, 8, 8)
        assert numbers(clip.frames) == [24, 27, 29, 29]
        assert clip.valid.tolist() == [True, True, False, False]
        np.testing.assert_allclose(clip.times, [0.96, 1.08, 1.16, 1.16], atol=1e-6)


def test_unreadable_videos_among_others_are_left_out_and_named(film, broken, decoder, caplog):
    bad = [broken(kind) for kind in ("text", "sound", "cut in its middle")]
    with caplog.at_level(logging.WARNING):
        videos = Videos([film, *bad, film], [0, 1, 1, 1, 2], size=8)
    assert [label for _, label in videos] == [0, 2]
    assert videos.unreadable == [str(path) for path in bad]
    assert "3 of 5 videos can't be read" in caplog.text
    assert all(str(path) in caplog.text for path in bad)
    with pytest.raises(ValueError, match=r"must hold a readable video, got 3 .*middle"):
        Videos(bad)


def test_without_a_decoder_the_library_to_install_is_named(film, monkeypatch):
    monkeypatch.setattr(readers, "DECODERS", {"absent_library": readers.PyAV})
    with pytest.raises(UnreadableVideoError, match="needs PyAV or torchcodec: pip install av"):
        Video(film)
    with pytest.raises(ValueError, match="needs PyAV or torchcodec: pip install av"):
        Videos([film])


def test_bad_numbers_are_named(film):
    video = Video(film)
    for call, message in (
        (lambda: read_frames(film, (0, 8)), "`size` must be at least 1, got 0"),
        (lambda: video.clip(30, 1), "`start` must be at least 0 and below 30, got 30"),
        (lambda: video.clip(0, 2, stride=0), "`stride` must be at least 1"),
        (lambda: video.clip(0, 2, rate=0.0), "`rate` must be positive, got 0.0"),
    ):
        with pytest.raises(ValueError, match=message):
            call()


def test_both_decoders_read_the_same_real_frames(shared_data, decoder):
    path = shared_data / "video" / "bikes.mp4"
    frames = list(read_frames(path, 64))
    assert len(frames) == 250
    assert frames[-1].time == pytest.approx(249 / 25)
    with av.open(str(path)) as container:
        for frame, true in zip(frames, container.decode(video=0), strict=True):
            if frame.index % 50 == 0:
                shown = np.asarray(true.to_image().resize((151, 64), Image.Resampling.BOX))
                assert frame.image.shape == shown.shape
                assert np.abs(frame.image.astype(int) - shown).mean() < 3
    taken = Video(path, 64).take([17, 3])
    np.testing.assert_array_equal(taken, np.stack([frames[17].image, frames[3].image]))
