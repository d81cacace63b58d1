"""Follow objects through frames with an encoder, and score the masks of a folder."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from levyjepa.data.davis_layout import VideoSequence
from levyjepa.tasks.tracking.davis_measures import Tracking, score
from levyjepa.tasks.tracking.propagation import propagate

SIDE, MULTIPLE = 480, 64  # pixels


def track(
    frames: Tensor,
    masks: Mapping[int, Tensor],
    encode: Callable[[Tensor], Tensor],
    *,
    size: Sequence[int] | None = None,
    batch: int = 8,
    jumps: Callable[[Tensor], Tensor] | None = None,
    **protocol: Any,
) -> Tensor:
    """Follow objects through frames by the tokens of an encoder.

    Args:
        frames: (T, 3, H, W) uint8.
        masks: Masks (H, W) by frame, as `propagate` takes them.
        encode: From frames (n, 3, H', W') uint8 to tokens (n, h, w, C).
        size: (H', W'), what frames are resized to; None: not at all.
        batch: Frames that are encoded at once.
        jumps: From all tokens (T, h, w, C) to jump probabilities (T, h, w), as `step_probability`
            with a law: nothing is propagated across a cut.
        protocol: Further arguments of `propagate`.

    Returns:
        (T, H, W) uint8.

    Raises:
        ValueError: As `propagate`.
    """

    def tokens() -> Iterator[Tensor]:
        for chunk in frames.split(batch):
            if size is not None:
                chunk = F.resize(chunk, list(size), antialias=True)
            yield from encode(chunk)

    if jumps is None:
        return propagate(tokens(), masks, **protocol)
    clip = torch.stack(list(tokens()))
    return propagate(clip, masks, jump=jumps(clip), **protocol)


def protocol_size(frames: Sequence[int], patch: Sequence[int]) -> tuple[int, int]:
    """Return the size (H, W) at which an encoder sees frames.

    The short side is 480 pixels, or the frames' own if that is smaller, in whole patches; the long
    side keeps its proportion, rounded down to a multiple of 64 pixels, or of a patch where patches
    do not divide 64.

    Args:
        frames: (H, W) of the frames.
        patch: (h, w) of a patch, in pixels.

    >>> protocol_size((480, 854), (16, 16)), protocol_size((100, 150), (8, 8))
    ((480, 832), (96, 144))
    """
    short = min(frames)
    units = [min(SIDE, short) // side * side for side in patch]
    whole = all(unit == SIDE for unit in units) and not any(MULTIPLE % side for side in patch)
    steps = (MULTIPLE, MULTIPLE) if whole else patch
    height, width = (
        unit if length == short else max(unit * length // short // step, 1) * step
        for unit, length, step in zip(units, frames, steps, strict=True)
    )
    return height, width


def score_results(results: str | Path, sequences: Iterable[VideoSequence]) -> Tracking:
    """Score masks `SEQUENCE/*.png` of a folder with the sequences' annotations.

    Raises:
        FileNotFoundError: A mask or an annotation is missing.
        ValueError: A mask can't be read, or has another size than the annotation.
    """
    objects = []
    for sequence in sequences:
        annotation = sequence.read_masks()
        prediction = sequence.read_masks(Path(results) / sequence.name)
        if annotation.shape != prediction.shape:
            raise ValueError(
                f"The masks of {sequence.name} must be {tuple(annotation.shape[1:])}, "
                f"got {tuple(prediction.shape[1:])}."
            )
        objects += score(annotation, prediction, sequence.name)
    return Tracking(objects)
