"""Truths by hand: colored squares, and encoders that see what a test lets them see."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, avg_pool3d

from levyjepa.data.digit_clips import DigitClip, DigitEvent, DigitIdentity, MovingDigits
from levyjepa.data.settings import DataSettings
from levyjepa.data.source import Source
from levyjepa.data.video import MemoryVideo
from levyjepa.models import Encoder, Encoding
from levyjepa.tasks import Subject
from levyjepa.tasks.evaluation import Evaluation, evaluate

SIDE, SQUARE, PATCH = 32, 8, 4  # pixels
BRIGHT = 50  # what an object's id is multiplied by in a frame

Path = list[tuple[int, int] | None]


@pytest.fixture(autouse=True)
def few_draws(monkeypatch) -> None:
    """Intervals of fewer draws take less time."""
    monkeypatch.setattr("levyjepa.tasks.intervals.DRAWS", 100)


def square_clip(paths: list[Path], events: tuple[DigitEvent, ...] = (), cut: int = 0) -> DigitClip:
    """Objects with a corner (y, x) in each frame; red is the object, green the scene."""
    masks = torch.zeros(len(paths[0]), SIDE, SIDE, dtype=torch.uint8)
    positions = torch.full((len(masks), len(paths), 2), torch.nan)
    for number, path in enumerate(paths, start=1):
        for t, corner in enumerate(path):
            if corner is not None:
                y, x = corner
                masks[t, y : y + SQUARE, x : x + SQUARE] = number
                positions[t, number - 1] = torch.tensor([y + 4.0, x + 4.0])
    grain = torch.Generator().manual_seed(0)  # steps of exactly 0 follow no law
    frames = torch.randint(9, (len(masks), 3, SIDE, SIDE), generator=grain, dtype=torch.uint8)
    frames[:, 0] += BRIGHT * masks
    if cut:
        frames[cut:, 1] += 200
        events = (*events, DigitEvent(cut, "cut", 0, None))
    return DigitClip(
        frames=frames,
        masks=masks,
        positions=positions,
        identities=tuple(DigitIdentity(digit=number, source=0) for number in range(len(paths))),
        events=tuple(sorted(events, key=lambda event: event.frame)),
    )


def slide(start: int, frames: int = 8) -> Path:
    """One pixel a frame to the right."""
    return [(8, start + t) for t in range(frames)]


def teleport(at: int, frames: int = 8) -> DigitClip:
    """A square that stands and at a frame is 16 pixels lower, beside one that slides."""
    path: Path = [(0 if t < at else 16, 4) for t in range(frames)]
    event = DigitEvent(at, "teleport", 1, (20.0, 8.0))
    return square_clip([path, slide(20, frames)], (event,))


def steady(frames: int = 8) -> list[DigitClip]:
    """Clips to fit to, with a jump each."""
    return [teleport(2 + n % (frames - 2), frames) for n in range(5)]


class Seer(Encoder):
    """An encoder whose tokens are a function of the clips (B, T, 3, H, W) in [0, 255]."""

    def __init__(self, tokens: Callable[[Tensor], Tensor], frames: int = 1) -> None:
        super().__init__()
        self.tokens, self.patch_size = tokens, (frames, PATCH, PATCH)

    def forward(self, images: Tensor) -> Encoding:
        clips = (255 * images).round()
        return Encoding(clips.flatten(1)[:, :2], self.tokens(clips))


def one_hot(clips: Tensor, frames: int = 1) -> Tensor:
    """The share of each object, and of the scene's color, in each token, and a little noise."""
    number, scene = clips[:, :, 0] // BRIGHT, clips[:, :, 1] > 100
    seen = torch.stack([*(number == n for n in range(4)), scene], 1).float()
    tokens = avg_pool3d(seen, (frames, PATCH, PATCH)).movedim(1, -1)
    return tokens + 0.01 * torch.randn(tokens.shape, generator=torch.Generator().manual_seed(0))


class Scenes:
    """A dataset of clips with their scenes."""

    def __init__(self, clips) -> None:
        self.clips = clips

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, index: int):
        return MemoryVideo(self.clips[index].frames), -1

    def truth(self, index: int) -> DigitClip:
        return self.clips[index]


def run(train, test, size: int = SIDE, **encoders: Encoder) -> Evaluation:
    zero, one = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    source = Source(
        "squares", Scenes(train), Scenes(test), mean=zero, std=one, truth="scenes", clips=True
    )
    heads = {"trained": nn.Identity()}
    return evaluate(
        [Subject(name, e, patch_projection=heads.get(name)) for name, e in encoders.items()],
        source,
        DataSettings(source="squares", image_size=size, frames=len(train[0].frames)),
        tasks=["clips"],
    )


def scores(tokens: Callable[[Tensor], Tensor] | Encoder, train, test) -> dict:
    encoder = tokens if isinstance(tokens, Encoder) else Seer(tokens)
    found = run(train, test, trained=encoder)
    assert not found.failures, found.failures
    return {score.name: score for score in found.scores}


