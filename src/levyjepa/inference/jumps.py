"""Where the jumps are."""

import math
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from levyjepa import checks
from levyjepa.laws import Brownian, CompoundPoisson, Law, Sum, parse


def jump_probability(
    samples: Tensor, law: Law, volume: float = 1.0, isotropic: bool = False
) -> Tensor:
    """The probability that a cell holds at least one jump, given its increment (Bayes).

    P(jump | x) = g(x) / (g(x) + e^(-rate v) n(x)): n is the Brownian part's density, g that of x
    and at least one jump, whose transform is e^(v psi(u)) - e^(-rate v - v sigma^2 u^2 / 2).

    Args:
        samples: increments, any shape, floating point; with `isotropic`, (..., D) vectors.
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
    checks.floating("samples", samples)
    checks.positive("volume", volume)
    smooth, rate = _parts(law)
    x = samples.double()
    norm2 = x.square().sum(-1) if isotropic else x.square()
    if rate == 0:
        return torch.zeros_like(norm2).to(samples.dtype)
    if smooth == 0:
        return (norm2 > 0).to(samples.dtype)
    dim = x.shape[-1] if isotropic else 1
    calm = _log_normal(norm2, smooth * volume, dim) - rate * volume
    text = repr(law).replace(", learnable=True", "")
    if isotropic:
        jump = _log_mixture(norm2, *_clock(text, volume), smooth * volume, dim)
    else:
        jump = _log_density(x.abs(), text, volume)
    return torch.sigmoid(jump - calm).to(samples.dtype)


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


def _log_density(x: Tensor, text: str, volume: float) -> Tensor:
    """log g at x >= 0, by cubic Hermite interpolation of its table."""
    step, log_g, slope = (t.to(x.device) for t in _table(text, volume))
    place = (x / step).clamp(max=len(log_g) - 1.001)
    left = place.floor().long()
    t = place - left
    a, b, da, db = log_g[left], log_g[left + 1], slope[left] * step, slope[left + 1] * step
    return (
        a * (1 + 2 * t) * (1 - t) ** 2
        + b * t**2 * (3 - 2 * t)
        + da * t * (1 - t) ** 2
        + db * t**2 * (t - 1)
    )


@lru_cache(maxsize=64)
def _table(text: str, volume: float, size: int = 2**15) -> tuple[Tensor, Tensor, Tensor]:
    """Step of a grid from 0, log g on it, and its slope, by a discrete cosine transform."""
    law = parse(text)
    smooth, rate = _parts(law)
    scale = math.sqrt(smooth * volume)
    step = scale / 16
    u = np.pi / (size * step) * np.arange(size)
    heard = torch.from_numpy(u[u < 9 / scale])  # beyond, the Brownian part leaves e^-40
    with torch.no_grad():
        calm = torch.exp(-volume * (rate + smooth * heard**2 / 2))
        spoken = law.characteristic_function(heard, volume) - calm
    transform = np.zeros(size)
    transform[: len(heard)] = spoken.numpy()
    transform[0] /= 2
    waves = np.fft.ifft(np.concatenate([transform, np.zeros(size)])) * 2 * size
    g = waves.real[:size] * u[1] / np.pi
    turned = np.fft.ifft(np.concatenate([transform * u, np.zeros(size)])) * 2 * size
    slope = -turned.imag[:size] * u[1] / np.pi
    # Rounding leaves nothing of g below 1e-13 of its height: it is held there, and flat.
    floor = g.max() * 1e-13
    end = int(np.argmax(g < floor)) if (g < floor).any() else size
    end = max(end, 2)
    return (
        torch.tensor(step, dtype=torch.float64),
        torch.from_numpy(np.log(np.maximum(g[:end], floor))),
        torch.from_numpy(slope[:end] / np.maximum(g[:end], floor)),
    )


@lru_cache(maxsize=64)
def _clock(text: str, volume: float, draws: int = 2**20, bins: int = 512) -> tuple[Tensor, Tensor]:
    """The clock of a cell that holds a jump, as a mixture: values, and log weights.

    A histogram in log time of exact samples, seeded; the weights add to P(at least one jump).
    """
    law = parse(text)
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
    share = -math.expm1(-_parts(law)[1] * volume)
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
