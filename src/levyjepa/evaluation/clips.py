"""What clips with known truth say of video networks: digits, objects followed, jumps in time."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from sklearn.metrics import average_precision_score, f1_score, precision_recall_curve
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d

from levyjepa.checks import count
from levyjepa.data.moving_digits import DigitClip, MovingDigits
from levyjepa.data.segmentation import VOID
from levyjepa.evaluation.bootstrap import (
    Interval,
    of_average_precision,
    of_ratio,
    redraw,
)
from levyjepa.evaluation.features import Dense, frozen, patches
from levyjepa.evaluation.segmentation import segmentation_probe
from levyjepa.evaluation.tracking import (
    ObjectScore,
    Tracking,
    cuts,
    first_masks,
    propagate,
    score,
    time_jumps,
)
from levyjepa.inference import fit
from levyjepa.laws import Brownian, CompoundPoisson, LaplaceJumps

CLASSES = "background", "digit"
DIGITS = tuple(map(str, range(10)))
ROWS = 2  # of each clip's token rows, evenly spaced, that the probes see
COVERED = 1 / 8  # of a token's pixels
DRAWN = 5000  # scalar increments that a law is fitted to
BATCH = 8  # clips

Clips = Sequence[DigitClip] | MovingDigits
Pair = tuple[Tensor, Tensor]  # (N, t, h, w, C), of the training clips and of the test clips


def judge_clips(
    networks: Mapping[str, nn.Module],
    train: Clips,
    test: Clips,
    normalise: Callable[[Tensor], Tensor],
    device: str | torch.device = "cpu",
    *,
    seed: int = 0,
    limit: int | None = None,
    progress: Callable[[str], None] = lambda what: None,
) -> dict[str, dict[str, Any]]:
    """Judge video networks of one grid, and raw pixels, by clips whose truth is known.

    Pixels are told linearly from tokens twice: digit or background, and of digits alone, which one.
    (All in one, digits fill so few pixels that calling everything background is best.)

    Where a token covers several frames, it stands for each of them in tracking, and in the probes
    for the first.

    Jumps are found by the norm of a token's step in time, which ranks tokens as the probability of
    a jump under any isotropic law does. Between two rows of tokens a token jumped if at least an
    eighth of its pixels show, before or after, an object that teleported, appeared or vanished
    between the first frame of the one row and the last of the other, or if the scene was cut
    there; tokens that such an object touches by less are not judged, and bounces are no jumps.
    "everywhere" judges all tokens. "objects" judges those that an object covers by an eighth, away
    from cuts: a jump against smooth motion, which changes a token's pixels by nearly as much.
    "frames" tells whether anything jumps in a frame, by its largest step.

    Args:
        networks: By name, each with an `encoder` of clips (B, T, 3, H, W) and a
            `patch_projection` of its field, as a Network of clips has.
        train: Clips that probes, thresholds and the law of a token's steps are fitted to.
        test: Clips to judge, of the same shape.
        normalise: From frames of uint8 to the encoder's input.
        device: Where tokens are computed.
        seed: Draws the steps that the law is fitted to, and clips for intervals.
        limit: At most so many clips of a split, evenly spaced; None for all.
        progress: Told what begins.

    Returns:
        For each network, and "pixels": "segmentation", as `segmentation_probe`, of digits and
        background; "digits", the "accuracy" with which digits' pixels are told apart and its
        "chance", the share of the commonest; "tracking", as `Tracking`, with "there" and "gone",
        and the same under "cuts" with the rule that nothing is taken across a cut; "jumps", of
        "tokens" and of the projected "field", each with the "average_precision", its "chance",
        which is the share of jumps, and "f1" at the "threshold" that is best on the training
        clips, for all three of the above. "intervals" of these, by name, are of 95 %, over the
        choice of test clips; there are none of a single clip.

    Raises:
        ValueError: No network, a split without clips, clips of less than three frames or of
            different shapes, or a grid that does not divide them or has one row in time.
    """
    if not networks:
        raise ValueError("`networks` must hold at least one network, got none.")
    progress("clips: frames and masks")
    fitted, judged = _read("train", train, limit), _read("test", test, limit)
    if fitted.frames.shape[1:] != judged.frames.shape[1:]:
        raise ValueError(
            f"`test` must have clips as large as `train`, got {tuple(judged.frames.shape[1:])} "
            f"and {tuple(fitted.frames.shape[1:])}."
        )
    both = fitted, judged
    found, grid = {}, ()
    for name, network in networks.items():
        progress(f"{name}: tokens of clips")
        tokens, field = zip(
            *(_look(network, clips.frames, normalise, device) for clips in both), strict=True
        )
        grid = grid or _grid(tokens[0], fitted)
        progress(f"{name}: objects and jumps")
        found[name] = _judge({"tokens": tokens, "field": field}, fitted, judged, seed)
    progress("pixels: objects and jumps")
    raw = _patches(fitted.frames, grid), _patches(judged.frames, grid)
    found["pixels"] = _judge({"tokens": raw}, fitted, judged, seed)
    return found


@dataclass(frozen=True)
class _Clips:
    """Clips with what is true of their pixels."""

    frames: Tensor  # (N, T, 3, H, W) of uint8
    masks: Tensor  # (N, T, H, W) of uint8: ids of objects
    digits: Tensor  # (N, T, H, W) of int64: 0 to 9, or void
    jumped: Tensor  # (N, T, H, W) of bool: shows what jumped since the frame before, or did before
    cut: Tensor  # (N, T) of bool


def _read(name: str, clips: Clips, limit: int | None) -> _Clips:
    number = len(clips)
    kept = number if limit is None else min(count("limit", limit), number)
    several = [clips[place * number // kept] for place in range(kept)]
    if not several:
        raise ValueError(f"`{name}` must hold at least one clip, got none.")
    if len(shapes := {tuple(clip.frames.shape) for clip in several}) > 1:
        raise ValueError(f"`{name}` must hold clips of one shape, got {sorted(shapes)}.")
    if len(several[0].frames) < 3:
        raise ValueError(
            f"`{name}` must hold clips of at least three frames, got {len(several[0].frames)}."
        )
    truths = zip(*map(_truth, several), strict=True)
    frames, masks = (torch.stack([getattr(c, k) for c in several]) for k in ("frames", "masks"))
    return _Clips(frames, masks, *map(torch.stack, truths))


def _truth(clip: DigitClip) -> tuple[Tensor, Tensor, Tensor]:
    """The digits, what jumped and the cuts of a clip, as `_Clips` holds them."""
    digits = torch.tensor([VOID, *(each.digit for each in clip.identities)])
    jumped = torch.zeros(clip.masks.shape, dtype=torch.bool)
    cut = torch.zeros(len(clip.masks), dtype=torch.bool)
    for event in clip.events:
        if event.kind == "cut":
            cut[event.frame] = jumped[event.frame] = True
        elif event.kind != "bounce":
            shown = clip.masks[event.frame - 1 : event.frame + 1] == event.object
            jumped[event.frame] |= shown.any(0)
    return digits[clip.masks.long()], jumped, cut


def _look(
    network: Any,
    frames: Tensor,
    normalise: Callable[[Tensor], Tensor],
    device: str | torch.device,
) -> Pair:
    """The tokens and the projected field (N, t, h, w, C) of clips."""
    parts = []
    with frozen(network.to(device)):
        for some in frames.split(BATCH):
            field = network.encoder(normalise(some.to(device))).field
            parts.append((field.float().cpu(), network.patch_projection(field).float().cpu()))
    tokens, field = (torch.cat(part) for part in zip(*parts, strict=True))
    return tokens, field


def _grid(tokens: Tensor, clips: _Clips) -> tuple[int, ...]:
    """(t, h, w) of tokens, if clips can be cut into as many parts, two of them in time at least."""
    grid = tuple(tokens.shape[1:4])
    frames, _, *size = clips.frames.shape[1:]
    if grid[0] < 2 or any(all_ % parts for all_, parts in zip((frames, *size), grid, strict=True)):
        raise ValueError(
            f"`networks` must give tokens on a grid that divides {(frames, *size)}, of at least "
            f"two rows in time, got {grid}."
        )
    return grid


def _patches(frames: Tensor, grid: Sequence[int]) -> Tensor:
    """Raw pixels as tokens: clips (N, T, 3, H, W) of uint8 to (N, t, h, w, C)."""
    clips, length, _, height, _ = frames.shape
    tokens = patches(frames.flatten(0, 1), height // grid[1])
    rows = tokens.unflatten(0, (clips, grid[0], length // grid[0]))
    return rows.movedim(2, -2).flatten(-2)


def _judge(maps: dict[str, Pair], fitted: _Clips, judged: _Clips, seed: int) -> dict[str, Any]:
    both = fitted, judged
    drawn = redraw(len(judged.frames), seed)
    return {
        **_probes(*map(_rows, maps["tokens"], both)),
        "tracking": _tracking(*maps["tokens"], judged, drawn, seed),
        "jumps": {
            name: _jumps(_steps(one, fitted), _steps(other, judged), drawn)
            for name, (one, other) in maps.items()
        },
    }


def _probes(train: Dense, test: Dense) -> dict[str, Any]:
    """Of masks that name digits, void elsewhere."""
    fitted, judged = (Dense(part.field, (part.masks != VOID).long()) for part in (train, test))
    which = segmentation_probe(train, test, DIGITS)
    pixels = sum(which.pixels)
    return {
        "segmentation": segmentation_probe(fitted, judged, CLASSES).as_dict(),
        "digits": {
            "accuracy": which.pixel_accuracy,
            "chance": max(which.pixels) / pixels,
            "n": pixels,
        },
    }


def _rows(tokens: Tensor, clips: _Clips) -> Dense:
    """A few rows of each clip's tokens, each with the classes of its first frame."""
    rows = tokens.shape[1]
    kept = torch.arange(min(ROWS, rows)) * rows // min(ROWS, rows)
    masks = clips.digits[:, kept * _frames(tokens, clips)]
    return Dense(tokens[:, kept].flatten(0, 1), masks.flatten(0, 1))


