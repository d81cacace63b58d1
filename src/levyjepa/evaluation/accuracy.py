"""How often a prediction was right."""

from dataclasses import dataclass, field
from typing import Any

from scipy.stats import binomtest


@dataclass(frozen=True)
class Accuracy:
    """`correct` of `n` test images, and what the method settled on, such as its C or k."""

    correct: int
    n: int
    detail: dict[str, Any] = field(default_factory=dict)

    @property
    def value(self) -> float:
        """The fraction that was right."""
        return self.correct / self.n

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's 95 % interval of `value`, over the choice of test images."""
        interval = binomtest(self.correct, self.n).proportion_ci(0.95, method="wilson")
        return float(interval.low), float(interval.high)
