"""What pictures of tasks are made of: rows of images, plots, colors; for light and dark pages."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import matplotlib as mpl
import numpy as np
from matplotlib import color_sequences
from matplotlib.axes import Axes
from matplotlib.collections import PatchCollection
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Circle, Rectangle
from torch import Tensor

GRAY = "#808080"  # of text, legible on white and on black
WIDTH = 7.6  # inches
KEYS = 6  # names of colors in a line
COLOR = "#2f8ac9"
HEAT = mpl.colormaps["inferno"]
VOID, TAB_GRAY = "#9a9a9a", "#7f7f7f"
MORE = ("#14146e", "#ffffff", "#00e676", "#ffe14d", "#5c0038", "#7fdbff", "#4d3800", "#ffb3d1")
MORE += ("#00574b", "#000000")


@dataclass(frozen=True)
class Tile:
    """One small image of a picture.

    Args:
        image: (H, W, 3) of uint8.
        title: Above it.
        strength: (h, w) in [0, 1], drawn as discs at the inner corners of (h + 1) x (w + 1)
            patches.
        frame: Color around it.
    """

    image: np.ndarray
    title: str = ""
    strength: np.ndarray | None = None
    frame: str = ""


def tiles(
    rows: Sequence[Sequence[Tile]],
    labels: Sequence[str] = (),
    key: str | Sequence[tuple[str, str]] = "",
) -> Figure:
    """Draw rows of small images.

    Args:
        rows: Images of one shape.
        labels: At the left of each row.
        key: A line below, or names and their colors.
    """
    margin = 0.85 if any(labels) else 0.0  # inches, for labels
    wide = (WIDTH - margin) / max(len(row) for row in rows)
    height, width = rows[0][0].image.shape[:2]
    tall = 0.94 * wide * height / width
    steps = [tall + 0.06 * wide + 0.17 * any(tile.title for tile in row) for row in rows]
    below = 0.2 * (-(-len(key) // KEYS) if not isinstance(key, str) else bool(key))
    total = sum(steps) + below + 0.04
    figure, y = Figure((WIDTH, total), facecolor="none"), total
    ax = figure.add_axes((0, 0, 1, 1))  # in inches
    for number, row in enumerate(rows):
        y -= steps[number]
        for column, tile in enumerate(row):
            tile = replace(tile, title=_shorten(tile.title, int(14 * wide)))
            show(ax, tile, (margin + (column + 0.03) * wide, y, 0.94 * wide, tall))
        if number < len(labels):
            ax.text(0, y + tall / 2, labels[number], fontsize=8, color=GRAY, va="center")
    for number, (name, color) in enumerate([(key, "")] if isinstance(key, str) else key):
        line, place = divmod(number, KEYS)
        x, y = place * WIDTH / KEYS, below - 0.2 * line - 0.12
        if color:
            box = Rectangle((x, y - 0.05), 0.1, 0.1, facecolor=color, edgecolor=GRAY, lw=0.5)
            ax.add_patch(box)
        x += 0.15 if color else margin
        ax.text(x, y, name, fontsize=8, color=GRAY, va="center")
    ax.set(xlim=(0, WIDTH), ylim=(0, total))
    ax.set_axis_off()
    return figure


def show(ax: Axes, tile: Tile, box: tuple[float, float, float, float]) -> None:
    """Draw one image into a box of a plot: left, bottom, width and height, in the plot's units."""
    x, y, width, height = box
    image = tile.image
    if tile.strength is not None:
        image = (30 + 0.45 * image.mean(2, keepdims=True) + 0 * image).astype(np.uint8)
    smooth = "nearest" if max(image.shape) <= 64 else "antialiased"
    ax.imshow(image, extent=(x, x + width, y, y + height), interpolation=smooth, aspect="auto")
    if tile.strength is not None:
        ax.add_collection(_discs(tile.strength, box))
    if tile.frame:
        frame = Rectangle((x, y), width, height, fill=False, edgecolor=tile.frame, lw=1.6)
        ax.add_patch(frame)
    if tile.title:
        middle, above = x + width / 2, y + height + 0.03
        ax.text(middle, above, tile.title, fontsize=8, color=GRAY, ha="center", va="bottom")


