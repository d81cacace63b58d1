"""Densities, by FFT inversion of characteristic functions."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from levyjepa import checks
from levyjepa.ecf.statistic import in_double
from levyjepa.laws import Law

LEAST, USUAL, MOST = 2**12, 2**15, 2**18  # size of the FFT
FINE = 4  # points of the table for each that the frequencies need
DEEP = 34  # a transform that has fallen by e^-34 is 0 to rounding


@dataclass(frozen=True)
class Table:
    """The logarithm of an even density on a grid from 0, with its slopes.

    Beyond the grid it goes on as a power of x if `power`, else as an exponential, at the rate
    `tail`. `wrapped` is about the mass out there.
    """

    step: float
    log_density: Tensor
    slope: Tensor
    tail: Tensor
    power: bool
    wrapped: float

    def at(self, x: Tensor) -> Tensor:
        """The log density at `x`, by cubic Hermite pieces."""
        last = len(self.log_density) - 1
        place = x.abs() / self.step
        within = place.clamp(max=last)
        left = within.floor().long().clamp(max=last - 1)
        t = within - left
        a, b = self.log_density[left], self.log_density[left + 1]
        da, db = self.slope[left] * self.step, self.slope[left + 1] * self.step
        beyond = (place / last - 1).clamp_min(0)
        return (
            a * (1 + 2 * t) * (1 - t) ** 2
            + b * t**2 * (3 - 2 * t)
            + da * t * (1 - t) ** 2
            + db * t**2 * (t - 1)
            + self.tail * (beyond.log1p() if self.power else beyond)
        )


def invert(transform: Callable[[Tensor], Tensor]) -> Table:
    """The even density of a positive, falling transform; differentiable in what it closes over.

    A table of step h and length L errs twice: what lies beyond 2 L comes back from its end, and
    nothing narrower than 2 h is seen. L grows until at most 1e-12 of the mass comes back (1e-6,
    once the points are many) and h shrinks until the transform has fallen by e^-34, as far as 2^18
    points allow. Past that, first the transform is tapered (the density smoothed by a Gaussian
    250 times narrower than itself, or less), then the tail beyond L / 2 is extrapolated.
    """

    def falls_by(level: float) -> float:
        return float(u[min(int((share > math.exp(-level)).sum()), len(u) - 1)])

    u = torch.logspace(-40, 40, 801, dtype=torch.float64)
    with torch.no_grad():
        share = transform(u) / transform(u.new_zeros(1))
        wide, body = falls_by(DEEP), falls_by(1)
        longest = MOST * math.pi / (2 * FINE * min(wide, 2000 * body))
        reach, usual = 8 / body, longest * USUAL / MOST
        while (wrapped := _comes_back(transform, reach)) > (1e-12 if reach < usual else 1e-6):
            if reach == longest:
                break
            reach = min(2 * reach, longest)
        u_max = min(wide, MOST * math.pi / (2 * FINE * reach))
        left = float(transform(u.new_full((1,), u_max)) / transform(u.new_zeros(1)))
        taper = max(0.0, DEEP + math.log(max(left, math.exp(-DEEP))))

    step = math.pi / (FINE * u_max)
    size = min(max(2 ** math.ceil(math.log2(2 * reach / step)), LEAST), MOST)
    du = 2 * math.pi / (size * step)
    u = du * torch.arange(size // 2 + 1, dtype=torch.float64)
    heard = u[u <= u_max]
    values = transform(heard) * torch.exp(-taper * (heard / u_max) ** 2)
    values = torch.nn.functional.pad(values, (0, len(u) - len(heard)))
    density = torch.fft.irfft(values.to(torch.complex128), size)[: size // 2] / step
    slope = torch.fft.irfft(1j * u * values, size)[: size // 2] / step

    low = (density.detach() < density.detach().max() * 1e-13).nonzero()
    if len(low):  # rounding, from there on
        power, end = False, max(int(low[0]), 2)
    else:
        near, middle, far = (math.log(density[size // k].item()) for k in (16, 8, 4))
        power = far - middle > 1.4 * (middle - near)  # an exponential would fall twice as far
        end = size // (8 if power else 4)
    log, slope = density[:end].clamp_min(1e-300).log(), slope[:end] / density[:end]
    last = end - 1
    near = last // 2 if power else 9 * last // 10
    run = math.log(last / near) if power else 1 - near / last
    return Table(step, log, slope, (log[last] - log[near]) / run, power, wrapped)


def _comes_back(transform: Callable[[Tensor], Tensor], reach: float) -> float:
    """Twice `reach` times the density there, smoothed by a fortieth: Poisson's sum."""
    k = torch.arange(107, dtype=torch.float64)
    terms = transform(k * math.pi / reach) * torch.exp(-0.5 * (k * math.pi / 40) ** 2)
    return float(terms[0] / 2 + terms[2::2].sum() - terms[1::2].sum())


def log_density(samples: Tensor, law: Law, volume: float = 1.0) -> Tensor:
    """The log density of scalar increments, differentiable in them and in the law's parameters.

    Its mean over held-out samples compares laws. See `invert` for the errors: 1e-6 of the peak
    or better where moments exist, some per cent in far power-law tails.

    Args:
        samples: increments, any shape, finite, floating point.
        law: one that has a density: not compound Poisson alone, which leaves many at 0.
        volume: of their cells.

    Returns:
        Of the shape and dtype of `samples`; where that cannot hold it, its lowest number.

    Raises:
        ValueError: the law has an atom at 0, or tails so heavy, or scales so far apart, that no
            table holds it (`Stable` with alpha below about 0.6).

    >>> from levyjepa.laws import Brownian
    >>> log_density(torch.zeros(1), Brownian(1.0)).exp()  # 1 / sqrt(2 pi)
    tensor([0.3989])
    """
    finite(samples)
    checks.positive("volume", volume)
    ends = torch.tensor([0.0, 1e100], dtype=torch.float64)
    near, far = plain(law).characteristic_function(ends, volume)
    if far > math.exp(-DEEP):
        raise ValueError(f"`law` must have a density, got {law!r}, with an atom at 0.")
    table = density_table(law, volume) if near > 0.5 else None  # tails beyond any number
    if table is None or table.wrapped > 0.01:
        raise ValueError(
            f"`law` must have lighter tails or closer scales to be tabulated, got {law!r}."
        )
    found = table.at(in_double(samples).cpu())
    return found.clamp_min(torch.finfo(samples.dtype).min).to(samples)


def density_table(law: Law, volume: float) -> Table:
    """The table behind `log_density`."""
    device = next((parameter.device for parameter in law.parameters()), None)
    return invert(lambda u: law.characteristic_function(u.to(device), volume).to(u.device))


def finite(samples: Tensor) -> Tensor:
    """Return `samples` if they are finite, of floating point and some; raise otherwise."""
    if not checks.floating("samples", samples).isfinite().all():
        raise ValueError("`samples` must be finite, got NaN or infinity.")
    return samples


def plain(law: Law) -> Law:
    """A copy of `law` whose parameters are constants; raise if it is no law."""
    if not isinstance(law, Law):
        raise TypeError(f"`law` must be a Law, got {law!r}.")
    return law.constant_copy()
