"""Decoders of video: PyAV or torchcodec for files, Pillow for folders of images."""

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from levyjepa.data.images import CorruptImageError

FRAME_SUFFIXES = frozenset((".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"))
COMPARED = 8  # images of a folder, evenly spaced, whose sizes must agree
Size = tuple[int, int] | int  # (height, width) in pixels, or the largest short side
Frames = Iterator[tuple[float, float, np.ndarray]]  # time, duration and pixels (H, W, 3)


class UnreadableVideoError(CorruptImageError):
    """A file or folder from which no whole video can be read."""


def unreadable(wanted: str, got: Any) -> UnreadableVideoError:
    """Return the error that says what `video` must be or hold."""
    return UnreadableVideoError(f"`video` must {wanted}, got {got}.")


class Encoded(bytes):
    """The bytes of a video file; messages print their number."""

    def __str__(self) -> str:
        return f"{len(self):,} bytes"


def reader(path: Path | Encoded, rate: float) -> "Reader":
    """Return the decoder of a file, or of a folder of images at `rate` frames per second.

    Of a decoder, `stream` yields all frames in order of time, as the file states it, `stamps`
    returns their times, rising, and `pick` the pixels of frames of rising numbers, given the times.
    """
    if isinstance(path, Path) and path.is_dir():
        return FrameFolder(path, rate)
    if isinstance(path, Path) and not path.is_file():
        raise unreadable("be a file or a folder of images", path)
    for library, decoder in DECODERS.items():
        if find_spec(library):
            return decoder(path)
    raise UnreadableVideoError("`video` needs PyAV or torchcodec: pip install av.")


@contextmanager
def naming(path: Path | Encoded) -> Iterator[None]:
    """Name the file in the errors of decoders."""
    try:
        yield
    except UnreadableVideoError:
        raise
    except (OSError, ValueError, RuntimeError, SyntaxError) as error:  # Pillow's and FFmpeg's
        reason = " ".join(str(error).split())[:200]
        raise unreadable("be a readable video", f"{path}: {reason}") from error


def scaled(height: int, width: int, size: Size | None) -> tuple[int, int]:
    """Return the height and width of frames that are scaled to `size`.

    >>> scaled(240, 320, 120), scaled(240, 320, 500), scaled(240, 320, (7, 9))
    ((120, 160), (240, 320), (7, 9))
    """
    if isinstance(size, int):
        factor = min(1.0, size / min(height, width))
        return max(1, round(height * factor)), max(1, round(width * factor))
    return size or (height, width)


class FrameFolder:
    """A folder of images, read as frames in order of name."""

    def __init__(self, path: Path, rate: float) -> None:
        self.rate = rate
        self.files = sorted(p for p in path.iterdir() if p.suffix.lower() in FRAME_SUFFIXES)

    def stream(self, size: Size | None) -> Frames:
        for index, file in enumerate(self.files):
            yield index / self.rate, 1 / self.rate, self._open(file, size)

    def stamps(self) -> np.ndarray:
        number, sizes = len(self.files), {}
        for place in np.linspace(0, number - 1, min(number, COMPARED)).astype(int):
            with Image.open(self.files[place]) as image:
                sizes[f"{image.width} x {image.height}"] = image
        if len(sizes) > 1:
            where = f"{self.files[0].parent}; photographs are read by data=folder or unlabelled"
            raise unreadable("be frames of one size", f"{' and '.join(sizes)} in {where}")
        return np.arange(number) / self.rate

    def pick(self, stamps: np.ndarray, indices: np.ndarray, size: Size | None) -> list[np.ndarray]:
        return [self._open(self.files[index], size) for index in indices]

    def _open(self, file: Path, size: Size | None) -> np.ndarray:
        with Image.open(file) as image:
            rgb = ImageOps.exif_transpose(image).convert("RGB")
        if size is not None:
            tall, wide = scaled(rgb.height, rgb.width, size)
            rgb = rgb.resize((wide, tall), Image.Resampling.BOX)
        return np.asarray(rgb)


