"""Laws over another volume: `2 * law`."""

from typing import Any, Self

import torch
from torch import Tensor

from levyjepa import checks
from levyjepa.laws.brownian import Brownian
from levyjepa.laws.law import Law, Sum
from levyjepa.laws.parametric import Positive
from levyjepa.laws.poisson import CompoundPoisson


class OverVolume(Law):
    """The law of the increments of `law` over another volume: psi(u) = volume psi_law(u).

    Args:
        volume: Factor of the exponent, never trained.
        law: Law of the increments over a unit volume. Its parameters are shared.
        learnable: Whether to train the parameters of a copy of `law` instead.
    """

    volume = Positive(trainable=False)

    def __init__(self, volume: float, law: Law, learnable: bool = False) -> None:
        super().__init__(learnable)
        if not isinstance(law, Law):
            raise TypeError(f"`law` must be a Law, got {law!r}.")
        self.volume = volume
        self.law = law.learnable_copy() if learnable else law

    def psi(self, u: Tensor) -> Tensor:
        return self.volume * self.law.psi(u)

    def clock_moments(self) -> tuple[Any, Any]:
        mean, variance = self.law.clock_moments()
        return self.volume * mean, self.volume * variance

    def clock(self, volume: Tensor, generator: torch.Generator | None) -> Tensor:
        return self.law.clock(self.volume * volume, generator)

    def constant_copy(self) -> Self:
        """Return the law with constant parameters, as a sum of parts where it is a sum."""
        return over_volume(self.law.constant_copy(), self.volume)  # pyright: ignore


def over_volume(law: Law, volume: float) -> Law:
    """Return the law over `volume` times the volume, which `volume * law` is, part by part.

    >>> over_volume(Brownian(1.0) + Brownian(0.5), 4.0)
    Brownian(sigma=2.0) + Brownian(sigma=1.0)
    """
    volume = checks.positive("volume", volume)
    if isinstance(law, Sum):
        return Sum(*(over_volume(part, volume) for part in law.laws))  # pyright: ignore
    constant = next(law.parameters(), None) is None
    if isinstance(law, Brownian) and constant:
        return Brownian(law.sigma * volume**0.5)
    if isinstance(law, CompoundPoisson) and constant:
        return CompoundPoisson(law.rate * volume, law.jumps)
    if isinstance(law, OverVolume):
        return over_volume(law.law, law.volume * volume)
    return OverVolume(volume, law)
