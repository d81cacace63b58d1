"""Tails of densities, by inversion of the characteristic function on a complex contour."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

SPACING = 0.05  # of log x
NODES = 512
ANGLES = (math.pi / 8, 0.0)
EXACT = 1e-14  # relative error of a term of the integral
ROUNDING = 1e-9  # error of a cumulant

Function = Callable[[Tensor], Tensor]


def log_tail(
    log_cf: Function, x: Tensor, log_smooth: Function | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the log of an even density in its tail, its derivative and where they are accurate.

    The density at x > 0 is Re(integral of exp(iux) phi(u) du) / pi over any contour from 0 to
    infinity on which phi is analytic and the integrand decays. Here it runs along the imaginary
    axis to i theta, where exp(-theta x) phi(i theta) is smallest, and then on a ray to the right.
    On the ray the integrand is as small as the density, so nothing cancels. On the axis phi is real
    for light tails and contributes nothing. A heavy tail has a branch cut there, and its
    contribution is the integral of -exp(-tx) Im phi(it) / pi, which does not cancel either.

    From phi a part is subtracted whose density at x is known: the part without jumps, which may be
    narrow, or else 1, the transform of an atom at 0. The ray is at an angle of pi/8, on which the
    integrand decays exponentially, or horizontal where phi grows too fast, as for Gaussian jumps.
    Integrals are computed by the trapezoid rule in the logarithm of the distance to the start of
    the ray, and by the tanh-sinh rule on the axis. A value is accurate if half of the nodes give
    nearly the same, and if rounding errors are small beside it.

    Args:
        log_cf: Maps complex frequencies to the log characteristic function.
        x: (K,) float64, equispaced by `SPACING` in the logarithm.
        log_smooth: The log transform -a - b u^2 of the part without jumps, if it is known.

    Returns:
        Log density, its derivative in x, and a bool tensor, all (K,).

    Source: Daniels, *Saddlepoint approximations in statistics*, 1954.
    """

    def log_jumps(u: Tensor) -> Tensor:  # log(exp(cf) - exp(smooth)), without cancellation
        smooth = 0.0 if log_smooth is None else log_smooth(u)
        jumps = log_cf(u) - smooth
        many, none = jumps.real > 30, jumps.abs() < 1e-300
        log = torch.where(many | none, 1.0, jumps).expm1().log()
        return smooth + torch.where(none, -1e4, torch.where(many, jumps, log))

    with torch.no_grad():
        theta = _saddlepoints(log_cf if log_smooth is None else log_jumps, x)
        if heavy := not bool(theta.any()):
            theta = _lowest(log_cf, x)
        rays = [_ray(log_jumps, x, theta, angle) for angle in ANGLES]
        turned, level = (_on_ray(log_jumps, x, theta, *ray)[0].error for ray in rays)
        better = (turned.nan_to_num(math.inf) < level.nan_to_num(math.inf))[:, None]
        angle, t = (torch.where(better, *pair) for pair in zip(*rays, strict=True))
    part, log_size = _on_ray(log_jumps, x, theta, angle, t)
    if heavy:
        cut = _on_axis(log_cf, x, theta)
        size = torch.maximum(log_size, cut.value.log().nan_to_num(-math.inf)).detach()
        part = part.times((log_size - size).exp()).plus(cut.times((-size).exp()))
        log_size = size
    total = part.value.clamp_min(1e-300)
    log, slope, scale = total.log() + log_size, part.slope / total, total
    if log_smooth is not None:
        a, b = _coefficients(log_smooth)
        smooth = -a - x**2 / (4 * b) - 0.5 * (4 * math.pi * b).log()
        share = (smooth - log).sigmoid()
        slope = slope * (1 - share) - x / (2 * b) * share
        log = torch.logaddexp(log, smooth)
        scale = (log - log_size).clamp(-690, 690).exp()
    accurate = (part.error < 0.03 * scale) & log.isfinite() & slope.isfinite()
    return log, slope, accurate.detach()


@dataclass(frozen=True)
class _Part:
    """An integral, its derivative in x and the size of its error, all (K,)."""

    value: Tensor
    slope: Tensor
    error: Tensor

    def times(self, factor: Tensor) -> "_Part":
        return _Part(self.value * factor, self.slope * factor, self.error * factor)

    def plus(self, other: "_Part") -> "_Part":
        pairs = zip(vars(self).values(), vars(other).values(), strict=True)
        return _Part(*(a + b for a, b in pairs))


def _integral(terms: Tensor, moments: Tensor, x: Tensor) -> _Part:
    """Sum terms of the trapezoid rule, (K, N). The error is that of every second node."""
    value, slope = terms.real.sum(1), moments.real.sum(1)
    with torch.no_grad():
        rough, steep = (2 * part.real[:, ::2].sum(1) - part.real[:, 0] for part in (terms, moments))
        error = (rough - value).abs() + EXACT * terms.abs().sum(1)
        error += (steep - slope).abs() * torch.minimum((value / slope).abs(), x)
    return _Part(value, slope, error)


