"""Densities, by inversion of characteristic functions: a table near 0, a contour in the tails."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from levyjepa import checks
from levyjepa.ecf.statistic import in_double
from levyjepa.inference.tail import SPACING, log_tail
from levyjepa.laws import Brownian, CompoundPoisson, Law, Sum

MIN_SIZE, USUAL_SIZE, MAX_SIZE = 2**12, 2**15, 2**18  # of the FFT
OVERSAMPLING = 4  # grid points per point that the frequencies require
NEGLIGIBLE = 34  # a transform that has fallen by e^-34 is 0 up to rounding
REACH = 1e6  # of the tail, in lengths of the table


@dataclass(frozen=True)
class Table:
    """The logarithm of an even density and its derivative at points x >= 0.

    Beyond the last point the density is extrapolated as a power of x, or its logarithm is.

    Args:
        x: (n,) increasing points, the first of which is 0.
        log_density: (n,) log density.
        slope: (n,) derivative of the log density.
        rate: Derivative of the log density by log x beyond the last point.
        power: Whether the density falls as a power of x.
        wrapped: Estimate of the probability mass beyond the grid of the FFT.
    """

    x: Tensor
    log_density: Tensor
    slope: Tensor
    rate: Tensor
    power: bool
    wrapped: float

    def at(self, x: Tensor) -> Tensor:
        """Return the log density at `x`, by cubic Hermite interpolation."""
        x, last = x.abs(), len(self.x) - 1
        inside = x.clamp_max(float(self.x[-1]))
        left = torch.searchsorted(self.x, inside.detach(), right=True).clamp_max(last) - 1
        width = self.x[left + 1] - self.x[left]
        t = (inside - self.x[left]) / width
        a, b = self.log_density[left], self.log_density[left + 1]
        da, db = self.slope[left] * width, self.slope[left + 1] * width
        beyond, end = (x / self.x[-1]).clamp_min(1).log(), self.log_density[-1]
        return (
            a * (1 + 2 * t) * (1 - t) ** 2
            + b * t**2 * (3 - 2 * t)
            + da * t * (1 - t) ** 2
            + db * t**2 * (t - 1)
            + (self.rate * beyond if self.power else end * torch.expm1(self.rate / end * beyond))
        )


def invert(transform: Callable[[Tensor], Tensor]) -> Table:
    """Return the even density of a positive, decreasing transform, differentiably.

    A grid of spacing h and length L has two errors. Mass beyond L wraps around (aliasing), and
    details narrower than 2 h are lost. L grows until the wrapped mass is at most 1e-12, or 1e-6 if
    the grid is already large. h shrinks until the transform has fallen by e^-34. Both are limited
    by the maximum of 2^18 points. At that limit the transform is tapered first, which smooths the
    density by a Gaussian at least 250 times narrower than the density. After that, the tail beyond
    L / 2 is extrapolated.

    Args:
        transform: Maps float64 frequencies to values of the transform. Gradients flow to the
            parameters that it uses.
    """

    def decay_point(level: float) -> float:
        """Return the frequency at which the transform has fallen by e^-level."""
        return float(u[min(int((relative > math.exp(-level)).sum()), len(u) - 1)])

    u = torch.logspace(-40, 40, 801, dtype=torch.float64)
    with torch.no_grad():
        relative = transform(u) / transform(u.new_zeros(1))
        cutoff, body = decay_point(NEGLIGIBLE), decay_point(1)
        longest = MAX_SIZE * math.pi / (2 * OVERSAMPLING * min(cutoff, 2000 * body))
        length, usual = 8 / body, longest * USUAL_SIZE / MAX_SIZE
        while (wrapped := _wrapped_mass(transform, length)) > (1e-12 if length < usual else 1e-6):
            if length == longest:
                break
            length = min(2 * length, longest)
        u_max = min(cutoff, MAX_SIZE * math.pi / (2 * OVERSAMPLING * length))
        remaining = float(transform(u.new_full((1,), u_max)) / transform(u.new_zeros(1)))
        taper = max(0.0, NEGLIGIBLE + math.log(max(remaining, math.exp(-NEGLIGIBLE))))

    step = math.pi / (OVERSAMPLING * u_max)
    size = min(max(2 ** math.ceil(math.log2(2 * length / step)), MIN_SIZE), MAX_SIZE)
    du = 2 * math.pi / (size * step)
    u = du * torch.arange(size // 2 + 1, dtype=torch.float64)
    low = u[u <= u_max]
    values = transform(low) * torch.exp(-taper * (low / u_max) ** 2)
    values = torch.nn.functional.pad(values, (0, len(u) - len(low)))
    density = torch.fft.irfft(values.to(torch.complex128), size)[: size // 2] / step
    slope = torch.fft.irfft(1j * u * values, size)[: size // 2] / step

    noise = (density.detach() < density.detach().max() * 1e-13).nonzero()
    if len(noise):  # only rounding errors from there on
        power, end = False, max(int(noise[0]), 2)
    else:
        near, middle, far = (math.log(density[size // k].item()) for k in (16, 8, 4))
        power = far - middle > 1.4 * (middle - near)  # the ratio is 2 for an exponential
        end = size // (8 if power else 4)
    log, slope = density[:end].clamp_min(1e-300).log(), slope[:end] / density[:end]
    last = end - 1
    near = last // 2 if power else 9 * last // 10
    rate = (log[last] - log[near]) / math.log(last / near)
    return Table(step * torch.arange(end).double(), log, slope, rate, power, wrapped)


def _wrapped_mass(transform: Callable[[Tensor], Tensor], length: float) -> float:
    """Estimate the mass beyond `length` as 2 * length times the density there.

    The density is computed by Poisson's summation formula, smoothed over length / 40.
    """
    k = torch.arange(107, dtype=torch.float64)
    terms = transform(k * math.pi / length) * torch.exp(-0.5 * (k * math.pi / 40) ** 2)
    return float(terms[0] / 2 + terms[2::2].sum() - terms[1::2].sum())


def log_density(samples: Tensor, law: Law, volume: float = 1.0) -> Tensor:
    """Return the log density of scalar increments.

    It is differentiable in the samples and in the parameters of the law. Its mean over held-out
    samples can be used to compare laws. The density is tabulated near 0, see `invert`, with an
    error of at most 1e-6 of the peak. In the tails it is computed by contour integrals, see
    `log_tail`, and the relative error of its logarithm is at most 1e-3 up to a million deviations.

    Args:
        samples: Finite floating-point increments of any shape.
        law: A law with a density. A compound Poisson law alone has none, because increments are 0
            with positive probability.
        volume: Volume of the cells.

    Returns:
        Log densities with the shape and dtype of `samples`, clamped to the dtype's lowest number.

    Raises:
        ValueError: The law has an atom at 0, or its tails are too heavy or its scales too far
            apart for a table, as for `Stable` with alpha below about 0.6.

    >>> from levyjepa.laws import Brownian
    >>> log_density(torch.zeros(1), Brownian(1.0)).exp()  # 1 / sqrt(2 pi)
    tensor([0.3989])
    """
    check_finite(samples)
    checks.positive("volume", volume)
    if not has_density(law, volume):
        raise ValueError(f"`law` must have a density, got {law!r} with an atom at 0.")
    largest = float(samples.detach().abs().max())
    near = constant(law).characteristic_function(torch.zeros(1, dtype=torch.float64), volume)
    table = (
        density_table(law, volume, largest) if near > 0.5 else None
    )  # None if the tails exceed float64
    if table is None or table.wrapped > 0.01:
        raise ValueError(
            f"`law` must have lighter tails or closer scales for a density table, got {law!r}."
        )
    values = table.at(in_double(samples).cpu())
    return values.clamp_min(torch.finfo(samples.dtype).min).to(samples)


def has_density(law: Law, volume: float) -> bool:
    """Return whether the law has no atom at 0."""
    far = torch.tensor([1e100], dtype=torch.float64)
    return constant(law).characteristic_function(far, volume).item() <= math.exp(-NEGLIGIBLE)


def density_table(law: Law, volume: float, largest: float = math.inf) -> Table:
    """Return the table from which `log_density` interpolates up to the sample `largest`.

    It is that of `invert` near 0, and of `log_tail` where `invert` is inaccurate.
    """
    device = next((parameter.device for parameter in law.parameters()), None)
    table = invert(lambda u: law.characteristic_function(u.to(device), volume).to(u.device))
    peak = table.log_density[0].detach()
    body, precise = (max(2, int((table.log_density > peak - d).sum())) for d in (4, 20))
    last = len(table.x) - 1
    if body >= last or (largest <= table.x[min(precise, last)] and not table.power):
        return table
    farthest = min(largest, REACH * float(table.x[-1])) / float(table.x[body])
    x = torch.arange(math.ceil(math.log(max(farthest, 1)) / SPACING) + 2).double() * SPACING
    x = table.x[body] * x.exp()
    parts = brownian_and_jumps(law)
    smooth = None if parts is None or not (parts[0] and parts[1]) else parts

    def log_smooth(u: Tensor) -> Tensor:
        variance, rate = parts  # pyright: ignore
        return -volume * (rate + variance * u.to(device) ** 2 / 2).to(u.device)

    try:
        log, slope, accurate = log_tail(
            lambda u: volume * law.psi(u.to(device)).to(u.device), x, smooth and log_smooth
        )
    except (TypeError, RuntimeError):  # `psi` of somebody's law takes real frequencies only
        return table
    accurate[0] &= (log[0] - table.at(x[:1])).abs().item() < 1e-2  # else `psi` is not analytic
    x, log, slope = x[accurate], log[accurate], slope[accurate]
    if not accurate[0] or (not accurate[-1] and x[-1] < table.x[-1]):
        return table
    rates = slope * x
    return Table(
        torch.cat([table.x[:body], x]),
        torch.cat([table.log_density[:body], log]),
        torch.cat([table.slope[:body], slope]),
        rates[-1],
        bool(rates[-1] > 1.1 * rates[len(x) // 2]),
        table.wrapped,
    )


def brownian_and_jumps(law: Law) -> tuple[Any, Any] | None:
    """Return the variance of the Brownian part and the rate of jumps, for unit volume.

    Return None if the law has parts of other kinds.
    """
    parts: Any = law.laws if isinstance(law, Sum) else [law]
    if not all(isinstance(part, (Brownian, CompoundPoisson)) for part in parts):
        return None
    variance = sum(part.sigma**2 for part in parts if isinstance(part, Brownian))
    return variance, sum(part.rate for part in parts if isinstance(part, CompoundPoisson))


def check_finite(samples: Tensor) -> Tensor:
    """Return `samples` if they are a non-empty, finite floating-point tensor; raise otherwise."""
    if not checks.floating("samples", samples).isfinite().all():
        raise ValueError("`samples` must be finite, got NaN or infinity.")
    return samples


def constant(law: Law) -> Law:
    """Return a copy of `law` with constant parameters; raise if it is not a law."""
    if not isinstance(law, Law):
        raise TypeError(f"`law` must be a Law, got {law!r}.")
    return law.constant_copy()
