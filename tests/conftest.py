from dataclasses import dataclass
from pathlib import Path

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
