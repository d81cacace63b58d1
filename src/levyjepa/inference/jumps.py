"""Where the jumps are."""

import math
from dataclasses import dataclass, field
from functools import lru_cache

import torch
from torch import Tensor

from levyjepa import checks
from levyjepa.ecf.statistic import in_double
from levyjepa.inference.density import Table, finite, invert, plain
from levyjepa.laws import Brownian, CompoundPoisson, Law, Sum


def jump_probability(
    samples: Tensor, law: Law, volume: float = 1.0, isotropic: bool = False
) -> Tensor:
    """The probability that a cell holds at least one jump, given its increment (Bayes).

    P(jump | x) = g(x) / (g(x) + e^(-rate v) n(x)): n is the Brownian part's density, g that of x
    and at least one jump, whose transform is e^(v psi(u)) - e^(-rate v - v sigma^2 u^2 / 2).

    Args:
        samples: increments, any shape, finite, floating point; with `isotropic`, (..., D) vectors.
        law: Brownian parts plus compound Poisson parts.
        volume: of the cells.
        isotropic: take the last axis for the coordinates of one vector, struck by one jump
            together: it says far more than its coordinates one by one.

    Returns:
        Probabilities, of the shape of `samples`, less the last axis with `isotropic`;
        differentiable in the samples.

    Raises:
        ValueError: a part of the law is neither Brownian nor compound Poisson.
    """
    finite(samples)
    volume = checks.positive("volume", volume)
    if isotropic and samples.ndim == 0:
        raise ValueError("`samples` must be (..., D) vectors if isotropic, got shape ().")
    law = plain(law)
    smooth, rate = _parts(law)
    x = in_double(samples)
    norm2 = x.square().sum(-1) if isotropic else x.square()
    if rate == 0:
        return torch.zeros_like(norm2).to(samples.dtype)
    if smooth == 0:
        return (norm2 > 0).to(samples.dtype)
    dim = x.shape[-1] if isotropic else 1
    calm = _log_normal(norm2, smooth * volume, dim) - rate * volume
    case = _Case(repr(law), volume, law)
    if isotropic:
        jump = _log_mixture(norm2, *_clock(case), smooth * volume, dim)
    else:
        jump = _jump_density(case).at(x.cpu()).to(x.device)
    return torch.sigmoid(jump - calm).to(samples.dtype)


@dataclass(frozen=True)
class _Case:
    """What a cached answer depends on: the law as it prints, and the volume."""

    text: str
    volume: float
    law: Law = field(compare=False)


def _parts(law: Law) -> tuple[float, float]:
    """Variance of the Brownian part and rate of the jumps, for unit volume."""
    parts = list(law.laws) if isinstance(law, Sum) else [law]
    if not all(isinstance(part, (Brownian, CompoundPoisson)) for part in parts):
        raise ValueError(f"`law` must be Brownian and compound Poisson parts, got {law!r}.")
    smooth = sum(float(part.sigma) ** 2 for part in parts if isinstance(part, Brownian))
    return smooth, sum(float(part.rate) for part in parts if isinstance(part, CompoundPoisson))


def _log_normal(norm2: Tensor, variance: Tensor | float, dim: int) -> Tensor:
    variance = torch.as_tensor(variance, dtype=norm2.dtype, device=norm2.device)
    return -0.5 * (norm2 / variance + dim * (2 * math.pi * variance).log())


@lru_cache(maxsize=64)
def _jump_density(case: _Case) -> Table:
    smooth, rate = _parts(case.law)

    def transform(u: Tensor) -> Tensor:  # e^all - e^calm, where rounding would cancel them
        psi, calm = case.law.exponent(u), -rate - smooth * u**2 / 2
        jumps = (psi - calm).clamp(0, rate)
        return -torch.exp(case.volume * psi) * torch.expm1(-case.volume * jumps)

    return invert(transform)


@lru_cache(maxsize=64)
def _clock(case: _Case, draws: int = 2**20, bins: int = 512) -> tuple[Tensor, Tensor]:
    """The clock of a cell that holds a jump, as a mixture: values, and log weights.

    A histogram in log time of exact samples, seeded; the weights add to P(at least one jump).
    Where jumps are rarer than one cell in a hundred, two in one cell are as rare among them, and
    the clock is that of a cell just large enough.
    """
    law, rate = case.law, _parts(case.law)[1]
    volume = max(case.volume, 0.01 / rate)
    parts = list(law.laws) if isinstance(law, Sum) else [law]
    generator = torch.Generator().manual_seed(0)
    volumes = torch.full((draws,), volume, dtype=torch.float64)
    time = torch.zeros_like(volumes)
    for part in parts:
        if isinstance(part, CompoundPoisson):
            time += part.clock(volumes, generator).detach()
    log = time[time > 0].log()
    width = (log.max() - log.min()).clamp_min(1e-9) / (bins - 1)
    place = ((log - log.min()) / width).round().long()
    counts = torch.bincount(place, minlength=bins).double()
    middle = torch.zeros(bins, dtype=torch.float64).index_add_(0, place, log.exp()) / counts
    kept = counts > 0
    share = -math.expm1(-rate * case.volume)
    return middle[kept], (counts[kept] / counts.sum()).log() + math.log(share)


def _log_mixture(
    norm2: Tensor, time: Tensor, log_weight: Tensor, variance: float, dim: int
) -> Tensor:
    """log of the sum over clock values of weight times an isotropic normal density."""
    time, log_weight = time.to(norm2.device), log_weight.to(norm2.device)
    flat = norm2.flatten()
    parts = [
        (log_weight + _log_normal(piece[:, None], variance + time, dim)).logsumexp(-1)
        for piece in flat.split(2**14)
    ]
    return torch.cat(parts).view(norm2.shape)
