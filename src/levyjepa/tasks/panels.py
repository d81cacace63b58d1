"""What pictures of tasks are made of: rows of images, plots, colors; for light and dark pages."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib import color_sequences
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from torch import Tensor

GRAY = "#808080"  # of text, legible on white and on black
WIDTH = 7.6  # inches
KEYS = 6  # names of colors in a line
COLOR = "#2f8ac9"
HEAT = mpl.colormaps["inferno"]
OBJECTS = "#ffd84d", "#4dd2ff", "#ff6ad5", "#7dff6a", "#ff9a4d", "#b08cff"
GRAY_VOID, TAB_GRAY = "#9a9a9a", "#7f7f7f"
MORE = ("#14146e", "#ffffff", "#00e676", "#ffe14d", "#5c0038", "#7fdbff", "#4d3800", "#ffb3d1")
MORE += ("#00574b", "#000000")
TEXT: dict[str, Any] = {"fontsize": 8, "color": GRAY}
BARE: dict[str, Any] = {"fontsize": 8, "labelcolor": GRAY, "frameon": False}  # of legends
SCALE: dict[str, Any] = {"cmap": HEAT, "vmin": 0, "vmax": 1}


@dataclass(frozen=True)
class Tile:
    """One small image of a picture.

    Args:
        image: (H, W, 3) of uint8.
        title: Above it, in the first row.
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
        rows: Images of one shape, as many in each row.
        labels: At the left of each row.
        key: A line below, or names and their colors.
    """
    height, width = rows[0][0].image.shape[:2]
    left = 0.85 * any(labels)  # inches
    wide = (WIDTH - left) / len(rows[0])
    tall = wide * height / width
    above = 0.2 * any(tile.title for tile in rows[0])
    below = 0.2 * (-(-len(key) // KEYS) if not isinstance(key, str) else bool(key))
    total = above + tall * len(rows) + below
    figure = Figure((WIDTH, total), facecolor="none")
    grid = figure.subplots(len(rows), len(rows[0]), squeeze=False)
    figure.subplots_adjust(left / WIDTH, below / total, 1, 1 - above / total, 0.06, 0.06)
    for cells, row in zip(grid, rows, strict=True):
        for cell, tile in zip(cells, row, strict=True):
            show(cell, tile, 0.94 * wide)
    for cells, label in zip(grid, labels, strict=False):
        where = "figure fraction", "axes fraction"
        cells[0].annotate(label, (0, 0.5), xycoords=where, va="center", **TEXT)
    if key and isinstance(key, str):
        figure.text(left / WIDTH, 0.05 / total, key, **TEXT)
    elif key:
        boxes = [Patch(facecolor=c, edgecolor=GRAY, lw=0.5, label=name) for name, c in key]
        where = {"loc": "lower left", "ncols": KEYS, "mode": "expand", "borderaxespad": 0}
        figure.legend(handles=boxes, handlelength=1, **where, **BARE)
    return figure


def show(cell: Axes, tile: Tile, inches: float) -> None:
    """Draw one image into a plot `inches` wide."""
    image, length = tile.image, int(14 * inches)
    if tile.strength is not None:
        image = (30 + 0.45 * image.mean(2, keepdims=True) + 0 * image).astype(np.uint8)
        height, width = np.array(image.shape[:2]) / (np.array(tile.strength.shape) + 1)  # a patch
        y, x = np.indices(tile.strength.shape) + 1
        points = 72 * inches / image.shape[1] * min(height, width)
        size = (points * (0.14 + 0.62 * tile.strength)) ** 2
        cell.scatter(x * width - 0.5, y * height - 0.5, size, tile.strength, **SCALE, lw=0)
    smooth = "nearest" if max(image.shape) <= 64 else "antialiased"
    cell.imshow(image, interpolation=smooth, aspect="auto")
    title = tile.title if len(tile.title) <= length else f"{tile.title[: length - 1]}…"
    cell.set_title(title, pad=3, **TEXT)
    cell.set(xticks=[], yticks=[])
    cell.spines[:].set(visible=bool(tile.frame), color=tile.frame or GRAY, lw=1.6)


def draw_jumps(image: np.ndarray, change: np.ndarray) -> Figure:
    """Draw an image beside the change at each of its patch corners.

    The probability of a jump grows with the norm of the change and with nothing else, but is 1
    nearly everywhere where the law's jumps are many.

    Args:
        image: (H, W, 3) of uint8.
        change: (h, w), at least 0, at the inner corners of (h + 1) x (w + 1) patches.
    """
    side = 3.3  # inches
    tall = side * max(0.5, min(2.0, image.shape[0] / image.shape[1]))
    figure = Figure((WIDTH, tall + 0.2), facecolor="none")
    left, right, bar = figure.subplots(1, 3, width_ratios=(side, side, 0.12))
    figure.subplots_adjust(0, 0, 0.92, tall / (tall + 0.2), wspace=0.06)
    show(left, Tile(image, "image"), side)
    strength = change / max(float(change.max()), 1e-9)
    show(right, Tile(image, "change at each patch corner", strength), side)
    colors = figure.colorbar(ScalarMappable(cmap=HEAT), cax=bar, ticks=[0.02, 0.98])
    colors.ax.set_yticklabels(["none", "largest"], **TEXT)
    colors.ax.tick_params(length=0)
    colors.outline.set_visible(False)  # pyright: ignore[reportCallIssue]
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
        for text in (ax.xaxis.label, ax.yaxis.label, ax.title):
            text.set(color=GRAY, fontsize=9 if text is ax.title else 8)
    return figure, axes


def legend(ax: Axes, **where: Any) -> None:
    """Add a legend in gray without a box."""
    ax.legend(**BARE, **where)


def class_colors(count: int) -> list[str]:
    """Return a color for each of `count` classes; they repeat after nineteen."""
    colors = [to_hex(color) for color in color_sequences["tab10"]]
    colors = [color for color in colors if color != TAB_GRAY] + list(MORE)
    return [colors[i % len(colors)] for i in range(count)]


def paint(image: np.ndarray, ids: np.ndarray, colors: Sequence[str]) -> np.ndarray:
    """Return a mask over its dimmed image; ids below 0 are gray."""
    table = 255 * np.array([to_rgb(color) for color in (*colors, GRAY_VOID)])
    return (0.7 * table[ids] + 0.3 * image.mean(2, keepdims=True)).astype(np.uint8)


def draw_objects(axes: Axes, truth: np.ndarray | None, followed: np.ndarray | None) -> None:
    """Outline true objects and tint followed ones, over an image that `axes` shows.

    Both are ids (H, W), 0 for the background.
    """
    for number in np.unique([m for m in (truth, followed) if m is not None]):
        color = OBJECTS[(int(number) - 1) % len(OBJECTS)]
        if number and followed is not None:
            axes.contourf(followed == number, [0.5, 2], colors=[color], alpha=0.35)
        if number and truth is not None and (truth == number).any():
            axes.contour(truth == number, [0.5], colors=[color], linewidths=0.9)


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
