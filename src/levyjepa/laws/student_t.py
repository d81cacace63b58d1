"""Student-t jumps, with power-law tails."""

import math
from typing import Any

import numpy as np
import torch
from scipy import special
from torch import Tensor

from levyjepa.laws.parametric import Positive
from levyjepa.laws.poisson import Jumps, standard_gamma


class StudentTJumps(Jumps):
    """Student-t jumps with nu degrees of freedom.

    phi(u) = 2 K_a(z) (z/2)^a / Gamma(a), with a = nu/2 and z = sqrt(nu) |u|. The mixing variable
    tau is inverse-gamma(nu/2, nu/2).

    Args:
        nu: Degrees of freedom. The variance is finite above 2, the kurtosis above 4.
        learnable: Whether `nu` is trainable.

    Source: Hurst, *The characteristic function of the Student t distribution*, 1995.
    """

    nu = Positive()

    def __init__(self, nu: float, learnable: bool = False) -> None:
        super().__init__(learnable)
        self.nu = nu

    def phi(self, u: Tensor) -> Tensor:
        nu = torch.as_tensor(self.nu, dtype=torch.float64, device=u.device)
        nu = nu.clamp_max(1e7)  # within 1e-8 of the normal law
        if u.is_complex():
            return _Continuation.apply(nu, u)
        return torch.where(u == 0, 1.0, _matern(nu / 2, nu * u**2))

    def tau_moments(self) -> tuple[Any, Any]:
        nu = self.nu
        if nu <= 2:
            raise ValueError(
                f"`nu` must be above 2 for StudentTJumps to have a variance, got {float(nu)}."
            )
        mean = nu / (nu - 2)
        return mean, mean * nu / (nu - 4) if nu > 4 else math.inf

    def tau(self, n: int, generator: torch.Generator | None, device: torch.device) -> Tensor:
        half = float(self.nu) / 2
        return half / standard_gamma(half, n, generator, device)


def _matern(a: Tensor, z2: Tensor, nodes: int = 512) -> Tensor:
    """Return 2 K_a(z) (z/2)^a / Gamma(a) at z^2 = `z2`, differentiable in `a` and `z2`.

    K_a(z) is half the integral of exp(-z cosh t + a t) over the real line. The substitution
    t = asinh(a/z) + s moves the peak of the integrand to s = 0. The result neither overflows nor
    cancels as z goes to 0:

        log phi = a log((a + A)/2) - A - lgamma(a) + log I,            A = sqrt(a^2 + z^2),
        I = integral of exp(-(A - a)(cosh s - 1) - a (e^s - 1 - s)) ds.

    The integral is computed by the trapezoid rule in x, with s = x + 1 - e^-x. This stretches the
    slowly falling left tail, and the rule is exact up to rounding.
    """
    z2 = z2.clamp(1e-300, 1e16)  # the limits are reached at both ends
    big = (a**2 + z2).sqrt()
    gap = z2 / (a + big)
    with torch.no_grad():  # on both sides to where the integrand has fallen by e^-45
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


class _Continuation(torch.autograd.Function):
    """The function phi at complex frequencies, on and to the right of the imaginary axis."""

    @staticmethod
    def forward(ctx: Any, nu: Tensor, u: Tensor) -> Tensor:
        ctx.save_for_backward(nu, u)
        return torch.from_numpy(_continuation(nu.item(), u.numpy(force=True))).to(u.device)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        nu, u = ctx.saved_tensors
        point, z, h = nu.item(), u.numpy(force=True), 1e-5
        by_nu = _continuation(point * (1 + h), z) - _continuation(point * (1 - h), z)
        by_u = _continuation(point, z * (1 + h)) - _continuation(point, z * (1 - h))
        by_nu, by_u = (torch.from_numpy(d / (2 * h)).to(u.device).conj() for d in (by_nu, by_u))
        return (grad * by_nu).real.sum() / nu, grad * by_u / u.conj()


def _continuation(nu: float, u: Any) -> Any:
    """Return phi at `u`. On the imaginary axis, K is a sum of real Bessel functions.

    The imaginary part has full relative precision there. It determines the tail of the density.
    """
    a, z = nu / 2, np.sqrt(nu) * u
    with np.errstate(all="ignore"):
        right = np.exp(a * np.log(z / 2) - special.gammaln(a) - z) * 2 * special.kve(a, z)
        y = np.abs(z.imag)
        factor = np.pi * np.exp(a * np.log(y / 2) - special.gammaln(a))
        near: Any = np.exp(-(z**2) / (4 * max(a - 1, 0.5)))  # where K overflows
        axis = -factor * special.yv(a, y)
        axis = np.where(np.isfinite(axis), axis, near.real) - 1j * factor * special.jv(a, y)
        return np.where(u.real == 0, axis, np.where(np.isfinite(right), right, near))
