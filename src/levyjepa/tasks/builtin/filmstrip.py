"""Clips as strips of frames, with the steps of their tokens in time."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Circle, Patch, Rectangle
from torch import Tensor

from levyjepa.tasks.context import Context
from levyjepa.tasks.panels import GRAY, HEAT, WIDTH, channels_last, evenly
from levyjepa.tasks.registry import register_task
from levyjepa.tasks.score import Score
from levyjepa.tasks.tracking.overlays import draw_objects, side_by_side

CLIPS = 3
COLUMNS = 16  # frames of a clip, at most
NEARLY = 0.995  # share of all steps below what is drawn as the largest
JUMP, STILL = "#f2801e", "#9a9a9a"

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
        title = "Where tokens change in time" if place == 0 else ""
        caption = CAPTION if place == 0 else ""
        context.picture(f"clip_{place + 1}", draw_film(film), title, caption)
    return []


CAPTION = (
    "Color: how far a token moves since the previous frame, as a share of nearly the largest step "
    "of this encoder on all test clips. Bars: the largest step into each frame."
)


def relative_steps(tokens: Tensor) -> Tensor:
    """Return the norm of each token's step in time as a share of nearly the largest, in [0, 1].

    Args:
        tokens: (N, t, h, w, C), of all clips that are compared.

    Returns:
        (N, t, h, w); 0 in the first row.
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
    shown = chosen * several
    marks = None
    if scene is not None:
        columns = torch.searchsorted(chosen, torch.arange(len(frames)) // several).tolist()
        marks = tuple(
            _mark(e, columns, scene.positions) for e in scene.events if e.kind != "bounce"
        )
    return Film(
        channels_last(frames[shown]),
        torch.stack(largest).numpy(),
        None if scene is None else scene.masks[shown].numpy(),
        None if followed is None else followed[shown].numpy(),
        marks,
    )


def _mark(event: Any, columns: Sequence[int], positions: Tensor) -> Mark:
    arrives = leaves = None
    if event.kind == "vanish":
        leaves = event.position
    elif event.kind != "cut":
        arrives = event.position
    if event.kind == "teleport":
        y, x = positions[event.frame - 1, event.object - 1].tolist()
        leaves = (y, x)
    return Mark(columns[event.frame], event.kind, arrives, leaves)


def draw_film(film: Film, *others: Film, labels: Sequence[str] = ("token steps",)) -> Figure:
    """Draw a film as a matplotlib figure: its frames, the steps of its tokens as heat, and bars.

    Where the scene is known, objects are outlined and those that were followed tinted. Rings mark
    where a digit truly arrives (solid) or leaves (dashed), frames are bordered at a cut, and bars
    of frames with a jump have another color.

    Args:
        film: What to draw.
        others: The same clip as other encoders see it; their heat and bars follow below.
        labels: Of the heat of each.
    """
    count, height, width = film.frames.shape[:3]
    gap = max(1, round(width / 24))
    left, top, bars, bottom = 0.2, 0.16, 0.3, 0.2 if film.marks is not None else 0.02
    side = (WIDTH - left) / (count * (width + gap) - gap) * height
    tall = top + side + (1 + len(others)) * (side + bars + 0.1) + bottom
    figure = Figure((WIDTH, tall), facecolor="none")
    lefts = np.arange(count) * (width + gap)

    def row(upper: float, size: float, title: str) -> Any:
        place = left / WIDTH, 1 - (upper + size) / tall, 1 - left / WIDTH, size / tall
        axes = figure.add_axes(place, facecolor="none", xticks=[], yticks=[])
        axes.set_ylabel(title, fontsize=6.5, color=GRAY, labelpad=3)
        axes.spines[:].set_visible(False)
        return axes

    frames = row(top, side, "frames")
    frames.imshow(side_by_side(_opaque(film.frames), gap), aspect="auto")
    truth, followed = (
        None if masks is None else side_by_side(masks, gap)
        for masks in (film.objects, film.followed)
    )
    draw_objects(frames, truth, followed)
    marks = film.marks or ()
    jumps = {mark.column for mark in marks}
    for column, start in enumerate(lefts):
        kinds = sorted({mark.kind for mark in marks if mark.column == column})
        text = ", ".join(kinds) if kinds and count <= 10 else str(column + 1)
        color = JUMP if column in jumps else GRAY
        frames.text(start + width / 2, -0.04 * height, text, fontsize=6.5, color=color, ha="center")
    for number, (each, label) in enumerate(zip((film, *others), labels, strict=True)):
        upper = top + side + 0.05 + number * (side + bars + 0.1)
        heat, chart = row(upper, side, label), row(upper + side + 0.03, bars, "largest")
        heat.imshow(side_by_side(_opaque(_heated(each.frames, each.steps)), gap), aspect="auto")
        for mark in marks:
            _draw_mark(heat, mark, lefts[mark.column], (height, width))
        colors = [JUMP if column in jumps else STILL for column in range(count)]
        chart.bar(lefts + width / 2, each.steps.max((1, 2)), 0.7 * width, color=colors)
        chart.set(xlim=(-0.5, lefts[-1] + width - 0.5), ylim=(0, 1.02))
        chart.axhline(0, color=GRAY, linewidth=0.6)
    if film.marks is not None:
        _legend(figure, left / WIDTH)
    return figure


def _opaque(images: np.ndarray) -> np.ndarray:
    """RGBA, so that the gaps between images are transparent."""
    return np.concatenate([images, np.full_like(images[..., :1], 255)], -1)


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


def _draw_mark(axes: Any, mark: Mark, left: float, size: tuple[int, int]) -> None:
    height, width = size
    line: dict[str, Any] = {"fill": False, "edgecolor": "white", "linewidth": 1.1}
    if mark.kind == "cut":
        corner = left - 0.5 + 0.02 * width, -0.5 + 0.02 * height
        axes.add_patch(Rectangle(corner, 0.96 * width, 0.96 * height, **line))
    for place, style in ((mark.arrives, "-"), (mark.leaves, (0, (2, 2)))):
        if place is not None:
            y, x = place
            frame = Rectangle((left - 0.5, -0.5), width, height, transform=axes.transData)
            ring = Circle((left + x - 0.5, y - 0.5), 0.29 * height, linestyle=style, **line)
            axes.add_patch(ring)
            ring.set_clip_path(frame)


def _legend(figure: Figure, left: float) -> None:
    handles = [
        Line2D([], [], color=GRAY, linewidth=1.1, label="ring: a digit arrives"),
        Line2D([], [], color=GRAY, linewidth=1.1, linestyle=(0, (2, 2)), label="a digit leaves"),
        Patch(facecolor="none", edgecolor=GRAY, label="cut"),
        Patch(color=JUMP, label="something truly jumps"),
        Patch(color=STILL, label="only smooth motion"),
    ]
    figure.legend(
        handles=handles,
        loc="lower left",
        bbox_to_anchor=(left, 0),
        ncols=len(handles),
        fontsize=6.5,
        frameon=False,
        labelcolor=GRAY,
        borderaxespad=0,
        handletextpad=0.4,
        columnspacing=1.6,
        borderpad=0,
    )
