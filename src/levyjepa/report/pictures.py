"""Images as PNG: thumbnails, masks, and changes drawn over an image."""

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
MORE = ("#14146e", "#ffffff", "#00e676", "#ffe14d", "#5c0038", "#7fdbff", "#4d3800", "#ffb3d1")
MORE += ("#00574b", "#000000")
COLOURS = mpl.colormaps["inferno"]


def draw_jumps(image: np.ndarray, change: np.ndarray, path: str | Path) -> None:
    """Write a PNG of an image beside the change at each of its patch corners.

    A probability of a jump would do, but where the law's jumps are many it is 1 nearly everywhere;
    it grows with the norm of the change and with nothing else.

    Args:
        image: (H, W, 3) of uint8.
        change: (h, w), at least 0, at the inner corners of (h + 1) × (w + 1) patches.
        path: where the PNG goes.

    Raises:
        ValueError: a shape, a type or a change is not as above.
    """
    _check(image, change)
    top = max(float(change.max()), 1e-9)
    tall = 3.2 * max(0.5, min(2.0, image.shape[0] / image.shape[1]))
    figure = Figure(figsize=(7.6, tall + 0.5), dpi=150, layout="constrained")
    left, right = figure.subplots(1, 2)
    _show(left, image)
    left.set_title("image", fontsize=10)
    _overlay(right, image, change / top)
    right.set_title("change at each patch corner", fontsize=10)
    bar = figure.colorbar(ScalarMappable(cmap=COLOURS), ax=right, fraction=0.05)
    bar.set_ticks((0, 1), labels=("none", "largest"))  # pyright: ignore[reportArgumentType]
    bar.outline.set_visible(False)  # pyright: ignore[reportCallIssue]
    figure.savefig(path, format="png")


def jump_map(image: np.ndarray, strength: np.ndarray) -> str:
    """Discs in [0, 1] over an image as `draw_jumps` shows them, as a data URL."""
    height, width = image.shape[:2]
    figure = Figure(figsize=(1.6, 1.6 * height / width), dpi=125)
    _overlay(figure.add_axes((0, 0, 1, 1)), image, strength)
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
    """A colour for each of `count` classes; they begin anew after nineteen."""
    known = [to_hex(colour) for colour in color_sequences["tab10"]]
    known.remove(GREY)
    return [(*known, *MORE)[i % (len(known) + len(MORE))] for i in range(count)]


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
    """Colours from 0 to 1, in equal steps."""
    return [to_hex(colour) for colour in COLOURS(np.linspace(0, 1, 9))]


def _overlay(ax: Axes, image: np.ndarray, strength: np.ndarray) -> None:
    """Discs at the corners, larger and brighter with strength, over a dimmed image."""
    gray = image.mean(2, keepdims=True)
    _show(ax, (30 + 0.45 * gray + 0 * image).astype(np.uint8))
    patch = np.array(image.shape[:2]) / (np.array(strength.shape) + 1)
    row, column = np.indices(strength.shape) + 1
    discs = [
        Circle((x, y), patch.min() * (0.07 + 0.31 * p))
        for x, y, p in zip(
            (column * patch[1]).flat, (row * patch[0]).flat, strength.flat, strict=True
        )
    ]
    ax.add_collection(PatchCollection(discs, facecolor=COLOURS(strength.ravel()), lw=0))


def _show(ax: Axes, image: np.ndarray) -> None:
    height, width = image.shape[:2]
    smooth = "nearest" if max(height, width) <= 64 else "antialiased"
    ax.imshow(image, extent=(0, width, height, 0), interpolation=smooth)
    ax.set_axis_off()


def _data_url(content: bytes, form: str) -> str:
    return f"data:image/{form};base64,{base64.b64encode(content).decode()}"


def _check(image: np.ndarray, change: np.ndarray) -> None:
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ValueError(f"`image` must be (H, W, 3) of uint8, got {image.shape} of {image.dtype}.")
    if change.ndim != 2 or not change.size:
        raise ValueError(f"`change` must be (h, w), got shape {change.shape}.")
    if not ((change >= 0) & (change < np.inf)).all():
        raise ValueError(
            "`change` must be at least 0 and finite, got values from "
            f"{change.min():g} to {change.max():g}."
        )
