"""One pass over a video's frames, in which its jumps are found."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, islice

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from scipy.special import expit

from levyjepa.data.video import Frame
from levyjepa.evaluation.events.law import JumpLaw
from levyjepa.evaluation.events.pictures import (
    Embed,
    beyond_blend,
    beyond_shift,
    brightness,
    directions,
    histogram,
    small,
)
from levyjepa.evaluation.events.record import Event, Events, Shot

BATCH, CORE, MARGIN = 64, 256, 64  # frames described at once, judged at once, seen on either side
SIDE = 4  # frames before and after a jump that must differ, one and all; a flash is shorter
NEAR = 5  # increments on either side of a jump that tell how calm it is
GAPS = (8, 14, 20)  # frames that a gradual change may take
DETAIL = 13  # independent details of a picture that a shift explains or not
DRIFT = 6  # those of the three pictures within a gradual change
UNRELATED = 0.65  # the share that no shift of an unrelated picture explains
BLENDED = 0.27  # what no blend explains where a change may as well be gradual as motion
MOST = 5.0  # log odds that descriptors alone may reach, as no law holds so far out
BLANK = 3.0  # grey levels; a frame that deviates less shows nothing
FADE = 24  # frames that a fade to or from a blank frame may take


def find_events(frames: Iterable[Frame], embed: Embed | None = None) -> Events:
    """Find where shots begin, in one pass, with memory that does not grow but by what is found.

    A frame's descriptor is the square root of its colours' histogram. Its increments are a Lévy
    process: motion, whose variance the increments nearby tell, and jumps. A jump stands between
    all of the 4 frames before and all of the 4 after, so that a flash is none, and no shift of the
    picture before explains the one after, so that a pan is none. A gradual change is one over 8, 14
    or 20 frames between which the pictures are blends of the first and the last, as motion is not.
    Blank frames, and fades to and from them, count as the last picture before.

    Args:
        frames: Of any size, as `read_frames` gives them; 32 x 32 pixels are enough.
        embed: (N, H, W, 3) of uint8 -> (N, D) descriptors, instead of the histogram; all frames
            are then of one size. Only the descriptors' directions count.

    Raises:
        ValueError: No frames, or descriptors that are not finite.
    """
    seen, law, curve, found = _Seen(), JumpLaw(), _Curve(), []
    for batch in _batches(frames):
        seen.add(batch, embed)
        while seen.ahead >= CORE + MARGIN:
            found += _judge(seen, law, curve, CORE)
            seen.forget()
    if seen.last is None:
        raise ValueError("`frames` must hold a frame, got none.")
    found += _judge(seen, law, curve, seen.ahead)
    events: list[Event] = []
    for event in found:
        if not events or event.frame >= events[-1].frame + SIDE:
            events.append(event)
    return Events(_shots(events, seen), events, np.array(curve.values), curve.stretch)


class _Seen:
    """The frames in memory: MARGIN that are judged, and what is ahead."""

    def __init__(self) -> None:
        self.frames: list[tuple[int, float]] = []
        self.behind = 0
        self.last: Frame | None = None
        self.spacing = 0.0
        self.features = self.pictures = np.zeros((0, 0), np.float32)

    @property
    def ahead(self) -> int:
        return len(self.frames) - self.behind

    def add(self, batch: list[Frame], embed: Embed | None) -> None:
        if self.last is not None:
            self.spacing = batch[0].time - self.last.time
        if len(batch) > 1:
            self.spacing = batch[-1].time - batch[-2].time
        self.last = batch[-1]
        reduced = np.stack([small(frame.image) for frame in batch])
        if embed is None:
            features = histogram(reduced)
        else:
            features = directions(embed(np.stack([frame.image for frame in batch])))
        pictures = brightness(reduced)
        self.frames += [(frame.index, frame.time) for frame in batch]
        old = len(self.features) > 0
        self.features = np.concatenate([self.features, features]) if old else features
        self.pictures = np.concatenate([self.pictures, pictures]) if old else pictures

    def forget(self) -> None:
        judged = self.behind + CORE - MARGIN
        self.behind = MARGIN
        del self.frames[:judged]
        self.features, self.pictures = self.features[judged:], self.pictures[judged:]


class _Curve:
    """The largest of ever longer stretches, so that there are at most 2,048."""

    def __init__(self) -> None:
        self.values: list[float] = []
        self.stretch, self.held = 1, 0

    def add(self, probabilities: np.ndarray) -> None:
        for probability in probabilities.tolist():
            if self.held % self.stretch == 0:
                self.values.append(probability)
            self.values[-1] = max(self.values[-1], probability)
            self.held += 1
            if len(self.values) == 2048 and self.held % self.stretch == 0:
                self.values = np.reshape(self.values, (-1, 2)).max(1).tolist()
                self.stretch *= 2


@dataclass(frozen=True)
class _Change:
    """At `at`, between the frames `first` and `last`."""

    odds: float
    at: int
    first: int
    last: int
    size: float

    def holds(self, at: int) -> bool:
        return self.first - SIDE < at <= self.last + SIDE


def _judge(seen: _Seen, law: JumpLaw, curve: _Curve, core: int) -> list[Event]:
    """The events at the first `core` frames ahead; the law learns from them."""
    shown, begins = _hold(seen.pictures.std(1))
    still = shown != np.arange(len(shown))
    least, steps = _increments(seen.features[shown], still)
    pictures = seen.pictures[shown]
    shares, jumps = _jumps(least, steps, pictures, law)
    changes = _strongest(jumps, _gradual(least, still, pictures, law))
    for change in changes:
        within = slice(change.first + 1, change.last + 1)
        shares[within] = np.maximum(shares[within], expit(change.odds))
    here = slice(seen.behind, seen.behind + core)
    curve.add(shares[here])
    kept = [change for change in changes if here.start <= change.at < here.stop]
    probability = expit(np.array([change.odds for change in kept]))
    law.learn(np.array([change.size for change in kept]), probability, core)
    events = []
    for change, p in zip(kept, probability.tolist(), strict=True):
        index, time = seen.frames[begins[change.at]]
        events.append(Event(index, time, p))
    return events


def _jumps(
    least: np.ndarray, steps: np.ndarray, pictures: np.ndarray, law: JumpLaw
) -> tuple[np.ndarray, list[_Change]]:
    """The probability of a jump at each frame, and the jumps that are likelier than not."""
    edge = np.full(NEAR, np.nan)
    near = sliding_window_view(np.concatenate([edge, steps, edge]), NEAR)
    motion = _motion(np.concatenate([near[1 : len(steps)], near[NEAR + 2 :]], 1))
    size = np.diagonal(least, 1)
    odds = np.minimum(law.log_odds(size, motion), MOST)
    last = 1 + np.nonzero(odds > DETAIL / 2 * np.log(UNRELATED))[0]
    left, _ = beyond_shift(pictures[last - 1], pictures[last])
    odds[last - 1] += DETAIL / 2 * np.log(left / UNRELATED)
    found = 1 + np.nonzero(odds > 0)[0]
    changes = [_Change(float(odds[k - 1]), k, k - 1, k, float(size[k - 1])) for k in found.tolist()]
    return np.concatenate([np.zeros(1), expit(odds)]), changes


def _gradual(
    least: np.ndarray, still: np.ndarray, pictures: np.ndarray, law: JumpLaw
) -> list[_Change]:
    """Changes over several frames that are likelier than not.

    Their odds are a power of a ratio: the square of the increment, in units of a jump's, times what
    shifts leave of the last picture, over what blends leave of those between; and what shifts leave
    of the largest step between, which is little where the camera moves.
    """
    products = (pictures @ pictures.T).astype(np.float64)
    norm = np.diagonal(products)
    moved = norm[1:] + norm[:-1] - 2 * np.diagonal(products, 1)
    changes: list[_Change] = []
    for gap in GAPS:
        first = np.arange(len(least) - gap - 1)
        last = first + gap + 1
        known = ~(still[first] | still[last])
        first, last = first[known], last[known]
        size = least[first, last]
        left = beyond_blend(products, first, last).clip(0.005) / BLENDED
        ratio = np.maximum(size**2 / law.jump, 1e-9) / left
        likely = ratio > UNRELATED
        first, last, size, ratio = first[likely], last[likely], size[likely], ratio[likely]
        ratio *= beyond_shift(pictures[first], pictures[last])[0] / UNRELATED
        step = first + moved[first[:, None] + np.arange(gap + 1)].argmax(1)
        shifted, unshifted = beyond_shift(pictures[step], pictures[step + 1])
        ratio *= shifted / unshifted
        odds = DRIFT / 2 * np.log(ratio)
        for k in np.nonzero(odds > 0)[0]:
            at = _middle(products, int(first[k]), int(last[k]))
            changes.append(_Change(float(odds[k]), at, int(first[k]), int(last[k]), float(size[k])))
    return changes


def _middle(products: np.ndarray, first: int, last: int) -> int:
    """The first frame whose picture is nearer to the last than to the first."""
    between = products[first + 1 : last + 1]
    nearer = products[last, last] - 2 * between[:, last] < (
        products[first, first] - 2 * between[:, first]
    )
    return first + 1 + int(nearer.argmax()) if nearer.any() else last


def _strongest(jumps: list[_Change], spans: list[_Change]) -> list[_Change]:
    """One for each change of shot, in order: its jump, or where the gradual change is clearest."""
    apart: list[_Change] = []
    for jump in sorted(jumps, key=lambda change: -change.odds):
        if all(abs(jump.at - other.at) >= SIDE for other in apart):
            apart.append(jump)
    clearest: list[_Change] = []
    for span in sorted(spans, key=lambda change: -change.odds):
        if all(span.last <= o.first or span.first >= o.last for o in clearest):
            clearest.append(span)
    kept = [span for span in clearest if not any(span.holds(jump.at) for jump in apart)]
    return sorted(apart + kept, key=lambda change: change.at)


def _hold(deviation: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which frame each shows, fades held at the picture before; where a picture came from blank."""
    n = len(deviation)
    shown, begins = np.arange(n), np.arange(n)
    blank = np.concatenate([[False], deviation < BLANK, [False]])
    for start, end in np.nonzero(blank[1:] != blank[:-1])[0].reshape(-1, 2):
        a, b = start, end
        while a > 0 and start - a < FADE and deviation[a - 1] > 1.02 * deviation[a]:
            a -= 1
        while b < n - 1 and b - end < FADE and deviation[b + 1] > 1.02 * deviation[b]:
            b += 1
        shown[a:b] = shown[a] if start else 0
        begins[b : b + 1] = end
    return shown, begins


