"""The posterior probability of a jump."""

import math
from dataclasses import dataclass, field
from functools import lru_cache

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
from levyjepa.laws import Brownian, CompoundPoisson, Law, Sum


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
def _clock_given_jump(key: _CacheKey, draws: int = 2**20, bins: int = 512) -> tuple[Tensor, Tensor]:
    """Return the law of the clock of a cell with a jump, as a mixture: values and log weights.

    It is a histogram over log time of seeded, exact samples. The weights sum to P(at least one
    jump). If fewer than 1 % of the cells have a jump, a larger cell with an expected 0.01 jumps is
    sampled instead. Of cells with a jump, fewer than 1 % then have a second one, so the law of
    the clock is nearly the same.
    """
    law, rate = key.law, _parts(key.law)[1]
    volume = max(key.volume, 0.01 / rate)
    parts = list(law.laws) if isinstance(law, Sum) else [law]
    generator = torch.Generator().manual_seed(0)
    volumes = torch.full((draws,), volume, dtype=torch.float64)
    time = torch.zeros_like(volumes)
    for part in parts:
        if isinstance(part, CompoundPoisson):
            time += part.clock(volumes, generator).detach()
    log = time[time > 0].log()
    width = (log.max() - log.min()).clamp_min(1e-9) / (bins - 1)
    index = ((log - log.min()) / width).round().long()
    counts = torch.bincount(index, minlength=bins).double()
    means = torch.zeros(bins, dtype=torch.float64).index_add_(0, index, log.exp()) / counts
    nonempty = counts > 0
    probability = -math.expm1(-rate * key.volume)
    log_weights = (counts[nonempty] / counts.sum()).log() + math.log(probability)
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
