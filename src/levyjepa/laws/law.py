"""What a Lévy law is, and the sum of two."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from levyjepa import checks
from levyjepa.laws.parametric import Parametric, as_floating


class Law(Parametric, ABC):
    """The law of increments: over a cell of volume v, E exp(iux) = exp(v psi(u)).

    Every law here is Brownian motion run by a random clock: x = sqrt(T) z with z standard normal
    and T, the clock, increasing with the cell's volume. So each is symmetric, has an isotropic
    version in any dimension (z a vector, T common to its coordinates), and is given by psi and
    by its clock.
    """

    @abstractmethod
    def psi(self, u: Tensor) -> Tensor:
        """The exponent at floating-point `u`, unit volume."""

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
            psi(u), at most 0, of the shape of `u`.
        """
        checks.floating("u", u)
        return self.psi(as_floating(u)).to(u.dtype)

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
            A tensor of shape `shape`, or `(*shape, dim)`.
        """
        device = generator.device if generator is not None else "cpu"
        size = tuple(checks.count("shape", n, least=0) for n in shape)
        volumes = torch.full(
            size, checks.positive("volume", volume), dtype=torch.float64, device=device
        )
        with torch.no_grad():
            scale = self.clock(volumes, generator).sqrt()
            if dim is not None:
                scale = scale[..., None].expand(*size, checks.count("dim", dim))
            z = torch.randn(scale.shape, dtype=scale.dtype, device=device, generator=generator)
            return (scale * z).to(dtype or torch.get_default_dtype())

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
