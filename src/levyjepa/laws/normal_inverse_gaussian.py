"""The normal inverse Gaussian process: infinitely many small jumps, semi-heavy tails."""

from typing import Any

import torch
from torch import Tensor

from levyjepa.laws.law import Law
from levyjepa.laws.parametric import Positive


class NormalInverseGaussian(Law):
    """Symmetric NIG increments, psi(u) = delta (alpha - sqrt(alpha^2 + u^2)).

    Its clock is inverse Gaussian of mean delta v / alpha and shape (delta v)^2 (Barndorff-Nielsen,
    *Normal inverse Gaussian distributions and stochastic volatility modelling*, 1997), drawn as by
    Michael, Schucany and Haas, 1976.

    Args:
        alpha: tails fall as exp(-alpha |x|).
        delta: scale over a cell of unit volume.
        learnable: make both trainable.
    """

    alpha = Positive()
    delta = Positive()

    def __init__(self, alpha: float, delta: float, learnable: bool = False) -> None:
        super().__init__(learnable)
        self.alpha = alpha
        self.delta = delta

    def psi(self, u: Tensor) -> Tensor:
        alpha = torch.as_tensor(self.alpha, dtype=u.dtype, device=u.device)
        return (
            -self.delta * u * (u / (alpha + torch.hypot(u, alpha)))
        )  # no difference of neighbours

    def clock_moments(self) -> tuple[Any, Any]:
        return self.delta / self.alpha, self.delta / self.alpha**3

    def clock(self, volume: Tensor, generator: torch.Generator | None) -> Tensor:
        mean = float(self.delta) / float(self.alpha) * volume
        shape = (float(self.delta) * volume) ** 2
        size = {"dtype": volume.dtype, "device": volume.device, "generator": generator}
        y = mean * torch.randn(volume.shape, **size) ** 2 / (2 * shape)
        # mean (1 + y - sqrt(y^2 + 2 y)), without the difference of near numbers
        small = mean / (1 + y + (y * (y + 2)).sqrt())
        return torch.where(
            torch.rand(volume.shape, **size) <= mean / (mean + small), small, mean**2 / small
        )
