"""The shots of a video and the events between them, and their files."""

import csv
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Event:
    """A shot begins at this frame, with this probability."""

    frame: int
    time: float  # seconds
    probability: float


@dataclass(frozen=True)
class Shot:
    """The frames from `start` on, before `end`."""

    start: int
    end: int
    start_time: float  # seconds
    end_time: float


@dataclass(frozen=True)
class Events:
    """The shots of a video and the events between them.

    `curve` holds the largest probability of a jump within stretches of `stretch` frames.
    """

    shots: list[Shot]
    events: list[Event]
    curve: np.ndarray = field(compare=False)
    stretch: int = 1


def write_events(events: Events, folder: str | Path) -> None:
    """Write `events.json` and `shots.csv`, times to 1e-6 s, into a folder, which is made."""
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    shots = [_rounded(shot) for shot in events.shots]
    content = {"shots": shots, "events": [_rounded(event) for event in events.events]}
    (target / "events.json").write_text(json.dumps(content, indent=2), "utf-8")
    with (target / "shots.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(shots[0]))
        writer.writeheader()
        writer.writerows(shots)


def _rounded(record: Event | Shot) -> dict[str, Any]:
    return {k: round(v, 6) if k.endswith("time") else v for k, v in asdict(record).items()}
