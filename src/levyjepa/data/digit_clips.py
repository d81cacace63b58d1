"""Clips of real digits that move smoothly and jump: every mask, identity and event is known."""

from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from levyjepa.checks import count, not_negative
from levyjepa.data.sources.mnist5k import digits as real_digits

SPLITS = ("train", "test")
BACKGROUNDS = ("textured", "plain")
DIGIT = 28  # pixels a side
LEAST = DIGIT * 3 // 2  # pixels a side of a frame
SPEED = 1.0, 3.0  # pixels a frame
MOST = 254  # objects, whose ids are of uint8; 255 is void elsewhere
INK = 0.5  # a pixel belongs to a digit that covers it by half or more
DARK, GRAIN, COARSE = 110.0, 6.0, 8  # a texture's values, the deviation of its grain, its patches

Kind = Literal["teleport", "appear", "vanish", "bounce", "cut"]


@dataclass(frozen=True)
class Event:
    """What happens between frame - 1 and `frame`.

    A digit teleports to `position`, appears there, vanishes from there, or has bounced and is
    there: its step to this frame has the new direction. At a cut the whole scene changes, its
    digits and its background; the digits that it takes and brings have no events of their own.
    """

    frame: int
    kind: Kind
    object: int  # its id in the masks; 0 at a cut
    position: tuple[float, float] | None  # center (y, x) in pixels; None at a cut


@dataclass(frozen=True)
class Identity:
    """Which digit an object is."""

    digit: int  # its class
    source: int  # its index in the split of mnist5k


@dataclass(frozen=True)
class DigitClip:
    """A clip with all that is true of it.

    Objects are numbered from 1 in the order in which they first appear, and one of a higher
    number lies in front of one of a lower.
    """

    frames: Tensor  # (T, 3, H, W) of uint8
    masks: Tensor  # (T, H, W) of uint8: the id of the digit to be seen, 0 for the background
    positions: Tensor  # (T, n, 2): centers (y, x) in pixels, NaN where a digit is not there
    identities: tuple[Identity, ...]  # of objects 1 to n
    events: tuple[Event, ...]  # by frame


