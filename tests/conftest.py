from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats

SHARED_DATA = Path(__file__).parents[2] / "shared" / "data"


@dataclass(frozen=True)
class FalseAlarm:
    """How often statistical tests would fail though all is well, were their seeds others.

    Seeds are fixed, so a failure is a change of the code; these are the odds that a harmless one,
    which draws other samples, sets one off.
    """

    rate: float = 1e-6  # of one test
    total: float = 1e-3  # of the suite

    def sigmas(self, comparisons: int = 1) -> float:
        """Standard deviations of a band that holds all of a test's `comparisons` at `rate`."""
        return float(stats.norm.isf(self.rate / 2 / comparisons))


FALSE_ALARM = FalseAlarm()


@pytest.fixture
def false_alarm() -> FalseAlarm:
    """The budget of a statistical test."""
    return FALSE_ALARM


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All statistical tests together keep within the suite's budget."""
    tests = sum("false_alarm" in getattr(item, "fixturenames", ()) for item in items)
    assert tests * FALSE_ALARM.rate <= FALSE_ALARM.total, f"{tests} tests exceed {FALSE_ALARM}"


torch.set_num_threads(1)  # small tensors; several threads would wait for one another


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The real data beside the checkout."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"real data is absent: {SHARED_DATA.name} does not stand beside the checkout")
    return SHARED_DATA


@pytest.fixture(scope="session")
def write_film() -> Callable[..., Path]:
    """A writer of small films, `_write_film`."""
    pytest.importorskip("av", reason="films are made by PyAV, which is not installed")
    return _write_film


def _write_film(
    path: Path,
    images: Sequence[np.ndarray],
    times: Sequence[int] | None = None,
    *,
    rate: Fraction | int = 25,
    codec: str = "libx264",
    container: dict[str, str] | None = None,
    sideways: bool = False,
    **options: str,
) -> Path:
    """Encode images (H, W, 3), at `rate` a second or at times in milliseconds.

    `sideways` states a quarter turn clockwise, as a telephone does.
    """
    import av

    with av.open(str(path), "w", options=container or {}) as file:
        stream = file.add_stream(codec, rate=rate, options=options)
        stream.height, stream.width = images[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        if times is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        for index, image in enumerate(images):
            frame = av.VideoFrame.from_ndarray(image, "rgb24")
            if times is not None:
                frame.pts, frame.time_base = times[index], Fraction(1, 1000)
            file.mux(stream.encode(frame))
        file.mux(stream.encode())
    if sideways:
        content = path.read_bytes()
        at = content.index(b"tkhd") + 44
        numbers = (0, 0x10000, 0, -0x10000, 0, 0, 0, 0, 0x40000000)
        matrix = b"".join(value.to_bytes(4, "big", signed=True) for value in numbers)
        path.write_bytes(content[:at] + matrix + content[at + 36 :])
    return path


@pytest.fixture(scope="session")
def write_sound() -> Callable[[Path], Path]:
    """A writer of a file of sound alone."""
    av = pytest.importorskip("av", reason="files are made by PyAV, which is not installed")

    def write(path: Path) -> Path:
        with av.open(str(path), "w") as container:
            stream = container.add_stream("aac", rate=44100)
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
            frame.rate = 44100
            container.mux(stream.encode(frame))
            container.mux(stream.encode())
        return path

    return write
