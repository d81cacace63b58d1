"""Tails of densities, by inversion of the characteristic function on a complex contour."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

SPACING = 0.1  # of log x
NODES = 512
FINER = 2  # spacings of the nodes of a heavy tail in one of log x
ANGLES = (math.pi / 8, 0.0)
EXACT = 1e-14  # relative error of a term of the integral
ROUNDING = 1e-9  # error of a cumulant

Function = Callable[[Tensor], Tensor]


def log_tail(
    log_cf: Function, x: Tensor, log_smooth: Function | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the log of an even density in its tail, its derivative and where they are accurate.

    The density at x > 0 is Re(integral of exp(iux) phi(u) du) / pi over any contour from the
    imaginary axis to infinity on which phi is analytic and the integrand decays. Here it is a ray
    that starts at the saddlepoint i theta, where the derivative of log phi(i theta) is x. There the
    integrand is as small as the density, so nothing cancels. A heavy tail has no saddlepoint, and
    its ray starts at 0. From phi a part is subtracted whose density at x is known: the part without
    jumps, which may be narrow, or else 1, the transform of an atom at 0. The ray is at an angle of
    pi/8, on which the integrand decays exponentially, or horizontal where phi grows too fast, as
    for Gaussian jumps. The integral is computed by the trapezoid rule in the logarithm of the
    distance to the start. A value is accurate if half of the nodes give nearly the same, and if
    rounding errors are small beside it.

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
        many = jumps.real > 30
        return smooth + torch.where(many, jumps, torch.where(many, 1.0, jumps).expm1().log())

    with torch.no_grad():
        theta = _saddlepoints(log_cf if log_smooth is None else log_jumps, x)
        if heavy := not bool(theta.any()):
            log_smooth = None
            angle, t = _common_ray(x)
        else:
            rays = [_ray(log_jumps, x, theta, angle) for angle in ANGLES]
            first = _integral(log_jumps, log_smooth, x, theta, *rays[0])[2]
            angle, t = (torch.where(first[:, None], *pair) for pair in zip(*rays, strict=True))
    return _integral(log_jumps, log_smooth, x, theta, angle, t, heavy)


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


def _common_ray(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return the angle (K, 1) and distances (K, N) from 0 of nodes that the values of x share."""
    count = round(math.log(120 / 1e-8) / SPACING * FINER)
    exponent = torch.arange(FINER * (len(x) - 1) + count, dtype=x.dtype) * SPACING / FINER
    shared = 120 / x[0] * (-exponent).exp()
    return x.new_full((len(x), 1), ANGLES[0]), shared.unfold(0, count, FINER).flip(-1)


def _ray(log_jumps: Function, x: Tensor, theta: Tensor, angle: float) -> tuple[Tensor, Tensor]:
    """Return the angle (K, 1) and the distances (K, NODES) of nodes from the start of the ray."""
    angles = x.new_full((len(x), 1), angle)
    t = torch.arange(-40, 40, dtype=x.dtype).exp() / x[:, None]
    size = _terms(log_jumps, x, theta, angles, t, False)[0].abs().nan_to_num(0, math.inf) * t
    matters = size > 1e-15 * size[:, :40].amax(1, True)
    last = matters.shape[1] - 1 - matters.flip(1).int().argmax(1)
    high = t.gather(1, (last + 1).clamp_max(matters.shape[1] - 1)[:, None])
    low = 1e-7 * torch.minimum(1 / x[:, None], high)
    return angles, low * (high / low) ** torch.linspace(0, 1, NODES, dtype=x.dtype)


def _terms(
    log_jumps: Function, x: Tensor, theta: Tensor, angle: Tensor, t: Tensor, shared: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the integrand on rays divided by a size, the frequencies, and the log of the size."""
    turn = torch.polar(torch.ones_like(angle), angle)
    start = torch.complex(torch.zeros_like(theta), theta)[:, None]
    u = start + turn * t
    if shared:  # evaluate each node once
        log = log_jumps(torch.cat([u[-1], u[:-1, -FINER:].flip(0).flatten()]))
        log = log.unfold(0, t.shape[1], FINER).flip(0)
    else:
        log = log_jumps(u)
    size = log_jumps(start).real if theta.any() else torch.zeros_like(start.real)
    value = (log - size + 1j * (u - start) * x[:, None]).exp() * turn
    return value, u, size[:, 0] - theta * x


def _integral(
    log_jumps: Function,
    log_smooth: Function | None,
    x: Tensor,
    theta: Tensor,
    angle: Tensor,
    t: Tensor,
    shared: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:
    value, u, log_size = _terms(log_jumps, x, theta, angle, t, shared)
    h = (t[:, 1] / t[:, 0]).log()[:, None]
    # The first weight is that of all nodes from 0 on, on which the integrand is constant.
    weight = torch.cat([t[:, :1] * h / -(-h).expm1(), t[:, 1:] * h], 1) / math.pi
    terms = value * weight
    total, moment = terms.real.sum(1), (1j * u * terms).real.sum(1)
    log = total.clamp_min(1e-300).log() + log_size
    slope = moment / total.clamp_min(1e-300)
    scale = total.detach()
    if log_smooth is not None:
        a, b = _coefficients(log_smooth)
        smooth = -a - x**2 / (4 * b) - 0.5 * (4 * math.pi * b).log()
        share = (smooth - log).sigmoid()
        slope = torch.where(total > 0, slope, 0.0) * (1 - share) - x / (2 * b) * share
        log = torch.logaddexp(log, smooth)
        scale = (log - log_size).detach().clamp(-690, 690).exp()
    with torch.no_grad():
        half = 2 * terms.real[:, ::2].sum(1) - terms.real[:, 0]
        accurate = ((half - total).abs() < 0.03 * scale) & log.isfinite() & slope.isfinite()
        accurate &= EXACT * terms.abs().sum(1) < 1e-3 * scale
    return log, slope, accurate


def _coefficients(log_smooth: Function) -> tuple[Tensor, Tensor]:
    """Return a and b of log_smooth(u) = -a - b u^2."""
    zero, one = -log_smooth(torch.tensor([0.0, 1.0], dtype=torch.complex128)).real
    return zero, one - zero
