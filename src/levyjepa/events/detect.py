"""One pass over a video's frames that finds the jumps of their descriptors."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, islice, pairwise
from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from levyjepa import checks
from levyjepa.data.video import Frame
from levyjepa.events.colors import Embed, brightness, colors, small
from levyjepa.events.film_law import UNIT, FilmLaw
from levyjepa.events.shots import Event, Events, Shot

FALSE_ALARMS = 1.0  # an hour
LAGS = (1, 8, 12, 16)  # frames that a change may take
LASTING = 4  # frames; what is back sooner is a flash, and as many steps around a cell set its clock
BLACK = 32  # gray levels; a frame whose brightest cell is darker shows nothing
BATCH, CORE, MARGIN = 64, 256, 64  # frames described at once, decided at once, known on either side


def find_events(
    frames: Iterable[Frame],
    embed: Embed | None = None,
    false_alarms_per_hour: float = FALSE_ALARMS,
) -> Events:
    """Find where shots begin, in one pass and with bounded memory.

    A shot begins in a cell of frames if the Bayes factor for a jump of the descriptors, P(x | a
    jump) / P(x | none), is at least the number of cells in an hour over `false_alarms_per_hour`.
    Under the law at most one in c cells without a jump has a factor of c or more.

    Args:
        frames: Of any size, as `read_frames` gives them; 32 x 32 pixels are enough.
        embed: (N, H, W, 3) uint8 -> (N, D) descriptors in place of the histogram of colors; frames
            must then be of one size. Only the descriptors' directions count.
        false_alarms_per_hour: Events expected at most in an hour in which no shot begins.

    Raises:
        ValueError: No frames, or descriptors that are not finite.
    """
    checks.positive("false_alarms_per_hour", false_alarms_per_hour)
    law, curve, last = FilmLaw(), _Curve(), None
    rows: list[_Row] = []
    changes: list[_Change] = []
    behind = 0  # rows that were decided on
    for batch in _batches(frames):
        rows += _describe(batch, embed)
        last = batch[-1]
        while len(rows) >= behind + CORE + MARGIN:
            changes += _decide(rows, behind, CORE, law, curve, false_alarms_per_hour)
            del rows[: behind + CORE - MARGIN]
            behind = MARGIN
    if last is None:
        raise ValueError("`frames` must hold a frame, got none.")
    changes += _decide(rows, behind, len(rows) - behind, law, curve, false_alarms_per_hour)
    events = [
        change.event
        for k, change in enumerate(changes)
        if k == 0 or not change.continues(changes[k - 1])
    ]
    end = last.time + (last.duration or _spacing(rows))
    edges = [(0, 0.0), *((event.frame, event.time) for event in events), (last.index + 1, end)]
    shots = [Shot(a, b, start, stop) for (a, start), (b, stop) in pairwise(edges)]
    return Events(shots, events, np.array(curve.values), curve.stretch)


class _Row(NamedTuple):
    """What is remembered of a frame."""

    index: int
    time: float
    black: bool
    picture: np.ndarray
    descriptor: np.ndarray


def _describe(batch: list[Frame], embed: Embed | None) -> list[_Row]:
    reduced = np.stack([small(frame.image) for frame in batch])
    if embed is None:
        descriptors = colors(reduced)
    else:
        descriptors = np.asarray(embed(np.stack([frame.image for frame in batch])), np.float32)
        if not np.isfinite(descriptors).all():
            raise ValueError("`embed` must give finite descriptors, got NaN or infinity.")
        norm = np.linalg.norm(descriptors, axis=1, keepdims=True)
        descriptors = descriptors / np.maximum(norm, 1e-12)
    pictures = brightness(reduced)
    black = pictures.max(1) < BLACK
    pictures -= pictures.mean(1, keepdims=True)
    parts = zip(batch, black.tolist(), pictures, descriptors, strict=True)
    return [_Row(frame.index, frame.time, *rest) for frame, *rest in parts]


def _spacing(rows: list[_Row]) -> float:
    """Mean seconds from a frame to the next."""
    return (rows[-1].time - rows[0].time) / max(len(rows) - 1, 1)


class _Curve:
    """The largest probability within stretches that double, so that there are at most 2,048."""

    def __init__(self) -> None:
        self.values: list[float] = []
        self.stretch, self.count = 1, 0

    def add(self, probabilities: np.ndarray) -> None:
        for probability in probabilities.tolist():
            if self.count % self.stretch == 0:
                self.values.append(probability)
            self.values[-1] = max(self.values[-1], probability)
            self.count += 1
            if len(self.values) == 2048 and self.count % self.stretch == 0:
                self.values = np.reshape(self.values, (-1, 2)).max(1).tolist()
                self.stretch *= 2


@dataclass(frozen=True)
class _Change:
    """A jump over a cell of `lag` frames around the event, perhaps near black frames."""

    event: Event
    lag: int
    length: float
    dark: bool

    def overlaps(self, other: "_Change") -> bool:
        distance = abs(self.event.frame - other.event.frame)
        return distance < max((self.lag + other.lag) / 2, LASTING)

    def continues(self, before: "_Change") -> bool:
        """Whether both are one: nearer than a shot lasts, or than a fade takes if both are dark."""
        distance = self.event.frame - before.event.frame
        return distance < (LAGS[-1] if self.dark and before.dark else LASTING)


def _decide(
    rows: list[_Row], start: int, core: int, law: FilmLaw, curve: _Curve, false_alarms: float
) -> list[_Change]:
    """Find the changes at `core` rows from `start` on, from which the law then learns."""
    size, stop = len(rows), start + core
    _, _, black, pictures, descriptors = map(np.array, zip(*rows, strict=True))
    distance = _distances(descriptors)
    lasting, steps = _lasting(distance), np.diagonal(distance, 1)
    dark = np.convolve(black, np.ones(2 * LAGS[-1] + 1))[LAGS[-1] : size + LAGS[-1]] > 0
    cells = len(LAGS) * 3600 / (_spacing(rows) or 0.04)  # in an hour
    highest, changes = np.zeros(size), []
    for lag in LAGS:
        if lag >= size:
            break
        lengths = np.diagonal(lasting, lag).astype(np.float64)
        if lag > 1:
            lengths = lengths * _straight(pictures, lag)
        lengths = np.maximum(lengths, UNIT)
        volumes = _volumes(steps, lag)
        probability, factor = law.jumps(lengths, volumes)
        first = (lag + 1) // 2  # the cell's middle
        middles = highest[first : first + len(lengths)]
        np.maximum(middles, probability, out=middles)
        for k in np.nonzero(factor * false_alarms >= cells)[0].tolist():
            event = Event(*rows[k + first][:2], float(probability[k]))
            changes.append(_Change(event, lag, lengths[k], bool(dark[k + first])))
        if lag == 1:
            unit_lengths = (lengths / np.sqrt(volumes))[max(start - 1, 0) : stop - 1]
    kept: list[_Change] = []
    for change in sorted(changes, key=lambda change: (change.lag > 1, -change.length)):
        if not any(change.overlaps(other) for other in kept):
            kept.append(change)
    curve.add(highest[start:stop])
    if size > 1:
        law.learn(unit_lengths)
    here = range(rows[start].index, rows[start].index + core)
    return sorted(
        (change for change in kept if change.event.frame in here),
        key=lambda change: change.event.frame,
    )


def _distances(descriptors: np.ndarray) -> np.ndarray:
    products = descriptors @ descriptors.T
    norm = np.diagonal(products)
    return np.sqrt(np.maximum(norm[:, None] + norm - 2 * products, 0))


def _lasting(distance: np.ndarray) -> np.ndarray:
    """At (i, j), the least distance of the `LASTING` frames up to i from as many from j on."""
    rows = distance.copy()
    for k in range(1, LASTING):
        rows[k:] = np.minimum(rows[k:], distance[:-k])
    least = rows.copy()
    for k in range(1, LASTING):
        least[:, :-k] = np.minimum(least[:, :-k], rows[:, k:])
    return least


def _straight(pictures: np.ndarray, lag: int) -> np.ndarray:
    """How straight the way from each picture to that `lag` frames later is, from 0 to 1.

    With a, m and b the pictures at the start, middle and end, it is the root of
    4 (m - a).(b - m) / |b - a|^2: 1 for blends, 0 on the mean for halves that are independent.
    """
    a, m, b = pictures[:-lag], pictures[lag // 2 : -(lag // 2)], pictures[lag:]
    way = ((b - a) ** 2).sum(1) + pictures.shape[1]  # a gray level's deviation, so that 0 / 0 is 0
    return np.sqrt((4 * ((m - a) * (b - m)).sum(1) / way).clip(0, 1))


def _volumes(steps: np.ndarray, lag: int) -> np.ndarray:
    """The time that passes in each cell by the film's own clock, a power of 2.

    The clock's speed is the median square of the steps just before and after the cell, in units of
    `UNIT` squared, and at least 1.
    """
    edge = np.full(LASTING, np.nan)
    near = sliding_window_view(np.concatenate([edge, steps, edge]), LASTING)
    around = np.concatenate([near[: len(steps) - lag + 1], near[LASTING + lag :]], 1)
    around[np.isnan(around).all(1)] = UNIT
    speed = np.nanmedian(around.astype(np.float64) ** 2, 1) / UNIT**2
    return 2 ** np.round(np.log2(np.maximum(speed, 1)))


def _batches(frames: Iterable[Frame]) -> Iterator[list[Frame]]:
    rest = iter(frames)
    for first in rest:
        yield list(chain([first], islice(rest, BATCH - 1)))
