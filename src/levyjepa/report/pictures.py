"""Images as PNG: thumbnails, and the probability of a jump drawn over an image."""

import base64
import io
from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib import color_sequences
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import PatchCollection
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patches import Circle
from PIL import Image

VOID, GREY = "#9a9a9a", "#7f7f7f"
COLOURS = mpl.colormaps["inferno"]


def draw_jumps(image: np.ndarray, probability: np.ndarray, path: str | Path) -> None:
    """Write a PNG of an image beside the probability of a jump at each of its patch corners.

    Args:
        image: (H, W, 3) of uint8.
        probability: (h, w) in [0, 1], of the inner corners of (h + 1) × (w + 1) patches.
        path: where the PNG goes.

    Raises:
        ValueError: a shape, a type or a probability is not as above.
    """
    _check(image, probability)
    tall = 3.2 * max(0.5, min(2.0, image.shape[0] / image.shape[1]))
    figure = Figure(figsize=(7.6, tall + 0.5), dpi=150, layout="constrained")
    left, right = figure.subplots(1, 2)
    _show(left, image)
    left.set_title("image", fontsize=10)
    _overlay(right, image, probability)
    right.set_title("probability of a jump at each patch corner", fontsize=10)
    bar = figure.colorbar(ScalarMappable(cmap=COLOURS), ax=right, fraction=0.05, ticks=(0, 0.5, 1))
    bar.outline.set_visible(False)  # pyright: ignore[reportCallIssue]
    figure.savefig(path, format="png")


def jump_map(image: np.ndarray, probability: np.ndarray) -> str:
    """The overlay of `draw_jumps` alone, as a data URL."""
    height, width = image.shape[:2]
    figure = Figure(figsize=(1.6, 1.6 * height / width), dpi=125)
    _overlay(figure.add_axes((0, 0, 1, 1)), image, probability)
    out = io.BytesIO()
    figure.savefig(out, format="png")
    return _data_url(out.getvalue(), "png")


def thumbnail(image: np.ndarray, side: int = 96) -> str:
    """An (H, W, 3) image as a data URL, no more than `side` pixels wide."""
    picture = Image.fromarray(image)
    picture.thumbnail((side, side))
    form = "png" if max(image.shape) <= 64 else "jpeg"
    out = io.BytesIO()
    picture.save(out, form, quality=88)
    return _data_url(out.getvalue(), form)


def classes(count: int) -> list[str]:
    """A colour for each of `count` classes, the same whatever comes after it."""
    known = [color_sequences[name] for name in ("tab10", "Dark2", "Set3")]
    colours = [to_hex(colour) for each in known for colour in each]
    bright = [colour for colour in colours if colour not in (GREY, "#666666", "#d9d9d9")]
    return [bright[i % len(bright)] for i in range(count)]


def mask(image: np.ndarray, ids: np.ndarray, colours: Sequence[str]) -> str:
    """A mask over its dimmed image, as a data URL; ids below 0 are grey."""
    table = np.array([[int(c[i : i + 2], 16) for i in (1, 3, 5)] for c in (*colours, VOID)])
    gray = image.mean(2, keepdims=True)
    return thumbnail((0.7 * table[ids] + 0.3 * gray).astype(np.uint8), 192)


def jpeg(picture: Image.Image) -> str:
    """A picture as a data URL."""
    out = io.BytesIO()
    picture.save(out, "jpeg", quality=85)
    return _data_url(out.getvalue(), "jpeg")


def ramp() -> list[str]:
    """Colours from probability 0 to 1, in equal steps."""
    return [to_hex(colour) for colour in COLOURS(np.linspace(0, 1, 9))]


def _overlay(ax: Axes, image: np.ndarray, probability: np.ndarray) -> None:
    """Discs at the corners, larger and brighter with the probability, over a dimmed image."""
    gray = image.mean(2, keepdims=True)
    _show(ax, (30 + 0.45 * gray + 0 * image).astype(np.uint8))
    patch = np.array(image.shape[:2]) / (np.array(probability.shape) + 1)
    row, column = np.indices(probability.shape) + 1
    discs = [
        Circle((x, y), patch.min() * (0.07 + 0.31 * p))
        for x, y, p in zip(
            (column * patch[1]).flat, (row * patch[0]).flat, probability.flat, strict=True
        )
    ]
    ax.add_collection(PatchCollection(discs, facecolor=COLOURS(probability.ravel()), lw=0))


def _show(ax: Axes, image: np.ndarray) -> None:
    height, width = image.shape[:2]
    smooth = "nearest" if max(height, width) <= 64 else "antialiased"
    ax.imshow(image, extent=(0, width, height, 0), interpolation=smooth)
    ax.set_axis_off()


def _data_url(content: bytes, form: str) -> str:
    return f"data:image/{form};base64,{base64.b64encode(content).decode()}"


def _check(image: np.ndarray, probability: np.ndarray) -> None:
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ValueError(f"`image` must be (H, W, 3) of uint8, got {image.shape} of {image.dtype}.")
    if probability.ndim != 2 or not probability.size:
        raise ValueError(f"`probability` must be (h, w), got shape {probability.shape}.")
    if not ((probability >= 0) & (probability <= 1)).all():
        raise ValueError(
            "`probability` must lie in [0, 1], got values from "
            f"{probability.min():g} to {probability.max():g}."
        )
