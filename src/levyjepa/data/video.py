"""Frames of a video with their times, one after another or as clips."""

import logging
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from levyjepa.checks import count, positive
from levyjepa.data.images import UNLABELED
from levyjepa.data.readers import (
    FRAME_SUFFIXES,
    Encoded,
    Size,
    UnreadableVideoError,
    naming,
    reader,
    unreadable,
)

log = logging.getLogger(__name__)

VIDEO_SUFFIXES = frozenset(
    (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".wmv")
)
ROUNDING = 1e-3  # seconds; Matroska states times in whole milliseconds


class Frame(NamedTuple):
    """A frame of a video."""

    index: int  # from 0
    time: float  # seconds after the first frame
    duration: float  # seconds; 0 if the file does not say
    image: np.ndarray  # (H, W, 3) uint8


class Clip(NamedTuple):
    """Frames of a video at a stride or rate; beyond its end the last frame is repeated."""

    frames: Tensor  # (T, 3, H, W) uint8
    times: Tensor  # (T,) float64, seconds after the video's first frame
    valid: Tensor  # (T,) bool, False at repeated frames


def read_frames(path: str | Path, size: Size | None = None, rate: float = 25.0) -> Iterator[Frame]:
    """Read a video frame by frame; memory does not grow with its length.

    A file is decoded by PyAV, or by torchcodec if PyAV is not installed. Frames come in the order
    in which they are shown, at their own times, rotated as the file states.

    Args:
        path: A video file, or a folder of images, which are read in order of name.
        size: (H, W) to which frames are scaled; or one number, the largest short side; None: frames
            keep their size, which may change.
        rate: Frames per second of a folder of images.

    Raises:
        UnreadableVideoError: There is no file, or no video in it; it is broken or cut short; it has
            no frames.
    """
    return _numbered(Path(path), _checked(size), positive("rate", rate))


def _checked(size: Size | None) -> Size | None:
    for side in (size,) if isinstance(size, int) else size or ():
        count("size", side)
    return size


def _numbered(path: Path, size: Size | None, rate: float) -> Iterator[Frame]:
    first = None
    with naming(path):
        for index, (time, duration, image) in enumerate(reader(path, rate).stream(size)):
            first = time if first is None else first
            yield Frame(index, time - first, duration, image)
        if first is None:
            raise unreadable("hold frames", f"none in {path}")


class Footage(ABC):
    """Frames that are read by number and have times of their own."""

    def __len__(self) -> int:
        return len(self.times)

    @property
    @abstractmethod
    def times(self) -> np.ndarray:
        """Seconds from the first frame to each frame, (n,)."""

    @abstractmethod
    def frames_at(self, indices: np.ndarray) -> Tensor:
        """Return the frames of these numbers, (n, 3, H, W) uint8."""

    def starts(self, length: int, stride: int = 1, rate: float | None = None) -> int:
        """Return how many frames can begin a `clip` that ends within the video, at least 1."""
        count("length", length)
        if rate is None:
            return max(len(self) - (length - 1) * count("stride", stride), 1)
        latest = self.times[-1] - (length - 1) / positive("rate", rate)
        return max(int(np.searchsorted(self.times, latest + ROUNDING, "right")), 1)

    def clip(self, start: int, length: int, stride: int = 1, rate: float | None = None) -> Clip:
        """Read a clip.

        Args:
            start: Number of its first frame.
            length: Number of frames.
            stride: Frames of the video from one frame of the clip to the next.
            rate: Frames per second, in place of `stride`: frame k is the one on screen k / `rate`
                seconds after the first, whatever the video's own rate.
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
        size, rate: As of `read_frames`.

    Raises:
        UnreadableVideoError: As of `read_frames`, as far as it can be known without decoding.
    """

    def __init__(
        self, path: str | Path | bytes, size: Size | None = None, rate: float = 25.0
    ) -> None:
        self.path = Encoded(path) if isinstance(path, bytes) else Path(path)
        self.size, self._rate = _checked(size), positive("rate", rate)
        with naming(self.path):
            self._stamps = reader(self.path, self._rate).stamps()
            if not len(self._stamps):
                raise unreadable("hold frames", f"none in {self.path}")

    @property
    def times(self) -> np.ndarray:
        return self._stamps - self._stamps[0]

    def frames_at(self, indices: np.ndarray) -> Tensor:
        return torch.from_numpy(self.take(indices)).permute(0, 3, 1, 2)

    def take(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """Read the frames of these numbers, (n, H, W, 3) uint8."""
        distinct, place = np.unique(np.asarray(indices), return_inverse=True)
        with naming(self.path):
            images = reader(self.path, self._rate).pick(self._stamps, distinct, self.size)
            if len({image.shape for image in images}) > 1:
                changes = f"frames whose size changes, as in {self.path}"
                raise UnreadableVideoError(f"`size` must be set for {changes}.")
            return np.stack(images)[place]


@dataclass(eq=False)
class MemoryVideo(Footage):
    """Frames in memory, one per second."""

    frames: Tensor  # (n, 3, H, W) uint8

    @property
    def times(self) -> np.ndarray:
        return np.arange(len(self.frames), dtype=np.float64)

    def frames_at(self, indices: np.ndarray) -> Tensor:
        return self.frames[torch.from_numpy(indices)]


class Videos(Dataset):
    """A map-style dataset of (Video, label), of paths and a size as of `read_frames`.

    Videos whose index can't be read are left out, and named in `unreadable` and in a warning. A
    label is -1 where there is none. `ValueError` is raised if no video can be read.
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
        bad = len(self.unreadable)
        if not self.videos:
            message = f"`paths` must hold a readable video, got {bad} unreadable ones: {reason}"
            raise ValueError(message) from reason
        if bad:
            names = ", ".join(self.unreadable[:10])
            log.warning("%d of %d videos can't be read: %s", bad, len(paths), names)

    def __len__(self) -> int:
        return len(self.videos)

    def __getitem__(self, index: int) -> tuple[Video, int]:
        return self.videos[index], self.labels[index]


def find_videos(folder: str | Path) -> list[Path]:
    """Return the video files below a folder, and the folders of images in it, by name."""
    root = Path(folder)
    inside = [(path, path.suffix.lower()) for path in root.rglob("*")]
    videos = {path for path, suffix in inside if suffix in VIDEO_SUFFIXES and path.is_file()}
    videos |= {path.parent for path, suffix in inside if suffix in FRAME_SUFFIXES}
    if not videos:
        raise ValueError(f"`data.path` must hold videos or folders of images, got none in {root}.")
    return sorted(videos)