def values(*given, **options) -> dict[str, float]:
    return {name: score.value for name, score in scores(*given, **options).items()}


QUESTIONS = "everywhere", "objects", "frames"


def test_an_encoder_that_sees_masks_knows_everything():
    clips = [square_clip([slide(0), [None, None, *slide(16)[2:]]], cut=6), *steady()]
    appears = DigitEvent(2, "appear", 2, (12.0, 22.0))
    clips[0] = replace(clips[0], events=(appears, *clips[0].events))
    found = run(clips, clips, trained=Seer(lambda c: 10 * one_hot(c)))
    result = {score.name: score.value for score in found.scores}
    assert result["segmentation/miou"] > 0.8  # the pixels of a token share one answer
    assert result["digits/accuracy"] > 0.9
    assert result["tracking/j_and_f"] > 0.8
    for question in QUESTIONS:
        assert result[f"jumps/tokens/{question}/average_precision"] > 0.99
        assert result[f"jumps/field/{question}/f1"] > 0.95
    headlines = {score.name for score in found.headlines()}
    assert headlines == {"tracking/visible", "jumps/tokens/objects/average_precision"}
    assert [picture.name for picture in found.pictures] == ["clip_1", "clip_2", "clip_3", "clip_4"]


def test_whole_tokens_are_followed_but_for_corners():
    path: Path = [(4 + 4 * (t % 2), 8) for t in range(8)]
    clip = square_clip([path, [(20, 4 + 4 * (t % 4)) for t in range(8)]])
    found = scores(one_hot, steady(), [clip])
    # between the middles of four tokens a corner's pixel has .625^2 < 1/2 of the object's label
    assert found["tracking/j_mean"].value == 1 - 4 / SQUARE**2
    assert found["tracking/f_mean"].value == 1  # boundaries may be a pixel apart
    assert found["tracking/visible"].value == found["tracking/j_and_f"].value
    assert found["tracking/j_and_f"].n == 2
    assert "tracking/absent" not in found


