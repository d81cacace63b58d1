"""Boundaries found without labels: soft maps against the boundaries of masks."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from levyjepa.checks import floating, positive
from levyjepa.data.segmentation import VOID

TOLERANCE = 0.0075  # of the diagonal, as BSDS
CURVE = 200  # points kept


@dataclass(frozen=True)
class Boundaries:
    """How well a soft map finds boundaries, over all images together."""

    best_f: float  # the largest F = 2PR / (P + R) that one threshold reaches (BSDS's ODS)
    precision: float  # at that threshold
    recall: float
    threshold: float
    average_precision: float  # the sum of P times the growth of R, as the threshold falls
    chance: float  # the precision of a map that knows nothing, and its average precision
    tolerance: int  # pixels
    images: int
    curve: np.ndarray  # (n, 3): threshold, falling, with its precision and recall

    @property
    def chance_f(self) -> float:
        """The best F of a map that knows nothing: it calls every pixel a boundary."""
        return 2 * self.chance / (1 + self.chance)

    def as_dict(self) -> dict[str, Any]:
        """What `evaluation.json` holds."""
        names = ("best_f", "precision", "recall", "threshold", "average_precision", "chance")
        rest = ("chance_f", "tolerance", "images")
        return {name: getattr(self, name) for name in (*names, *rest)}


def find_boundaries(masks: Tensor) -> np.ndarray:
    """The boundaries of masks (N, H, W), one pixel wide, as DAVIS draws them.

    A pixel belongs to one if its neighbour to the right, below or diagonally below has another
    class; where either is void (-1) there is none.
    """
    ids = masks.numpy()
    found = np.zeros(ids.shape, dtype=bool)
    for down, right in ((0, 1), (1, 0), (1, 1)):
        here = ids[:, : ids.shape[1] - down, : ids.shape[2] - right]
        there = ids[:, down:, right:]
        differ = (here != there) & (here != VOID) & (there != VOID)
        found[:, : ids.shape[1] - down, : ids.shape[2] - right] |= differ
    return found


def score_boundaries(maps: Tensor, masks: Tensor, tolerance: float = TOLERANCE) -> Boundaries:
    """Precision and recall of the pixels at or above each threshold, over all thresholds.

    A pixel is right if a boundary is within the tolerance, a boundary's pixel is found if a pixel
    at or above the threshold is: the one-to-one matching of BSDS approximated by dilation, as
    DAVIS does, without thinning. Pixels in void or within the tolerance of it are not judged.

    Args:
        maps: (N, H, W), any scale, larger where a boundary is likelier.
        masks: (N, H, W) of int64, -1 where void.
        tolerance: As a fraction of the diagonal, rounded up to whole pixels: .0075 on BSDS.

    Raises:
        ValueError: Other shapes, maps that are not finite, or masks without a boundary.
    """
    floating("maps", maps, 3, "(N, H, W)")
    if masks.shape != maps.shape:
        raise ValueError(
            f"`masks` must be as large as `maps`, got {tuple(masks.shape)} and {tuple(maps.shape)}."
        )
    if not maps.isfinite().all():
        raise ValueError("`maps` must be finite, got NaN or infinite values.")
    radius = math.ceil(positive("tolerance", tolerance) * math.hypot(*maps.shape[1:]))
    disk = _disk(radius)
    truth, values = find_boundaries(masks), maps.detach().numpy()
    if not truth.any():
        raise ValueError("`masks` must hold a boundary between two classes, got none.")
    judged = np.logical_not(ndimage.binary_dilation((masks == VOID).numpy(), disk))
    close = ndimage.binary_dilation(truth, disk)[judged]
    claimed = values[judged]
    reached = np.sort(ndimage.maximum_filter(values, footprint=disk, mode="nearest")[truth])
    if not len(claimed):
        raise ValueError("`masks` must hold a pixel farther than the tolerance from void.")

    order = np.argsort(-claimed, kind="stable")
    thresholds = claimed[order]
    last = np.flatnonzero(np.append(thresholds[1:] != thresholds[:-1], True))  # of equal values
    thresholds = thresholds[last]
    precision = np.cumsum(close[order])[last] / (last + 1)
    recall = 1 - np.searchsorted(reached, thresholds, side="left") / len(reached)
    f = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    best = int(f.argmax())
    kept = np.unique(np.searchsorted(recall, np.linspace(0, recall[-1], CURVE)))
    return Boundaries(
        best_f=float(f[best]),
        precision=float(precision[best]),
        recall=float(recall[best]),
        threshold=float(thresholds[best]),
        average_precision=float((np.diff(recall, prepend=0) * precision).sum()),
        chance=float(close.mean()),
        tolerance=radius,
        images=len(values),
        curve=np.stack([thresholds, precision, recall], 1)[kept],
    )


def sobel(images: Tensor) -> Tensor:
    """The magnitude (N, H, W) of the brightness' Sobel gradient, of images (N, 3, H, W) of uint8.

    Brightness is ITU-R 601's, from 0 to 255.
    """
    red, green, blue = images.double().numpy().transpose(1, 0, 2, 3)
    maps = []
    for gray in 0.299 * red + 0.587 * green + 0.114 * blue:
        down, right = (ndimage.sobel(gray, axis, mode="nearest") for axis in (0, 1))
        maps.append(np.hypot(down, right))
    return torch.from_numpy(np.stack(maps))


def _disk(radius: int) -> np.ndarray:
    """(1, d, d): the pixels of one image at most `radius` away."""
    at = np.arange(-radius, radius + 1)
    return (at[:, None] ** 2 + at**2 <= radius**2)[None]
