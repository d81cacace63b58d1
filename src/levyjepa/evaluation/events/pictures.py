"""What a frame shows, as a vector, and how much of one picture others explain."""

from collections.abc import Callable, Sequence

import numpy as np
import torch

from levyjepa.data import normalise
from levyjepa.models import Encoder, FrameEncoder, TubeletEncoder

Embed = Callable[[np.ndarray], np.ndarray]

SIDE = 32  # pixels of a picture
REACH = 8  # pixels of the farthest shift, along each axis
LUMA = np.array([0.299, 0.587, 0.114], np.float32)
CHROMA = np.array([[-0.169, -0.331, 0.5], [0.5, -0.419, -0.081]], np.float32)


def histogram(images: np.ndarray) -> np.ndarray:
    """The square roots of the shares of 16 x 8 x 8 colours (Y, Cb, Cr): unit vectors.

    Args:
        images: (N, H, W, 3) of uint8.

    Returns:
        (N, 1024); the distance of two is sqrt(2) times Hellinger's.
    """
    pixels = images.reshape(len(images), -1, 3).astype(np.float32)
    luma, chroma = pixels @ LUMA / 16, (pixels @ CHROMA.T + 128) / 32
    colour = luma.astype(np.intp).clip(0, 15) * 64
    colour += (chroma.astype(np.intp).clip(0, 7) * (8, 1)).sum(-1)
    colour += 1024 * np.arange(len(images))[:, None]
    counts = np.bincount(colour.ravel(), minlength=1024 * len(images)).reshape(-1, 1024)
    return np.sqrt(counts / pixels.shape[1]).astype(np.float32)


def embed_by(
    encoder: Encoder | FrameEncoder | TubeletEncoder, mean: Sequence[float], std: Sequence[float]
) -> Embed:
    """Describe frames by an encoder's embedding; one of clips sees each frame as a still clip.

    Args:
        encoder: In evaluation mode; frames must have a size that it takes.
        mean: Of the pixels in [0, 1] that it was trained on, for each channel.
        std: Likewise.
    """
    device = next(encoder.parameters()).device

    def embed(images: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            pixels = torch.from_numpy(images).permute(0, 3, 1, 2).to(device)
            pixels = normalise(pixels, mean, std)
            if not isinstance(encoder, Encoder):
                length = encoder.clip[0] if isinstance(encoder, TubeletEncoder) else 1
                pixels = pixels[:, None].expand(-1, length, -1, -1, -1)
            return encoder(pixels).embedding.float().cpu().numpy()

    return embed


def directions(features: np.ndarray) -> np.ndarray:
    """Vectors (N, D) at unit length.

    Raises:
        ValueError: They are not finite.
    """
    if not np.isfinite(features).all():
        raise ValueError("`embed` must give finite descriptors, got NaN or infinity.")
    norm = np.linalg.norm(features, axis=1, keepdims=True)
    return np.asarray(features / np.maximum(norm, 1e-12), np.float32)


def small(image: np.ndarray) -> np.ndarray:
    """An image at 32 x 32 pixels, each the mean of a cell, or of its only pixel."""
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
    """The luma of images (N, 32, 32, 3), less its mean: (N, 1024)."""
    luma = images.reshape(len(images), -1, 3).astype(np.float32) @ LUMA
    return luma - luma.mean(1, keepdims=True)


def beyond_shift(before: np.ndarray, after: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The share of a picture's variance that the best shift of another leaves unexplained.

    It is 1 - max_s rho_s^2, rho_s the correlation of the pixels that both show when one is shifted
    by s, up to a quarter of a side along each axis; a negative one explains nothing.

    Args:
        before: (N, 1024), brightness.
        after: likewise.

    Returns:
        (N,), and likewise what the picture leaves unexplained unshifted.
    """
    full = SIDE + REACH
    near = np.arange(-REACH, REACH + 1) % full

    def transform(pictures: np.ndarray) -> np.ndarray:
        return np.fft.rfft2(pictures.reshape(-1, SIDE, SIDE), (full, full))

    def sums(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return np.fft.irfft2(x.conj() * y, (full, full))[:, near[:, None], near]

    ones, a, b = transform(np.ones(SIDE**2)), transform(before), transform(after)
    n, sum_a, sum_b = sums(ones, ones), sums(a, ones), sums(ones, b)
    var_a = sums(transform(before**2), ones) - sum_a**2 / n
    var_b = sums(ones, transform(after**2)) - sum_b**2 / n
    blur = n  # a grey level squared, so that rounding correlates with nothing
    rho = (sums(a, b) - sum_a * sum_b / n) / np.sqrt((var_a + blur) * (var_b + blur))
    left = 1 - rho.clip(0, 0.997) ** 2
    return left.min((1, 2), initial=1), left[:, REACH, REACH]


def beyond_blend(products: np.ndarray, first: np.ndarray, last: np.ndarray) -> np.ndarray:
    """What blends of a first and a last picture leave unexplained of three between them.

    That in the middle is half of each, those at the quarters more of the nearer. It is the mean
    square of what is left, in units of that of the difference of the two.

    Args:
        products: (N, N), of pictures with one another.
        first: (K,), numbers of pictures.
        last: likewise.
    """
    aa, bb, ab = products[first, first], products[last, last], products[first, last]
    change = np.maximum(aa + bb - 2 * ab, 1)
    left = np.zeros(len(first))
    for quarter, (least, most) in zip((1, 2, 3), ((0, 0.5), (0.5, 0.5), (0.5, 1)), strict=True):
        m = first + (last - first) * quarter // 4
        am, bm, mm = products[first, m], products[last, m], products[m, m]
        along = (bm - am - ab + aa) / change
        weight = along.clip(least, most)
        left += (mm - 2 * am + aa) / change - 2 * weight * along + weight**2
    return np.maximum(left, 0) / 3
