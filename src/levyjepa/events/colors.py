"""What a frame shows, as a vector."""

from collections.abc import Callable

import numpy as np

Embed = Callable[[np.ndarray], np.ndarray]

SIDE = 32  # pixels of a small picture
CELLS = (SIDE // 2) ** 2
LUMA = np.array([0.299, 0.587, 0.114], np.float32)
CHROMA = np.array([[-0.169, -0.331, 0.5], [0.5, -0.419, -0.081]], np.float32)


def colors(images: np.ndarray) -> np.ndarray:
    """Return the square root of each image's histogram of 16 x 8 x 8 colors (Y, Cb, Cr).

    Args:
        images: (N, H, W, 3) uint8.

    Returns:
        (N, 1024) unit vectors. The distance of two is sqrt(2) times Hellinger's distance.
    """
    pixels = images.reshape(len(images), -1, 3).astype(np.float32)
    luma, chroma = pixels @ LUMA / 16, (pixels @ CHROMA.T + 128) / 32
    color = luma.astype(np.intp).clip(0, 15) * 64
    color += (chroma.astype(np.intp).clip(0, 7) * (8, 1)).sum(-1)
    color += 1024 * np.arange(len(images))[:, None]
    counts = np.bincount(color.ravel(), minlength=1024 * len(images)).reshape(-1, 1024)
    return np.sqrt(counts / pixels.shape[1]).astype(np.float32)


def small(image: np.ndarray) -> np.ndarray:
    """Return an image (H, W, 3) at 32 x 32 pixels, each the mean of a cell or its only pixel."""
    if image.shape[:2] == (SIDE, SIDE):
        return image
    for axis in (0, 1):
        side = image.shape[axis]
        edges = np.arange(SIDE) * side // SIDE
        if side >= SIDE:
            sums = np.add.reduceat(image, edges, axis, dtype=np.float32)
            widths = np.diff(np.append(edges, side))
            image = sums / widths.reshape((-1, 1, 1) if axis == 0 else (-1, 1))
        else:
            image = image.take(edges, axis)
    return image.astype(np.uint8)


def brightness(images: np.ndarray) -> np.ndarray:
    """Return the luma of small pictures (N, 32, 32, 3), averaged over cells of 2 x 2: (N, 256)."""
    luma = images.astype(np.float32) @ LUMA
    return luma.reshape(len(images), SIDE // 2, 2, SIDE // 2, 2).mean((2, 4)).reshape(-1, CELLS)
