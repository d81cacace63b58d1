"""Truths by hand: coloured squares, and encoders that see what they are told to see."""

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from levyjepa.data.moving_digits import DigitClip, Event, Identity, MovingDigits
from levyjepa.evaluation.clips import judge_clips

SIDE, SQUARE, PATCH = 32, 8, 4  # pixels
BRIGHT = 50  # what an object's id is multiplied by in a frame


def square_clip(
    paths: list[list[tuple[int, int] | None]],
    events: tuple[Event, ...] = (),
    cut: int | None = None,
) -> DigitClip:
    """Objects whose corners (y, x) are given in each frame; red says which, green the scene."""
    masks = torch.zeros(len(paths[0]), SIDE, SIDE, dtype=torch.uint8)
    for number, path in enumerate(paths, start=1):
        for t, corner in enumerate(path):
            if corner is not None:
                y, x = corner
                masks[t, y : y + SQUARE, x : x + SQUARE] = number
    grain = torch.Generator().manual_seed(0)  # steps of exactly 0 follow no law
    frames = torch.randint(9, (len(masks), 3, SIDE, SIDE), generator=grain, dtype=torch.uint8)
    frames[:, 0] += BRIGHT * masks
    if cut is not None:
        frames[cut:, 1] += 200
        events = (*events, Event(cut, "cut", 0, None))
    return DigitClip(
        frames=frames,
        masks=masks,
        positions=torch.zeros(len(masks), len(paths), 2),  # not read
        identities=tuple(Identity(digit=number, source=0) for number in range(len(paths))),
        events=tuple(sorted(events, key=lambda event: event.frame)),
    )


def slide(start: int, frames: int = 8) -> list[tuple[int, int] | None]:
    """One pixel a frame to the right."""
    return [(8, start + t) for t in range(frames)]


def teleport(at: int, frames: int = 8) -> DigitClip:
    """A square that stands and at a frame is 16 pixels lower, beside one that slides."""
    path = [(0 if t < at else 16, 4) for t in range(frames)]
    return square_clip([path, slide(20, frames)], (Event(at, "teleport", 1, None),))


