"""The normal inverse Gaussian process: infinitely many small jumps and semi-heavy tails."""

from typing import Any

import torch
from torch import Tensor

from levyjepa.laws.law import Law
from levyjepa.laws.parametric import Positive


class NormalInverseGaussian(Law):
    """Symmetric NIG increments with exponent psi(u) = delta (alpha - sqrt(alpha^2 + u^2)).

    The clock over a cell of volume v is inverse Gaussian, with mean delta v / alpha and shape
    (delta v)^2.

    Args:
        alpha: Decay rate of the tails, which fall as exp(-alpha |x|).
        delta: Scale over a cell of unit volume.
        learnable: Whether both parameters are trainable.

    Source: Barndorff-Nielsen, *Normal inverse Gaussian distributions and stochastic volatility
    modelling*, 1997. Sampling: Michael, Schucany and Haas, 1976.
    """

    alpha = Positive()
    delta = Positive()

    def __init__(self, alpha: float, delta: float, learnable: bool = False) -> None:
        super().__init__(learnable)
        self.alpha = alpha
        self.delta = delta

    def psi(self, u: Tensor) -> Tensor:
        alpha = torch.as_tensor(self.alpha, dtype=u.dtype, device=u.device)
        # The same as delta (alpha - sqrt(alpha^2 + u^2)), without cancellation.
        root = (alpha**2 + u**2).sqrt() if u.is_complex() else torch.hypot(u, alpha)
        return -self.delta * u * (u / (alpha + root))

    def clock_moments(self) -> tuple[Any, Any]:
        return self.delta / self.alpha, self.delta / self.alpha**3

    def clock(self, volume: Tensor, generator: torch.Generator | None) -> Tensor:
        mean = float(self.delta) / float(self.alpha) * volume
        shape = (float(self.delta) * volume) ** 2
        options = {"dtype": volume.dtype, "device": volume.device, "generator": generator}
        y = mean * torch.randn(volume.shape, **options) ** 2 / (2 * shape)
        # The same as mean (1 + y - sqrt(y^2 + 2 y)), without cancellation.
        small = mean / (1 + y + (y * (y + 2)).sqrt())
        return torch.where(
            torch.rand(volume.shape, **options) <= mean / (mean + small), small, mean**2 / small
        )
