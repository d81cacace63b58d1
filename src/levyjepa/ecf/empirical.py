"""The empirical characteristic function, fused: memory does not grow with the frequencies.

At equispaced frequencies u_k = k h everything follows from one sine and cosine per sample: with
z = exp(ihx), exp(i u_k x) = z^k. Two ways of taking powers serve two ways of running:

- eager: k = m j + i, so z^k = (z^m)^j z^i, and the mean over samples of all m J products is one
  small matrix product. 2 (m + J) waves are written for 2 m J sums. Samples pass in chunks that
  stay in cache.
- compiled: one chain z^(k+1) = z^k z, restarted every few powers, that the compiler keeps in
  registers and fuses with its sums; nothing is written at all.

Both multiply unit complex numbers, whose rounding errors grow by one unit a step (the Chebyshev
recurrence's grow as k^2 where hx is small, and increments of images are small). The backward pass
makes the waves again instead of keeping them.
"""

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

_RESTART = 8  # powers that one chain takes before it begins anew from a sine and cosine
_CHUNK = {"cpu": 2**16, "cuda": 2**20}  # samples at a time


def empirical_cf(
    samples: Tensor, nodes: Tensor, step: float | None, weights: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Mean of cos(ux) and of sin(ux) over the samples of each row, differentiable in the samples.

    Args:
        samples: (B, N), float32 or float64.
        nodes: (K,) frequencies u.
        step: h if the nodes are h, 2h, ..., Kh.
        weights: (B, N) of the samples, each row adding to 1; 1/N if None. Constants.

    Returns:
        Two tensors (B, K).
    """
    if weights is not None:
        weights = weights.detach().to(samples.dtype)
    return _EmpiricalCF.apply(samples, nodes.to(samples.dtype), step, weights)  # pyright: ignore


class _EmpiricalCF(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, samples: Tensor, nodes: Tensor, step: float | None, weights: Tensor | None
    ) -> Any:
        ctx.save_for_backward(samples, nodes, weights)
        ctx.step = step
        share = 1 / samples.shape[-1] if weights is None else 1.0
        with torch.autocast(samples.device.type, enabled=False):
            if torch.compiler.is_compiling():
                real, imaginary = _sums(samples, nodes, step, weights)
                return real * share, imaginary * share
            real = samples.new_zeros(len(samples), len(nodes))
            imaginary = torch.zeros_like(real)
            sums: Any = _sums if step is None else _sums_of_powers
            for rows, tile in _tiles(samples):
                held = None if weights is None else weights[tile]
                more_real, more_imaginary = sums(samples[tile], nodes, step, held)
                real[rows] += more_real
                imaginary[rows] += more_imaginary
            return real.mul_(share), imaginary.mul_(share)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_real: Tensor, grad_imaginary: Tensor) -> Any:
        samples, nodes, weights = ctx.saved_tensors
        # d/dx of Re: -u sin(ux); of Im: u cos(ux).
        scale = nodes / samples.shape[-1] if weights is None else nodes
        on_cos, on_sin = grad_imaginary * scale, -grad_real * scale
        with torch.autocast(samples.device.type, enabled=False):
            if torch.compiler.is_compiling():
                grad = _series(samples, on_cos, on_sin, nodes, ctx.step)
            else:
                grad = torch.empty_like(samples)
                series: Any = _series if ctx.step is None else _series_of_powers
                for rows, tile in _tiles(samples):
                    grad[tile] = series(samples[tile], on_cos[rows], on_sin[rows], nodes, ctx.step)
            return grad if weights is None else grad * weights, None, None, None


def _tiles(samples: Tensor) -> Iterator[tuple[slice, tuple[slice, slice]]]:
    """Rows, then rows and columns, of parts that hold as many samples as a cache does."""
    batch, n = samples.shape
    size = _CHUNK.get(samples.device.type, _CHUNK["cuda"])
    high, wide = max(1, size // n), min(n, size)
    for top in range(0, batch, high):
        rows = slice(top, top + high)
        for left in range(0, n, wide):
            yield rows, (rows, slice(left, left + wide))


def _chain(x: Tensor, nodes: Tensor, step: float | None) -> Iterator[tuple[Tensor, Tensor]]:
    """cos(ux) and sin(ux), a frequency at a time."""
    cos = sin = base_cos = base_sin = torch.empty(0)
    for k in range(len(nodes)):
        if step is None or k % _RESTART == 0:
            angle = x * (nodes[k] if step is None else (k + 1) * step)
            cos, sin = angle.cos(), angle.sin()
            if k == 0:
                base_cos, base_sin = cos, sin
        else:
            cos, sin = cos * base_cos - sin * base_sin, sin * base_cos + cos * base_sin
        yield cos, sin


def _sums(
    x: Tensor, nodes: Tensor, step: float | None, weights: Tensor | None
) -> tuple[Tensor, Tensor]:
    share = 1.0 if weights is None else weights
    pairs = [((cos * share).sum(-1), (sin * share).sum(-1)) for cos, sin in _chain(x, nodes, step)]
    real, imaginary = (torch.stack(part, -1) for part in zip(*pairs, strict=True))
    return real, imaginary


def _series(x: Tensor, on_cos: Tensor, on_sin: Tensor, nodes: Tensor, step: float | None) -> Tensor:
    """The sum over frequencies of on_cos cos(ux) + on_sin sin(ux), at every sample."""
    total = torch.zeros_like(x)
    for k, (cos, sin) in enumerate(_chain(x, nodes, step)):
        total = total + on_cos[:, k, None] * cos + on_sin[:, k, None] * sin
    return total


def _powers(x: Tensor, count: int, step: float) -> tuple[Tensor, Tensor]:
    """z^1 ... z^m as (B, 2m, N) and z^0, z^m, z^2m ... as (B, 2J, N): cosines, then sines."""
    m = math.isqrt(count - 1) + 1
    rows = -(-count // m)
    batch, n = x.shape
    low, high = x.new_empty(2, m, batch, n), x.new_empty(2, rows, batch, n)
    angle = x * step
    torch.cos(angle, out=low[0, 0])
    torch.sin(angle, out=low[1, 0])
    high[0, 0], high[1, 0] = 1, 0
    for waves, base in ((low, low[:, 0]), (high, low[:, m - 1])):
        for k in range(1, waves.shape[1]):
            cos, sin = waves[:, k - 1]
            torch.mul(cos, base[0], out=waves[0, k]).addcmul_(sin, base[1], value=-1)
            torch.mul(sin, base[0], out=waves[1, k]).addcmul_(cos, base[1])
    return low.flatten(0, 1).transpose(0, 1), high.flatten(0, 1).transpose(0, 1)


def _sums_of_powers(
    x: Tensor, nodes: Tensor, step: float, weights: Tensor | None
) -> tuple[Tensor, Tensor]:
    low, high = _powers(x, len(nodes), step)
    if weights is not None:
        high = high * weights[:, None]
    sums = torch.bmm(high, low.transpose(1, 2)).unflatten(2, (2, -1)).unflatten(1, (2, -1))
    real = sums[:, 0, :, 0] - sums[:, 1, :, 1]
    imaginary = sums[:, 1, :, 0] + sums[:, 0, :, 1]
    return real.flatten(1)[:, : len(nodes)], imaginary.flatten(1)[:, : len(nodes)]


def _series_of_powers(
    x: Tensor, on_cos: Tensor, on_sin: Tensor, nodes: Tensor, step: float
) -> Tensor:
    low, high = _powers(x, len(nodes), step)
    shape = (high.shape[1] // 2, low.shape[1] // 2)
    spare = (0, shape[0] * shape[1] - len(nodes))
    a, b = (torch.nn.functional.pad(c, spare).unflatten(1, shape) for c in (on_cos, on_sin))
    mixed = torch.cat([torch.cat([a, b], 2), torch.cat([b, -a], 2)], 1)
    return torch.bmm(mixed, low).mul_(high).sum(1)