def _frames(tokens: Tensor, clips: _Clips) -> int:
    """How many frames a token covers."""
    return clips.frames.shape[1] // tokens.shape[1]


def _tracking(
    train: Tensor, test: Tensor, clips: _Clips, drawn: np.ndarray, seed: int
) -> dict[str, Any]:
    """Objects followed by the test clips' tokens, without and with the rule of cuts."""
    steps = train.diff(dim=1).flatten()
    some = torch.randint(len(steps), (DRAWN,), generator=torch.Generator().manual_seed(seed))
    law, missing = None, ""
    try:
        law = fit(steps[some], Brownian(0.5) + CompoundPoisson(1.0, LaplaceJumps(1.0))).law
    except ValueError as error:  # nothing ever changes
        missing = str(error)
    several = _frames(test, clips)
    plain, ruled = [], []
    for number, (tokens, masks) in enumerate(zip(test, clips.masks, strict=True)):
        given, held = first_masks(masks), tokens.repeat_interleave(several, 0)
        scores = score(masks, propagate(held, given), str(number))
        plain += scores
        if law is not None:
            jump = held.new_zeros(held.shape[:3])
            jump[::several] = time_jumps(tokens, law)
            if cuts(jump).any():
                scores = score(masks, propagate(held, given, jump=jump), str(number))
            ruled += scores
    told = _leaf(ruled, drawn) if law is not None else {"missing": missing}
    return _leaf(plain, drawn) | {"cuts": told}


