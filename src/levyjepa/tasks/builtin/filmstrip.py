"""Clips as strips of frames, with the steps of their tokens in time."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Circle, Patch, Rectangle
from torch import Tensor

from levyjepa.tasks.context import Context
from levyjepa.tasks.panels import BARE, GRAY, HEAT, WIDTH, channels_last, draw_objects, evenly
from levyjepa.tasks.registry import register_task
from levyjepa.tasks.score import Score

CLIPS = 3
COLUMNS = 16  # frames of a clip, at most
NEARLY = 0.995  # share of all steps below what is drawn as the largest
JUMP, STILL = "#f2801e", "#9a9a9a"
DASHED = (0, (2, 2))

Place = tuple[float, float]  # (y, x) in pixels


@dataclass(frozen=True)
class Mark:
    """Something that truly jumps between the frame of a column and the one before."""

    column: int
    kind: str
    arrives: Place | None = None
    leaves: Place | None = None


@dataclass(frozen=True)
class Film:
    """F frames of a clip with the steps of its tokens, and what is known of its scene."""

    frames: np.ndarray  # (F, H, W, 3) uint8
    steps: np.ndarray  # (F, h, w) in [0, 1]: into each frame, as shares of nearly the largest
    objects: np.ndarray | None = None  # (F, H, W), ids
    followed: np.ndarray | None = None  # (F, H, W), ids
    marks: tuple[Mark, ...] | None = None  # None: unknown


@register_task("filmstrip", needs=("clips",), subjects=("trained", "untrained"), order=80)
def filmstrip(context: Context) -> list[Score]:
    """Pictures of clips and of where their tokens step in time; of no known scenes, no scores."""
    if context.source.truth == "scenes":
        return []  # the task "clips" draws them with what is known
    test = context.test
    steps = relative_steps(test.tokens)
    for place, clip in enumerate(evenly(len(steps), CLIPS)):
        film = make_film(test.images[clip], steps[clip])
        title, caption = ("", "") if place else ("Where tokens change in time", CAPTION)
        context.picture(f"clip_{place + 1}", draw_film(film), title, caption)
    return []


CAPTION = (
    "Color: how far a token moves since the previous frame, as a share of nearly the largest step "
    "of this encoder on all test clips. Bars: the largest step into each frame."
)


def relative_steps(tokens: Tensor) -> Tensor:
    """Return the norm of each token's step in time as a share of nearly the largest, in [0, 1].

    From tokens (N, t, h, w, C) of all clips that are compared to (N, t, h, w); 0 in the first row.
    """
    size = tokens.diff(dim=1).norm(dim=-1)
    largest = float(np.quantile(size.numpy(), NEARLY)) if size.numel() else 0.0
    share = (size / max(largest, 1e-9)).clamp(0, 1)
    return torch.cat([torch.zeros_like(tokens[:, :1, ..., 0]), share], 1)


def make_film(frames: Tensor, steps: Tensor, scene: Any = None, followed: Any = None) -> Film:
    """Choose the frames of a film: the first of each row of tokens, at most 16, evenly spaced.

    Args:
        frames: (T, 3, H, W) uint8.
        steps: (t, h, w), from `relative_steps`. Where rows are left out, the largest step since the
            row before counts.
        scene: A `DigitClip`; None: unknown.
        followed: (T, H, W), ids of objects that were followed.
    """
    rows, several = len(steps), len(frames) // len(steps)
    chosen = torch.linspace(0, rows - 1, min(rows, COLUMNS)).round().long()
    starts = [0, *(chosen[:-1] + 1).tolist()]
    largest = [steps[a : b + 1].amax(0) for a, b in zip(starts, chosen.tolist(), strict=True)]
    shown, objects, marks = chosen * several, None, None
    if scene is not None:
        objects = scene.masks[shown].numpy()
        columns = torch.searchsorted(chosen, torch.arange(len(frames)) // several).tolist()
        marks = tuple(
            _mark(event, columns[event.frame], scene.positions)
            for event in scene.events
            if event.kind != "bounce"
        )
    followed = None if followed is None else followed[shown].numpy()
    images, largest = channels_last(frames[shown]), torch.stack(largest).numpy()
    return Film(images, largest, objects, followed, marks)


def _mark(event: Any, column: int, positions: Tensor) -> Mark:
    arrives = leaves = None
    if event.kind == "vanish":
        leaves = event.position
    elif event.kind != "cut":
        arrives = event.position
    if event.kind == "teleport":
        y, x = positions[event.frame - 1, event.object - 1].tolist()
        leaves = (y, x)
    return Mark(column, event.kind, arrives, leaves)


def draw_film(film: Film) -> Figure:
    """Draw the frames of a film, the steps of its tokens as heat, and bars.

    Where the scene is known, objects are outlined and those that were followed tinted. Rings mark
    where a digit truly arrives (solid) or leaves (dashed), frames are bordered at a cut, and bars
    of frames with a jump have another color.
    """
    count, height, width = film.frames.shape[:3]
    gap = max(1, round(width / 24))
    lefts = np.arange(count) * (width + gap)
    side = (WIDTH - 0.2) / (lefts[-1] + width) * height  # inches
    bottom = 0.2 if film.marks is not None else 0.02
    tall = 0.16 + 2 * side + 0.4 + bottom
    figure = Figure((WIDTH, tall), facecolor="none")
    parts = figure.subplots(3, 1, height_ratios=(side, side, 0.3))
    space = 0.05 / (2 * side + 0.3) * 3  # of a row's mean height
    edges = 0.2 / WIDTH, bottom / tall, 1, 1 - 0.16 / tall
    figure.subplots_adjust(*edges, hspace=space)
    for axes, title in zip(parts, ("frames", "token steps", "largest"), strict=True):
        axes.set(xticks=[], yticks=[], facecolor="none")
        axes.set_ylabel(title, fontsize=6.5, color=GRAY, labelpad=3)
        axes.spines[:].set_visible(False)
    frames, heat, chart = parts
    opaque = np.full((count, height, width, 1), 255, np.uint8)  # but for the gaps
    for axes, images in ((frames, film.frames), (heat, _heated(film.frames, film.steps))):
        joined = side_by_side(np.concatenate([images, opaque], -1), gap)
        axes.imshow(joined, aspect="auto")
    masks = film.objects, film.followed
    draw_objects(frames, *(None if m is None else side_by_side(m, gap) for m in masks))
    kinds: dict[int, set[str]] = {}
    for mark in film.marks or ():
        kinds.setdefault(mark.column, set()).add(mark.kind)
        _draw_mark(heat, mark, lefts[mark.column], height, width)
    for column, left in enumerate(lefts):
        jumps = column in kinds
        text = ", ".join(sorted(kinds[column])) if jumps and count <= 10 else str(column + 1)
        about: Any = {"fontsize": 6.5, "color": JUMP if jumps else GRAY, "ha": "center"}
        frames.text(left + width / 2, -0.04 * height, text, **about)
    colors = [JUMP if column in kinds else STILL for column in range(count)]
    chart.bar(lefts + width / 2, film.steps.max((1, 2)), 0.7 * width, color=colors)
    chart.set(xlim=(-0.5, lefts[-1] + width - 0.5), ylim=(0, 1.02))
    chart.axhline(0, color=GRAY, linewidth=0.6)
    if film.marks is not None:
        handles = [
            Line2D([], [], color=GRAY, linewidth=1.1, label="ring: a digit arrives"),
            Line2D([], [], color=GRAY, linewidth=1.1, linestyle=DASHED, label="a digit leaves"),
            Patch(facecolor="none", edgecolor=GRAY, label="cut"),
            Patch(color=JUMP, label="something truly jumps"),
            Patch(color=STILL, label="only smooth motion"),
        ]
        size: Any = {"fontsize": 6.5, "ncols": len(handles), "borderaxespad": 0.2}
        figure.legend(handles=handles, loc="lower center", **BARE | size)
    return figure


def side_by_side(images: np.ndarray, gap: int) -> np.ndarray:
    """Join images (F, H, W, ...) to one, (H, F (W + gap) - gap, ...), with gaps of 0."""
    padded = np.pad(images, [(0, 0), (0, 0), (0, gap), *[(0, 0)] * (images.ndim - 3)])
    joined = np.moveaxis(padded, 0, 1).reshape(images.shape[1], -1, *images.shape[3:])
    return joined[:, :-gap]


def _heated(frames: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """Frames in dim gray, under the colors of the steps."""
    rows, columns = (
        np.arange(pixels) * tokens // pixels
        for pixels, tokens in zip(frames.shape[1:3], steps.shape[1:], strict=True)
    )
    share = steps[:, rows][:, :, columns][..., None]
    gray = 0.45 * frames.mean(3, keepdims=True)
    colors = 255 * HEAT(0.25 + 0.7 * share[..., 0])[..., :3]
    return (gray + 0.85 * share * (colors - gray)).astype(np.uint8)


def _draw_mark(axes: Any, mark: Mark, left: float, height: int, width: int) -> None:
    line: dict[str, Any] = {"fill": False, "edgecolor": "white", "linewidth": 1.1}
    frame = Rectangle((left - 0.5, -0.5), width, height, transform=axes.transData)
    if mark.kind == "cut":
        corner = left - 0.5 + 0.02 * width, -0.5 + 0.02 * height
        axes.add_patch(Rectangle(corner, 0.96 * width, 0.96 * height, **line))
    for place, style in ((mark.arrives, "-"), (mark.leaves, DASHED)):
        if place is not None:
            y, x = place
            ring = Circle((left + x - 0.5, y - 0.5), 0.29 * height, linestyle=style, **line)
            axes.add_patch(ring)
            ring.set_clip_path(frame)
