"""Gaussian jumps, as in Merton's jump diffusion."""

from typing import Any

import torch
from torch import Tensor

from levyjepa.laws.parametric import Positive
from levyjepa.laws.poisson import Jumps


class GaussianJumps(Jumps):
    """Normal jumps with characteristic function phi(u) = exp(-sigma^2 u^2 / 2).

    The mixing variable is constant: tau = sigma^2.

    Args:
        sigma: Standard deviation of a jump.
        learnable: Whether `sigma` is trainable.

    Source: Merton, *Option pricing when underlying stock returns are discontinuous*, 1976.
    """

    sigma = Positive()

    def __init__(self, sigma: float, learnable: bool = False) -> None:
        super().__init__(learnable)
        self.sigma = sigma

    def phi(self, u: Tensor) -> Tensor:
        return (-0.5 * (self.sigma * u) ** 2).exp()

    def tau_moments(self) -> tuple[Any, Any]:
        return self.sigma**2, self.sigma**4

    def tau(self, n: int, generator: torch.Generator | None, device: torch.device) -> Tensor:
        return torch.full((n,), float(self.sigma) ** 2, dtype=torch.float64, device=device)
