"""Laws on another scale, and laws that train their shape at a fixed scale."""

from typing import Any, Self

import torch
from torch import Tensor

from levyjepa.laws.brownian import Brownian
from levyjepa.laws.law import Law, Sum
from levyjepa.laws.parametric import Positive
from levyjepa.laws.poisson import CompoundPoisson, Jumps


class Scaled(Law):
    """The law of `scale` times the increments of `law`: psi(u) = psi_law(scale u).

    Args:
        scale: Factor of the increments.
        law: Law of the increments before scaling.
        learnable: Whether `scale` and the parameters of `law` are trainable.
    """

    scale = Positive()

    def __init__(self, scale: float, law: Law, learnable: bool = False) -> None:
        super().__init__(learnable)
        self.scale = scale
        self.law = _checked(law).learnable_copy() if learnable else _checked(law)

    def psi(self, u: Tensor) -> Tensor:
        return self.law.psi(self.scale * u)

    def clock_moments(self) -> tuple[Any, Any]:
        mean, variance = self.law.clock_moments()
        return self.scale**2 * mean, self.scale**4 * variance

    def clock(self, volume: Tensor, generator: torch.Generator | None) -> Tensor:
        return float(self.scale) ** 2 * self.law.clock(volume, generator)


class ScaledJumps(Jumps):
    """The law of `scale` times the jumps of `jumps`: phi(u) = phi_jumps(scale u).

    Args:
        scale: Factor of the jumps.
        jumps: Law of a jump before scaling.
        learnable: Whether `scale` and the parameters of `jumps` are trainable.
    """

    scale = Positive()

    def __init__(self, scale: float, jumps: Jumps, learnable: bool = False) -> None:
        super().__init__(learnable)
        if not isinstance(jumps, Jumps):
            raise TypeError(f"`jumps` must be a law of jumps, got {jumps!r}.")
        self.scale = scale
        self.jumps = jumps.learnable_copy() if learnable else jumps

    def phi(self, u: Tensor) -> Tensor:
        return self.jumps.phi(self.scale * u)

    def tau_moments(self) -> tuple[Any, Any]:
        first, second = self.jumps.tau_moments()
        return self.scale**2 * first, self.scale**4 * second

    def tau(self, n: int, generator: torch.Generator | None, device: torch.device) -> Tensor:
        return float(self.scale) ** 2 * self.jumps.tau(n, generator, device)


def rescaled(law: Law, scale: float) -> Law:
    """Return the law of `scale` times the increments of a constant `law`, scaled part by part.

    >>> rescaled(Brownian(2.0), 0.5)
    Brownian(sigma=1.0)
    """
    if isinstance(law, Sum):
        return Sum(*(rescaled(part, scale) for part in law.laws))  # pyright: ignore
    if isinstance(law, Brownian):
        return Brownian(law.sigma * scale)
    if isinstance(law, CompoundPoisson):
        return CompoundPoisson(law.rate, ScaledJumps(scale, law.jumps))
    return Scaled(scale, law)


class Pinned(Law):
    """A law that trains its shape at a fixed scale: psi(at) = -1 at every step of training.

    psi(u) = psi_law(s u) with s = r / at, where r is the root of psi_law(r) = -1. Every call
    computes the root again: first by sectioning, without a gradient, then by one Newton step that
    has the gradient of the implicit function r. It does not synchronize a GPU.

    Args:
        law: The law at the start of training. The module trains a copy of it.
        at: Frequency at which the exponent is -1, in inverse units of the increments. If None,
            the frequency at which the exponent of `law` is -1, so that s = 1 at the start.

    Raises:
        ValueError: The exponent never falls below -1. This is so for compound Poisson laws with at
            most one expected jump per unit volume and no other part. On the CPU every call checks
            it, because training may change the rate.

    >>> law = Pinned(Brownian(2.0))
    >>> law.exponent(torch.tensor(law.at))
    tensor(-1.0000, grad_fn=<ToCopyBackward0>)
    """

    at = Positive(trainable=False)

    def __init__(self, law: Law, at: float | None = None) -> None:
        super().__init__()
        start = _unit_frequency(_checked(law)).item()
        self.at = start if at is None else at
        self.law = law.learnable_copy()

    def scale(self) -> Tensor:
        """Return s, the factor that brings the increments of the trained law back to its scale."""
        return _unit_frequency(self.law) / self.at

    def psi(self, u: Tensor) -> Tensor:
        return self.law.psi(self.scale() * u)

    def clock_moments(self) -> tuple[Any, Any]:
        (mean, variance), scale = self.law.clock_moments(), self.scale()
        return scale**2 * mean, scale**4 * variance

    def clock(self, volume: Tensor, generator: torch.Generator | None) -> Tensor:
        return self.scale().item() ** 2 * self.law.clock(volume, generator)

    def constant_copy(self) -> Self:
        """Return the trained law with constant parameters, as a sum of scaled parts."""
        return rescaled(self.law.constant_copy(), self.scale().item())  # pyright: ignore

    def __repr__(self) -> str:
        return f"{type(self).__name__}(law={self.law!r}, at={self.at})"


def _checked(law: Any) -> Law:
    if not isinstance(law, Law):
        raise TypeError(f"`law` must be a Law, got {law!r}.")
    return law


def _unit_frequency(law: Law, reach: float = 230.0) -> Tensor:
    """Return the frequency in [e^-reach, e^reach] at which the exponent is -1, differentiable."""
    parameter = next(law.parameters(), None)
    device = torch.device("cpu") if parameter is None else parameter.device
    steps = torch.arange(65, dtype=torch.float64, device=device)
    with torch.no_grad():
        start, width = torch.full_like(steps[:1], -reach), 2 * reach
        readable = device.type == "cpu" and not torch.compiler.is_compiling()
        if readable and not (law.psi((-start).exp()) < -1 - 1e-6).all():
            raise ValueError(f"`law` must have an exponent that falls below -1, got {law!r}.")
        for _ in range(5):
            above = law.psi((start + width / 64 * steps).exp()) > -1
            start, width = start + width / 64 * (above.sum() - 1), width / 64
        slope = (law.psi((start + 1e-4).exp()) - law.psi((start - 1e-4).exp())) / 2e-4
    return (start - (law.psi(start.exp()) + 1) / slope).exp().squeeze(0)
