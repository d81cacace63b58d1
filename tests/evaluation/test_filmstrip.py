"""Filmstrips: which clips and frames, steps of tokens, objects followed, true events."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import avg_pool2d

from levyjepa.conf.schema import DataConfig
from levyjepa.data import load_source
from levyjepa.data.moving_digits import DigitClip, Event, Identity, MovingDigits
from levyjepa.evaluation.filmstrip import FRAMES, Filmstrips, film, filmstrips

PATCH = 4


class Means(nn.Module):
    """A network whose tokens are the mean colours of `several` frames' patches."""

    def __init__(self, several: int = 1) -> None:
        super().__init__()
        self.several, self.patch_projection = several, nn.Identity()

    def encoder(self, clips):
        small = avg_pool2d(clips.flatten(0, 1), PATCH).unflatten(0, clips.shape[:2])
        rows = small.unflatten(1, (-1, self.several)).mean(2)
        return SimpleNamespace(field=rows.movedim(2, -1))

    def untrained(self, seed):
        return Blind(self.several)


class Blind(Means):
    """The same tokens whatever is shown."""

    def encoder(self, clips):
        return SimpleNamespace(field=torch.ones_like(super().encoder(clips).field))


def floats(frames):
    return frames.float() / 255


def square(places, events=(), size=16) -> DigitClip:
    """A red square of 8 pixels on blue, its corner at each frame's place."""
    masks = torch.zeros(len(places), size, size, dtype=torch.uint8)
    for frame, (y, x) in enumerate(places):
        masks[frame, y : y + 8, x : x + 8] = 1
    frames = 255 * torch.stack([masks, torch.zeros_like(masks), 1 - masks], 1)
    return DigitClip(frames, masks, torch.empty(0), (Identity(3, 0),), tuple(events))


JUMP = square([(0, 0)] * 3 + [(8, 8)] * 2, [Event(3, "teleport", 1, (12.0, 12.0))])


def test_a_step_is_seen_at_the_tokens_and_the_frame_that_jump():
    found = film(Means(), JUMP.frames[None], floats, scenes=[JUMP])
    assert found.frames.shape == (1, 5, 16, 16, 3)
    where = found.steps[0] > 0
    assert where.any((1, 2)).tolist() == [False, False, False, True, False]
    expected = np.zeros((4, 4), bool)
    expected[:2, :2] = expected[2:, 2:] = True
    assert np.array_equal(where[3], expected)
    assert np.mean(found.steps[:, 1:] ** 2) == pytest.approx(1)  # of rows after the first
    assert found.events.tolist() == [[0, 3, 12, 12]]
    assert found.kinds.tolist() == ["teleport"]


def test_objects_are_followed_from_their_first_mask():
    still = square([(4, 4)] * 4)
    found = film(Means(), still.frames[None], floats, scenes=[still])
    assert np.array_equal(found.truth[0], still.masks)
    assert (found.tracked[0] != still.masks.numpy()).mean() < 0.05  # corners are rounded
    assert not found.steps.any()  # nothing moves, nothing is divided by 0


def test_what_happens_between_frames_shown_stands_at_the_next():
    places = [(0, 0)] * 35 + [(8, 8)] * 5
    long = square(places, [Event(35, "teleport", 1, (12.0, 12.0)), Event(39, "cut", 0, None)])
    found = film(Means(), long.frames[None], floats, scenes=[long])
    assert found.frames.shape[1] == FRAMES
    kept = np.linspace(0, 39, FRAMES).round().astype(int)
    at = int(np.searchsorted(kept, 35))
    assert found.steps[0].any((1, 2)).nonzero()[0].tolist() == [at]
    assert np.array_equal(found.frames[0, at, ..., 0], long.frames[35, 0])
    assert found.events[:, 1].tolist() == [at, FRAMES - 1]
    assert np.isnan(found.events[1, 2:]).all()


def test_a_stride_and_tokens_of_several_frames_keep_events_in_their_place():
    places = [(0, 0)] * 9 + [(8, 8)] * 7
    clip = square(places, [Event(9, "teleport", 1, (12.0, 12.0))])
    shown = clip.frames[::2]  # frames 0, 2, ..., 14: the fifth, 8, is before and 10 after
    assert film(Means(), shown[None], floats, scenes=[clip], stride=2).events[0, 1] == 5
    found = film(Means(several=2), shown[None], floats, scenes=[clip], stride=2)
    assert found.frames.shape[1] == 4  # a row of tokens each
    assert found.events[0, 1] == 2  # frames 8 and 10
    assert np.array_equal(found.frames[0, 2, ..., 0], clip.frames[8, 0])


def test_clips_without_known_truth_have_steps_alone(tmp_path):
    found = film(Means(), JUMP.frames[None], floats)
    assert len(found.truth) == len(found.tracked) == len(found.events) == len(found.kinds) == 0
    assert found.steps[0, 3].any()
    found.save(tmp_path / "clips.npz")
    loaded = Filmstrips.load(tmp_path / "clips.npz")
    for name, value in vars(found).items():
        assert np.array_equal(value, getattr(loaded, name)), name


def test_moving_digits_are_followed_and_their_events_stand_in_the_film():
    scenes = MovingDigits("test", clips=3, frames=6, size=48, teleport=0.3, seed=1)
    clips = [scenes[i] for i in range(3)]
    frames = torch.stack([clip.frames for clip in clips])
    found = film(Means(), frames, floats, scenes=clips)
    assert len(found.kinds) == sum(len(clip.events) for clip in clips) > 0
    assert set(np.unique(found.tracked)) <= {0, *range(1, 1 + found.truth.max())}
    assert np.array_equal(found.tracked[:, 0], found.truth[:, 0])
    again = film(Means(), frames, floats, scenes=clips)
    assert np.array_equal(again.tracked, found.tracked)


def test_clips_in_which_something_jumps_come_first_and_the_same_for_every_network():
    config = DataConfig(source="moving_digits", image_size=48, frames=4)
    source = load_source(config)
    found = filmstrips(Means(), source, config)
    assert found.frames.shape == (6, 4, 48, 48, 3)
    jumps = {
        int(clip)
        for (clip, *_), kind in zip(found.events, found.kinds, strict=True)
        if kind != "bounce"
    }
    assert jumps == set(range(6))
    assert found.steps.any()
    assert found.untrained_steps.shape == found.steps.shape
    assert not found.untrained_steps.any()
    assert found.untrained_tracked.shape == found.tracked.shape
    assert not np.array_equal(found.untrained_tracked, found.tracked)
    again = filmstrips(Means(several=2), source, config)
    assert np.array_equal(again.frames, found.frames[:, ::2])
    unknown = filmstrips(Means(), replace(source, scenes=None), config)
    assert unknown.frames.shape == (6, 4, 48, 48, 3)
    assert len(unknown.truth) == len(unknown.untrained_tracked) == 0
