"""Videos are read frame by frame or as clips, each frame at its own time."""

import logging
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from levyjepa.data import readers
from levyjepa.data.video import UnreadableVideoError, Video, Videos, find_videos, read_frames

av = pytest.importorskip("av", reason="videos are made by PyAV, which is not installed")

HEIGHT, WIDTH = 48, 64


def grey(number: int) -> np.ndarray:
    """A picture that tells its number."""
    return np.full((HEIGHT, WIDTH, 3), 8 * number, np.uint8)


def number(image: np.ndarray) -> int:
    return round(float(image.mean()) / 8)


def write(path: Path, images: list[np.ndarray], times: list[int] | None = None, **options) -> Path:
    """Encode images, at 25 a second or at times in milliseconds."""
    codec = options.pop("codec", "libx264")
    flags = options.pop("container", {})
    with av.open(str(path), "w", options=flags) as container:
        stream = container.add_stream(codec, rate=25, options=options)
        stream.height, stream.width = images[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        if times:
            stream.codec_context.time_base = Fraction(1, 1000)
        for index, image in enumerate(images):
            frame = av.VideoFrame.from_ndarray(image, "rgb24")
            if times:
                frame.pts, frame.time_base = times[index], Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """30 frames that tell their numbers, with frames that refer to later ones."""
    path = tmp_path_factory.mktemp("film") / "film.mp4"
    return write(path, [grey(n) for n in range(30)], bf="3", g="12")


@pytest.mark.parametrize(
    ("name", "codec"),
    [("x.mp4", "libx264"), ("x.mkv", "libx264"), ("x.ts", "libx264"), ("x.avi", "mpeg4")],
)
def test_frames_come_in_order_and_are_found_again_by_number(tmp_path, name, codec):
    path = write(tmp_path / name, [grey(n) for n in range(30)], codec=codec, bf="2", g="12")
    frames = list(read_frames(path))
    assert [frame.index for frame in frames] == list(range(30))
    np.testing.assert_allclose([frame.time for frame in frames], np.arange(30) / 25, atol=1e-6)
    held = Video(path)
    np.testing.assert_allclose(held.times, np.arange(30) / 25, atol=1e-6)
    order = [20, 3, 3, 11, 29, 0]
    wanted = np.stack([frames[n].image for n in order])
    np.testing.assert_array_equal(held.take(order), wanted)


def test_pictures_are_those_that_were_written(film):
    assert [number(frame.image) for frame in read_frames(film)] == list(range(30))


def test_times_follow_a_variable_frame_rate(tmp_path):
    times = np.random.default_rng(0).integers(10, 90, 20).cumsum()
    path = write(tmp_path / "variable.mkv", [grey(n) for n in range(20)], times.tolist())
    expected = (times - times[0]) / 1000
    np.testing.assert_allclose([f.time for f in read_frames(path)], expected, atol=1e-3)
    np.testing.assert_allclose(Video(path).clip(3, 4, 5).times, expected[3::5][:4], atol=1e-3)


@pytest.mark.parametrize("size", [None, (WIDTH, HEIGHT)])
def test_a_quarter_turn_that_the_file_states_is_made(tmp_path, size):
    upright = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    upright[:24, :32] = 255  # top left
    path = write(tmp_path / "phone.mp4", [upright] * 3)
    content = path.read_bytes()
    at = content.index(b"tkhd") + 44  # the matrix; this one turns clockwise
    numbers = (0, 0x10000, 0, -0x10000, 0, 0, 0, 0, 0x40000000)
    matrix = b"".join(value.to_bytes(4, "big", signed=True) for value in numbers)
    path.write_bytes(content[:at] + matrix + content[at + 36 :])
    for image in (next(read_frames(path, size)).image, Video(path, size).take([0])[0]):
        assert image.shape == (WIDTH, HEIGHT, 3)
        np.testing.assert_allclose(image, np.rot90(upright, -1), atol=60)
        assert image[:32, 24:].mean() > 240


def test_a_size_that_changes_midway_is_met_by_a_size_or_shown(tmp_path):
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
    with pytest.raises(UnreadableVideoError, match="`size` must be given"):
        Video(path).clip(0, 6)


def test_a_folder_of_pictures_is_a_video(tmp_path):
    for n in range(5):
        Image.fromarray(grey(n)).save(tmp_path / f"{n}.png")
    frames = list(read_frames(tmp_path, rate=2))
    assert [number(frame.image) for frame in frames] == list(range(5))
    assert [frame.time for frame in frames] == [0, 0.5, 1, 1.5, 2]
    assert [number(image) for image in Video(tmp_path, (8, 8), rate=2).take([4, 1])] == [4, 1]


def broken(kind: str, folder: Path, film: Path) -> Path:
    path = folder / f"{kind}.mp4"
    if kind == "text":
        path.write_text("no video")
    elif kind == "empty":
        path.touch()
    elif kind == "without pictures":
        path.mkdir()
    elif kind == "cut before its index":
        path.write_bytes(film.read_bytes()[:-500])
    elif kind == "cut in its middle":
        noise = np.random.default_rng(0).integers(0, 255, (30, HEIGHT, WIDTH, 3), np.uint8)
        write(path, list(noise), container={"movflags": "faststart"})
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    elif kind == "sound":
        with av.open(str(path), "w") as container:
            stream = container.add_stream("aac", rate=44100)
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
            frame.rate = 44100
            container.mux(stream.encode(frame))
            container.mux(stream.encode())
    return path


BROKEN = ["absent", "text", "empty", "without pictures", "cut before its index"]
BROKEN += ["cut in its middle", "sound"]


@pytest.mark.parametrize("kind", BROKEN)
def test_what_is_no_whole_video_is_named(tmp_path, film, kind):
    path = broken(kind, tmp_path, film)
    with pytest.raises(UnreadableVideoError, match=kind):
        list(read_frames(path))
    with pytest.raises(UnreadableVideoError, match=kind):
        Video(path)


def test_a_clip_beyond_the_end_repeats_the_last_frame_and_says_so(film):
    clip = Video(film, (8, 8)).clip(24, 4, stride=3)
    assert clip.frames.shape == (4, 3, 8, 8)
    assert [number(frame.numpy()) for frame in clip.frames] == [24, 27, 29, 29]
    assert clip.valid.tolist() == [True, True, False, False]
    np.testing.assert_allclose(clip.times, [0.96, 1.08, 1.16, 1.16], atol=1e-6)


def test_unreadable_videos_among_others_are_left_out_and_named(tmp_path, film, caplog):
    bad = broken("text", tmp_path, film)
    with caplog.at_level(logging.WARNING):
        videos = Videos([film, bad, film], [0, 1, 2], size=8)
    assert [label for _, label in videos] == [0, 2]
    assert videos.unreadable == [str(bad)]
    assert "1 of 3 videos can't be read" in caplog.text
    assert str(bad) in caplog.text
    with pytest.raises(ValueError, match="must hold a readable video"):
        Videos([bad])


def test_videos_and_folders_of_pictures_are_found(tmp_path, film):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    (tmp_path / "a" / "one.MP4").touch()
    (tmp_path / "a" / "notes.txt").touch()
    (tmp_path / "b" / "0.jpg").touch()
    (tmp_path / "b" / "1.jpg").touch()
    assert find_videos(tmp_path) == [tmp_path / "a" / "one.MP4", tmp_path / "b"]
    with pytest.raises(ValueError, match="`folder` must hold videos"):
        find_videos(tmp_path / "c")


def test_bad_numbers_are_named(film):
    for call, message in (
        (lambda: read_frames(film, (0, 8)), "`size` must be at least 1, got 0"),
        (lambda: read_frames(film, rate=-1.0), "`rate` must be positive"),
        (lambda: Video(film).clip(30, 1), "`start` must be at least 0 and below 30, got 30"),
        (lambda: Video(film).clip(0, 0), "`length` must be at least 1"),
    ):
        with pytest.raises(ValueError, match=message):
            call()


def test_torchcodec_reads_the_same_frames_where_pyav_is_missing(film, monkeypatch):
    try:
        from torchcodec.decoders import VideoDecoder

        VideoDecoder(str(film))
    except (ImportError, RuntimeError):
        pytest.skip("torchcodec, or the FFmpeg libraries that it needs, is not installed")
    frames = list(read_frames(film))
    monkeypatch.setattr(readers, "find_spec", lambda name: name == "torchcodec")
    others = list(read_frames(film))
    assert [number(frame.image) for frame in others] == list(range(30))
    np.testing.assert_allclose([f.time for f in others], [f.time for f in frames], atol=1e-6)
    np.testing.assert_array_equal(Video(film).take([17, 2])[0], others[17].image)


def test_a_real_clip_has_its_frames(shared_data):
    frames = list(read_frames(shared_data / "video" / "bikes.mp4", (17, 40)))
    assert len(frames) == 250
    assert frames[-1].image.shape == (17, 40, 3)
    assert frames[-1].time == pytest.approx(249 / 25)