@dataclass
class PyAV:
    """A file, decoded by PyAV, which scales while it converts to RGB."""

    path: Path | Encoded

    def stream(self, size: Size | None) -> Frames:
        with self._open() as (container, stream):
            convert, packets = _converter(size), 0
            for packet in container.demux(stream):
                packets += packet.size > 0
                for frame in packet.decode():
                    base = float(frame.time_base)
                    yield _stamp(frame) * base, (frame.duration or 0) * base, convert(frame)
            self._check_whole(stream, packets)

    def stamps(self) -> np.ndarray:
        with self._open() as (container, stream):
            packets = [packet for packet in container.demux(stream) if packet.size]
            self._check_whole(stream, len(packets))
            base = float(stream.time_base)
            return np.sort([_stamp(p) * base for p in packets if not p.is_discard])

    def pick(self, stamps: np.ndarray, indices: np.ndarray, size: Size | None) -> list[np.ndarray]:
        for seek in (True, False):  # in old AVI files, seeking goes too far
            with self._open() as (container, stream):
                convert, base = _converter(size), float(stream.time_base)
                wanted = [round(stamp / base) for stamp in stamps[indices]]
                if seek:
                    container.seek(wanted[0], stream=stream)
                images: list[np.ndarray] = []
                for frame in container.decode(stream):
                    if _stamp(frame) == wanted[len(images)]:
                        images.append(convert(frame))
                    if len(images) == len(wanted):
                        return images
        raise unreadable("hold the frames that its index lists", self.path)

    @contextmanager
    def _open(self) -> Iterator[tuple[Any, Any]]:
        import av
        from av.error import FFmpegError

        try:
            with av.open(_handle(self.path)) as container:
                if not container.streams.video:
                    raise unreadable("hold frames", self.path)
                yield container, container.streams.video[0]
        except FFmpegError as error:  # not all of them are built-in errors
            raise OSError(str(error)) from error

    def _check_whole(self, stream: Any, packets: int) -> None:
        if packets < stream.frames:
            raise unreadable("be whole", f"{packets} of {stream.frames} frames in {self.path}")


def _converter(size: Size | None) -> Callable[[Any], np.ndarray]:
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


def _stamp(part: Any) -> int:
    """When a frame or packet is shown; old AVI files state when it is decoded instead."""
    return part.dts if part.pts is None else part.pts


@dataclass
class TorchCodec:
    """A file, decoded by torchcodec, which must decode it to know its times."""

    path: Path | Encoded

    def stream(self, size: Size | None) -> Frames:
        decoder = self._open(size)
        for index in range(len(decoder)):  # a batch must be of one size and is no faster
            frame = decoder.get_frame_at(index)
            yield frame.pts_seconds, frame.duration_seconds, frame.data.numpy()

    def stamps(self) -> np.ndarray:
        return np.array([time for time, _, _ in self.stream(None)])

    def pick(self, stamps: np.ndarray, indices: np.ndarray, size: Size | None) -> list[np.ndarray]:
        decoder = self._open(size)
        return [decoder.get_frame_at(index).data.numpy() for index in indices.tolist()]

    def _open(self, size: Size | None) -> Any:
        from torchcodec.decoders import VideoDecoder  # pyright: ignore
        from torchcodec.transforms import Resize  # pyright: ignore

        options: Any = {"dimension_order": "NHWC"}
        if size is not None:
            stored: Any = VideoDecoder(_handle(self.path)).metadata
            options["transforms"] = [Resize(scaled(stored.height, stored.width, size))]
        return VideoDecoder(_handle(self.path), **options)


def _handle(path: Path | Encoded) -> Any:
    return io.BytesIO(path) if isinstance(path, Encoded) else str(path)


# In order of preference: docs/video.md has their speeds.
DECODERS: dict[str, type[PyAV] | type[TorchCodec]] = {"av": PyAV, "torchcodec": TorchCodec}
Reader = PyAV | TorchCodec | FrameFolder
