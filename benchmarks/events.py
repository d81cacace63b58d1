"""Shot changes found by `levyjepa events` and by PySceneDetect's detectors, where they are known.

    OMP_NUM_THREADS=1 python benchmarks/events.py [--checkpoint RUN...]

needs av and scenedetect[opencv-headless]. The constants of `levyjepa.evaluation.events` were chosen
on the seeds from 100 on; the table is of the seeds from 0 on, other sequences of the same clips.
Pans, shakes and jolts are of windows that move over photographs: scikit-learn's and the clips'
frames. Crossfades and fades here are exactly linear, as the detector supposes; films' are about so.
A change is found by one event within its frames, which for a crossfade or fade are several;
every further event is a false alarm.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
from PIL import Image, ImageOps
from scenedetect import AdaptiveDetector, ContentDetector, detect  # pyright: ignore[reportMissingImports]
from sklearn.datasets import load_sample_images

from levyjepa.data.video import read_frames
from levyjepa.evaluation.events import Embed, embed_by, find_events
from levyjepa.training.checkpoint import load

DATA = Path(__file__).parents[2] / "shared" / "data"
WIDTH, HEIGHT = 320, 180  # of what is shown, out of frames 1.5 times as wide and high
BIKES = (0, 30, 76, 137, 187, 242, 250)


@dataclass(frozen=True)
class Made:
    """A video and its answer: the first and last frame at which each shot may begin."""

    frames: np.ndarray
    changes: list[tuple[int, int]]


class Material:
    """Stretches of one camera's frames, (T, 270, 480, 3), from the real clips."""

    def __init__(self, data: Path) -> None:
        bikes = _read(data / "video" / "bikes.mp4")
        shots = [bikes[a:b] for a, b in pairwise(BIKES[:-1])]
        self.clips = [*shots, _read(data / "video" / "carphone_pristine.mp4")]
        self.streets = [
            _street(data / "camvid" / "train" / "images", n) for n in ("0001TP", "0006R0", "0016E5")
        ]
        sides = (WIDTH * 2, HEIGHT * 2)
        stills = [*load_sample_images().images, *(clip[0] for clip in self.clips)]
        self.photographs = [np.asarray(ImageOps.fit(Image.fromarray(x), sides)) for x in stills]

    def stretches(
        self, rng: np.random.Generator, count: int = 7, streets: bool = False, least: int = 20
    ) -> Iterator[np.ndarray]:
        """`count` stretches of `least` to 45 frames, two in a row never of one camera."""
        cameras = self.streets if streets else self.clips
        last = -1
        for _ in range(count):
            chosen = int(rng.choice([n for n in range(len(cameras)) if n != last]))
            last, camera = chosen, cameras[chosen]
            length = min(int(rng.integers(least, 46)), len(camera))
            start = int(rng.integers(0, len(camera) - length + 1))
            part = camera[start : start + length]
            yield part[:, :, ::-1] if rng.random() < 0.5 else part

    def windows(
        self, rng: np.random.Generator, path: Callable[[int, np.random.Generator], np.ndarray]
    ) -> Made:
        """Hard cuts between 25 to 50 frames of six photographs, over each of which a window moves.

        `path` gives its places, (n, 2), in heights and widths from the middle.
        """
        parts = []
        for number in rng.permutation(len(self.photographs))[:6]:
            n = int(rng.integers(25, 51))
            way = path(n, rng) * (HEIGHT, WIDTH)
            still = np.broadcast_to(self.photographs[number], (n, HEIGHT * 2, WIDTH * 2, 3))
            parts.append((_crop(still, way), 0, "cut"))
        return _join(parts)


def cuts(material: Material, rng: np.random.Generator, streets: bool = False) -> Made:
    """Hard cuts."""
    return _join([(_centre(part), 0, "cut") for part in material.stretches(rng, streets=streets)])


def streets(material: Material, rng: np.random.Generator) -> Made:
    """Hard cuts between drives that were filmed at one or two frames a second."""
    return cuts(material, rng, streets=True)


def dissolves(material: Material, rng: np.random.Generator) -> Made:
    """Crossfades of 6 to 14 frames."""
    parts = material.stretches(rng, least=30)
    return _join([(_centre(part), int(rng.integers(6, 15)), "dissolve") for part in parts])


def fades(material: Material, rng: np.random.Generator) -> Made:
    """Fades to black and back, 5 to 9 frames each, with 1 to 6 black ones between."""
    parts = [
        (_centre(part), int(rng.integers(5, 10)), "fade")
        for part in material.stretches(rng, least=30)
    ]
    return _join(parts, rng)


def flashes(material: Material, rng: np.random.Generator) -> Made:
    """Hard cuts, and in every shot a flash of 1 to 3 frames, nearly or wholly white."""
    made = []
    for part in material.stretches(rng):
        shown = _centre(part).astype(np.float32)
        length, share = int(rng.integers(1, 4)), rng.uniform(0.6, 1.0)
        at = int(rng.integers(6, len(shown) - 6 - length))
        shown[at : at + length] += share * (255 - shown[at : at + length])
        made.append((shown.astype(np.uint8), 0, "cut"))
    return _join(made)


