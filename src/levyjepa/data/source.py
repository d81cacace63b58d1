"""What a source of images or clips is, and how one is opened by name."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from levyjepa.data.images import CorruptImageError
from levyjepa.data.registry import SOURCES
from levyjepa.data.settings import DataSettings

Statistics = tuple[tuple[float, ...], tuple[float, ...]]


@dataclass(frozen=True)
class Source:
    """Images or videos with what training and tasks must know about them.

    `train` and `test` are map-style datasets, or lists, of (image, label): a PIL image or a uint8
    array (H, W, 3), and an integer, -1 where there is no label. Datasets of video give
    (`Footage`, label). Two methods are optional: `name(i)` says what to call an item in messages,
    `truth(i)` what is known about its pixels, as `truth` says.

    Args:
        name: What to call it.
        train: Training split.
        test: Test split; None if there is none.
        classes: Names of the labels; empty without labels.
        mean, std: Of pixels in [0, 1], for each channel; None measures them on the training split.
        truth: "masks": `truth(i)` is an array (H, W) of class ids, -1 where ignored;
            "scenes": it is a `DigitClip`; "": there is none.
        mask_classes: Names of the ids of masks.
        sequences: Videos with object masks, to be tracked.
        ordered: Items follow each other in time, so a held-out part must be of whole stretches.
        clips: Whether items are video.
    """

    name: str
    train: Any
    test: Any = None
    classes: tuple[str, ...] = ()
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    truth: str = ""
    mask_classes: tuple[str, ...] = ()
    sequences: tuple[Any, ...] = ()
    ordered: bool = False
    clips: bool = False


class Rows(Dataset):
    """Some items of a dataset, in the order of `indices`; `name` and `truth` included."""

    def __init__(self, dataset: Any, indices: Sequence[int]) -> None:
        self.dataset, self.indices = dataset, list(indices)

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        return self.dataset[self.indices[index]]

    def name(self, index: int) -> str:
        """What to call an item in messages."""
        return item_name(self.dataset, self.indices[index])

    def truth(self, index: int) -> Any:
        """What is known about an item's pixels."""
        return self.dataset.truth(self.indices[index])


def item_name(dataset: Any, index: int) -> str:
    """What to call an item of a dataset in messages: its own name, or its number."""
    name = getattr(dataset, "name", None)
    return str(name(index)) if callable(name) else f"image {index}"
