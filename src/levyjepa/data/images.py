"""Images that are read when they are asked for, and the tally of those that can't be."""

import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps
from torch.utils.data import Dataset

UNLABELLED = -1


class CorruptImageError(ValueError):
    """An image that can't be decoded; its text is the image's name."""


class TooManyCorruptError(ValueError):
    """More than 1 % of the images can't be decoded."""


class Images(Dataset):
    """A map-style data set of (PIL RGB image, label).

    Args:
        records: a sequence, for each image a path, a uint8 array (H, W) or (H, W, 3), or a dict
            of `bytes` or `path`, as Hugging Face's undecoded image column gives it.
        labels: one for each record, -1 where there is none; all of them if None.
        what: what one of them is called, followed by its index, where it has no path.
    """

    def __init__(
        self, records: Any, labels: Sequence[int] | None = None, what: str = "image"
    ) -> None:
        self.records, self.labels, self.what = records, labels, what

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        """Decode an image; CorruptImageError where it can't be."""
        record = self.records[index]
        try:
            image = _rgb(ImageOps.exif_transpose(_open(record)))
        except Exception as error:  # what Pillow raises has no common kind
            raise CorruptImageError(self.name(index)) from error
        return image, UNLABELLED if self.labels is None else self.labels[index]

    def name(self, index: int) -> str:
        """What to call an image to a person."""
        record = self.records[index]
        path = record.get("path") if isinstance(record, dict) else record
        return str(path) if isinstance(path, (str, Path)) else f"{self.what} {index}"


class Tally:
    """The names of corrupt images met so far; more than 1 % of a data set is an error."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.names: set[str] = set()

    def add(self, names: Iterable[str]) -> None:
        """Count names, each once.

        Raises:
            TooManyCorruptError: they are more than 1 % of the data set.
        """
        self.names.update(names)
        if len(self.names) > 0.01 * self.size:
            raise TooManyCorruptError(
                f"{len(self.names)} of {self.size} images can't be decoded, more than 1 %: {self}."
            )

    def __str__(self) -> str:
        shown = ", ".join(sorted(self.names)[:10])
        return f"{shown} and {len(self.names) - 10} more" if len(self.names) > 10 else shown


def _open(record: Any) -> Image.Image:
    if isinstance(record, np.ndarray):
        return Image.fromarray(record)
    if isinstance(record, dict):
        held = record.get("bytes")
        return Image.open(record["path"] if held is None else io.BytesIO(held))
    return Image.open(record)


def _rgb(image: Image.Image) -> Image.Image:
    """In 8 bits; Pillow's own conversion would cut 16 bits off at 255."""
    if image.mode == "F":
        raise ValueError("Floats have no stated range.")
    if image.mode.startswith("I"):
        image = Image.fromarray((np.asarray(image) // 256).clip(0, 255).astype(np.uint8))
    return image.convert("RGB")
