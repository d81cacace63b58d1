import logging
from fractions import Fraction

import datasets
import numpy as np
import pytest
import torch
from PIL import Image

from levyjepa.data import Photometric, open_source, test_loader, train_loader
from levyjepa.data.clips import crop_clip, middle
from levyjepa.data.settings import ViewGroup, ViewsSettings
from levyjepa.data.video import MemoryVideo, UnreadableVideoError, Video
from levyjepa.data.views import Crops, generator_of
from levyjepa.settings import ConfigError
from levyjepa.training.config import compose

PLAIN = {"flip": 0.0, "jitter": 0.0, "gray": 0.0, "blur": 0.0, "solarize": 0.0}


def ramp(frames: int, size: int = 8) -> MemoryVideo:
    """Frame n is n everywhere."""
    values = torch.arange(frames, dtype=torch.uint8)[:, None, None, None]
    return MemoryVideo(values.expand(frames, 3, size, size).contiguous())


def drawn(video, key, length: int, stride: int = 1, **groups):
    """Views and valid frames of one group."""
    views = ViewsSettings(groups=[ViewGroup(scale=(0.3, 1.0), **groups)], **PLAIN)
    (views,), (valid,) = crop_clip(Crops(views, 8), video, (length, stride, None), key)
    return views, valid


def numbers(view: torch.Tensor) -> list[int]:
    assert (view == view[:, :1, :1, :1]).all()
    return view[:, 0, 0, 0].tolist()


def test_views_share_a_random_clip_that_key_and_epoch_decide():
    starts = []
    for key in [(0, 0, 0), (0, 0, 0), (0, 1, 0), (1, 0, 0), (0, 0, 1)]:
        views, valid = drawn(ramp(30), key, 3, stride=4, count=2)
        first, second = map(numbers, views)
        assert first == second == [first[0], first[0] + 4, first[0] + 8]
        assert valid.all()
        starts.append(first[0])
    assert starts[0] == starts[1]
    assert len(set(starts[1:])) > 2


def test_views_of_fewer_frames_are_windows_of_their_own():
    views, _ = drawn(ramp(12), (0, 0, 0), 12, count=8, frames=4)
    windows = [numbers(view) for view in views]
    assert all(view == list(range(view[0], view[0] + 4)) for view in windows)
    assert len({view[0] for view in windows}) > 3


def test_frames_of_a_view_are_cropped_alike_and_views_differently():
    image = torch.randint(0, 256, (3, 32, 32), dtype=torch.uint8)
    still = MemoryVideo(image.expand(5, 3, 32, 32).contiguous())
    one, other = drawn(still, (3, 0, 0), 5, count=2)[0]
    assert (one == one[:1]).all()
    assert (one != other).any()


def test_a_clip_longer_than_its_video_repeats_the_last_frame_and_says_so():
    views, valid = drawn(ramp(3), (0, 0, 0), 5, count=1)
    assert numbers(views[0]) == [0, 1, 2, 2, 2]
    assert valid.tolist() == [[True, True, True, False, False]]
    assert middle(ramp(3), 5)[:, 0, 0, 0].tolist() == [0, 1, 2, 2, 2]
    assert middle(ramp(9), 3, 2)[:, 0, 0, 0].tolist() == [2, 4, 6]


def test_the_colors_of_a_clip_change_alike_in_all_its_frames():
    views = torch.randint(0, 256, (2, 3, 1, 3, 8, 8), dtype=torch.uint8).expand(2, 3, 4, 3, 8, 8)
    colors = Photometric(ViewsSettings(blur=0.5), (0.5,) * 3, (0.2,) * 3)
    changed = colors(views, generator_of(0))
    assert changed.shape == views.shape
    assert torch.allclose(changed, changed[:, :, :1].expand_as(changed))
    assert not torch.allclose(changed[0], changed[1])