def test_a_constant_encoder_knows_nothing():
    def blind(clips: Tensor) -> Tensor:
        return torch.ones(*clips.shape[:2], SIDE // PATCH, SIDE // PATCH, 3)

    found = scores(blind, steady(), steady())
    for name, score in found.items():
        if name.startswith("jumps"):
            assert score.value == pytest.approx(score.chance)
    assert not any(name.startswith("tracking_with_cuts") for name in found)  # no law fits


def test_truths_of_one_teleport_by_hand():
    # squares of 2 x 2 tokens that stand still; the first jumps by 4 rows of tokens
    still: Path = [(0, 24)] * 6
    path: Path = [(0, 0)] * 2 + [(16, 0)] * 4
    clip = square_clip([path, still], (DigitEvent(2, "teleport", 1, (20.0, 4.0)),))
    found = scores(one_hot, steady(6), [clip])
    expected = {
        "everywhere": (5 * 64, 8 / (5 * 64)),
        "objects": (5 * 8 + 4, 8 / 44),  # those covered before or after, at the jump
        "frames": (5, 1 / 5),
    }
    for question, (n, chance) in expected.items():
        score = found[f"jumps/tokens/{question}/average_precision"]
        assert (score.n, score.chance) == (n, chance)
        assert score.value == 1


def test_bounces_are_no_jumps_and_tokens_hardly_touched_are_left_out():
    inside: Path = [(0, 0)] * 2 + [(16, 1)] * 2  # a column of a new token
    bounce = DigitEvent(3, "bounce", 2, (12.0, 24.0))
    clip = square_clip([inside, slide(20, 4)], (DigitEvent(2, "teleport", 1, (20.0, 5.0)), bounce))
    score = scores(one_hot, steady(4), [clip])["jumps/tokens/everywhere/average_precision"]
    # 4 x 1 of 4 x 4 pixels are a quarter, and jump: before 2 x 2 tokens, after 2 x 3
    assert score.chance * score.n == pytest.approx(10)
    low: Path = [(0, 0)] * 2 + [(17, 1)] * 2
    clip = square_clip([low], (DigitEvent(2, "teleport", 1, (21.0, 5.0)),))
    # after it 3 x 3 tokens, of which the last row and column hold a quarter, the corner a sixteenth
    score = scores(one_hot, steady(4), [clip])["jumps/tokens/everywhere/average_precision"]
    assert score.n == 3 * 64 - 1
    assert score.chance * score.n == pytest.approx(4 + 8)


def test_a_cut_is_a_jump_of_every_token_and_no_object_outlives_it():
    path: Path = [*slide(0, 4), None, None, None, None]
    clips = [square_clip([path, [None] * 4 + slide(12, 4)], cut=4) for _ in range(5)]
    found = scores(one_hot, clips, clips)
    everywhere = found["jumps/tokens/everywhere/average_precision"]
    assert everywhere.chance == 1 / 7
    assert everywhere.value == 1
    assert not any(name.startswith("jumps/tokens/objects") for name in found)  # only cuts
    assert found["tracking_with_cuts/absent"].value == 1
    assert found["tracking_with_cuts/j_and_f"].n == 10


def test_frames_without_the_object_count_apart():
    path: Path = [(8, 8)] * 3 + [None] * 4 + [(8, 8)]
    events = DigitEvent(3, "vanish", 1, (12.0, 12.0)), DigitEvent(7, "appear", 1, (12.0, 12.0))
    found = values(one_hot, steady(), [square_clip([path], events)])
    visible, absent = found["tracking/visible"], found["tracking/absent"]
    # frames 1 to 6 are evaluated, of which the object is visible in two
    assert visible == 1 - 4 / SQUARE**2 / 2
    assert found["tracking/j_and_f"] == pytest.approx((2 * visible + 4 * absent) / 6)


def test_thresholds_come_from_the_training_clips_alone():
    train, test = steady(), [teleport(3), teleport(4)]
    louder = values(lambda c: one_hot(c) * (1 + 9 * (len(c) == 2)), train, test)
    same = values(one_hot, train, test)
    for question in QUESTIONS:
        name = f"jumps/tokens/{question}/average_precision"
        assert louder[name] == same[name]
    name = "jumps/tokens/everywhere/f1"
    assert louder[name] < same[name]  # it would be the same if refitted


@pytest.mark.parametrize("at", [4, 5])
def test_tokens_of_two_frames(at):
    still: Path = [(0, 0)] * at + [(16, 0)] * (8 - at)
    clip = square_clip([still], (DigitEvent(at, "teleport", 1, (20.0, 4.0)),))
    found = scores(Seer(lambda c: one_hot(c, 2), 2), steady(), [clip])
    jumps = found["jumps/tokens/everywhere/average_precision"]
    # three steps between four rows: a jump between rows is in one, one within a row in two
    assert jumps.n == 3 * 64
    assert jumps.chance == (1 if at == 4 else 2) * 8 / jumps.n
    assert jumps.value == 1
    if at == 4:  # three frames with one corner inside the frame, three with two
        assert found["tracking/j_mean"].value == 1 - 1.5 / SQUARE**2


def test_intervals_are_over_clips():
    def vague(clips: Tensor) -> Tensor:
        tokens = one_hot(clips)
        noise = torch.randn(tokens.shape, generator=torch.Generator().manual_seed(1))
        return tokens + 0.4 * noise

    found = scores(vague, steady(), steady())
    for name in ("tracking/visible", "tracking_with_cuts/j_and_f", "jumps/tokens/objects/f1"):
        low, high = found[name].interval
        assert 0 <= low <= found[name].value <= high <= 1
    score = found["jumps/tokens/objects/average_precision"]
    assert score.interval[0] < score.value < score.interval[1]
    alone = scores(vague, steady(), [teleport(3)])
    assert alone["jumps/tokens/objects/average_precision"].interval is None


def test_real_digits_give_the_same_scores_each_time():
    def bright(clips: Tensor) -> Tensor:
        return avg_pool3d(clips.movedim(2, 1), (1, 8, 8)).movedim(1, -1)

    train, test = ([clips[i] for i in range(6)] for clips in map(digits, ("train", "test")))
    encoders = {"trained": Seer(bright), "untrained": Seer(lambda c: 3 * bright(c))}
    first = run(train, test, 48, **encoders)
    again = run(train, test, 48, trained=encoders["trained"])
    assert [s for s in first.scores if s.subject == "trained"] == again.scores
    shown = [picture.png for picture in first.pictures if picture.subject == "trained"]
    assert shown == [picture.png for picture in again.pictures]
    name = "jumps/tokens/objects/average_precision"
    one, other = (first.get(f"clips/{name}", subject) for subject in encoders)
    assert one is not None
    assert other is not None
    assert one.value == pytest.approx(other.value, rel=1e-3)  # steps of another size, same order


def digits(split: str) -> MovingDigits:
    return MovingDigits(split, 6, 6, 48, (1, 2), teleport=0.2)


@pytest.mark.parametrize(
    ("encoder", "frames", "message"),
    [
        (Seer(one_hot), 2, "three frames or more"),
        (Seer(lambda c: one_hot(c)[:, :3]), 8, "on a grid that divides them"),
        (Seer(lambda c: avg_pool2d(one_hot(c)[..., 0], 1)[:, :1, ..., None]), 8, "two rows"),
    ],
)
def test_clips_that_do_not_fit_are_named(encoder, frames, message):
    clips = [square_clip([slide(0, frames)]) for _ in range(5)]
    found = run(clips, clips, trained=encoder)
    assert message in found.failures[0].reason
