"""The frames of a video at which a shot begins: jumps of its frames' descriptors."""

import csv
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import chain, islice
from pathlib import Path

import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view
from scipy.special import expit

from levyjepa.data import normalise
from levyjepa.data.video import Frame
from levyjepa.models import Encoder

Embed = Callable[[np.ndarray], np.ndarray]

SIDE = 4  # frames before and after a jump that must differ, one and all; a flash is shorter
NEAR = 5  # increments on either side of a jump that tell how calm it is
GAPS = (8, 14, 20)  # frames that a gradual change may take
BATCH, CORE, MARGIN = 64, 256, 64  # frames described at once, judged at once, seen on either side
BLANK = 3.0  # grey levels; a frame that deviates less shows nothing
FADE = 24  # frames that a fade to or from a blank frame may take
LUMA = np.array([0.299, 0.587, 0.114], np.float32)
CHROMA = np.array([[-0.169, -0.331, 0.5], [0.5, -0.419, -0.081]], np.float32)


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
    """The shots of a video and the events that part them.

    `curve` holds the largest probability of a jump within stretches of `stretch` frames each.
    """

    shots: list[Shot]
    events: list[Event]
    curve: np.ndarray = field(compare=False)
    stretch: int = 1


@dataclass
class JumpLaw:
    """Brownian motion of a variance that changes slowly, and Poisson jumps, Gaussian in size.

    Sizes are the lengths of increments of a vector that moves in `dim` directions. Rate and mean
    square of the jumps begin at what other videos had and follow the video's own, as more and more
    of it is seen; the motion's variance comes from the increments nearby.
    """

    dim: float = 6.4
    noise: float = 0.064**2  # mean square of an increment in which nothing moves
    jump: float = 0.8**2  # mean square of a jump
    rate: float = 0.01  # jumps a frame
    growth: float = 0.5  # the mean square of motion over n frames is n^growth that of one
    jumps_seen: float = 8.0  # the weight of the first two guesses
    frames_seen: float = 800.0

    def log_odds(
        self, size: np.ndarray, motion: np.ndarray, dim: float | None = None
    ) -> np.ndarray:
        """log P(a jump | x) / P(none | x), by Bayes: x is N(0, motion + noise [+ jump]).

        Args:
            size: |x|.
            motion: mean square of |x| by motion alone, of the shape of `size`.
            dim: the law's own if None.
        """
        dim = self.dim if dim is None else dim
        calm = motion + self.noise
        wild = calm + self.jump
        prior = np.log(self.rate / (1 - self.rate))
        return prior + dim / 2 * (np.log(calm / wild) + size**2 * (1 / calm - 1 / wild))

    def learn(self, sizes: np.ndarray, probabilities: np.ndarray, frames: int) -> None:
        """Take into account the jumps of so many further frames, by conjugate updates."""
        found = probabilities.sum()
        before, self.jumps_seen = self.jumps_seen, self.jumps_seen + found
        self.jump = (before * self.jump + (probabilities * sizes**2).sum()) / self.jumps_seen
        rates = self.frames_seen * self.rate + found
        self.frames_seen += frames
        self.rate = float(np.clip(rates / self.frames_seen, 1e-4, 0.1))


def find_events(frames: Iterable[Frame], embed: Embed | None = None) -> Events:
    """Find where shots begin, in one pass, with memory that does not grow but by what is found.

    A frame's descriptor is the square root of its colours' histogram, which camera motion hardly
    changes. Its increments are a Lévy process: motion, whose variance the increments nearby tell,
    and jumps. A jump stands between all of the 4 frames before and all of the 4 after, so that a
    flash is none. A gradual change is a jump of an increment over 8, 14 or 20 frames between which
    the pictures are blends of the first and the last, as motion is not. Blank frames, and fades to
    and from them, count as the last picture before.

    Args:
        frames: Of any size, as `read_frames` gives them; 32 x 32 pixels are enough.
        embed: (N, H, W, 3) of uint8 -> (N, D) descriptors, instead of the histogram; all frames
            are then of one size. Only the descriptors' directions count.

    Raises:
        ValueError: No frames, or descriptors that are not finite.
    """
    seen, found = _Seen(), []
    law, curve = JumpLaw() if embed is None else JumpLaw(growth=0.75), _Curve()
    for batch in _batches(frames):
        seen.add(batch, embed)
        while seen.ahead >= CORE + MARGIN:
            found += _judge(seen, law, curve, CORE)
            seen.forget()
    if not seen.frames:
        raise ValueError("`frames` must hold a frame, got none.")
    found += _judge(seen, law, curve, seen.ahead)
    events: list[Event] = []
    for event in found:
        if event.frame >= (events[-1].frame if events else 0) + SIDE or not events:
            events.append(event)
    return Events(_shots(events, seen), events, np.array(curve.values), curve.stretch)


