"""Decoding speed of PyAV and torchcodec: `python benchmarks/decode.py [--repeats 5]`.

Both decode through `levyjepa.data.readers`, on one thread: films frame by frame, 8 random clips of
8 frames 4 apart, each opened anew as a loader does, and the index that is read when a run starts.
Rounds of both alternate; the median round counts, in milliseconds of processor time. The films are
the two of shared/data and the first of them at 1280 x 720 pixels.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import av
import numpy as np
import torch

from levyjepa.data.readers import DECODERS, Reader, Size
from levyjepa.data.video import UnreadableVideoError, read_frames

DATA = Path(__file__).parents[2] / "shared" / "data" / "video"
CLIPS, FRAMES, STRIDE = 8, 8, 4


def enlarged(source: Path, path: Path) -> Path:
    """A film at 1280 x 720 pixels, H.264."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = 1280, 720, "yuv420p"
        for frame in read_frames(source, (720, 1280)):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame.image, "rgb24")))
        container.mux(stream.encode())
    return path


def stream(reader: Reader, size: Size | None) -> None:
    for _ in reader.stream(size):
        pass


def clips(reader: Reader, size: Size | None, stamps: np.ndarray) -> None:
    steps = STRIDE * np.arange(FRAMES)
    for start in np.random.default_rng(0).integers(len(stamps) - steps[-1], size=CLIPS):
        reader.pick(stamps, start + steps, size)


def alternating(
    path: Path, work: Callable[[Reader], object], libraries: list[str], repeats: int
) -> list[float]:
    """Median milliseconds of each library."""
    taken: dict[str, list[float]] = {library: [] for library in libraries}
    for _ in range(repeats):
        for library, times in taken.items():
            start = time.process_time()
            work(DECODERS[library](path))
            times.append(1e3 * (time.process_time() - start))
    return [statistics.median(times) for times in taken.values()]


def loaded(path: Path) -> list[str]:
    """The libraries that can decode here, PyAV first; says why one can't."""
    found = []
    for library, decoder in sorted(DECODERS.items()):
        try:
            next(decoder(path).stream(None))
            found.append(library)
        except (ImportError, OSError, RuntimeError, UnreadableVideoError) as error:
            print(f"{library} can't be timed: {str(error).strip().splitlines()[0]}\n")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        bikes = DATA / "bikes.mp4"
        large = enlarged(bikes, Path(folder) / "bikes_large.mp4")
        libraries = loaded(bikes)
        print(f"| film, pixels | frames | work | {' | '.join(libraries)} | last to first |")
        print(f"|---|---|---|{'---|' * len(libraries)}---|")
        for path in (DATA / "carphone_pristine.mp4", bikes, large):
            with av.open(str(path)) as container:
                picture = container.streams.video[0]
                name = f"{path.stem}, {picture.width} x {picture.height}"
            stamps = DECODERS["av"](path).stamps()
            works: dict[str, Callable[[Reader], object]] = {"index": lambda reader: reader.stamps()}
            for size in (None, 64):
                at = "full size" if size is None else f"short side {size}"
                works[f"all frames, {at}"] = partial(stream, size=size)
                works[f"{CLIPS} clips, {at}"] = partial(clips, size=size, stamps=stamps)
            for label, work in works.items():
                times = alternating(path, work, libraries, repeats)
                shown = [f"{t:.1f}" for t in times] + [f"{times[-1] / times[0]:.2f}"]
                print(f"| {name} | {len(stamps)} | {label} | {' | '.join(shown)} |")


if __name__ == "__main__":
    main()