def _saddlepoints(log_cf: Function, x: Tensor) -> Tensor:
    """Return theta >= 0 where the derivative of log_cf(i theta) is x, or 0 if there is none.

    The derivative is that of a step parallel to the real axis, which loses no digits. It grows
    from 0 to a pole or without bound. Beyond a pole the function falls. On a branch cut, as of a
    heavy tail, it is not real, and the derivative is inversely proportional to the step.
    """

    def cumulant(theta: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        near, far = (log_cf(torch.complex(step * theta, theta)) for step in (1e-9, 1e-8))
        slope = -near.imag / (1e-9 * theta)
        real = (-far.imag / (1e-8 * theta) - slope).abs() <= slope / 2
        return near.real, slope, real & near.real.isfinite() & slope.isfinite()

    grid = (torch.arange(-400, 800, dtype=x.dtype) / 20).exp() / x[:1]
    value, slope, good = cumulant(grid)
    good[1:] &= (value[1:] >= value[:-1] - ROUNDING) & (slope[1:] >= slope[:-1] * 0.999)
    last = len(grid) - 1 if good.all() else int((~good).int().argmax())
    if last < 2:
        return torch.zeros_like(x)
    index = torch.searchsorted(slope[:last].contiguous(), x).clamp_min(1) - 1
    low, high = grid[index], grid[index + 1]
    low_value, low_slope = value[index], slope[index]
    for _ in range(60):
        middle = (low + high) / 2
        value, slope, good = cumulant(middle)
        below = good & (slope < x) & (slope >= low_slope) & (value >= low_value - ROUNDING)
        low, high = torch.where(below, middle, low), torch.where(below, high, middle)
        low_value = torch.where(below, value, low_value)
        low_slope = torch.where(below, slope, low_slope)
    return torch.maximum(low - 0.1 / x, low / 2)  # at a distance from a pole that floats resolve


def _lowest(log_cf: Function, x: Tensor) -> Tensor:
    """Return theta where exp(-theta x) |phi(i theta)| is smallest on the first part of the axis.

    On this part, the real part of log_cf is convex, so that |phi| falls to the right of the axis,
    and the imaginary part is below 1.5, so that the integrand on the axis has one sign.
    """
    theta = torch.logspace(-3, 3.3, 256, dtype=x.dtype) / x[:, None]
    cf = log_cf(torch.complex(torch.zeros_like(theta), theta))
    rise = cf.real.diff(dim=1) / theta.diff(dim=1) * theta[:, 1:]
    good = cf.imag.abs() < 1.5  # false for NaN
    rounding = ROUNDING * (1 + log_cf(torch.complex(30 / x[:1], 0 * x[:1])).abs())
    good[:, 2:] &= rise[:, 1:] > rise[:, :-1] * theta[:, 2:] / theta[:, 1:-1] - rounding
    log = torch.where(good.int().cummin(1)[0] == 1, cf.real - theta * x[:, None], math.inf)
    return theta.gather(1, log.argmin(1, True))[:, 0]


def _on_axis(log_cf: Function, x: Tensor, theta: Tensor) -> _Part:
    """Integrate along the imaginary axis from 0 to i theta."""
    y = torch.linspace(-4, 3.2, 257, dtype=x.dtype)
    share = torch.sigmoid(math.pi * y.sinh())
    weight = share * (1 - share) * y.cosh() * (y[1] - y[0])
    t = theta[:, None] * share
    cf = log_cf(torch.complex(torch.zeros_like(t), t))
    terms = -(cf.real - t * x[:, None]).exp() * cf.imag.sin() * weight * theta[:, None]
    return _integral(terms, -t * terms, x)


def _ray(log_jumps: Function, x: Tensor, theta: Tensor, angle: float) -> tuple[Tensor, Tensor]:
    """Return the angle (K, 1) and the distances (K, NODES) of nodes from the start of the ray."""
    angles = x.new_full((len(x), 1), angle)
    t = torch.arange(-40, 40, dtype=x.dtype).exp() / x[:, None]
    size = _terms(log_jumps, x, theta, angles, t)[0].abs().nan_to_num(0, math.inf)
    matters = size > 1e-15 * size[:, :40].amax(1, True)
    last = matters.shape[1] - 1 - matters.flip(1).int().argmax(1)
    high = t.gather(1, (last + 1).clamp_max(matters.shape[1] - 1)[:, None])
    low = 1e-7 * torch.minimum(1 / x[:, None], high)
    return angles, low * (high / low) ** torch.linspace(0, 1, NODES, dtype=x.dtype)


def _terms(
    log_jumps: Function, x: Tensor, theta: Tensor, angle: Tensor, t: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the integrand on rays divided by a size, the frequencies, and the log of the size."""
    turn = torch.polar(torch.ones_like(angle), angle)
    start = torch.complex(torch.zeros_like(theta), theta)[:, None]
    u = start + turn * t
    size = log_jumps(start).real
    value = (log_jumps(u) - size + 1j * (u - start) * x[:, None]).exp() * turn
    return value, u, size[:, 0] - theta * x


def _on_ray(
    log_jumps: Function, x: Tensor, theta: Tensor, angle: Tensor, t: Tensor
) -> tuple[_Part, Tensor]:
    """Integrate along rays from i theta. Return the result divided by a size, and its log."""
    value, u, log_size = _terms(log_jumps, x, theta, angle, t)
    h = (t[:, 1] / t[:, 0]).log()[:, None]
    # The first weight is that of all nodes from 0 on, on which the integrand is constant.
    weight = torch.cat([t[:, :1] * h / -(-h).expm1(), t[:, 1:] * h], 1)
    terms = value * weight / math.pi
    return _integral(terms, 1j * u * terms, x), log_size


def _coefficients(log_smooth: Function) -> tuple[Tensor, Tensor]:
    """Return a and b of log_smooth(u) = -a - b u^2."""
    zero, one = -log_smooth(torch.tensor([0.0, 1.0], dtype=torch.complex128)).real
    return zero, one - zero
