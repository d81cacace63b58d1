"""Compound Poisson processes: finitely many jumps at random positions."""

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor

from levyjepa.laws.law import Law
from levyjepa.laws.parametric import Parametric, Positive

MAX_JUMPS = 1e9  # in one call of `sample`, which draws every jump


class Jumps(Parametric, ABC):
    """The law of one jump: sqrt(tau) z, with z standard normal and a random tau > 0.

    A subclass defines `phi`, `tau` and `tau_moments`.
    """

    @abstractmethod
    def phi(self, u: Tensor) -> Tensor:
        """Return the characteristic function E exp(-tau u^2 / 2) at float64 frequencies `u`."""

    @abstractmethod
    def tau_moments(self) -> tuple[Any, Any]:
        """Return E tau and E tau^2."""

    @abstractmethod
    def tau(self, n: int, generator: torch.Generator | None, device: torch.device) -> Tensor:
        """Draw exact samples of tau: (n,), float64."""

    def characteristic_function(self, u: Tensor) -> Tensor:
        """Return E exp(iux) for one jump x, at floating-point frequencies `u` of any shape."""
        return self.phi(self.frequencies(u)).to(u.dtype)


class CompoundPoisson(Law):
    """A Poisson number of independent jumps, with exponent psi(u) = rate (phi(u) - 1).

    phi is the characteristic function of one jump.

    Args:
        rate: Expected number of jumps in a cell of unit volume.
        jumps: Law of one jump.
        learnable: Whether `rate` and the parameters of `jumps` are trainable.

    >>> from levyjepa.laws import LaplaceJumps
    >>> law = CompoundPoisson(rate=2.0, jumps=LaplaceJumps(alpha=1.0))
    >>> law.variance(), law.kurtosis()
    (4.0, 3.0)
    """

    rate = Positive()

    def __init__(self, rate: float, jumps: Jumps, learnable: bool = False) -> None:
        super().__init__(learnable)
        if not isinstance(jumps, Jumps):
            raise TypeError(f"`jumps` must be a law of jumps, got {jumps!r}.")
        self.rate = rate
        self.jumps = jumps.learnable_copy() if learnable else jumps

    def psi(self, u: Tensor) -> Tensor:
        return self.rate * (self.jumps.phi(u) - 1)

    def clock_moments(self) -> tuple[Any, Any]:
        first, second = self.jumps.tau_moments()
        return self.rate * first, self.rate * second

    def clock(self, volume: Tensor, generator: torch.Generator | None) -> Tensor:
        expected = float(self.rate) * volume
        if (total := float(expected.sum())) > MAX_JUMPS:
            raise ValueError(
                f"Samples must have at most {MAX_JUMPS:.0e} jumps, got {total:.3g} expected jumps."
            )
        counts = torch.poisson(expected, generator=generator).long().flatten()
        cells = torch.arange(counts.numel(), device=counts.device).repeat_interleave(counts)
        tau = self.jumps.tau(cells.numel(), generator, volume.device)
        return torch.zeros_like(volume).flatten().index_add_(0, cells, tau).view(volume.shape)


def standard_gamma(
    shape: Any, n: int, generator: torch.Generator | None, device: torch.device
) -> Tensor:
    """Draw samples of Gamma(shape, 1): (n,), float64."""
    concentration = torch.full((n,), float(shape), dtype=torch.float64, device=device)
    return torch._standard_gamma(concentration, generator=generator)  # pyright: ignore
