"""The variance-gamma process: infinitely many jumps and no Brownian part."""

from typing import Any

import torch
from torch import Tensor

from levyjepa.laws.law import Law
from levyjepa.laws.parametric import Positive


class VarianceGamma(Law):
    """Variance-gamma increments with exponent psi(u) = -shape log(1 + u^2 / (2 beta)).

    The clock is a gamma process: Gamma(shape v, beta) over a cell of volume v.

    Args:
        shape: Shape of the gamma clock over a cell of unit volume.
        beta: Rate of the gamma clock.
        learnable: Whether both parameters are trainable.

    Source: Madan and Seneta, *The variance gamma model for share market returns*, 1990.
    """

    shape = Positive()
    beta = Positive()

    def __init__(self, shape: float, beta: float, learnable: bool = False) -> None:
        super().__init__(learnable)
        self.shape = shape
        self.beta = beta

    def psi(self, u: Tensor) -> Tensor:
        return -self.shape * (u**2 / (2 * self.beta)).log1p()

    def clock_moments(self) -> tuple[Any, Any]:
        return self.shape / self.beta, self.shape / self.beta**2

    def clock(self, volume: Tensor, generator: torch.Generator | None) -> Tensor:
        sample = torch._standard_gamma(float(self.shape) * volume, generator=generator)  # pyright: ignore
        return sample / float(self.beta)