def test_moving_digits_make_batches_of_clips():
    config = compose(["data=moving_digits", "data.limit=8", "data.batch_size=4", "data.workers=0"])
    source = open_source(config.data)
    batch = next(iter(train_loader(source, config.data, config.views, seed=0)))
    assert batch.views[0].shape == (2, 4, 8, 3, 48, 48)
    assert batch.valid == ()
    tests = next(iter(test_loader(source.test, config.data)))
    assert tests.images.shape == (4, 8, 3, 48, 48)
    scene = source.test.truth(0)
    assert torch.equal(tests.images[0], scene.frames)
    shown = torch.bincount(scene.masks.flatten().long())[1:].argmax()
    assert tests.labels[0] == scene.identities[int(shown)].digit


def test_short_videos_give_batches_with_their_missing_frames(tmp_path):
    for video in "abc":
        (tmp_path / video).mkdir()
        for n in range(4):
            Image.new("RGB", (60, 40), (9 * n, 0, 0)).save(tmp_path / video / f"{n}.png")
    small = ["data.batch_size=2", "data.workers=0", "data.image_size=48", "data.stride=1"]
    config = compose(["data=videofolder", f"data.path={tmp_path}", *small])
    source = open_source(config.data)
    assert (source.classes, len(source.train), len(source.test)) == ((), 2, 1)
    batch = next(iter(train_loader(source, config.data, config.views, seed=0)))
    assert batch.views[0].shape == (2, 2, 16, 3, 48, 48)
    assert batch.valid[0].sum((0, 1)).tolist() == [4] * 4 + [0] * 12


def climbing(frames: int, step: int) -> list[np.ndarray]:
    """Frame n is n * step everywhere."""
    return [np.full((32, 48, 3), n * step, np.uint8) for n in range(frames)]


def test_videos_of_several_rates_have_steps_of_equal_duration(tmp_path, write_film, caplog):
    """Both brighten by 50 a second, at 12.5 and 25 frames a second."""
    write_film(tmp_path / "slow.mp4", climbing(48, 4), rate=Fraction(25, 2))
    write_film(tmp_path / "fast.mp4", climbing(96, 2))
    small = ["data.batch_size=1", "data.workers=0", "data.image_size=28", "model.patch_size=4"]
    overrides = ["data=videofolder", f"data.path={tmp_path}", "data.frames=5", *small]

    def steps(config) -> list[float]:
        """By how much the middle clip, and a random one, brighten from frame to frame."""
        source, whole = (
            open_source(config.data),
            ViewsSettings(groups=[ViewGroup(count=1)], **PLAIN),
        )
        clips = [b.views[0][0] for b in train_loader(source, config.data, whole, seed=0)]
        for part in (source.train, source.test):
            clips += [batch.images for batch in test_loader(part, config.data)]
        return [clip.double().mean((0, 2, 3, 4)).diff().mean().item() for clip in clips]

    with caplog.at_level(logging.WARNING):
        by_number = steps(compose([*overrides, "data.stride=4"]))
    (warning,) = caplog.messages
    assert all(part in warning for part in ("12.5 (", "slow.mp4", "fast.mp4", "data.rate=3.125"))
    assert max(by_number) > 1.8 * min(by_number)
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        by_time = steps(compose([*overrides, "data.rate=3.125"]))
    np.testing.assert_allclose(by_time, 50 / 3.125, atol=1.0)
    assert caplog.messages == []


