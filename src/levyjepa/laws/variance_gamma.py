"""Variance-gamma jumps, a family that contains Laplace jumps."""

from typing import Any

import torch
from torch import Tensor

from levyjepa.laws.parametric import Positive
from levyjepa.laws.poisson import Jumps, standard_gamma


class VarianceGammaJumps(Jumps):
    """Variance-gamma jumps with characteristic function phi(u) = (beta / (beta + u^2/2))^k.

    The mixing variable tau is Gamma(k, beta). k = 1 gives Laplace jumps with alpha =
    sqrt(2 beta). A smaller k gives more small jumps and heavier tails.

    Args:
        k: Shape of tau.
        beta: Rate of tau.
        learnable: Whether both parameters are trainable.

    Source: Madan and Seneta, *The variance gamma model for share market returns*, 1990.
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