def _leaf(objects: Sequence[ObjectScore], drawn: np.ndarray) -> dict[str, Any]:
    found = Tracking(tuple(objects))
    clip = np.array([int(one.sequence) for one in objects])
    whole = np.array([one.j_and_f for one in objects])
    values, seen = (
        np.concatenate([getattr(one, name) for one in objects]) for name in ("values", "seen")
    )
    frames = clip.repeat([len(one.seen) for one in objects])
    intervals = {
        "j_and_f": of_ratio(whole, np.ones(len(whole)), clip, drawn),
        "there": of_ratio(values * seen, seen, frames, drawn),
        "gone": of_ratio(values * ~seen, ~seen, frames, drawn),
    }
    return found.as_dict() | {"there": found.there, "gone": found.gone} | _told(intervals)


def _told(intervals: dict[str, Interval | None]) -> dict[str, dict[str, Interval]]:
    return {"intervals": {name: ends for name, ends in intervals.items() if ends is not None}}


Asked = tuple[np.ndarray, np.ndarray, np.ndarray]  # truths of bool, scores, and their clips
Found = dict[str, Asked]  # by question


def _steps(tokens: Tensor, clips: _Clips) -> Found:
    """Where tokens jumped, the size of their steps, and of which clips they are."""
    size = tokens.diff(dim=1).norm(dim=-1)
    several, (height, width) = _frames(tokens, clips), tokens.shape[2:4]

    def between(changed: Tensor) -> Tensor:  # (N, T, ...) to (N, t - 1, ...)
        return changed[:, 1:].unfold(1, 2 * several - 1, several).any(-1)

    jumped = between(clips.jumped)
    shown = (clips.masks > 0).unfold(1, 2 * several, several).any(-1)
    covered, objects = (
        adaptive_avg_pool2d(pixels.float(), (height, width)) for pixels in (jumped, shown)
    )
    truth = covered >= COVERED
    judged = truth | (covered == 0)
    calm = judged & (objects >= COVERED) & ~between(clips.cut)[..., None, None]
    every = torch.ones(size.shape[:2], dtype=torch.bool)
    questions = {
        "everywhere": (truth, size, judged),
        "objects": (truth, size, calm),
        "frames": (jumped.flatten(2).any(-1), size.amax((2, 3)), every),
    }
    return {
        name: (true[asked].numpy(), scores[asked].numpy(), asked.nonzero()[:, 0].numpy())
        for name, (true, scores, asked) in questions.items()
    }


def _jumps(train: Found, test: Found, drawn: np.ndarray) -> dict[str, Any]:
    return {question: _detect(train[question], test[question], drawn) for question in test}


def _detect(train: Asked, test: Asked, drawn: np.ndarray) -> dict[str, Any]:
    """Average precision, and F1 at the threshold that is best where the truth is known."""
    (known, seen, _), (truth, size, clip) = train, test
    if not (known.any() and truth.any()):
        return {"missing": "Nothing jumps in the training clips or in the test clips."}
    precision, recall, thresholds = precision_recall_curve(known, seen)
    f = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    threshold = thresholds[f[:-1].argmax()]
    said = size >= threshold
    chance = truth.mean()
    return {
        "average_precision": float(average_precision_score(truth, size)),
        "f1": float(f1_score(truth, said)),
        "threshold": float(threshold),
        "chance": float(chance),
        "chance_f1": float(2 * chance / (1 + chance)),
        "n": len(truth),
    } | _told(
        {
            "average_precision": of_average_precision(truth, size, clip, drawn),
            "f1": of_ratio(2.0 * (said & truth), 1.0 * said + truth, clip, drawn),
        }
    )
