import pickle
from collections import defaultdict

import numpy as np
import pytest
import torch

from levyjepa.data import Source
from levyjepa.data.digit_clips import DIGIT, SPEED, DigitClip, MovingDigits

CLIPS = 40


@pytest.fixture(scope="module")
def clips() -> list[DigitClip]:
    dataset = MovingDigits("train", CLIPS, seed=1)
    return [dataset[index] for index in range(CLIPS)]


def steps(clip: DigitClip) -> dict[tuple[int, int], torch.Tensor]:
    """How far each object goes to each frame in which it is there, and was before."""
    moved = clip.positions[1:] - clip.positions[:-1]
    there = ~moved.isnan().any(-1)
    return {(t + 1, n + 1): moved[t, n] for t, n in there.nonzero().tolist()}


def kinds(clip: DigitClip) -> dict[tuple[int, int], str]:
    return {(event.frame, event.object): event.kind for event in clip.events}


def test_a_clip_is_a_function_of_seed_split_and_index():
    same = MovingDigits("test", 3)[2], MovingDigits("test", 30)[2]
    assert torch.equal(same[0].frames, same[1].frames)
    assert same[0].events == same[1].events
    assert same[0].identities == same[1].identities
    for other in (MovingDigits("test", 3, seed=1)[2], MovingDigits("train", 3)[2]):
        assert not torch.equal(same[0].frames, other.frames)
    dataset = MovingDigits("test", 3)
    assert torch.equal(pickle.loads(pickle.dumps(dataset))[2].frames, same[0].frames)


def test_masks_are_the_ink_of_the_digits_named_the_later_in_front(clips, digits: Source):
    splits = {"train": digits.train, "test": digits.test}
    test = MovingDigits("test", 10)
    for split, some in (("train", clips[:10]), ("test", [test[index] for index in range(10)])):
        for clip in some:
            wanted = np.zeros(clip.masks.shape, np.uint8)
            for t, row in enumerate(clip.positions.numpy()):
                for number, center in enumerate(row, start=1):
                    identity = clip.identities[number - 1]
                    image, digit = splits[split][identity.source]
                    assert digit == identity.digit
                    if not np.isnan(center).any():
                        y, x = np.rint(center - DIGIT / 2).astype(int)
                        ink = np.asarray(image)[..., 0] >= 128
                        wanted[t, y : y + DIGIT, x : x + DIGIT][ink] = number
            assert np.array_equal(clip.masks.numpy(), wanted)


def test_digits_move_smoothly_but_where_they_teleport(clips):
    counted = 0
    for clip in clips:
        named = kinds(clip)
        for at, step in steps(clip).items():
            far = step.norm().item()
            if named.get(at) == "teleport":
                assert far > (64 - DIGIT) * 2**0.5 / 3 - 1e-3
                counted += 1
            else:
                assert SPEED[0] - 1e-3 < far < SPEED[1] + 1e-3
    assert counted > 10


def test_velocity_changes_at_bounces_and_nowhere_else(clips):
    counted = 0
    for clip in clips:
        named, moved = kinds(clip), steps(clip)
        for (t, number), step in moved.items():
            before = moved.get((t - 1, number))
            after_jump = "teleport" in (named.get((t, number)), named.get((t - 1, number)))
            if before is None or after_jump:
                continue
            bounced = named.get((t, number)) == "bounce"
            torch.testing.assert_close(step.abs(), before.abs(), rtol=0, atol=1e-4)
            assert bounced == (not torch.allclose(step, before, atol=1e-4))
            counted += bounced
    assert counted > 10


def test_objects_come_and_go_where_events_and_cuts_say_so(clips):
    counted = defaultdict(int)
    for clip in clips:
        named = kinds(clip)
        there = ~clip.positions.isnan().any(-1)
        for t, n in (there[1:] != there[:-1]).nonzero().tolist():
            kind = named.get((t + 1, n + 1), named.get((t + 1, 0)))
            assert kind in ("cut", "appear" if there[t + 1, n] else "vanish")
            counted[kind] += 1
        for event in clip.events:
            if event.kind == "cut":
                assert not (there[event.frame] & there[event.frame - 1]).any()
            else:
                last = event.frame - (event.kind == "vanish")
                assert event.position == pytest.approx(clip.positions[last, event.object - 1])
        first = there.int().argmax(0)
        assert (first.diff() >= 0).all()  # numbered in the order in which they appear
        assert there.any(0).all()
    assert min(counted[kind] for kind in ("cut", "appear", "vanish")) > 3


def test_a_cut_changes_the_background():
    quiet = {"teleport": 0, "vanish": 0, "noise": 0}
    dataset = MovingDigits("train", 20, cut=0.1, **quiet)
    changes = []
    for clip in map(dataset.__getitem__, range(20)):
        empty = (clip.masks == 0).all(0)
        value = clip.frames[:, :, empty].float()
        cuts = {event.frame for event in clip.events if event.kind == "cut"}
        for t in range(1, 16):
            middle = (value[t] - value[t - 1]).abs().median().item()
            assert (middle > 10) == (t in cuts)
        changes.append(len(cuts))
    # 300 frames, each cut with probability .1: 30 +- 5.2; the alarm is false once in 10,000
    assert 10 <= sum(changes) <= 51


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"split": "val"}, "`split` must be one of train, test, got 'val'"),
        ({"size": 28}, "`size` must be at least 42, got 28"),
        ({"digits": (3, 2)}, "`digits` must be at least 3, got 2"),
        ({"cut": 1.5}, r"`cut` must be a probability in \[0, 1\], got 1.5"),
    ],
)
def test_bad_settings_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        MovingDigits(**settings)


def test_a_mask_can_name_254_objects():
    with pytest.raises(ValueError, match="at most 254 objects in a clip, got more in clip 0"):
        MovingDigits("train", 1, frames=200, cut=1, size=42)[0]
