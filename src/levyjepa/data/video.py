"""Frames of a video with the times at which they are shown, one after another or as clips."""

import io
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torch.utils.data import Dataset

from levyjepa.checks import count, positive
from levyjepa.data.images import UNLABELLED, CorruptImageError

log = logging.getLogger(__name__)

FILMS = frozenset((".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".wmv"))
PICTURES = frozenset((".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"))
Size = tuple[int, int] | int  # (height, width) in pixels, or at most so many on the short side


class UnreadableVideoError(CorruptImageError):
    """A file or folder from which no whole video can be read."""


@dataclass(frozen=True)
class Frame:
    """A frame: its number from 0, when and for how long it is shown, and what it shows."""

    index: int
    time: float  # seconds after the first frame
    duration: float  # seconds; 0 where the file does not say
    image: np.ndarray  # (H, W, 3) of uint8


@dataclass(frozen=True)
class Clip:
    """Frames at a stride; beyond the video's end the last is repeated and not valid."""

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


def scaled(height: int, width: int, size: Size | None) -> tuple[int, int]:
    """The size of frames of (height, width) once they are read as `size` asks.

    >>> scaled(240, 320, 120), scaled(240, 320, 500), scaled(240, 320, (7, 9))
    ((120, 160), (240, 320), (7, 9))
    """
    if isinstance(size, int):
        factor = min(1.0, size / min(height, width))
        return max(1, round(height * factor)), max(1, round(width * factor))
    return size or (height, width)


def _numbered(path: Path, size: Size | None, rate: float) -> Iterator[Frame]:
    index, first = -1, 0.0
    with _named(path):
        for index, (time, duration, image) in enumerate(_reader(path, rate).stream(size)):
            first = time if index == 0 else first
            yield Frame(index, time - first, duration, image)
        if index < 0:
            raise UnreadableVideoError(f"`video` must hold frames, got none in {path}.")


class Encoded(bytes):
    """The bytes of a video's file, which a message does not print."""

    def __str__(self) -> str:
        return f"{len(self):,} bytes"


class Video:
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
        with _named(self.path):
            self._stamps = _reader(self.path, self._rate).stamps()
            if not len(self._stamps):
                raise UnreadableVideoError(f"`video` must hold frames, got none in {self.path}.")

    def __len__(self) -> int:
        return len(self._stamps)

    @property
    def times(self) -> np.ndarray:
        """(n,), seconds after the first frame at which each is shown."""
        return self._stamps - self._stamps[0]

    def clip(self, start: int, length: int, stride: int = 1) -> Clip:
        """Read `length` frames from number `start` on, every `stride`-th."""
        count("length", length)
        count("stride", stride)
        if not 0 <= start < len(self):
            raise ValueError(f"`start` must be at least 0 and below {len(self)}, got {start}.")
        wanted = start + stride * np.arange(length)
        indices = wanted.clip(max=len(self) - 1)
        return Clip(
            torch.from_numpy(self.take(indices)).permute(0, 3, 1, 2),
            torch.from_numpy(self.times[indices]),
            torch.from_numpy(wanted < len(self)),
        )

    def take(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """Read the frames of given numbers, (n, H, W, 3) of uint8."""
        distinct, place = np.unique(np.asarray(indices), return_inverse=True)
        with _named(self.path):
            images = _reader(self.path, self._rate).pick(self._stamps, distinct, self.size)
            if len({image.shape for image in images}) > 1:
                raise UnreadableVideoError(
                    f"`size` must be given for frames whose size changes, as in {self.path}."
                )
            return np.stack(images)[place]


class Still:
    """Frames in memory, read as a `Video` is."""

    def __init__(self, frames: Tensor) -> None:
        self.frames = frames  # (n, 3, H, W) of uint8

    def __len__(self) -> int:
        return len(self.frames)

    def clip(self, start: int, length: int, stride: int = 1) -> Clip:
        """Take `length` frames from number `start` on, every `stride`-th."""
        wanted = start + stride * torch.arange(length)
        indices = wanted.clamp(max=len(self) - 1)
        return Clip(self.frames[indices], indices.double(), wanted < len(self))


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
        for path, label in zip(paths, labels or [UNLABELLED] * len(paths), strict=True):
            try:
                self.videos.append(Video(path, size))
                self.labels.append(label)
            except UnreadableVideoError:
                self.unreadable.append(str(path))
        if not self.videos:
            raise ValueError(f"`paths` must hold a readable video, got {len(paths)} without one.")
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


class _Pictures:
    """A folder of pictures."""

    def __init__(self, path: Path, rate: float) -> None:
        self.rate = rate
        self.files = sorted(file for file in path.iterdir() if file.suffix.lower() in PICTURES)

    def stream(self, size: Size | None) -> Iterator[tuple[float, float, np.ndarray]]:
        for index, file in enumerate(self.files):
            yield index / self.rate, 1 / self.rate, self._open(file, size)

    def stamps(self) -> np.ndarray:
        return np.arange(len(self.files)) / self.rate

    def pick(self, stamps: np.ndarray, indices: np.ndarray, size: Size | None) -> list[np.ndarray]:
        return [self._open(self.files[index], size) for index in indices]

    def _open(self, file: Path, size: Size | None) -> np.ndarray:
        with Image.open(file) as image:
            shown = ImageOps.exif_transpose(image).convert("RGB")
        if size is not None:
            tall, wide = scaled(shown.height, shown.width, size)
            shown = shown.resize((wide, tall), Image.Resampling.BOX)
        return np.asarray(shown)


class _PyAV:
    """A file, decoded by PyAV, which scales while it converts to RGB."""

    def __init__(self, path: "Path | Encoded") -> None:
        self.path = path

    def stream(self, size: Size | None) -> Iterator[tuple[float, float, np.ndarray]]:
        with self._open() as (container, stream):
            convert, packets = self._converter(size), 0
            for packet in container.demux(stream):
                packets += packet.size > 0
                for frame in packet.decode():
                    base = float(frame.time_base)
                    yield _stamp(frame) * base, (frame.duration or 0) * base, convert(frame)
            self._whole(stream, packets)

    def stamps(self) -> np.ndarray:
        with self._open() as (container, stream):
            packets = [packet for packet in container.demux(stream) if packet.size]
            self._whole(stream, len(packets))
            base = float(stream.time_base)
            return np.sort([_stamp(p) * base for p in packets if not p.is_discard])

    def pick(self, stamps: np.ndarray, indices: np.ndarray, size: Size | None) -> list[np.ndarray]:
        for seek in (True, False):  # old AVI files seek too far
            with self._open() as (container, stream):
                convert, base = self._converter(size), float(stream.time_base)
                wanted = [round(stamp / base) for stamp in stamps[indices]]
                if seek:
                    container.seek(wanted[0], stream=stream)
                images: list[np.ndarray] = []
                for frame in container.decode(stream):
                    if _stamp(frame) == wanted[len(images)]:
                        images.append(convert(frame))
                    if len(images) == len(wanted):
                        return images
        raise UnreadableVideoError(f"`video` must hold what its index says, got {self.path}.")

    @contextmanager
    def _open(self) -> Iterator[tuple[Any, Any]]:
        import av
        from av.error import FFmpegError

        try:
            with av.open(_handle(self.path)) as container:
                if not container.streams.video:
                    raise UnreadableVideoError(f"`video` must hold pictures, got {self.path}.")
                yield container, container.streams.video[0]
        except FFmpegError as error:  # some are of no built-in kind
            raise OSError(str(error)) from error

    def _converter(self, size: Size | None) -> Callable[[Any], np.ndarray]:
        from av.video.reformatter import VideoReformatter

        reformatter = VideoReformatter()

        def convert(frame: Any) -> np.ndarray:
            turns = frame.rotation // 90 % 4  # a quarter counterclockwise each
            if turns % 2:
                wide, tall = scaled(frame.width, frame.height, size)
            else:
                tall, wide = scaled(frame.height, frame.width, size)
            small = reformatter.reformat(frame, wide, tall, "rgb24", interpolation="AREA")
            return np.ascontiguousarray(np.rot90(small.to_ndarray(), turns))

        return convert

    def _whole(self, stream: Any, packets: int) -> None:
        if packets < stream.frames:
            raise UnreadableVideoError(
                f"`video` must be whole, got {packets} of {stream.frames} frames in {self.path}."
            )


def _stamp(part: Any) -> int:
    """When a frame or packet is shown, or as old AVI files have it, in which order it came."""
    return part.dts if part.pts is None else part.pts


class _TorchCodec:
    """A file, decoded by torchcodec."""

    def __init__(self, path: "Path | Encoded") -> None:
        self.path = path

    def stream(self, size: Size | None) -> Iterator[tuple[float, float, np.ndarray]]:
        decoder = self._open(size)
        for start in range(0, len(decoder), 16):
            batch = decoder.get_frames_in_range(start, min(start + 16, len(decoder)))
            for row in zip(batch.pts_seconds, batch.duration_seconds, batch.data, strict=True):
                yield float(row[0]), float(row[1]), row[2].numpy()

    def stamps(self) -> np.ndarray:
        decoder = self._open(None)
        every = range(len(decoder))
        return np.array([decoder.get_frame_at(index).pts_seconds for index in every])

    def pick(self, stamps: np.ndarray, indices: np.ndarray, size: Size | None) -> list[np.ndarray]:
        return list(self._open(size).get_frames_at(indices.tolist()).data.numpy())

    def _open(self, size: Size | None) -> Any:
        from torchcodec.decoders import VideoDecoder  # pyright: ignore
        from torchcodec.transforms import Resize  # pyright: ignore

        held: Any = VideoDecoder(_handle(self.path), dimension_order="NHWC")
        if size is None:
            return held
        whole = scaled(held.metadata.height, held.metadata.width, size)
        return VideoDecoder(_handle(self.path), dimension_order="NHWC", transforms=[Resize(whole)])


def _handle(path: Path | Encoded) -> Any:
    return io.BytesIO(path) if isinstance(path, Encoded) else str(path)


def _reader(path: Path | Encoded, rate: float) -> _Pictures | _PyAV | _TorchCodec:
    if isinstance(path, Path) and path.is_dir():
        return _Pictures(path, rate)
    if isinstance(path, Path) and not path.is_file():
        raise UnreadableVideoError(f"`video` must be a file or a folder of pictures, got {path}.")
    if find_spec("av"):
        return _PyAV(path)
    if find_spec("torchcodec"):
        return _TorchCodec(path)
    raise UnreadableVideoError("`video` needs PyAV or torchcodec: pip install av.")


@contextmanager
def _named(path: Path | Encoded) -> Iterator[None]:
    """Name the file in what a decoder raises."""
    try:
        yield
    except UnreadableVideoError:
        raise
    except (OSError, ValueError, RuntimeError, SyntaxError) as error:  # of Pillow, FFmpeg's
        reason = " ".join(str(error).split())[:200]
        raise UnreadableVideoError(
            f"`video` must be a readable video, got {path}: {reason}"
        ) from error
