"""Frames of a video with the times at which they are shown, one after another or as clips."""

import logging
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from levyjepa.checks import count, positive
from levyjepa.data.images import UNLABELED
from levyjepa.data.readers import (
    PICTURES,
    Encoded,
    Size,
    UnreadableVideoError,
    naming,
    reader,
)

log = logging.getLogger(__name__)

FILMS = frozenset((".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".wmv"))
ROUNDING = 1e-3  # seconds; Matroska states times in whole milliseconds


@dataclass(frozen=True)
class Frame:
    """A frame: its number from 0, when and for how long it is shown, and what it shows."""

    index: int
    time: float  # seconds after the first frame
    duration: float  # seconds; 0 where the file does not say
    image: np.ndarray  # (H, W, 3) of uint8


@dataclass(frozen=True)
class Clip:
    """Frames at a stride or rate; beyond the video's end the last is repeated and not valid."""

    frames: Tensor  # (T, 3, H, W) of uint8
    times: Tensor  # (T,) of float64, seconds after the video's first frame
    valid: Tensor  # (T,) of bool


def read_frames(path: str | Path, size: Size | None = None, rate: float = 25.0) -> Iterator[Frame]:
    """Read a video frame by frame; memory does not grow with its length.

    A file is decoded by PyAV, or by torchcodec where that is not installed. Frames come as they
    are shown: in order, turned by the rotation that the file states, at their own times.

    Args:
        path: A video file, or a folder of pictures, in the order of their names.
        size: (H, W) to which each frame is scaled, or one number, to which its short side is if it
            is longer; None keeps its own, which may change.
        rate: Frames a second of a folder of pictures.

    Raises:
        UnreadableVideoError: No file, no video in it, one that is broken or cut short, no frame.
    """
    return _numbered(Path(path), _checked(size), positive("rate", rate))


def _checked(size: Size | None) -> Size | None:
    for side in (size,) if isinstance(size, int) else size or ():
        count("size", side)
    return size


def _numbered(path: Path, size: Size | None, rate: float) -> Iterator[Frame]:
    index, first = -1, 0.0
    with naming(path):
        for index, (time, duration, image) in enumerate(reader(path, rate).stream(size)):
            first = time if index == 0 else first
            yield Frame(index, time - first, duration, image)
        if index < 0:
            raise UnreadableVideoError(f"`video` must hold frames, got none in {path}.")


class Footage(ABC):
    """Frames read by number, each shown at its own time."""

    def __len__(self) -> int:
        return len(self.times)

    @property
    @abstractmethod
    def times(self) -> np.ndarray:
        """(n,), seconds after the first frame at which each is shown."""

    @abstractmethod
    def frames_at(self, indices: np.ndarray) -> Tensor:
        """The frames of given numbers, (n, 3, H, W) of uint8."""

    def starts(self, length: int, stride: int = 1, rate: float | None = None) -> int:
        """How many frames, from the first on, begin a clip that ends within the video; at least 1.

        Args:
            length, stride, rate: Of the clip, as of `clip`.
        """
        count("length", length)
        if rate is None:
            return max(len(self) - (length - 1) * count("stride", stride), 1)
        latest = self.times[-1] - (length - 1) / positive("rate", rate)
        return max(int(np.searchsorted(self.times, latest + ROUNDING, "right")), 1)

    def clip(self, start: int, length: int, stride: int = 1, rate: float | None = None) -> Clip:
        """Read `length` frames from number `start` on.

        Args:
            start: The number of the first.
            length: How many.
            stride: From one to the next, in numbers.
            rate: How many a second, in place of `stride`: the k-th is the one that is shown k /
                `rate` seconds after the first, whatever the video's own rate.
        """
        count("length", length)
        if not 0 <= start < len(self):
            raise ValueError(f"`start` must be at least 0 and below {len(self)}, got {start}.")
        times, steps = self.times, np.arange(length)
        if rate is None:
            wanted = start + count("stride", stride) * steps
            indices, valid = wanted.clip(max=len(self) - 1), wanted < len(self)
        else:
            wanted = times[start] + steps / positive("rate", rate)
            indices = np.searchsorted(times, wanted + ROUNDING, "right") - 1
            valid = wanted <= times[-1] + ROUNDING
        shown = torch.from_numpy(times[indices])
        return Clip(self.frames_at(indices), shown, torch.from_numpy(valid))


class Video(Footage):
    """A video whose frames are read by number.

    Args:
        path: As of `read_frames`, or a file's bytes.
        size: As of `read_frames`.
        rate: Frames a second of a folder of pictures.

    Raises:
        UnreadableVideoError: As of `read_frames`, as far as it shows without decoding.
    """

    def __init__(
        self, path: str | Path | bytes, size: Size | None = None, rate: float = 25.0
    ) -> None:
        self.path = Encoded(path) if isinstance(path, bytes) else Path(path)
        self.size = _checked(size)
        self._rate = positive("rate", rate)
        with naming(self.path):
            self._stamps = reader(self.path, self._rate).stamps()
            if not len(self._stamps):
                raise UnreadableVideoError(f"`video` must hold frames, got none in {self.path}.")

    @property
    def times(self) -> np.ndarray:
        """(n,), seconds after the first frame at which each is shown."""
        return self._stamps - self._stamps[0]

    def frames_at(self, indices: np.ndarray) -> Tensor:
        """The frames of given numbers, (n, 3, H, W) of uint8."""
        return torch.from_numpy(self.take(indices)).permute(0, 3, 1, 2)

    def take(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """Read the frames of given numbers, (n, H, W, 3) of uint8."""
        distinct, place = np.unique(np.asarray(indices), return_inverse=True)
        with naming(self.path):
            images = reader(self.path, self._rate).pick(self._stamps, distinct, self.size)
            if len({image.shape for image in images}) > 1:
                raise UnreadableVideoError(
                    f"`size` must be given for frames whose size changes, as in {self.path}."
                )
            return np.stack(images)[place]


class MemoryVideo(Footage):
    """Frames in memory, one a second."""

    def __init__(self, frames: Tensor) -> None:
        self.frames = frames  # (n, 3, H, W) of uint8

    @property
    def times(self) -> np.ndarray:
        """(n,), seconds after the first frame at which each is shown."""
        return np.arange(len(self.frames), dtype=np.float64)

    def frames_at(self, indices: np.ndarray) -> Tensor:
        """The frames of given numbers, (n, 3, H, W) of uint8."""
        return self.frames[torch.from_numpy(indices)]


class Videos(Dataset):
    """A map-style data set of (Video, label).

    Args:
        paths: Videos, as of `read_frames`. Those whose index can't be read are left out, and named
            in `unreadable` and in a warning.
        labels: One for each path, -1 where there is none; all of them if None.
        size: Of the frames, see `Video`.

    Raises:
        ValueError: None of the videos can be read.
    """

    def __init__(
        self,
        paths: Sequence[str | Path],
        labels: Sequence[int] | None = None,
        size: Size | None = None,
    ) -> None:
        self.videos: list[Video] = []
        self.labels: list[int] = []
        self.unreadable: list[str] = []
        reason = None
        for path, label in zip(paths, labels or [UNLABELED] * len(paths), strict=True):
            try:
                self.videos.append(Video(path, size))
                self.labels.append(label)
            except UnreadableVideoError as error:
                self.unreadable.append(str(path))
                reason = error
        if not self.videos:
            raise ValueError(
                f"`paths` must hold a readable video, got {len(paths)} without one: {reason}"
            ) from reason
        if self.unreadable:
            names = ", ".join(self.unreadable[:10])
            log.warning(
                "%d of %d videos can't be read: %s", len(self.unreadable), len(paths), names
            )

    def __len__(self) -> int:
        return len(self.videos)

    def __getitem__(self, index: int) -> tuple[Video, int]:
        return self.videos[index], self.labels[index]


def find_videos(folder: str | Path) -> list[Path]:
    """The video files below a folder, and its subfolders of pictures, by name.

    Raises:
        ValueError: There are none.
    """
    root = Path(folder)
    found = {path for path in root.rglob("*") if path.suffix.lower() in FILMS and path.is_file()}
    found |= {path.parent for path in root.rglob("*") if path.suffix.lower() in PICTURES}
    if not found:
        raise ValueError(f"`folder` must hold videos or folders of pictures, got {root}.")
    return sorted(found)
