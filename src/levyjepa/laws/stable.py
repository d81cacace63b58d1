"""Symmetric stable processes: jumps of all sizes, self-similar."""

import math
from typing import Any

import torch
from torch import Tensor

from levyjepa.laws.law import Law
from levyjepa.laws.parametric import Positive


class Stable(Law):
    """Symmetric stable increments with exponent psi(u) = -|scale u|^alpha.

    alpha = 2 is Brownian motion, alpha = 1 the Cauchy process. The clock is a positive stable
    subordinator of index alpha/2.

    Args:
        alpha: Stability index in (0, 2]. The variance is finite only for 2.
        scale: Scale of an increment over a cell of unit volume.
        learnable: Whether both parameters are trainable. `alpha` must then be below 2.

    Source: Kanter, *Stable densities under change of scale and total variation inequalities*, 1975.
    """

    alpha = Positive(maximum=2.0)
    scale = Positive()

    def __init__(self, alpha: float, scale: float = 1.0, learnable: bool = False) -> None:
        super().__init__(learnable)
        self.alpha = alpha
        self.scale = scale

    def psi(self, u: Tensor) -> Tensor:
        if u.is_complex():  # on or to the right of the imaginary axis, where it is analytic
            return -(self.alpha * (self.scale * u).log()).exp()
        size = (self.scale * u).abs()
        safe = torch.where(size > 0, size, 1.0)  # no gradient at 0, where |u|^alpha has a cusp
        return torch.where(size > 0, -(safe**self.alpha), 0.0)

    def clock_moments(self) -> tuple[Any, Any]:
        if self.alpha < 2:
            raise ValueError(
                f"`alpha` must be 2 for Stable to have a variance, got {float(self.alpha):.6g}."
            )
        return 2 * self.scale**2, 0.0

    def clock(self, volume: Tensor, generator: torch.Generator | None) -> Tensor:
        a = float(self.alpha) / 2
        angle = math.pi * torch.rand(
            volume.shape, dtype=volume.dtype, device=volume.device, generator=generator
        ).clamp(1e-12, 1 - 1e-12)
        energy = torch.empty_like(volume).exponential_(generator=generator)
        log = (a * angle).sin().log() + (volume / angle.sin()).log() / a
        if a < 1:
            log = log + (((1 - a) * angle).sin() / energy).log() * ((1 - a) / a)
        return 2 * float(self.scale) ** 2 * log.exp()
