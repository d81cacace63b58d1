"""Every network, and pixels, judged by the same clips."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from levyjepa.data.segmentation import VOID
from levyjepa.evaluation.bootstrap import of_ratio, redraw, told
from levyjepa.evaluation.clips.jumps import find_jumps, size_of_steps
from levyjepa.evaluation.clips.truth import Clips, KnownClips, frames_of, read_clips
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
DRAWN = 5000  # scalar increments that a law is fitted to
BATCH = 8  # clips

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
    pixels: bool = True,
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
        pixels: Whether raw pixels are judged, too.
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
    fitted, judged = read_clips("train", train, limit), read_clips("test", test, limit)
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
    if pixels:
        progress("pixels: objects and jumps")
        raw = _patches(fitted.frames, grid), _patches(judged.frames, grid)
        found["pixels"] = _judge({"tokens": raw}, fitted, judged, seed)
    return found


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


def _grid(tokens: Tensor, clips: KnownClips) -> tuple[int, ...]:
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


def _judge(
    maps: dict[str, Pair], fitted: KnownClips, judged: KnownClips, seed: int
) -> dict[str, Any]:
    both = fitted, judged
    drawn = redraw(len(judged.frames), seed)
    return {
        **_probes(*map(_rows, maps["tokens"], both)),
        "tracking": _tracking(*maps["tokens"], judged, drawn, seed),
        "jumps": {
            name: find_jumps(size_of_steps(one, fitted), size_of_steps(other, judged), drawn)
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


def _rows(tokens: Tensor, clips: KnownClips) -> Dense:
    """A few rows of each clip's tokens, each with the classes of its first frame."""
    rows = tokens.shape[1]
    kept = torch.arange(min(ROWS, rows)) * rows // min(ROWS, rows)
    masks = clips.digits[:, kept * frames_of(tokens, clips)]
    return Dense(tokens[:, kept].flatten(0, 1), masks.flatten(0, 1))


def _tracking(
    train: Tensor, test: Tensor, clips: KnownClips, drawn: np.ndarray, seed: int
) -> dict[str, Any]:
    """Objects followed by the test clips' tokens, without and with the rule of cuts."""
    steps = train.diff(dim=1).flatten()
    some = torch.randint(len(steps), (DRAWN,), generator=torch.Generator().manual_seed(seed))
    law, missing = None, ""
    try:
        law = fit(steps[some], Brownian(0.5) + CompoundPoisson(1.0, LaplaceJumps(1.0))).law
    except ValueError as error:  # nothing ever changes
        missing = str(error)
    several = frames_of(test, clips)
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
    ruled_by_cuts = _leaf(ruled, drawn) if law is not None else {"missing": missing}
    return _leaf(plain, drawn) | {"cuts": ruled_by_cuts}


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
    return found.as_dict() | {"there": found.there, "gone": found.gone} | told(intervals)