def test_bad_videos_among_many_are_skipped_and_named(tmp_path, write_film, write_sound, caplog):
    """Those that can't be opened in the log, one that can't be decoded in its batch."""
    for n in range(7):
        write_film(tmp_path / f"{n}.mp4", climbing(10, 5))
    (tmp_path / "text.mp4").write_text("no video")
    write_sound(tmp_path / "sound.mp4")
    garbled = write_film(tmp_path / "garbled.mp4", climbing(10, 5))
    content = bytearray(garbled.read_bytes())
    start, end = content.index(b"mdat") + 4, content.rindex(b"moov") - 4
    content[start:end] = bytes(end - start)  # what the index points to
    garbled.write_bytes(content)
    small = ["data.workers=0", "data.frames=4", "data.image_size=28", "model.patch_size=4"]
    overrides = ["data=videofolder", f"data.path={tmp_path}", "data.stride=1", *small]
    with caplog.at_level(logging.WARNING):
        source = open_source(compose(overrides).data)
    assert "text.mp4" in caplog.text
    assert "sound.mp4" in caplog.text
    config = compose([*overrides, "data.batch_size=5"])
    corrupt, clips = [], 0
    for part in (source.train, source.test):
        for batch in test_loader(part, config.data):
            corrupt += batch.corrupt
            clips += len(batch.images)
    (named,) = corrupt
    assert "garbled.mp4" in named
    assert clips == 7


@pytest.mark.parametrize(
    ("below", "classes"),
    [
        (("run/x", "run/y", "jump/z", "jump/v"), ("jump", "run")),
        (("x", "y"), ()),
        (("x", "a/y"), ()),
    ],
)
def test_folders_that_hold_videos_are_classes_and_folders_of_frames_are_videos(
    tmp_path, below, classes
):
    for name in below:
        (tmp_path / name).mkdir(parents=True)
        Image.new("RGB", (40, 40), (90, 0, 0)).save(tmp_path / name / "0.png")
    config = compose(["data=videofolder", f"data.path={tmp_path}"])
    assert open_source(config.data).classes == classes


@pytest.mark.parametrize(
    ("overrides", "wanted"),
    [
        (["data=moving_digits", "data.digits=[2,1]"], "`data.digits` must be"),
        (["data=mnist5k", "data.stride=3"], "`data.stride` only applies to video"),
        (["data=moving_digits", "views.groups.0.frames=9"], r"`views.groups\[0\].frames` must be"),
    ],
)
def test_settings_that_no_clip_can_have(overrides, wanted):
    with pytest.raises(ConfigError, match=wanted):
        compose(overrides)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("image_size=32", "`data.image_size` must be at least 42"),
        ("stride=2", "`data.stride` must be 1"),
        ("rate=5", "`data.rate` must be null"),
    ],
)
def test_moving_digits_need_room_and_all_their_frames(setting, message):
    with pytest.raises(ValueError, match=message):
        open_source(compose(["data=moving_digits", f"data.{setting}"]).data)


@pytest.mark.parametrize("form", ["path", "bytes"])
def test_a_data_set_of_videos_is_read_as_the_hub_gives_it(form, monkeypatch, shared_data):
    paths = [shared_data / "video" / f"{name}.mp4" for name in ("bikes", "carphone_pristine")]
    records = [{"path": str(p)} if form == "path" else {"bytes": p.read_bytes()} for p in paths]
    label = datasets.ClassLabel(names=["bike", "phone"])
    features = datasets.Features({"video": datasets.Video(), "label": label})
    columns = {"video": [{"path": None, "bytes": None} | r for r in records], "label": [0, 1]}
    table = datasets.Dataset.from_dict(columns, features=features)
    tables = datasets.DatasetDict(train=table, test=table)
    monkeypatch.setattr(datasets, "load_dataset", lambda *args, **options: tables)
    small = ["data.path=some/videos", "data.batch_size=1", "data.workers=0"]
    config = compose(["data=videohub", *small])
    source = open_source(config.data)
    assert source.classes == ("bike", "phone")
    assert [(len(video), label) for video, label in source.train] == [(250, 0), (120, 1)]
    batch = next(iter(train_loader(source, config.data, config.views, seed=0)))
    assert batch.views[0].shape == (2, 1, 16, 3, 112, 112)


def test_bytes_that_are_no_video_are_not_printed():
    with pytest.raises(UnreadableVideoError, match="got 9 bytes") as raised:
        Video(b"no video!")
    assert "no video!" not in str(raised.value)