def write_events(events: Events, folder: str | Path) -> None:
    """Write `events.json` and `shots.csv` into a folder, which is made."""
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    shots = [asdict(shot) for shot in events.shots]
    held = {"shots": shots, "events": [asdict(event) for event in events.events]}
    (target / "events.json").write_text(json.dumps(held, indent=2), "utf-8")
    with (target / "shots.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(shots[0]))
        writer.writeheader()
        writer.writerows(shots)


def histogram(images: np.ndarray) -> np.ndarray:
    """The square roots of the shares of 16 x 8 x 8 colours (Y, Cb, Cr): unit vectors.

    Args:
        images: (N, H, W, 3) of uint8.

    Returns:
        (N, 1024); the distance of two is sqrt(2) times Hellinger's.
    """
    pixels = images.reshape(len(images), -1, 3).astype(np.float32)
    luma, chroma = pixels @ LUMA / 16, (pixels @ CHROMA.T + 128) / 32
    colour = luma.astype(np.intp).clip(0, 15) * 64
    colour += (chroma.astype(np.intp).clip(0, 7) * (8, 1)).sum(-1)
    colour += 1024 * np.arange(len(images))[:, None]
    counts = np.bincount(colour.ravel(), minlength=1024 * len(images)).reshape(-1, 1024)
    return np.sqrt(counts / pixels.shape[1]).astype(np.float32)


def embed_by(encoder: Encoder, mean: Sequence[float], std: Sequence[float]) -> Embed:
    """Describe frames by an encoder's embedding.

    Args:
        encoder: In evaluation mode; frames must have a size that it takes.
        mean: Of the pixels in [0, 1] that it was trained on, for each channel.
        std: Likewise.
    """
    device = next(encoder.parameters()).device

    def embed(images: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            pixels = torch.from_numpy(images).permute(0, 3, 1, 2).to(device)
            return encoder(normalise(pixels, mean, std)).embedding.float().cpu().numpy()

    return embed


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
        small = np.stack([_small(frame.image) for frame in batch])
        if embed is None:
            features = histogram(small)
        else:
            features = _directions(embed(np.stack([frame.image for frame in batch])))
        luma = small.reshape(len(small), -1, 3).astype(np.float32) @ LUMA
        luma -= luma.mean(1, keepdims=True)
        self.frames += [(frame.index, frame.time) for frame in batch]
        old = len(self.features) > 0
        self.features = np.concatenate([self.features, features]) if old else features
        self.pictures = np.concatenate([self.pictures, luma]) if old else luma

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
    features, pictures = seen.features[shown], seen.pictures[shown]
    distance = _distances(features)
    here = slice(seen.behind, seen.behind + core)
    still = shown != np.arange(len(shown))

    shares, changes = _changes(distance, still, pictures, law)
    changes = _strongest(changes)
    for change in changes:
        within = slice(change.first + 1, change.last + 1)
        shares[within] = np.maximum(shares[within], expit(change.odds))
    curve.add(shares[here])
    kept = [change for change in changes if here.start <= change.at < here.stop]
    probability = expit(np.array([change.odds for change in kept]))
    law.learn(np.array([change.size for change in kept]), probability, core)
    events = []
    for change, p in zip(kept, probability.tolist(), strict=True):
        index, time = seen.frames[begins[change.at]]
        events.append(Event(index, time, p))
    return events


def _changes(
    distance: np.ndarray, still: np.ndarray, pictures: np.ndarray, law: JumpLaw
) -> tuple[np.ndarray, list[_Change]]:
    """The probability of a jump at each frame, and all changes that are likelier than not."""
    n = len(distance)
    shares, changes = np.zeros(n), []
    least = _least(distance)
    steps = np.full(n, np.nan)
    steps[1:] = np.diagonal(distance, 1)
    steps[1:][still[1:] | still[:-1]] = np.nan
    edge = np.full(NEAR, np.nan)
    before = sliding_window_view(np.concatenate([edge, steps]), NEAR)[:n]
    after = sliding_window_view(np.concatenate([steps[1:], edge, edge]), NEAR)[:n]
    products = (pictures @ pictures.T).astype(np.float64)
    for gap in (0, *GAPS):
        at = np.arange(1 + gap // 2, n - gap // 2)
        if gap:
            at = at[1:-1]
        if not len(at):
            continue
        first, last = at - gap // 2 - 1, at + gap // 2
        size = least[first, last]
        motion = _motion(np.concatenate([before[first + 1], after[last]], 1))
        if gap:
            bound = np.minimum(law.log_odds(size, motion * gap**law.growth, dim=3.0), 4)
            value = bound + _blend_odds(products, first, last)
            value[(size < 0.25) | still[first] | still[last]] = -np.inf
        else:
            value = law.log_odds(size, motion)
            shares[at] = expit(value)
        changes += [
            _Change(float(value[k]), int(at[k]), int(first[k]), int(last[k]), float(size[k]))
            for k in np.nonzero(value > 0)[0]
        ]
    return shares, changes


def _blend_odds(products: np.ndarray, first: np.ndarray, last: np.ndarray) -> np.ndarray:
    """log p(r | blend) / p(r | motion), r what no blend of the first and last picture explains.

    r is the mean square of what is left of three pictures between, in units of that between first
    and last; it is log-normal, around 0.08 in gradual changes and 0.33 in motion.
    """
    aa, bb, ab = products[first, first], products[last, last], products[first, last]
    determinant = np.maximum(aa * bb - ab**2, 1e-6 * aa * bb + 1)
    rest = np.zeros(len(first))
    for quarter in (1, 2, 3):
        m = first + (last - first) * quarter // 4
        am, bm = products[first, m], products[last, m]
        explained = (am**2 * bb - 2 * am * bm * ab + bm**2 * aa) / determinant
        rest += np.maximum(products[m, m] - explained, 0) / 3
    r = np.log((rest / (aa + bb - 2 * ab + 1)).clip(0.005))
    blend = -0.5 * ((np.maximum(r, np.log(0.08)) - np.log(0.08)) / 0.8) ** 2 - np.log(0.8)
    motion = -0.5 * ((r - np.log(0.33)) / 0.45) ** 2 - np.log(0.45)
    return np.minimum(blend - motion, 4)


def _strongest(changes: list[_Change]) -> list[_Change]:
    """One for each change of shot, in order: its jump, or where the gradual change is clearest."""
    jumps: list[_Change] = []
    spans: list[_Change] = []
    for change in sorted(changes, key=lambda change: -change.odds):
        if change.last == change.first + 1:
            if all(abs(change.at - other.at) >= SIDE for other in jumps):
                jumps.append(change)
        elif all(change.last <= o.first or change.first >= o.last for o in spans):
            spans.append(change)
    kept, used = [], set()
    for span in spans:
        inside = [jump for jump in jumps if span.holds(jump.at)]
        kept.append(inside[0] if inside else span)
        used.update(jump.at for jump in inside)
    kept += [jump for jump in jumps if jump.at not in used]
    return sorted({change.at: change for change in kept}.values(), key=lambda change: change.at)


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


def _motion(steps: np.ndarray) -> np.ndarray:
    """The mean square of each row, NaN left out, those far above its median cut."""
    ordered = np.sort(steps, 1)  # NaN last
    known = (~np.isnan(ordered)).sum(1)
    row = np.arange(len(steps))
    middle = ordered[row, (known - 1).clip(0) // 2] + ordered[row, (known // 2).clip(0, None)]
    cut = np.nan_to_num(np.minimum(ordered, middle[:, None] + 0.05))
    return (cut**2).sum(1) / known.clip(1)


def _distances(features: np.ndarray) -> np.ndarray:
    products = features @ features.T
    norm = np.diagonal(products)
    return np.sqrt(np.maximum(norm[:, None] + norm - 2 * products, 0))


def _least(distance: np.ndarray) -> np.ndarray:
    """The least distance of one of the frames i, i - 1, ... from one of j, j + 1, ..."""
    rows = distance.copy()
    for k in range(1, SIDE):
        rows[k:] = np.minimum(rows[k:], distance[:-k])
    least = rows.copy()
    for k in range(1, SIDE):
        least[:, :-k] = np.minimum(least[:, :-k], rows[:, k:])
    return least


def _small(image: np.ndarray) -> np.ndarray:
    """An image at 32 x 32 pixels, each the mean of a cell, or of its only pixel."""
    if image.shape[:2] == (32, 32):
        return image
    for axis in (0, 1):
        side = image.shape[axis]
        edges = np.arange(32) * side // 32
        if side >= 32:
            sums = np.add.reduceat(image, edges, axis, dtype=np.float32)
            widths = np.diff(np.append(edges, side))
            image = sums / widths.reshape((-1, 1, 1) if axis == 0 else (-1, 1))
        else:
            image = image.take(edges, axis)
    return image.astype(np.uint8)


def _directions(features: np.ndarray) -> np.ndarray:
    if not np.isfinite(features).all():
        raise ValueError("`embed` must give finite descriptors, got NaN or infinity.")
    norm = np.linalg.norm(features, axis=1, keepdims=True)
    return np.asarray(features / np.maximum(norm, 1e-12), np.float32)


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
