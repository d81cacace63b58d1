"""Student-t jumps: power-law tails."""

import math
from typing import Any

import torch
from torch import Tensor

from levyjepa.laws.parametric import Positive
from levyjepa.laws.poisson import Jumps, standard_gamma


class StudentTJumps(Jumps):
    """Student-t jumps of nu degrees of freedom, tau inverse-gamma(nu/2, nu/2).

    phi(u) = 2 K_a(z) (z/2)^a / Gamma(a) with a = nu/2, z = sqrt(nu) |u| (Hurst, *The
    characteristic function of the Student t distribution*, 1995).

    Args:
        nu: degrees of freedom; the variance exists above 2, the kurtosis above 4.
        learnable: make `nu` trainable.
    """

    nu = Positive()

    def __init__(self, nu: float, learnable: bool = False) -> None:
        super().__init__(learnable)
        self.nu = nu

    def phi(self, u: Tensor) -> Tensor:
        nu = torch.as_tensor(self.nu, dtype=torch.float64, device=u.device)
        nu = nu.clamp_max(1e7)  # within 1e-8 of normal
        return torch.where(u == 0, 1.0, _matern(nu / 2, nu * u**2))

    def tau_moments(self) -> tuple[Any, Any]:
        nu = self.nu
        if nu <= 2:
            raise ValueError(f"The variance of StudentTJumps needs `nu` above 2, got {float(nu)}.")
        mean = nu / (nu - 2)
        return mean, mean * nu / (nu - 4) if nu > 4 else math.inf

    def tau(self, n: int, generator: torch.Generator | None, device: torch.device) -> Tensor:
        half = float(self.nu) / 2
        return half / standard_gamma(half, n, generator, device)


def _matern(a: Tensor, z2: Tensor, nodes: int = 512) -> Tensor:
    """2 K_a(z) (z/2)^a / Gamma(a) at z^2 = `z2`, differentiable in both, without a Bessel function.

    K_a(z) is an integral of exp(-z cosh t + a t) over the line; measured from its peak,
    t = asinh(a/z) + s, nothing is left that could overflow or cancel as z goes to 0:

        log phi = a log((a + A)/2) - A - lgamma(a) + log I,            A = sqrt(a^2 + z^2),
        I = integral of exp(-(A - a)(cosh s - 1) - a (e^s - 1 - s)) ds.

    The trapezoid rule on s = x + 1 - e^-x, which stretches the slow left tail, is exact to
    rounding.
    """
    z2 = z2.clamp(1e-300, 1e16)  # neither end can be told from its limit
    big = (a**2 + z2).sqrt()
    gap = z2 / (a + big)
    with torch.no_grad():  # where the integrand has fallen by e^-45, on either side
        fall = 45 / a
        right = torch.acosh(1 + 45 / big)
        left = torch.minimum(torch.acosh(1 + 45 / gap), (fall + (fall**2 + 8 * fall).sqrt()) / 2)
        low = -left.log1p()
        width = (right - low) / (nodes - 1)
        x = low[..., None] + width[..., None] * torch.arange(
            nodes, dtype=z2.dtype, device=z2.device
        )
        s = x - (-x).expm1()
        weight = width.log()[..., None] + (-x).exp().log1p()
        cosh, rise = 2 * (s / 2).sinh() ** 2, s.expm1() - s
    log_integral = (weight - gap[..., None] * cosh - a * rise).logsumexp(-1)
    return (a * ((a + big) / 2).log() - big - a.lgamma() + log_integral).exp()
