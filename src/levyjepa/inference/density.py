"""Densities, by FFT inversion of characteristic functions."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from levyjepa import checks
from levyjepa.laws import Law

SIZE = 2**16  # of the FFT
FINE = 4  # points of the table for each that the frequencies need


@dataclass(frozen=True)
class Table:
    """The logarithm of an even density on a grid from 0, with its slopes."""

    step: float
    log_density: Tensor
    slope: Tensor

    def at(self, x: Tensor) -> Tensor:
        """Interpolate at |x|, by cubic Hermite pieces; beyond the grid, its last value."""
        place = (x.abs() / self.step).clamp(max=len(self.log_density) - 1.001)
        left = place.floor().long()
        t = place - left
        a, b = self.log_density[left], self.log_density[left + 1]
        da, db = self.slope[left] * self.step, self.slope[left + 1] * self.step
        return (
            a * (1 + 2 * t) * (1 - t) ** 2
            + b * t**2 * (3 - 2 * t)
            + da * t * (1 - t) ** 2
            + db * t**2 * (t - 1)
        )


def invert(transform: Callable[[Tensor], Tensor], u_max: float) -> Table:
    """The even density whose transform is 0 beyond `u_max`; differentiable in what it closes over.

    The grid is 2^15 steps of pi / (4 u_max): tails heavier than that reach come back from its end.
    """
    step = math.pi / (FINE * u_max)
    du = 2 * math.pi / (SIZE * step)
    u = du * torch.arange(SIZE // 2 + 1, dtype=torch.float64)
    heard = u <= u_max
    values = torch.nn.functional.pad(transform(u[heard]), (0, int((~heard).sum())))
    scale = SIZE * du / (2 * math.pi)
    density = torch.fft.irfft(values.to(torch.complex128), SIZE)[: SIZE // 2] * scale
    slope = torch.fft.irfft(1j * u * values, SIZE)[: SIZE // 2] * scale
    # Rounding leaves nothing below 1e-13 of the height: from there on it is held, and flat.
    floor = density.detach().max() * 1e-13
    low = (density.detach() < floor).nonzero()
    end = max(int(low[0]), 2) if len(low) else len(density)
    density, slope = density[:end].clamp_min(floor), slope[:end]
    return Table(step, density.log(), slope / density)


def log_density(samples: Tensor, law: Law, volume: float = 1.0) -> Tensor:
    """The log density of scalar increments, differentiable in them and in the law's parameters.

    Args:
        samples: increments, any shape, floating point.
        law: one that has a density: not compound Poisson alone, which leaves many at 0.
        volume: of their cells.

    Returns:
        Of the shape and dtype of `samples`.

    Raises:
        ValueError: the law has an atom at 0.

    >>> from levyjepa.laws import Brownian
    >>> log_density(torch.zeros(1), Brownian(1.0)).exp()  # 1 / sqrt(2 pi)
    tensor([0.3989])
    """
    checks.floating("samples", samples)
    return density_table(law, volume).at(samples.double().cpu()).to(samples)


def density_table(law: Law, volume: float) -> Table:
    """The table behind `log_density`."""
    checks.positive("volume", volume)

    def psi(u: float) -> float:
        with torch.no_grad():
            return volume * float(law.exponent(torch.tensor([u], dtype=torch.float64)))

    if psi(1e100) > -34:
        raise ValueError(f"`law` must have a density, got {law!r}, which has an atom at 0.")
    low, high = -40.0, 40.0  # a law whose transform falls slower than to e^-34 here is cut
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if psi(math.exp(middle)) < -34 else (middle, high)
    spread = math.exp(high)
    if psi(1.0) < -1e-300:  # no finer than 1e-4 of the scale at which the law falls by e^-1
        at = -40.0, 40.0
        for _ in range(60):
            middle = sum(at) / 2
            at = (at[0], middle) if psi(math.exp(middle)) < -1 else (middle, at[1])
        spread = min(spread, 1e3 * math.exp(at[1]))
    return invert(lambda u: law.characteristic_function(u, volume), spread)
