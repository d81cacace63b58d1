"""Images that are decoded when they are read, and a count of those that can't be."""

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps
from torch.utils.data import Dataset

UNLABELED = -1


class CorruptImageError(ValueError):
    """An image that can't be decoded; its text is the image's name."""


class TooManyCorruptError(ValueError):
    """More than 1 % of the images can't be decoded."""


@dataclass(eq=False)
class Images(Dataset):
    """A map-style dataset of (PIL RGB image, label).

    A record is a path, a uint8 array (H, W) or (H, W, 3), or a dict of `bytes` or `path`, as an
    undecoded image column of Hugging Face gives.
    """

    records: Any  # a sequence
    labels: Sequence[int] | None = None  # of each record, -1 where there is none
    what: str = "image"  # what messages call an image that has no path, before its index

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        """Decode an image, or raise `CorruptImageError`."""
        try:
            image = to_rgb(ImageOps.exif_transpose(open_image(self.records[index])))
        except Exception as error:  # Pillow's errors have no common base
            raise CorruptImageError(self.name(index)) from error
        return image, UNLABELED if self.labels is None else self.labels[index]

    def name(self, index: int) -> str:
        """What to call an image in messages."""
        record = self.records[index]
        path = record.get("path") if isinstance(record, dict) else record
        return str(path) if isinstance(path, (str, Path)) else f"{self.what} {index}"


class Tally:
    """The names of corrupt images so far; more than 1 % of a dataset is an error."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.names: set[str] = set()

    def add(self, names: Iterable[str]) -> None:
        """Count names, each once, or raise `TooManyCorruptError`."""
        self.names.update(names)
        if len(self.names) > 0.01 * self.size:
            bad = f"{len(self.names)} of {self.size}"
            raise TooManyCorruptError(f"{bad} images can't be decoded, more than 1 %: {self}.")

    def __str__(self) -> str:
        shown = ", ".join(sorted(self.names)[:10])
        return f"{shown} and {len(self.names) - 10} more" if len(self.names) > 10 else shown


def open_image(record: Any) -> Image.Image:
    """Open a record of `Images`; Pillow decodes its pixels when they are used."""
    if isinstance(record, np.ndarray):
        return Image.fromarray(record)
    if isinstance(record, dict):
        content = record.get("bytes")
        record = record["path"] if content is None else io.BytesIO(content)
    return Image.open(record)


def to_rgb(image: Image.Image | np.ndarray) -> Image.Image:
    """Convert an image to RGB of 8 bits; those of 16 bits are divided by 256."""
    if isinstance(image, np.ndarray):
        image = Image.fromarray(image)
    if image.mode == "F":
        raise ValueError("An image of floats has no stated range.")
    if image.mode.startswith("I"):  # Pillow's own conversion clips 16 bits at 255
        image = Image.fromarray((np.asarray(image) // 256).clip(0, 255).astype(np.uint8))
    return image if image.mode == "RGB" else image.convert("RGB")