class MovingDigits(Dataset):
    """A map-style data set of DigitClip, each a function of (seed, split, index) alone.

    Digits move in straight lines, 1 to 3 pixels a frame, and bounce off the frame's sides. Each
    frame after the first, each one of them teleports, vanishes or comes back, and the scene is
    cut, with the probabilities given; who is there at a scene's beginning is drawn from the same
    chain, and the first digit is always there. A teleport goes at least .47 (size - 28) pixels far.

    Args:
        split: "train" or "test", whose digits differ, as those of data=mnist5k do.
        clips: How many.
        frames: T.
        size: H = W in pixels, at least 42.
        digits: The least and the most digits of a scene.
        background: "textured" or "plain".
        noise: The deviation of each pixel's Gaussian noise, anew in each frame, of 255.
        teleport: Probability for each digit and frame.
        vanish: Of a digit that is there, for each frame.
        appear: Of one that is not.
        cut: For each frame.
        seed: Other seeds give other clips of the same digits.

    Raises:
        ValueError: A size, a number or a probability is out of its range.
    """

    def __init__(
        self,
        split: str = "train",
        clips: int = 1000,
        frames: int = 16,
        size: int = 64,
        digits: tuple[int, int] = (2, 3),
        background: str = "textured",
        *,
        noise: float = 2.0,
        teleport: float = 0.03,
        vanish: float = 0.02,
        appear: float = 0.1,
        cut: float = 0.02,
        seed: int = 0,
    ) -> None:
        for name, value, known in (
            ("split", split, SPLITS),
            ("background", background, BACKGROUNDS),
        ):
            if value not in known:
                raise ValueError(f"`{name}` must be one of {', '.join(known)}, got {value!r}.")
        self.split, self.background = split, background
        self.clips, self.frames = count("clips", clips), count("frames", frames)
        self.size = count("size", size, least=LEAST)
        least, most = digits
        self.digits = count("digits", least), count("digits", most, least=least)
        chances = {"teleport": teleport, "vanish": vanish, "appear": appear, "cut": cut}
        for name, chance in chances.items():
            if not 0 <= chance <= 1:
                raise ValueError(f"`{name}` must be a probability in [0, 1], got {chance}.")
        self.chances, self.noise = chances, not_negative("noise", noise)
        self.seed = count("seed", seed, least=0)
        self.ink, self.labels = _digits()[SPLITS.index(split)]

    def __len__(self) -> int:
        return self.clips

    def __getitem__(self, index: int) -> DigitClip:
        """Draw a clip.

        Raises:
            IndexError: There is no such clip.
            ValueError: It would hold more objects than a mask of uint8 can name.
        """
        if not 0 <= index < self.clips:
            raise IndexError(f"`index` must be from 0 to {self.clips - 1}, got {index}.")
        random = np.random.default_rng((self.seed, SPLITS.index(self.split), index))
        cuts = 1 + np.flatnonzero(random.random(self.frames - 1) < self.chances["cut"])
        starts = [0, *cuts.tolist(), self.frames]
        frames = np.empty((self.frames, 3, self.size, self.size), np.float32)
        masks = np.zeros((self.frames, self.size, self.size), np.uint8)
        paths: list[_Path] = []
        for start, end in pairwise(starts):
            frames[start:end] = _background(random, self.size, self.background)
            scene = self._scene(random, start, end)
            if len(paths) + len(scene) > MOST:
                raise ValueError(
                    f"`digits` and `cut` must make at most {MOST} objects in a clip, got more in "
                    f"clip {index}."
                )
            for number, path in enumerate(scene, start=len(paths) + 1):
                hue = random.random(3, np.float32)
                _draw(frames, masks, path, self.ink[path.source], number, 255 * hue / hue.max())
            paths += scene
        frames += np.float32(self.noise) * random.standard_normal(frames.shape, np.float32)
        positions = np.full((self.frames, len(paths), 2), np.nan, np.float32)
        events = [Event(int(frame), "cut", 0, None) for frame in cuts]
        for number, path in enumerate(paths, start=1):
            there = path.start + np.flatnonzero(path.there)
            positions[there, number - 1] = path.at[path.there]
            events += [Event(t, kind, number, (y, x)) for t, kind, (y, x) in path.events]
        return DigitClip(
            frames=torch.from_numpy(frames.round().clip(0, 255).astype(np.uint8)),
            masks=torch.from_numpy(masks),
            positions=torch.from_numpy(positions),
            identities=tuple(Identity(int(self.labels[p.source]), p.source) for p in paths),
            events=tuple(sorted(events, key=lambda event: (event.frame, event.object))),
        )

    def _scene(self, random: np.random.Generator, start: int, end: int) -> list["_Path"]:
        """The digits of one scene that are ever there, in the order in which they appear."""
        least, most = self.digits
        number = int(random.integers(least, most + 1))
        sources = random.choice(len(self.ink), number, replace=False)
        paths = [
            self._path(random, int(source), start, end, n == 0) for n, source in enumerate(sources)
        ]
        return sorted((p for p in paths if p.there.any()), key=lambda p: int(p.there.argmax()))

    def _path(
        self, random: np.random.Generator, source: int, start: int, end: int, first: bool
    ) -> "_Path":
        teleport, vanish, appear = (self.chances[k] for k in ("teleport", "vanish", "appear"))
        length, room = end - start, self.size - DIGIT
        angle = random.uniform(0, 2 * np.pi)
        velocity = random.uniform(*SPEED) * np.array([np.sin(angle), np.cos(angle)])
        at = np.empty((length, 2))
        at[0] = random.uniform(0, room, 2)
        shown = first or random.random() * (vanish + appear) >= vanish
        there = np.empty(length, bool)
        there[0] = shown
        chance = random.random((length, 2))
        events: list[tuple[int, Kind, tuple[float, float]]] = []
        for t in range(1, length):
            turned = np.abs(at[t - 1] + velocity - room / 2) > room / 2
            velocity = np.where(turned, -velocity, velocity)
            jumped = chance[t, 0] < teleport
            step = room * random.uniform(1 / 3, 2 / 3, 2) if jumped else velocity
            at[t] = (at[t - 1] + step) % room if jumped else at[t - 1] + step
            kind: Kind | None = None
            if chance[t, 1] < (vanish if shown else appear):
                kind = "vanish" if shown else "appear"
                shown = not shown
            elif shown:
                kind = "teleport" if jumped else "bounce" if turned.any() else None
            there[t] = shown
            if kind:
                y, x = at[t - (kind == "vanish")] + DIGIT / 2
                events.append((start + t, kind, (float(y), float(x))))
        return _Path(source, start, at + DIGIT / 2, there, events)


@dataclass(frozen=True)
class _Path:
    """Where one digit is from frame `start` to the end of its scene."""

    source: int
    start: int
    at: np.ndarray  # (length, 2): centers
    there: np.ndarray  # (length,) of bool
    events: list[tuple[int, Kind, tuple[float, float]]]


@cache
def _digits() -> list[tuple[np.ndarray, np.ndarray]]:
    """(N, 28, 28) of float32 in [0, 1] and (N,) classes of each split."""
    return [(pixels / np.float32(255), labels) for pixels, labels in real_digits()]


def _background(random: np.random.Generator, size: int, kind: str) -> np.ndarray:
    """(3, H, W) or (3, 1, 1), dark enough for digits to stand out."""
    if kind == "plain":
        return random.uniform(0, DARK, (3, 1, 1)).astype(np.float32)
    rows = _interpolation(size)
    patches = rows @ random.uniform(0, DARK, (3, COARSE, COARSE)).astype(np.float32) @ rows.T
    grain = random.standard_normal(patches.shape, np.float32)
    return np.clip(patches + GRAIN * grain, 0, 255)


@cache
def _interpolation(size: int) -> np.ndarray:
    """(size, COARSE): linear interpolation between equidistant values."""
    at = np.linspace(0, COARSE - 1, size, dtype=np.float32)[:, None]
    return np.maximum(0, 1 - np.abs(at - np.arange(COARSE, dtype=np.float32)))


def _draw(
    frames: np.ndarray,
    masks: np.ndarray,
    path: _Path,
    ink: np.ndarray,
    number: int,
    hue: np.ndarray,
) -> None:
    """Lay a digit over what is drawn already, its center at the nearest pixel."""
    color, covered = hue[:, None, None], ink >= INK
    corners = np.rint(path.at - DIGIT / 2).astype(int)
    for t in np.flatnonzero(path.there):
        y, x = corners[t]
        place = np.s_[..., y : y + DIGIT, x : x + DIGIT]
        under = frames[path.start + t][place]
        under += ink * (color - under)
        masks[path.start + t][place][covered] = number
