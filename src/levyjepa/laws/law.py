"""The base class of all laws, and the law of a sum of increments."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from numbers import Real
from typing import Any

import torch
from torch import Tensor, nn

from levyjepa import checks
from levyjepa.laws.parametric import Parametric


class Law(Parametric, ABC):
    """The law of a Lévy process: E exp(iux) = exp(v psi(u)) for increments x over volume v.

    Every law in this package is Brownian motion with a random clock: x = sqrt(T) z, where z is
    standard normal and the clock T >= 0 increases with the volume. Such a law is symmetric. It
    has an isotropic version in every dimension, where z is a vector and T is shared by its
    coordinates. A subclass defines `psi`, `clock` and `clock_moments`.
    """

    @abstractmethod
    def psi(self, u: Tensor) -> Tensor:
        """Return the exponent for a unit volume at float64 frequencies `u`."""

    @abstractmethod
    def clock_moments(self) -> tuple[Any, Any]:
        """Return the mean and variance of the clock over a unit volume."""

    @abstractmethod
    def clock(self, volume: Tensor, generator: torch.Generator | None) -> Tensor:
        """Draw exact samples of the clock, one for each entry of `volume`."""

    def exponent(self, u: Tensor) -> Tensor:
        """Return the exponent psi(u), the log characteristic function for a cell of unit volume.

        Args:
            u: Floating-point frequencies of any shape.

        Returns:
            psi(u) <= 0, with the shape and dtype of `u`, clamped to the dtype's lowest number.
        """
        psi = self.psi(self.frequencies(u))
        return psi.clamp(torch.finfo(u.dtype).min, 0).to(u.dtype)

    def characteristic_function(self, u: Tensor, volume: float = 1.0) -> Tensor:
        """Return E exp(iux) = exp(volume psi(u)), which is real because the law is symmetric.

        Args:
            u: Floating-point frequencies of any shape.
            volume: Volume of the cell.

        Returns:
            Values in [0, 1], with the shape and dtype of `u`.
        """
        return (self.exponent(u) * checks.positive("volume", volume)).exp()

    def variance(self, volume: float = 1.0) -> Any:
        """Return the variance of a scalar increment, E T.

        Raises:
            ValueError: The law has no variance.
        """
        return self.clock_moments()[0] * checks.positive("volume", volume)

    def kurtosis(self, volume: float = 1.0) -> Any:
        """Return the excess kurtosis of a scalar increment, 3 Var T / (E T)^2.

        It is proportional to 1 / volume.

        Raises:
            ValueError: The law has no fourth moment.
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
        """Draw exact, independent increments.

        Args:
            shape: Shape of the batch of increments.
            volume: Volume of the cell.
            dim: None for scalars, or the number of coordinates of isotropic vectors. The
                coordinates of a vector share a clock, so they jump together.
            generator: Random number generator. Samples are drawn on its device.
            dtype: Dtype of the samples, torch's default if None.

        Returns:
            Samples of shape `shape`, or `(*shape, dim)`, clamped to the range of the dtype.
        """
        size = checks.sizes("shape", shape)
        vector = () if dim is None else (checks.count("dim", dim),)
        volume = checks.positive("volume", volume)
        dtype = checks.dtype(dtype)
        limits, device = torch.finfo(dtype), checks.generator_device(generator)
        with torch.no_grad():
            volumes = torch.full(size, volume, dtype=torch.float64, device=device)
            time = self.clock(volumes, generator).clamp_max(torch.finfo(torch.float64).max)
            time = time.reshape((*size, *(1 for _ in vector)))
            z = torch.randn(
                (*size, *vector), dtype=torch.float64, device=device, generator=generator
            )
            return (time.sqrt() * z).clamp(limits.min, limits.max).to(dtype)

    def __add__(self, other: "Law") -> "Sum":
        if not isinstance(other, Law):
            return NotImplemented
        return Sum(self, other)

    def __radd__(self, other: Any) -> "Law":
        return self if isinstance(other, int) and other == 0 else NotImplemented  # as in sum([...])

    def __mul__(self, volume: float) -> "Law":
        """Return the law over `volume` times the volume: its exponent is `volume` times psi.

        The variance grows by `volume`. To multiply the increments instead, use `Scaled`.
        """
        from levyjepa.laws.volume import over_volume

        return over_volume(self, volume) if isinstance(volume, Real) else NotImplemented

    __rmul__ = __mul__


class Sum(Law):
    """The law of a sum of independent increments: psi(u) = psi_1(u) + psi_2(u) + ...

    The clocks add as well.

    Args:
        laws: Two or more laws. Nested sums are flattened.
    """

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