def camera(material: Material, rng: np.random.Generator) -> Made:
    """Hard cuts between shots from a hand that shakes, or pans and stops."""
    made = []
    for part in material.stretches(rng):
        n = len(part)
        if rng.random() < 0.5:
            way = rng.normal(0, 6, (n, 2)).cumsum(0)
            path = way - 0.8 * np.vstack([np.zeros(2), way[:-1]])
        else:
            start, speed = int(rng.integers(3, n // 2)), rng.uniform(6, 18) * rng.choice([-1, 1])
            across = np.clip((np.arange(n) - start) * speed + (-80 if speed > 0 else 80), -80, 80)
            path = np.stack([rng.normal(0, 1, n), across], 1)
        made.append((_crop(part, path), 0, "cut"))
    return _join(made)


def pans(material: Material, rng: np.random.Generator) -> Made:
    """The window moves across at 3 to 14 % of its width a frame, starts and stops."""

    def path(n: int, rng: np.random.Generator) -> np.ndarray:
        way = (np.arange(n) - rng.integers(3, n // 2)) * rng.uniform(0.03, 0.14)
        across = rng.choice([-1, 1]) * (way.clip(0, 1) - 0.5)
        return np.stack([rng.normal(0, 0.005, n), across], 1)

    return material.windows(rng, path)


def shakes(material: Material, rng: np.random.Generator) -> Made:
    """The window is moved anew in every frame, by 1 to 8 % of its sides."""
    return material.windows(rng, lambda n, rng: rng.normal(0, rng.uniform(0.01, 0.08), (n, 2)))


def jolts(material: Material, rng: np.random.Generator) -> Made:
    """The window stands still, but for one to three sudden moves, by 8 % of its sides."""

    def path(n: int, rng: np.random.Generator) -> np.ndarray:
        way = np.zeros((n, 2))
        for at in rng.integers(5, n - 3, rng.integers(1, 4)):
            way[at:] += rng.normal(0, 0.08, 2)
        return way

    return material.windows(rng, path)


KINDS: tuple[Callable[[Material, np.random.Generator], Made], ...] = (
    cuts,
    streets,
    dissolves,
    fades,
    flashes,
    camera,
    pans,
    shakes,
    jolts,
)


def _join(parts: list[tuple[np.ndarray, int, str]], rng: np.random.Generator | None = None) -> Made:
    """One video; a part's length and kind tell how it is joined to the one before."""
    out = list(parts[0][0])
    changes = []
    for part, length, kind in parts[1:]:
        if kind == "cut":
            changes.append((len(out), len(out)))
            out.extend(part)
        elif kind == "dissolve":
            weight = (np.arange(1, length + 1) / (length + 1))[:, None, None, None]
            old = np.stack(out[-length:]).astype(np.float32)
            out[-length:] = list((old * (1 - weight) + part[:length] * weight).astype(np.uint8))
            changes.append((len(out) - length, len(out)))
            out.extend(part[length:])
        else:
            assert rng is not None
            down = np.linspace(1, 0, length + 1)[1:, None, None, None]
            first = len(out) - length
            out[-length:] = list((np.stack(out[-length:]) * down).astype(np.uint8))
            out.extend([np.zeros_like(part[0])] * int(rng.integers(1, 7)))
            out.extend((part[:length] * (1 - down)).astype(np.uint8))
            changes.append((first, len(out)))
            out.extend(part[length:])
    return Made(np.stack(out), changes)


def _centre(part: np.ndarray) -> np.ndarray:
    return _crop(part, np.zeros((len(part), 2)))


def _crop(part: np.ndarray, path: np.ndarray) -> np.ndarray:
    """The window at a path of (down, right) in pixels from the middle."""
    tall, wide = part.shape[1] - HEIGHT, part.shape[2] - WIDTH
    top = np.clip(np.round(tall / 2 + path[:, 0]), 0, tall).astype(int)
    left = np.clip(np.round(wide / 2 + path[:, 1]), 0, wide).astype(int)
    return np.stack(
        [f[t : t + HEIGHT, s : s + WIDTH] for f, t, s in zip(part, top, left, strict=True)]
    )


def _fit(image: Image.Image) -> np.ndarray:
    size = (WIDTH * 3 // 2, HEIGHT * 3 // 2)
    return np.asarray(ImageOps.fit(image, size, Image.Resampling.BICUBIC))


def _read(path: Path) -> np.ndarray:
    with av.open(str(path)) as container:
        return np.stack([_fit(frame.to_image()) for frame in container.decode(video=0)])


def _street(folder: Path, name: str) -> np.ndarray:
    return np.stack([_fit(Image.open(p).convert("RGB")) for p in sorted(folder.glob(f"{name}*"))])


def _write(made: Made, path: Path) -> None:
    with av.open(str(path), "w") as container:
        options = {"crf": "18", "preset": "veryfast", "threads": "1"}
        stream = container.add_stream("libx264", rate=Fraction(25), options=options)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for image in made.frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, "rgb24")))
        container.mux(stream.encode())


def _levy(path: Path, side: int = 32, embed: Embed | None = None) -> list[int]:
    return [event.frame for event in find_events(read_frames(path, (side, side)), embed).events]


def _learned(checkpoint: Path) -> Callable[[Path], list[int]]:
    trained = load(checkpoint)
    embed = embed_by(trained.network.encoder, trained.mean, trained.std)
    return lambda path: _levy(path, trained.config.data.image_size, embed)


def _content(path: Path) -> list[int]:
    return [start.frame_num for start, _ in detect(str(path), ContentDetector())][1:]


def _adaptive(path: Path) -> list[int]:
    return [start.frame_num for start, _ in detect(str(path), AdaptiveDetector())][1:]


DETECTORS: dict[str, Callable[[Path], list[int]]] = {
    "levyjepa": _levy,
    "content": _content,
    "adaptive": _adaptive,
}


@dataclass
class Score:
    """Counts over videos, by tolerance."""

    videos: int = 0
    frames: int = 0
    changes: int = 0
    found: int = 0
    seconds: float = 0.0
    hits: dict[int, int] = field(default_factory=lambda: {0: 0, 1: 0})

    def add(self, found: list[int], changes: list[tuple[int, int]]) -> None:
        self.videos += 1
        self.changes += len(changes)
        self.found += len(found)
        for tolerance in self.hits:
            self.hits[tolerance] += _matched(found, changes, tolerance)

    def row(self) -> list[str]:
        recall, precision, f1 = self._rates(0)
        ours = [recall, precision, f1, self._rates(1)[2]]
        return [
            *("–" if rate is None else f"{rate:.3f}" for rate in ours),
            f"{self.found - self.hits[0]}",
        ]

    def _rates(self, tolerance: int) -> tuple[float | None, float | None, float | None]:
        hits = self.hits[tolerance]
        return (
            hits / self.changes if self.changes else None,
            hits / self.found if self.found else None,
            2 * hits / (self.changes + self.found) if self.changes else None,
        )


def _matched(found: list[int], changes: list[tuple[int, int]], tolerance: int) -> int:
    """The most pairs of an event and a change within whose frames it lies."""
    left, hits = sorted(found), 0
    for first, last in sorted(changes, key=lambda change: change[1]):
        within = [f for f in left if first - tolerance <= f <= last + tolerance]
        if within:
            left.remove(within[0])
            hits += 1
    return hits


def _problems(data: Path, folder: Path, seeds: range) -> Iterator[tuple[str, Path, list, int]]:
    cuts = [(start, start) for start in BIKES[1:-1]]
    yield "bikes.mp4", data / "video" / "bikes.mp4", cuts, BIKES[-1]
    yield "carphone_pristine.mp4", data / "video" / "carphone_pristine.mp4", [], 120
    material, path = Material(data), folder / "made.mp4"
    for number, kind in enumerate(KINDS):
        for seed in seeds:
            made = kind(material, np.random.default_rng([seed, number]))
            _write(made, path)
            yield kind.__name__, path, made.changes, len(made.frames)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--seeds", type=int, default=12, help="sequences of each kind (12)")
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument(
        "--checkpoint", type=Path, nargs="*", default=[], help="networks to try too"
    )
    options = parser.parse_args()
    learned = {f"{path.parent.name}/{path.name}": _learned(path) for path in options.checkpoint}
    detectors = DETECTORS | learned
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    scores: dict[tuple[str, str], Score] = {}
    with tempfile.TemporaryDirectory() as folder:
        for kind, path, changes, frames in _problems(options.data, Path(folder), seeds):
            for name, find in detectors.items():
                start = time.process_time()
                found = find(path)
                seconds = time.process_time() - start
                for row in (kind, "all"):
                    score = scores.setdefault((row, name), Score())
                    score.add(found, changes)
                    score.frames += frames
                    score.seconds += seconds
    print("| material | videos, changes | detector | recall | precision | F1 | F1 ± 1 | false |")
    print("|---|---|---|---|---|---|---|---|")
    for (kind, name), score in sorted(scores.items(), key=lambda item: item[0][0] == "all"):
        size = f"{score.videos}, {score.changes}"
        print(f"| {kind} | {size} | {name} |", " | ".join(score.row()), "|")
    print("\n| detector | ms of CPU a frame | to levyjepa's |\n|---|---|---|")
    ours = scores["all", "levyjepa"].seconds
    for name in detectors:
        score = scores["all", name]
        print(
            f"| {name} | {1000 * score.seconds / score.frames:.2f} | {score.seconds / ours:.2f} |"
        )


if __name__ == "__main__":
    main()
