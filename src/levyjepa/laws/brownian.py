"""Brownian motion, the Lévy process without jumps."""

from typing import Any

import torch
from torch import Tensor

from levyjepa.laws.law import Law
from levyjepa.laws.parametric import Positive


class Brownian(Law):
    """Gaussian increments with exponent psi(u) = -sigma^2 u^2 / 2.

    The clock is not random: it is sigma^2 v over a cell of volume v.

    Args:
        sigma: Standard deviation of an increment over a cell of unit volume.
        learnable: Whether `sigma` is trainable.

    >>> Brownian(sigma=0.5).variance(volume=2.0)
    0.5
    """

    sigma = Positive()

    def __init__(self, sigma: float, learnable: bool = False) -> None:
        super().__init__(learnable)
        self.sigma = sigma

    def psi(self, u: Tensor) -> Tensor:
        return -0.5 * (self.sigma * u) ** 2

    def clock_moments(self) -> tuple[Any, Any]:
        return self.sigma**2, 0.0

    def clock(self, volume: Tensor, generator: torch.Generator | None) -> Tensor:
        return float(self.sigma) ** 2 * volume
