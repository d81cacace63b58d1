"""Soft maps of boundaries against the boundaries of masks: precision, recall, best F."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from levyjepa.checks import floating, positive
from levyjepa.data.masks import VOID

TOLERANCE = 0.0075  # of the diagonal, as BSDS
CURVE = 200  # points kept


@dataclass(frozen=True)
class Boundaries:
    """How well soft maps agree with boundaries, over all images together."""

    best_f: float  # the largest F = 2PR / (P + R) that one threshold reaches (BSDS's ODS)
    precision: float  # at that threshold
    recall: float
    threshold: float
    average_precision: float  # the sum of P times the growth of R, as the threshold falls
    chance: float  # the average precision of a map that knows nothing
    tolerance: int  # pixels
    curve: np.ndarray  # (n, 3): falling thresholds with their precision and recall

    @property
    def chance_f(self) -> float:
        """Best F of a map that knows nothing: it calls every pixel a boundary."""
        return 2 * self.chance / (1 + self.chance)


def find_boundaries(masks: Tensor) -> np.ndarray:
    """Return the boundaries of masks (N, H, W), bool, one pixel wide, as DAVIS draws them.

    A pixel belongs to one if its neighbor to the right, below or diagonally below has another
    class; where either is void (-1) there is none.
    """
    ids = masks.numpy()
    padded = np.pad(ids, ((0, 0), (0, 1), (0, 1)), mode="edge")
    edges = np.zeros(ids.shape, dtype=bool)
    for other in (padded[:, :-1, 1:], padded[:, 1:, :-1], padded[:, 1:, 1:]):
        edges |= (ids != other) & (ids != VOID) & (other != VOID)
    return edges


def score_boundaries(maps: Tensor, masks: Tensor, tolerance: float = TOLERANCE) -> Boundaries:
    """Measure precision and recall of the pixels at or above each threshold.

    A pixel is right if a boundary is within the tolerance; a boundary's pixel is recalled if a
    pixel at or above the threshold is. This approximates the one-to-one matching of BSDS by
    dilation, as DAVIS does, without thinning. Pixels in void or within the tolerance of it are
    ignored.

    Args:
        maps: (N, H, W), on any scale, larger where a boundary is likelier.
        masks: (N, H, W) int64, -1 where void.
        tolerance: Fraction of the diagonal, rounded up to whole pixels.

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
    at = np.arange(-radius, radius + 1)
    disk = (at[:, None] ** 2 + at**2 <= radius**2)[None]  # of one image
    truth, values = find_boundaries(masks), maps.detach().numpy()
    if not truth.any():
        raise ValueError("`masks` must have a boundary between two classes, got none.")
    known = np.logical_not(ndimage.binary_dilation((masks == VOID).numpy(), disk))
    close = ndimage.binary_dilation(truth, disk)[known]
    claimed = values[known]
    reached = np.sort(ndimage.maximum_filter(values, footprint=disk, mode="nearest")[truth])
    if not len(claimed):
        raise ValueError("`masks` must have a pixel farther than the tolerance from void.")

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
        curve=np.stack([thresholds, precision, recall], 1)[kept],
    )


def sobel(images: Tensor) -> Tensor:
    """Return the magnitude (N, H, W) of the Sobel gradient of images (N, 3, H, W), uint8.

    Brightness is ITU-R 601's, from 0 to 255.
    """
    red, green, blue = images.double().numpy().transpose(1, 0, 2, 3)
    grays = 0.299 * red + 0.587 * green + 0.114 * blue
    edges = [[ndimage.sobel(gray, axis, mode="nearest") for axis in (0, 1)] for gray in grays]
    return torch.from_numpy(np.stack([np.hypot(*pair) for pair in edges]))
