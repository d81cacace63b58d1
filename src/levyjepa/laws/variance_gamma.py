"""Variance-gamma jumps: Laplace jumps with a free shape."""

from typing import Any

import torch
from torch import Tensor

from levyjepa.laws.parametric import Positive
from levyjepa.laws.poisson import Jumps, standard_gamma


class VarianceGammaJumps(Jumps):
    """Jumps whose tau is Gamma(k, beta): phi(u) = (beta / (beta + u^2/2))^k.

    k = 1 gives Laplace jumps of alpha = sqrt(2 beta); a smaller k, more small jumps and heavier
    tails (Madan and Seneta, *The variance gamma model for share market returns*, 1990).

    Args:
        k: shape of tau.
        beta: rate of tau.
        learnable: make both trainable.
    """

    k = Positive()
    beta = Positive()

    def __init__(self, k: float, beta: float, learnable: bool = False) -> None:
        super().__init__(learnable)
        self.k = k
        self.beta = beta

    def phi(self, u: Tensor) -> Tensor:
        return (-self.k * (u**2 / (2 * self.beta)).log1p()).exp()

    def tau_moments(self) -> tuple[Any, Any]:
        return self.k / self.beta, self.k * (self.k + 1) / self.beta**2

    def tau(self, n: int, generator: torch.Generator | None, device: torch.device) -> Tensor:
        return standard_gamma(self.k, n, generator, device) / float(self.beta)
