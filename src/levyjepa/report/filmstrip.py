"""Clips as strips of frames: objects outlined, tokens' steps as heat, true events marked."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw
from scipy.ndimage import binary_erosion

from levyjepa.report import pictures

OBJECTS = ("#ffd84d", "#4dd2ff", "#ff6ad5", "#7dff6a", "#ff9a4d", "#b08cff")
SIDE = 96  # pixels of a frame, about
GAP = 4
NEARLY = 0.995  # of all steps lie below what is drawn as the largest


@dataclass(frozen=True)
class Strip:
    """A row of frames as one picture."""

    label: str
    source: str
    colour: str = ""


@dataclass(frozen=True)
class Bar:
    """The largest step into a frame, in percent of the strip's width and height."""

    colour: str
    left: float
    width: float
    height: float


@dataclass(frozen=True)
class Film:
    """A clip: strips of equally many frames, what happens at each, and the largest steps."""

    columns: int
    strips: list[Strip]
    events: list[str]
    bars: list[Bar]


@dataclass(frozen=True)
class Shown:
    """A cell's clips, as `Filmstrips` holds them."""

    name: str
    colour: str
    clips: dict[str, np.ndarray]


def films(cells: Sequence[Shown]) -> list[Film]:
    """A film for each clip, with strips and bars of each cell; all cells show the same clips."""
    first = cells[0].clips
    if len(first.get("untrained_steps", ())):
        other = {name: first[f"untrained_{name}"] for name in ("steps", "tracked")}
        cells = [*cells, Shown("random encoder", "var(--soft)", other)]
    heats = [strength(cell.clips["steps"]) for cell in cells]
    made = []
    for clip, frames in enumerate(first["frames"]):
        here = first["events"][:, 0] == clip
        happens = list(zip(first["events"][here], map(str, first["kinds"][here]), strict=True))
        marks = [(int(t), y, x) for (_, t, y, x), kind in happens if kind != "bounce"]
        events: list[list[str]] = [[] for _ in frames]
        for (_, at, *_), kind in happens:
            events[int(at)].append(kind)
        known = len(first["truth"]) > 0
        truth = first["truth"][clip] if known else None
        strips = [
            Strip("true objects and events" if known else "frames", strip(frames, truth, marks))
        ]
        for cell, heat in zip(cells, heats, strict=True):
            if known:
                followed = strip(frames, cell.clips["tracked"][clip])
                strips.append(Strip(f"{cell.name}: objects followed", followed, cell.colour))
            steps = strip(frames, marks=marks, heat=heat[clip])
            strips.append(Strip(f"{cell.name}: steps of tokens", steps, cell.colour))
        made.append(
            Film(len(frames), strips, list(map(", ".join, events)), _bars(cells, heats, clip))
        )
    return made


def objects(clips: dict[str, np.ndarray]) -> list[str]:
    """The colours of objects 1, 2, ... of all clips; none where the truth is not known."""
    most = int(clips["truth"].max(initial=0))
    return [OBJECTS[number % len(OBJECTS)] for number in range(most)]


def strength(steps: np.ndarray) -> np.ndarray:
    """Steps as shares of nearly the largest, in [0, 1]."""
    return (steps / max(float(np.quantile(steps, NEARLY)), 1e-9)).clip(0, 1)


def strip(
    frames: np.ndarray,
    masks: np.ndarray | None = None,
    marks: Sequence[tuple[int, float, float]] = (),
    heat: np.ndarray | None = None,
) -> str:
    """Frames (F, H, W, 3) side by side, as a data URL.

    Args:
        frames: Of uint8.
        masks: (F, H, W), ids of objects, to be outlined.
        marks: Frame and place (y, x) in pixels, to be ringed.
        heat: (F, h, w) in [0, 1], laid over the dimmed frames.
    """
    count, height, width, _ = frames.shape
    scale = max(1, round(SIDE / height))
    large = frames.repeat(scale, 1).repeat(scale, 2)
    if heat is not None:
        large = _heated(large, heat)
    if masks is not None:
        large = np.stack(list(map(_outlined, large, masks.repeat(scale, 1).repeat(scale, 2))))
    tall, wide = height * scale, width * scale
    picture = Image.new("RGB", (count * (wide + GAP) - GAP, tall), "#808080")
    for number, frame in enumerate(large):
        picture.paste(Image.fromarray(frame), (number * (wide + GAP), 0))
    draw = ImageDraw.Draw(picture)
    for at, y, x in marks:
        left = at * (wide + GAP)
        if np.isfinite((y, x)).all():
            centre, radius = (left + x * scale, y * scale), 0.3 * tall
            draw.circle(centre, radius, outline="white", width=2)
        else:
            draw.rectangle((left, 0, left + wide - 1, tall - 1), outline="white", width=4)
    return pictures.jpeg(picture)


def _heated(frames: np.ndarray, heat: np.ndarray) -> np.ndarray:
    rows, columns = (
        np.arange(pixels) * places // pixels
        for pixels, places in zip(frames.shape[1:3], heat.shape[1:], strict=True)
    )
    share = heat[:, rows][:, :, columns][..., None]
    gray = 0.5 * frames.mean(3, keepdims=True)
    colours = 255 * pictures.COLOURS(share[..., 0])[..., :3]
    return (gray + 0.85 * share * (colours - gray)).astype(np.uint8)


def _outlined(frame: np.ndarray, mask: np.ndarray) -> np.ndarray:
    frame = (0.7 * frame).astype(np.uint8)
    for number in np.unique(mask[mask > 0]):
        inside: np.ndarray = mask == number
        colour = OBJECTS[(int(number) - 1) % len(OBJECTS)]
        rim = inside & np.logical_not(binary_erosion(inside, iterations=2))
        frame[rim] = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    return frame


def _bars(cells: Sequence[Shown], heats: Sequence[np.ndarray], clip: int) -> list[Bar]:
    found = []
    column = 100 / heats[0].shape[1]
    width = 0.7 * column / len(cells)
    for place, (cell, heat) in enumerate(zip(cells, heats, strict=True)):
        for at, largest in enumerate(heat[clip].max((1, 2))):
            left = column * (at + 0.15) + place * width
            found.append(Bar(cell.colour, left, width, 100 * float(largest)))
    return found
