"""What a Lévy law is, and the sum of two."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from levyjepa import checks
from levyjepa.laws.parametric import Parametric


class Law(Parametric, ABC):
    """The law of increments: over a cell of volume v, E exp(iux) = exp(v psi(u)).

    Every law here is Brownian motion run by a random clock: x = sqrt(T) z with z standard normal
    and T, the clock, increasing with the cell's volume. So each is symmetric, has an isotropic
    version in any dimension (z a vector, T common to its coordinates), and is given by psi and
    by its clock.
    """

    @abstractmethod
    def psi(self, u: Tensor) -> Tensor:
        """The exponent at float64 `u`, unit volume."""

    @abstractmethod
    def clock_moments(self) -> tuple[Any, Any]:
        """Mean and variance of the clock over a unit volume."""

    @abstractmethod
    def clock(self, volume: Tensor, generator: torch.Generator | None) -> Tensor:
        """Exact samples of the clock, one for each entry of `volume`."""

    def exponent(self, u: Tensor) -> Tensor:
        """The exponent psi(u) of the characteristic function over a cell of unit volume.

        Args:
            u: frequencies, any shape, floating point.

        Returns:
            psi(u), at most 0, of the shape of `u`; where its dtype cannot hold it, its lowest.
        """
        psi = self.psi(self.frequencies(u))
        return psi.clamp(torch.finfo(u.dtype).min, 0).to(u.dtype)

    def characteristic_function(self, u: Tensor, volume: float = 1.0) -> Tensor:
        """E exp(iux) = exp(volume * psi(u)), real since every law here is symmetric.

        Args:
            u: frequencies, any shape, floating point.
            volume: the cell's volume.
        """
        return (self.exponent(u) * checks.positive("volume", volume)).exp()

    def variance(self, volume: float = 1.0) -> Any:
        """The variance of a scalar increment: the clock's mean.

        Raises:
            ValueError: the law has no variance.
        """
        return self.clock_moments()[0] * checks.positive("volume", volume)

    def kurtosis(self, volume: float = 1.0) -> Any:
        """The excess kurtosis of a scalar increment, 3 var T / (E T)^2; it falls as 1 / volume.

        Raises:
            ValueError: the law has no fourth moment.
        """
        mean, variance = self.clock_moments()
        if variance == math.inf:
            raise ValueError(f"The kurtosis of {self!r} is infinite.")
        return 3 * variance / mean**2 / checks.positive("volume", volume)

    def sample(
        self,
        shape: Sequence[int],
        volume: float = 1.0,
        dim: int | None = None,
        generator: torch.Generator | None = None,
        dtype: torch.dtype | None = None,
    ) -> Tensor:
        """Draw independent increments exactly.

        Args:
            shape: how many, as a shape.
            volume: the cell's volume.
            dim: None for scalars; D for isotropic vectors of D coordinates, which share a clock
                (a jump strikes them all).
            generator: the source of randomness; its device is the samples' device.
            dtype: of the result; torch's default if None.

        Returns:
            A tensor of shape `shape`, or `(*shape, dim)`; what its dtype cannot hold is its
            largest number.
        """
        size = checks.sizes("shape", shape)
        vector = () if dim is None else (checks.count("dim", dim),)
        volume = checks.positive("volume", volume)
        kind = checks.dtype(dtype)
        limits, device = torch.finfo(kind), checks.generator_device(generator)
        with torch.no_grad():
            volumes = torch.full(size, volume, dtype=torch.float64, device=device)
            time = self.clock(volumes, generator).clamp_max(torch.finfo(torch.float64).max)
            time = time.view(*size, *(1 for _ in vector))
            z = torch.randn(
                (*size, *vector), dtype=torch.float64, device=device, generator=generator
            )
            return (time.sqrt() * z).clamp(limits.min, limits.max).to(kind)

    def __add__(self, other: "Law") -> "Sum":
        if not isinstance(other, Law):
            return NotImplemented
        return Sum(self, other)


class Sum(Law):
    """The law of a sum of independent increments: exponents, and clocks, add."""

    def __init__(self, *laws: Law) -> None:
        super().__init__()
        if len(laws) < 2 or not all(isinstance(law, Law) for law in laws):
            raise TypeError(f"`laws` must be two laws or more, got {laws!r}.")
        parts = [part for law in laws for part in (law.laws if isinstance(law, Sum) else [law])]
        self.laws = nn.ModuleList(parts)

    def psi(self, u: Tensor) -> Tensor:
        return torch.stack([law.psi(u) for law in self.laws]).sum(0)  # pyright: ignore

    def clock_moments(self) -> tuple[Any, Any]:
        means, variances = zip(*(law.clock_moments() for law in self.laws), strict=True)  # pyright: ignore
        return sum(means), sum(variances)

    def clock(self, volume: Tensor, generator: torch.Generator | None) -> Tensor:
        return torch.stack([law.clock(volume, generator) for law in self.laws]).sum(0)  # pyright: ignore

    def __repr__(self) -> str:
        return " + ".join(map(repr, self.laws))
