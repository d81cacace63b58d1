"""Masks: a class id for each pixel of an image."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL.Image import Image
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as F

from levyjepa.data.images import CorruptImageError, Images, open_image

VOID = -1  # the id of pixels that are ignored


@dataclass(eq=False)
class MaskedImages(Dataset):
    """(PIL RGB image, -1), where `truth(i)` is the image's mask."""

    images: Images
    masks: Any  # a sequence of files or of dicts of `bytes` or `path`
    classes: int  # ids are below it
    void: int | None  # the id of pixels that are ignored

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Image, int]:
        return self.images[index]

    def name(self, index: int) -> str:
        """What to call an image in messages."""
        return self.images.name(index)

    def truth(self, index: int) -> np.ndarray:
        """Return a mask, (H, W) int64, -1 where ignored; raise `ValueError` if it can't be used."""
        name = self.name(index)
        try:
            size = self.images[index][0].size
        except CorruptImageError:
            raise ValueError(f"The image {name} can't be decoded.") from None
        ids = read_ids(self.masks[index], name).astype(np.int64)
        if ids.shape[::-1] != size:
            (width, height), (tall, wide) = size, ids.shape
            wanted = f"as large as its image, {width} x {height}"
            raise ValueError(f"The mask of {name} must be {wanted}, got {wide} x {tall}.")
        if self.void is not None:
            ids[ids == self.void] = VOID
        if (ids >= self.classes).any():
            known = f"{self.classes}" + ("" if self.void is None else f" or {self.void} for void")
            raise ValueError(f"The mask of {name} must hold ids below {known}, got {ids.max()}.")
        return ids


def read_ids(record: Any, name: str) -> np.ndarray:
    """Return the ids (H, W) of a mask, a record as of `Images`, as they are stored."""
    try:
        mask = open_image(record)
        ids = np.array(mask)
    except Exception as error:  # Pillow's errors have no common base
        raise ValueError(f"The mask of {name} can't be decoded.") from error
    if mask.mode not in ("P", "L"):
        raise ValueError(f"The mask of {name} must hold ids in mode P or L, got {mask.mode}.")
    return ids


def fit_mask(ids: np.ndarray | Tensor, size: int) -> Tensor:
    """Resize a mask's short side to `size` and crop the center square, as `whole` does of images.

    Args:
        ids: (H, W) integers.
        size: Pixels; the mask becomes (size, size) int64 of nearest pixels.
    """
    mask = torch.as_tensor(ids, dtype=torch.int64)[None]
    resized: Any = F.resize(mask, [size], InterpolationMode.NEAREST_EXACT)
    return F.center_crop(resized, [size, size])[0]