def draw_jumps(image: np.ndarray, change: np.ndarray) -> Figure:
    """Draw an image beside the change at each of its patch corners.

    The probability of a jump grows with the norm of the change and with nothing else, but is 1
    nearly everywhere where the law's jumps are many.

    Args:
        image: (H, W, 3) of uint8.
        change: (h, w), at least 0, at the inner corners of (h + 1) x (w + 1) patches.

    Raises:
        ValueError: A shape, a type or a change is not as above.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ValueError(f"`image` must be (H, W, 3) of uint8, got {image.shape} of {image.dtype}.")
    if change.ndim != 2 or not change.size:
        raise ValueError(f"`change` must be (h, w), got shape {change.shape}.")
    if not ((change >= 0) & (change < np.inf)).all():
        raise ValueError(
            "`change` must be at least 0 and finite, got values from "
            f"{change.min():g} to {change.max():g}."
        )
    top = max(float(change.max()), 1e-9)
    side = 3.3
    tall = side * max(0.5, min(2.0, image.shape[0] / image.shape[1]))
    figure = Figure((WIDTH, tall + 0.2), facecolor="none")
    ax = figure.add_axes((0, 0, 1, 1))  # in inches
    show(ax, Tile(image, "image"), (0, 0, side, tall))
    right = Tile(image, "change at each patch corner", change / top)
    show(ax, right, (side + 0.15, 0, side, tall))
    bar = Tile((255 * HEAT(np.linspace(1, 0, 64))[:, None, :3]).astype(np.uint8))
    show(ax, bar, (2 * side + 0.3, 0, 0.12, tall))
    for y, words, align in ((0, "none", "bottom"), (tall, "largest", "top")):
        ax.text(2 * side + 0.47, y, words, fontsize=8, color=GRAY, va=align)
    ax.set(xlim=(0, WIDTH), ylim=(0, tall + 0.2))
    ax.set_axis_off()
    return figure


def plots(count: int, height: float = 2.4) -> tuple[Figure, list[Axes]]:
    """Return a figure with plots side by side, in gray on nothing."""
    figure = Figure((WIDTH, height), layout="constrained", facecolor="none")
    axes = list(np.atleast_1d(figure.subplots(1, count)))
    for ax in axes:
        ax.patch.set_visible(False)
        ax.spines[["top", "right", "left"]].set_visible(False)
        ax.spines["bottom"].set_color(GRAY)
        ax.grid(axis="y", color=GRAY, lw=0.5, alpha=0.35)
        ax.set_axisbelow(True)
        ax.tick_params(which="both", length=0, labelsize=8, colors=GRAY)
        ax.xaxis.label.set(color=GRAY, fontsize=8)
        ax.yaxis.label.set(color=GRAY, fontsize=8)
        ax.title.set(color=GRAY, fontsize=9)
    return figure, axes


def legend(ax: Axes, **where: str) -> None:
    """Add a legend in gray without a box."""
    ax.legend(fontsize=8, labelcolor=GRAY, frameon=False, **where)  # pyright: ignore


def class_colors(count: int) -> list[str]:
    """Return a color for each of `count` classes; they repeat after nineteen."""
    colors = [to_hex(color) for color in color_sequences["tab10"]]
    colors.remove(TAB_GRAY)
    return [(*colors, *MORE)[i % (len(colors) + len(MORE))] for i in range(count)]


def paint(image: np.ndarray, ids: np.ndarray, colors: Sequence[str]) -> np.ndarray:
    """Return a mask over its dimmed image; ids below 0 are gray."""
    table = 255 * np.array([to_rgb(color) for color in (*colors, VOID)])
    return (0.7 * table[ids] + 0.3 * image.mean(2, keepdims=True)).astype(np.uint8)


def channels_last(images: Tensor) -> np.ndarray:
    """Return uint8 images (..., 3, H, W) as an array (..., H, W, 3)."""
    return images.movedim(-3, -1).contiguous().numpy()


def spread(labels: Tensor, number: int) -> list[int]:
    """Choose images: the first of every class, then the second, and so on; else evenly spaced.

    >>> import torch
    >>> spread(torch.tensor([1, 1, 1, 0, 0]), 3)
    [3, 0, 4]
    """
    if (labels < 0).all():
        return evenly(len(labels), number)
    seen: Counter[int] = Counter()
    turns = []
    for label in labels.tolist():
        turns.append((seen[label], label))
        seen[label] += 1
    return sorted(range(len(turns)), key=turns.__getitem__)[:number]


def evenly(size: int, number: int) -> list[int]:
    """Choose at most `number` of `size` images, evenly spaced.

    >>> evenly(13, 4)
    [0, 3, 6, 9]
    """
    number = min(size, number)
    return [i * size // number for i in range(number)]


def class_name(classes: Sequence[str], label: int) -> str:
    """Return the name of a label, empty without one."""
    return str(classes[label]) if 0 <= label < len(classes) else ""


def _shorten(words: str, length: int) -> str:
    return words if len(words) <= length else f"{words[: length - 1]}…"


def _discs(strength: np.ndarray, box: tuple[float, float, float, float]) -> PatchCollection:
    """Discs at the corners, larger and brighter with strength."""
    x, y, width, height = box
    rows, columns = np.array(strength.shape) + 1
    row, column = np.indices(strength.shape) + 1
    patch = min(width / columns, height / rows)
    discs = [
        Circle(
            (x + width * j / columns, y + height * (1 - i / rows)), patch * (0.07 + 0.31 * value)
        )
        for i, j, value in zip(row.flat, column.flat, strength.flat, strict=True)
    ]
    return PatchCollection(discs, facecolor=HEAT(strength.ravel()), lw=0)