def _increments(features: np.ndarray, still: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The least distance of one of the frames i, i - 1, ... from one of j, j + 1, ...; the steps.

    A step is the distance from the frame before; NaN where one of the two is held.
    """
    products = features @ features.T
    norm = np.diagonal(products)
    distance = np.sqrt(np.maximum(norm[:, None] + norm - 2 * products, 0))
    steps = np.concatenate([[np.nan], np.diagonal(distance, 1)])
    steps[1:][still[1:] | still[:-1]] = np.nan
    rows = distance.copy()
    for k in range(1, SIDE):
        rows[k:] = np.minimum(rows[k:], distance[:-k])
    least = rows.copy()
    for k in range(1, SIDE):
        least[:, :-k] = np.minimum(least[:, :-k], rows[:, k:])
    return least, steps


def _motion(steps: np.ndarray) -> np.ndarray:
    """The mean square of each row, NaN left out, those far above its median cut."""
    ordered = np.sort(steps, 1)  # NaN last
    known = (~np.isnan(ordered)).sum(1)
    row = np.arange(len(steps))
    middle = ordered[row, (known - 1).clip(0) // 2] + ordered[row, (known // 2).clip(0, None)]
    cut = np.nan_to_num(np.minimum(ordered, middle[:, None] + 0.05))
    return (cut**2).sum(1) / known.clip(1)


def _batches(frames: Iterable[Frame]) -> Iterator[list[Frame]]:
    rest = iter(frames)
    for first in rest:
        yield list(chain([first], islice(rest, BATCH - 1)))


def _shots(events: list[Event], seen: _Seen) -> list[Shot]:
    assert seen.last is not None
    end = seen.last.time + (seen.last.duration or seen.spacing)
    starts = [(0, 0.0), *((event.frame, event.time) for event in events)]
    ends = [*starts[1:], (seen.last.index + 1, end)]
    return [
        Shot(start, stop, begin, finish)
        for (start, begin), (stop, finish) in zip(starts, ends, strict=True)
    ]
