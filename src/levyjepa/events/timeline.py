"""A picture of a video's shots over time, and of the probability that one begins."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from levyjepa.events.shots import Events

MOST = 12  # pictures
WIDTH = 11  # inches
BANDS = ("#dfe5ee", "#f4f6f9")
LINE, EVENT = "#31456a", "#c1432e"


def pictured(events: Events) -> list[int]:
    """Return the numbers of the shots that get a picture: all, or twelve spread evenly."""
    shots = len(events.shots)
    return np.unique(np.linspace(0, shots - 1, min(shots, MOST)).round().astype(int)).tolist()


def draw_timeline(events: Events, pictures: Sequence[np.ndarray], path: str | Path) -> None:
    """Write a PNG of a video's shots, its events and the probability of a jump over time.

    Args:
        events: Of the video.
        pictures: (H, W, 3) uint8 each, of the shots in `pictured(events)`.
        path: Where the PNG goes.

    Raises:
        ValueError: There are more or fewer pictures than that.
    """
    shown = pictured(events)
    if len(pictures) != len(shown):
        raise ValueError(f"`pictures` must be {len(shown)}, got {len(pictures)}.")
    tallest = max(picture.shape[0] / picture.shape[1] for picture in pictures)
    high = min(WIDTH / len(shown) * tallest, 2.4) + 0.45
    figure = Figure(figsize=(WIDTH, high + 1.9), dpi=130, layout="constrained")
    rows: Any = figure.subfigures(2, 1, height_ratios=(high, 1.9))
    above, below = rows
    axes = above.subplots(1, len(shown), squeeze=False)[0]
    for ax, number, picture in zip(axes, shown, pictures, strict=True):
        shot = events.shots[number]
        ax.imshow(picture)
        ax.set_title(f"frame {shot.start}\n{shot.start_time:.2f} s", fontsize=8, color=LINE)
        ax.set_axis_off()
    ax = below.subplots()
    for number, shot in enumerate(events.shots):
        ax.axvspan(shot.start_time, shot.end_time, color=BANDS[number % 2], lw=0)
    frames = [shot.start for shot in events.shots] + [events.shots[-1].end]
    times = [shot.start_time for shot in events.shots] + [events.shots[-1].end_time]
    at = np.interp(np.arange(len(events.curve)) * events.stretch, frames, times)
    ax.vlines(at, 0, events.curve, color=LINE, lw=1)
    for event in events.events:
        ax.plot(event.time, event.probability, "o", color=EVENT, ms=5, clip_on=False)
    ax.set(xlim=(0, times[-1] or 1), ylim=(0, 1.08), yticks=(0, 0.5, 1))
    ax.set_xlabel("seconds", fontsize=9)
    ax.set_title("probability that a shot begins", fontsize=9, loc="left")
    ax.tick_params(labelsize=8)
    ax.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, format="png")
