"""Objects followed through the sequences of a folder in DAVIS 2017's layout, and judged."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from levyjepa.checks import count
from levyjepa.data.davis import VideoSequence, read_masks, write_masks
from levyjepa.evaluation.tracking.metrics import Tracking, score
from levyjepa.evaluation.tracking.propagation import first_masks, propagate

Encode = Callable[[Tensor], Tensor]  # frames (T, 3, H, W) of uint8 to tokens (T, h, w, C)


def track(
    frames: Tensor,
    given: dict[int, Tensor],
    encode: Encode,
    *,
    side: int | None = 480,
    multiple: int = 64,
    batch: int = 8,
    jumps: Callable[[Tensor], Tensor] | None = None,
    **protocol: Any,
) -> Tensor:
    """Follow objects through frames by the tokens of an encoder, which sees `batch` at a time.

    Args:
        frames: (T, 3, H, W) of uint8.
        given: Masks (H, W) by frame, as `propagate` takes them.
        encode: From frames (n, 3, H', W') of uint8 to tokens (n, h, w, C).
        side: Pixels of the short side of what the encoder sees; None leaves the frames as they are.
        multiple: The long side keeps its proportion, rounded down to a multiple of so many pixels.
        batch: Frames.
        jumps: From the clip's tokens (T, h, w, C) to the probability (T, h, w) that each jumped, as
            `time_jumps`: nothing is taken across a cut. All tokens are held in memory then.
        protocol: What `propagate` takes further.

    Returns:
        (T, H, W) of uint8.

    Raises:
        ValueError: What `propagate` raises.
    """
    count("batch", batch)
    size = None if side is None else _fitted(frames.shape[-2:], side, multiple)

    def tokens() -> Iterator[Tensor]:
        for some in frames.split(batch):
            if size is not None:
                some = F.resize(some, size, antialias=True)
            yield from encode(some)

    if jumps is None:
        return propagate(tokens(), given, **protocol)
    clip = torch.stack(list(tokens()))
    return propagate(clip, given, jump=jumps(clip), **protocol)


def evaluate_davis(
    sequences: Iterable[VideoSequence], encode: Encode, results: str | Path, **options: Any
) -> Tracking:
    """Follow every object of some sequences, write the masks and judge them.

    Args:
        sequences: Of a folder in DAVIS 2017's layout, as `open_davis` gives them.
        encode: From frames (n, 3, H, W) of uint8 to tokens (n, h, w, C).
        results: Where the masks go, `SEQUENCE/*.png`, as DAVIS's own tool reads them.
        options: What `track` takes further.
    """
    sequences = list(sequences)
    for sequence in sequences:
        given = first_masks(sequence.masks())
        masks = track(sequence.frames(), given, encode, **options)
        names = [path.stem for path in sequence.images]
        palette = Image.open(sequence.annotations[0]).getpalette()
        write_masks(masks, Path(results) / sequence.name, names, palette)
    return score_results(results, sequences)


def score_results(results: str | Path, sequences: Iterable[VideoSequence]) -> Tracking:
    """Judge masks `SEQUENCE/*.png` in the folder `results` by the sequences' annotations.

    Raises:
        FileNotFoundError: A mask or an annotation is missing.
        ValueError: A mask can't be read, or is not as large as the annotation.
    """
    scores = []
    for sequence in sequences:
        found = [Path(results) / sequence.name / path.name for path in sequence.annotations]
        annotation, prediction = read_masks(sequence.annotations), read_masks(found)
        if annotation.shape != prediction.shape:
            raise ValueError(
                f"The masks of {sequence.name} must be {tuple(annotation.shape[1:])}, "
                f"got {tuple(prediction.shape[1:])}."
            )
        scores += score(annotation, prediction, sequence.name)
    return Tracking(tuple(scores))


def _fitted(size: torch.Size, side: int, multiple: int) -> list[int]:
    count("side", side)
    count("multiple", multiple)
    short = min(size)
    return [
        side if length == short else max(side * length // short // multiple, 1) * multiple
        for length in size
    ]
