"""Draw objects over frames."""

from typing import Any

import numpy as np

COLORS = "#ffd84d", "#4dd2ff", "#ff6ad5", "#7dff6a", "#ff9a4d", "#b08cff"


def draw_objects(axes: Any, truth: np.ndarray | None, followed: np.ndarray | None) -> None:
    """Outline true objects and tint followed ones, over an image that `axes` shows.

    Args:
        axes: Of matplotlib, in pixels of the masks.
        truth: (H, W), ids of objects, 0 for the background.
        followed: The same.
    """
    for number in np.unique([m for m in (truth, followed) if m is not None]):
        color = COLORS[(int(number) - 1) % len(COLORS)]
        if number and followed is not None:
            axes.contourf(followed == number, [0.5, 2], colors=[color], alpha=0.35)
        if number and truth is not None and (truth == number).any():
            axes.contour(truth == number, [0.5], colors=[color], linewidths=0.9)


def side_by_side(images: np.ndarray, gap: int, fill: float = 0) -> np.ndarray:
    """Join images (F, H, W, ...) to one, (H, F (W + gap) - gap, ...), with gaps between them."""
    width = [(0, 0)] * images.ndim
    width[2] = (0, gap)
    padded = np.pad(images, width, constant_values=fill)
    joined = np.moveaxis(padded, 0, 1).reshape(images.shape[1], -1, *images.shape[3:])
    return joined[:, : joined.shape[1] - gap]
