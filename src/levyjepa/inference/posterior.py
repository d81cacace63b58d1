"""The posterior probability of a jump."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from levyjepa import checks
from levyjepa.ecf.statistic import in_double
from levyjepa.inference.density import (
    Table,
    brownian_and_jumps,
    check_finite,
    constant,
    invert,
)
from levyjepa.laws import CompoundPoisson, Law, Sum


def jump_probability(
    samples: Tensor, law: Law, volume: float = 1.0, isotropic: bool = False
) -> Tensor:
    """Return the posterior probability that a cell has at least one jump, given its increment.

    By Bayes' rule P(jump | x) = g(x) / (g(x) + e^(-rate v) n(x)). Here n is the density of the
    Brownian part, and g is the joint density of x and at least one jump. The transform of g is
    e^(v psi(u)) - e^(-rate v - v sigma^2 u^2 / 2).

    Args:
        samples: Finite floating-point increments of any shape, (..., D) if `isotropic`.
        law: Sum of Brownian and compound Poisson laws.
        volume: Volume of the cells.
        isotropic: Whether the last axis holds the coordinates of a vector that jump together.
            A vector identifies a jump much better than its coordinates one at a time.

    Returns:
        Probabilities with the shape of `samples`, without the last axis if `isotropic`. They are
        differentiable in the samples.

    Raises:
        ValueError: A part of the law is neither Brownian nor compound Poisson.
    """
    check_finite(samples)
    volume = checks.positive("volume", volume)
    if isotropic and samples.ndim == 0:
        raise ValueError("`samples` must be (..., D) vectors if `isotropic`, got shape ().")
    law = constant(law)
    brownian_variance, rate = _parts(law)
    x = in_double(samples)
    norm2 = x.square().sum(-1) if isotropic else x.square()
    if rate == 0:
        return torch.zeros_like(norm2).to(samples.dtype)
    if brownian_variance == 0:
        return (norm2 > 0).to(samples.dtype)
    dim = x.shape[-1] if isotropic else 1
    no_jump = _log_normal(norm2, brownian_variance * volume, dim) - rate * volume
    key = _CacheKey(repr(law), volume, law)
    if isotropic:
        jump = _log_mixture(norm2, *_clock_given_jump(key), brownian_variance * volume, dim)
    else:
        jump = _jump_density(key).at(x.cpu()).to(x.device)
    return torch.sigmoid(jump - no_jump).to(samples.dtype)


@dataclass(frozen=True)
class _CacheKey:
    """Key of cached tables: the printed law and the volume. The law itself is not compared."""

    text: str
    volume: float
    law: Law = field(compare=False)


def _parts(law: Law) -> tuple[float, float]:
    """Return the variance of the Brownian part and the rate of jumps, for unit volume."""
    parts = brownian_and_jumps(law)
    if parts is None:
        raise ValueError(f"`law` must be a sum of Brownian and compound Poisson, got {law!r}.")
    return parts


def _jump_parts(law: Law) -> list[CompoundPoisson]:
    parts: Any = law.laws if isinstance(law, Sum) else [law]
    return [part for part in parts if isinstance(part, CompoundPoisson)]


def _log_normal(norm2: Tensor, variance: Tensor | float, dim: int) -> Tensor:
    variance = torch.as_tensor(variance, dtype=norm2.dtype, device=norm2.device)
    return -0.5 * (norm2 / variance + dim * (2 * math.pi * variance).log())


@lru_cache(maxsize=64)
def _jump_density(key: _CacheKey) -> Table:
    """Return the joint density g of an increment and at least one jump."""
    brownian_variance, rate = _parts(key.law)

    def transform(u: Tensor) -> Tensor:  # e^(v psi) - e^(v no_jump), without cancellation
        psi, no_jump = key.law.exponent(u), -rate - brownian_variance * u**2 / 2
        jumps = (psi - no_jump).clamp(0, rate)
        return -torch.exp(key.volume * psi) * torch.expm1(-key.volume * jumps)

    return invert(transform)


@lru_cache(maxsize=64)
def _clock_given_jump(key: _CacheKey) -> tuple[Tensor, Tensor]:
    """Return the law of the clock of a cell with a jump, as a mixture: values and log weights.

    The weights sum to P(at least one jump). The clock's density f(t) is computed by inversion of
    its Laplace transform, and integrated over log t by the trapezoid rule. If the clock has no
    density, as for Gaussian jumps, the mixture is a histogram of samples.
    """
    variance, rate = (float(part) for part in _parts(key.law))
    expected = rate * key.volume

    def transform(s: Tensor) -> Tensor:  # E exp(-s T) with at least one jump
        u = (2 * s).sqrt()
        jumps: Any = sum(part.rate * part.jumps.phi(u) for part in _jump_parts(key.law))
        return math.exp(-expected) * (key.volume * jumps).expm1()

    log_time = torch.arange(2048, dtype=torch.float64) * 0.03
    time = variance * key.volume * (log_time - 16).exp()  # from far below the Brownian clock
    try:
        density = _inverse_laplace(transform, time)
    except (TypeError, RuntimeError):  # `phi` of somebody's jumps takes real frequencies only
        return _sampled_clock(key)
    below = _inverse_laplace(lambda s: transform(s) / s, time[:1])
    weights = torch.cat([below, (0.03 * time * density)[1:]])
    weights[1] += 0.015 * time[0] * density[0]
    probability = -math.expm1(-expected)
    if not abs(weights.sum().item() / probability - 1) < 1e-5:  # true for NaN
        return _sampled_clock(key)
    kept = weights > 1e-20 * probability
    return time[kept], weights[kept].log()


def _inverse_laplace(transform: Callable[[Tensor], Tensor], t: Tensor, nodes: int = 24) -> Tensor:
    """Return the function at `t` whose transform is analytic off the negative real axis.

    Source: Trefethen, Weideman and Schmelzer, *Talbot quadratures and rational approximations*,
    2006.
    """
    theta = (torch.arange(0, nodes, 2, dtype=t.dtype) + 1) * math.pi / nodes
    a = 0.6407 * theta
    z = nodes * torch.complex(0.5017 * theta / a.tan() - 0.6122, 0.2645 * theta)
    slope = 0.5017 * (1 / a.tan() - a / a.sin() ** 2)
    slope = nodes * torch.complex(slope, torch.full_like(slope, 0.2645))
    terms = -1j * z.exp() * slope * transform(z / t[:, None])
    return 2 * terms.real.sum(1) / nodes / t


def _sampled_clock(key: _CacheKey, draws: int = 2**20, bins: int = 512) -> tuple[Tensor, Tensor]:
    """Return a histogram over log time of seeded, exact samples of a clock with a jump.

    The first of a Poisson number of arrivals in [0, 1] is drawn from its law given that there is
    one, and the number of the others is Poisson again.
    """
    expected = _parts(key.law)[1] * key.volume
    parts = _jump_parts(key.law)
    rates = torch.tensor([float(part.rate) for part in parts], dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    uniform = torch.rand(draws, dtype=torch.float64, generator=generator)
    first = -(uniform * math.expm1(-expected)).log1p() / expected
    time = torch.zeros_like(first)
    kind = torch.multinomial(rates, draws, True, generator=generator)
    for index, part in enumerate(parts):
        later = part.clock((1 - first).clamp_min(0) * key.volume, generator)
        tau = part.jumps.tau(draws, generator, first.device)
        time += later + torch.where(kind == index, tau, 0.0)
    log = time.log()
    width = (log.max() - log.min()).clamp_min(1e-9) / (bins - 1)
    index = ((log - log.min()) / width).round().long()
    counts = torch.bincount(index, minlength=bins).double()
    means = torch.zeros(bins, dtype=torch.float64).index_add_(0, index, log.exp()) / counts
    nonempty = counts > 0
    log_weights = (counts[nonempty] / draws).log() + math.log(-math.expm1(-expected))
    return means[nonempty], log_weights


def _log_mixture(
    norm2: Tensor, time: Tensor, log_weight: Tensor, variance: float, dim: int
) -> Tensor:
    """Return the log of a mixture of isotropic normal densities over values of the clock."""
    time, log_weight = time.to(norm2.device), log_weight.to(norm2.device)
    flat = norm2.flatten()
    parts = [
        (log_weight + _log_normal(chunk[:, None], variance + time, dim)).logsumexp(-1)
        for chunk in flat.split(2**14)
    ]
    return torch.cat(parts).view(norm2.shape)