class Seer(nn.Module):
    """A network whose tokens are a function of the clips (B, T, 3, H, W)."""

    def __init__(self, field: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.field = field
        self.patch_projection = nn.Identity()

    def encoder(self, clips: Tensor) -> SimpleNamespace:
        return SimpleNamespace(embedding=clips.flatten(1), field=self.field(clips))


def one_hot(clips: Tensor, frames: int = 1) -> Tensor:
    """The share of each object, and of the scene's colour, in each token, and a little noise."""
    number, scene = clips[:, :, 0] // BRIGHT, clips[:, :, 1] > 100
    told = torch.stack([*(number == n for n in range(4)), scene], 1).float()
    tokens = nn.functional.avg_pool3d(told, (frames, PATCH, PATCH)).movedim(1, -1)
    return tokens + 0.01 * torch.randn(tokens.shape, generator=torch.Generator().manual_seed(0))


def judge(network: nn.Module, train: list[DigitClip], test: list[DigitClip]) -> dict:
    return judge_clips({"network": network}, train, test, Tensor.float)["network"]


def steady(frames: int = 8) -> list[DigitClip]:
    """Clips to fit to, with a jump each."""
    return [teleport(2 + n % (frames - 2), frames) for n in range(5)]


def test_an_encoder_that_sees_masks_tells_all():
    clips = [square_clip([slide(0), [None, None, *slide(16)[2:]]], cut=6), *steady()]
    appears = Event(2, "appear", 2, None)
    clips[0] = replace(clips[0], events=(appears, *clips[0].events))
    found = judge(Seer(lambda c: 10 * one_hot(c)), clips, clips)
    assert found["segmentation"]["miou"] > 0.8  # a token's pixels share one answer
    assert found["digits"]["accuracy"] > 0.9
    assert found["tracking"]["j_and_f"] > 0.8
    for kind in ("everywhere", "objects", "frames"):
        assert found["jumps"]["tokens"][kind]["average_precision"] > 0.99
        assert found["jumps"]["field"][kind]["f1"] > 0.95


def test_whole_tokens_are_followed_but_for_corners():
    path = [(4 + 4 * (t % 2), 8) for t in range(8)]
    clip = square_clip([path, [(20, 4 + 4 * (t % 4)) for t in range(8)]])
    found = judge(Seer(one_hot), steady(), [clip])["tracking"]
    # between the middles of four tokens a corner's pixel has .625^2 < 1/2 of the object's label
    assert found["j_mean"] == 1 - 4 / SQUARE**2
    assert found["f_mean"] == 1  # boundaries may be a pixel apart
    assert found["there"] == found["j_and_f"]
    assert found["gone"] is None
    assert found["objects"] == 2


def test_a_constant_encoder_knows_nothing():
    def blind(clips: Tensor) -> Tensor:
        return torch.ones(*clips.shape[:2], SIDE // PATCH, SIDE // PATCH, 3)

    found = judge(Seer(blind), steady(), steady())
    assert found["segmentation"]["pixel_accuracy"] == pytest.approx(1 - 2 * SQUARE**2 / SIDE**2)
    for leaf in found["jumps"]["tokens"].values():
        assert leaf["average_precision"] == pytest.approx(leaf["chance"])
        assert leaf["f1"] == pytest.approx(leaf["chance_f1"])
    assert "missing" in found["tracking"]["cuts"]


def test_truths_of_one_teleport_by_hand():
    # squares of 2 x 2 tokens that stand still; the first jumps by 4 rows of tokens and back
    still: list[tuple[int, int] | None] = [(0, 24)] * 6
    path: list[tuple[int, int] | None] = [(0, 0)] * 2 + [(16, 0)] * 4
    clip = square_clip([path, still], (Event(2, "teleport", 1, None),))
    found = judge(Seer(one_hot), steady(6), [clip])["jumps"]["tokens"]
    assert found["everywhere"]["n"] == 5 * 64
    assert found["everywhere"]["chance"] == 8 / (5 * 64)
    assert found["objects"]["n"] == 5 * 8 + 4  # those that were or are covered at the jump
    assert found["objects"]["chance"] == 8 / 44
    assert found["frames"]["chance"] == 1 / 5
    assert all(leaf["average_precision"] == 1 for leaf in found.values())


def test_bounces_are_no_jumps_and_tokens_hardly_touched_are_not_judged():
    inside: list[tuple[int, int] | None] = [(0, 0)] * 2 + [(16, 1)] * 2  # a column of a new token
    clip = square_clip(
        [inside, slide(20, 4)], (Event(2, "teleport", 1, None), Event(3, "bounce", 2, None))
    )
    found = judge(Seer(one_hot), steady(4), [clip])["jumps"]["tokens"]
    # 4 x 1 of 4 x 4 pixels are a quarter, and jump: before 2 x 2 tokens, after 2 x 3
    assert found["everywhere"]["chance"] * found["everywhere"]["n"] == pytest.approx(10)
    low: list[tuple[int, int] | None] = [(0, 0)] * 2 + [(17, 1)] * 2
    clip = square_clip([low], (Event(2, "teleport", 1, None),))
    # after it 3 x 3 tokens, of which the last row and column hold a quarter, the corner a sixteenth
    found = judge(Seer(one_hot), steady(4), [clip])["jumps"]["tokens"]
    assert found["everywhere"]["n"] == 3 * 64 - 1
    assert found["everywhere"]["chance"] * found["everywhere"]["n"] == pytest.approx(4 + 8)


def test_a_cut_is_a_jump_of_every_token_and_no_object_outlives_it():
    path = [*slide(0, 4), None, None, None, None]
    clips = [square_clip([path, [None] * 4 + slide(12, 4)], cut=4) for _ in range(5)]
    found = judge(Seer(one_hot), clips, clips)
    everywhere = found["jumps"]["tokens"]["everywhere"]
    assert everywhere["chance"] == 1 / 7
    assert everywhere["average_precision"] == 1
    assert "missing" in found["jumps"]["tokens"]["objects"]  # nothing jumps but at the cut
    assert found["tracking"]["cuts"]["gone"] == 1
    assert found["tracking"]["cuts"]["objects"] == 10


def test_frames_without_the_object_are_told_apart():
    path = [(8, 8)] * 3 + [None] * 4 + [(8, 8)]
    clip = square_clip([path], (Event(3, "vanish", 1, None), Event(7, "appear", 1, None)))
    found = judge(Seer(one_hot), steady(), [clip])["tracking"]
    # judged are frames 1 to 6, of which it is there in two
    assert found["there"] == 1 - 4 / SQUARE**2 / 2
    assert found["j_and_f"] == pytest.approx((2 * found["there"] + 4 * found["gone"]) / 6)


def test_thresholds_come_from_the_training_clips_alone():
    train, test = steady(), [teleport(3), teleport(4)]
    louder = judge(Seer(lambda c: one_hot(c) * (1 + 9 * (len(c) == 2))), train, test)
    first, same = louder["jumps"]["tokens"], judge(Seer(one_hot), train, test)["jumps"]["tokens"]
    for kind, leaf in first.items():
        assert leaf["threshold"] == same[kind]["threshold"]
        assert leaf["average_precision"] == same[kind]["average_precision"]
    assert first["everywhere"]["f1"] < same["everywhere"]["f1"]  # it would be the same if refitted


@pytest.mark.parametrize("at", [4, 5])
def test_tokens_of_two_frames(at):
    still: list[tuple[int, int] | None] = [(0, 0)] * at + [(16, 0)] * (8 - at)
    clip = square_clip([still], (Event(at, "teleport", 1, None),))
    found = judge(Seer(lambda c: one_hot(c, 2)), steady(), [clip])
    jumps = found["jumps"]["tokens"]["everywhere"]
    # three steps between four rows: a jump between rows is in one, one within a row in two
    assert jumps["n"] == 3 * 64
    assert jumps["chance"] == (1 if at == 4 else 2) * 8 / jumps["n"]
    assert jumps["average_precision"] == 1
    if at == 4:  # three judged frames with one corner inside the frame, three with two
        assert found["tracking"]["j_mean"] == 1 - 1.5 / SQUARE**2


def test_intervals_are_over_clips():
    def vague(clips: Tensor) -> Tensor:
        grain = torch.Generator().manual_seed(1)
        tokens = one_hot(clips)
        return tokens + 0.4 * torch.randn(tokens.shape, generator=grain)

    found = judge(Seer(vague), steady(), steady())
    jumps = found["jumps"]["tokens"]["objects"]
    for leaf in (found["tracking"], found["tracking"]["cuts"], jumps):
        for name, (low, high) in leaf["intervals"].items():
            assert 0 <= low <= leaf[name] <= high <= 1
    low, high = jumps["intervals"]["average_precision"]
    assert low < jumps["average_precision"] < high
    assert set(found["tracking"]["intervals"]) == {"j_and_f", "there"}  # no object is ever gone
    alone = judge(Seer(vague), steady(), [teleport(3)])
    assert alone["jumps"]["tokens"]["objects"]["intervals"] == {}


def test_pixels_are_judged_on_the_same_grid():
    found = judge_clips(
        {"network": Seer(lambda c: one_hot(c, 2))}, steady(), steady(), Tensor.float
    )
    assert found.keys() == {"network", "pixels"}
    for kind, leaf in found["pixels"]["jumps"]["tokens"].items():
        assert leaf["n"] == found["network"]["jumps"]["tokens"][kind]["n"]
    assert "field" not in found["pixels"]["jumps"]


def test_real_digits_are_judged_the_same_each_time():
    def bright(clips: Tensor) -> Tensor:
        pooled = nn.functional.avg_pool3d(clips.movedim(2, 1), (1, 8, 8))
        return pooled.movedim(1, -1)

    clips = MovingDigits("train", 12, 6, 48), MovingDigits("test", 12, 6, 48)
    said: list[str] = []
    networks = {"one": Seer(bright), "other": Seer(lambda c: 3 * bright(c))}
    first = judge_clips(networks, *clips, Tensor.float, limit=6, progress=said.append)
    again = judge_clips({"one": networks["one"]}, *clips, Tensor.float, limit=6, pixels=False)
    assert again == {"one": first["one"]}
    assert any("other" in line for line in said)
    jumps = [first[name]["jumps"]["tokens"]["objects"] for name in networks]
    assert jumps[0]["average_precision"] == pytest.approx(jumps[1]["average_precision"], rel=1e-3)
    assert jumps[0]["n"] == first["pixels"]["jumps"]["tokens"]["objects"]["n"]
    assert np.isfinite(first["one"]["tracking"]["j_and_f"])


def test_bad_input_is_named():
    seer = Seer(one_hot)
    with pytest.raises(ValueError, match="at least one network"):
        judge_clips({}, steady(), steady(), Tensor.float)
    with pytest.raises(ValueError, match="`test` must hold at least one clip"):
        judge(seer, steady(), [])
    with pytest.raises(ValueError, match="at least three frames, got 2"):
        judge(seer, steady(), [square_clip([slide(0, 2)])])
    with pytest.raises(ValueError, match="as large as `train`"):
        judge(seer, steady(), [square_clip([slide(0, 5)])])
    with pytest.raises(ValueError, match=r"divides \(8, 32, 32\)"):
        judge(Seer(lambda c: one_hot(c)[:, :3]), steady(), steady())
    with pytest.raises(ValueError, match="`limit`"):
        judge_clips({"network": seer}, steady(), steady(), Tensor.float, limit=0)
