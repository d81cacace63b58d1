"""Laplace jumps, the jump law of the original experiments."""

from typing import Any

import torch
from torch import Tensor

from levyjepa.laws.parametric import Positive
from levyjepa.laws.poisson import Jumps, standard_gamma


class LaplaceJumps(Jumps):
    """Laplace jumps with characteristic function phi(u) = alpha^2 / (alpha^2 + u^2).

    The density of a jump is alpha/2 exp(-alpha |x|). The mixing variable tau is exponential with
    rate alpha^2 / 2.

    Args:
        alpha: Inverse of the mean absolute size of a jump.
        learnable: Whether `alpha` is trainable.

    Source: Kotz, Kozubowski and Podgórski, *The Laplace Distribution*, 2001, section 2.2.
    """

    alpha = Positive()

    def __init__(self, alpha: float, learnable: bool = False) -> None:
        super().__init__(learnable)
        self.alpha = alpha

    def phi(self, u: Tensor) -> Tensor:
        return 1 / (1 + (u / self.alpha) ** 2)

    def tau_moments(self) -> tuple[Any, Any]:
        mean = 2 / self.alpha**2
        return mean, 2 * mean**2

    def tau(self, n: int, generator: torch.Generator | None, device: torch.device) -> Tensor:
        return standard_gamma(1.0, n, generator, device) * 2 / float(self.alpha) ** 2
