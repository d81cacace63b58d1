"""The unit that increments are measured in: a law in another one, and a law held in its own."""

from typing import Any, Self

import torch
from torch import Tensor

from levyjepa import checks
from levyjepa.laws.brownian import Brownian
from levyjepa.laws.law import Law, Sum
from levyjepa.laws.parametric import Positive
from levyjepa.laws.poisson import CompoundPoisson, Jumps


class Scaled(Law):
    """`scale` times the increments of another law, psi(u) = psi_law(scale u).

    Args:
        scale: the factor.
        law: of the increments before.
        learnable: make `scale` and the parameters of `law` trainable.
    """

    scale = Positive()

    def __init__(self, scale: float, law: Law, learnable: bool = False) -> None:
        super().__init__(learnable)
        self.scale = scale
        self.law = _law(law).learnable_copy() if learnable else _law(law)

    def psi(self, u: Tensor) -> Tensor:
        return self.law.psi(self.scale * u)

    def clock_moments(self) -> tuple[Any, Any]:
        mean, variance = self.law.clock_moments()
        return self.scale**2 * mean, self.scale**4 * variance

    def clock(self, volume: Tensor, generator: torch.Generator | None) -> Tensor:
        return float(self.scale) ** 2 * self.law.clock(volume, generator)


class ScaledJumps(Jumps):
    """`scale` times the jumps of another law, phi(u) = phi_jumps(scale u).

    Args:
        scale: the factor.
        jumps: the law of the jumps before.
        learnable: make `scale` and the parameters of `jumps` trainable.
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
    """`scale` times the increments of `law`, whose parameters are constants, part by part.

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
    """A law whose shape is trained and whose scale is held: psi(at) = -1, whatever is learned.

    psi(u) = psi_law(s u), with s = r / at and r the root of psi_law(r) = -1. The root is found
    anew at every call, by sections without a gradient and one Newton step with one, which makes
    the gradient that of the implicit function; no device waits for it.

    Args:
        law: where training begins; a copy of it is made trainable.
        at: the frequency that is held, in inverse units of increments; if None, that at which the
            exponent of `law` is -1, so that nothing is scaled at first.

    Raises:
        ValueError: the exponent never falls below -1: a jump in a unit volume or fewer, and
            nothing else. On the CPU it is looked for at every call, as the rate may be trained.

    >>> law = Pinned(Brownian(2.0))
    >>> law.exponent(torch.tensor(law.at))
    tensor(-1.0000, grad_fn=<ToCopyBackward0>)
    """

    def __init__(self, law: Law, at: float | None = None) -> None:
        super().__init__()
        start = _unit_frequency(_law(law)).item()
        self.at = start if at is None else checks.positive("at", at)
        self.law = law.learnable_copy()

    def scale(self) -> Tensor:
        """The factor s, of increments, by which the learned law is brought back to its scale."""
        return _unit_frequency(self.law) / self.at

    def psi(self, u: Tensor) -> Tensor:
        return self.law.psi(self.scale() * u)

    def clock_moments(self) -> tuple[Any, Any]:
        (mean, variance), scale = self.law.clock_moments(), self.scale()
        return scale**2 * mean, scale**4 * variance

    def clock(self, volume: Tensor, generator: torch.Generator | None) -> Tensor:
        return self.scale().item() ** 2 * self.law.clock(volume, generator)

    def constant_copy(self) -> Self:
        """The law that was learned, in constants and without the pin: a sum of scaled parts."""
        return rescaled(self.law.constant_copy(), self.scale().item())  # pyright: ignore

    def __repr__(self) -> str:
        return f"{type(self).__name__}(law={self.law!r}, at={self.at})"


def _law(law: Any) -> Law:
    if not isinstance(law, Law):
        raise TypeError(f"`law` must be a Law, got {law!r}.")
    return law


def _unit_frequency(law: Law, reach: float = 230.0) -> Tensor:
    """The frequency, from e^-230 to e^230, at which the exponent is -1; differentiable."""
    parameter = next(law.parameters(), None)
    device = torch.device("cpu") if parameter is None else parameter.device
    steps = torch.arange(65, dtype=torch.float64, device=device)
    with torch.no_grad():
        start, width = torch.full_like(steps[:1], -reach), 2 * reach
        looks = device.type == "cpu" and not torch.compiler.is_compiling()
        if looks and not (law.psi((-start).exp()) < -1 - 1e-6).all():
            raise ValueError(f"The exponent of `law` must fall below -1 for a scale, got {law!r}.")
        for _ in range(5):
            above = law.psi((start + width / 64 * steps).exp()) > -1
            start, width = start + width / 64 * (above.sum() - 1), width / 64
        slope = (law.psi((start + 1e-4).exp()) - law.psi((start - 1e-4).exp())) / 2e-4
    return (start - (law.psi(start.exp()) + 1) / slope).exp().squeeze(0)
