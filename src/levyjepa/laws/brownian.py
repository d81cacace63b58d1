"""Brownian motion: the smooth part."""

from typing import Any

import torch
from torch import Tensor

from levyjepa.laws.law import Law
from levyjepa.laws.parametric import Positive


class Brownian(Law):
    """Gaussian increments, psi(u) = -sigma^2 u^2 / 2; its clock is volume itself.

    Args:
        sigma: standard deviation over a cell of unit volume.
        learnable: make `sigma` trainable.

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
