"""The empirical characteristic function, fused: memory does not grow with the frequencies.

At equispaced frequencies u_k = k h everything follows from z and one power of it, per sample: with
z = exp(ihx), exp(i u_k x) = z^k. Write k = m j + i with |i| <= r and m = 2 r + 1, and c + is = z^i,
C + iS = z^(m j). Then

    cos(u_k x) = C c - S s,   sin(u_k x) = S c + C s,

and the four products, once summed over samples, serve i and -i alike: two multiplications for each
of the m J + r frequencies that r + J waves reach. The backward pass makes the waves again instead
of keeping them, and is the transpose. Four ways of running:

- eager: the sums of all products are one small matrix product. Samples pass in chunks that stay in
  cache.
- compiled: waves and products stay in registers, fused with their sums; nothing else is written.
- on a GPU, in float32: `levyjepa.ecf.kernels`, one launch each way, if Triton is installed.
- plain PyTorch, as the formula reads: for gradients of gradients, `torch.func` and forward-mode
  differentiation, where memory does grow with the frequencies.

Waves are multiplied as unit complex numbers, by doubling in eager mode. Rounding errors grow
by one unit a product (the Chebyshev recurrence's grow as k^2 where hx is small, and increments of
images are small).
"""

import importlib.util
import itertools
import math
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

_CHUNK = {"cpu": 2**16, "cuda": 2**19}  # samples at a time
FEW = 2**13  # samples whose sines cost less than the calls of many small operations
_TRITON = importlib.util.find_spec("triton") is not None


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
    share = 1 / samples.shape[-1] if weights is None else 1.0
    real, imaginary = wave_sums(samples, nodes, step, weights)
    return real * share, imaginary * share


def wave_sums(
    samples: Tensor, nodes: Tensor, step: float | None, weights: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Return the sums of cos(ux) and of sin(ux); the arguments are those of `empirical_cf`."""
    if not has_kernels(samples):
        nodes = nodes.to(samples.dtype)
    if transforming():
        return _plain_sums(samples, nodes.to(samples), weights)
    return _WaveSums.apply(samples, nodes, step, weights)  # pyright: ignore


def has_kernels(samples: Tensor) -> bool:
    """Return whether the Triton kernels take these samples."""
    return _TRITON and samples.is_cuda and samples.dtype == torch.float32


def transforming() -> bool:
    """Return whether `torch.func` or forward-mode differentiation needs plain PyTorch."""
    if torch.compiler.is_compiling():
        return False
    return torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0


def plain_gradients(outputs: Any, grads: Any, *inputs: Tensor) -> tuple[Tensor | None, ...]:
    """Return differentiable gradients of `outputs`, for a backward pass that is differentiated."""
    pairs = [(out, on) for out, on in zip(outputs, grads, strict=True) if out.requires_grad]
    outs, given = zip(*pairs, strict=True)
    wanted = [tensor for tensor in inputs if tensor.requires_grad]
    results = iter(torch.autograd.grad(outs, wanted, given, create_graph=True, allow_unused=True))
    return tuple(next(results) if tensor.requires_grad else None for tensor in inputs)


class _WaveSums(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, samples: Tensor, nodes: Tensor, step: float | None, weights: Tensor | None
    ) -> Any:
        ctx.save_for_backward(samples, nodes, weights)
        ctx.step = step
        return compute_sums(samples, nodes, step, weights)

    @staticmethod
    def backward(ctx: Any, grad_real: Tensor, grad_imaginary: Tensor) -> Any:
        samples, nodes, weights = ctx.saved_tensors
        if torch.is_grad_enabled() and not torch.compiler.is_compiling():
            sums = _plain_sums(samples, nodes.to(samples), weights)
            grads = plain_gradients(sums, (grad_real, grad_imaginary), samples)
            return *grads, None, None, None
        grad = compute_slopes(samples, nodes, ctx.step, grad_real, grad_imaginary, weights)
        return grad, None, None, None


def _plain_sums(x: Tensor, nodes: Tensor, weights: Tensor | None) -> tuple[Tensor, Tensor]:
    with torch.autocast(x.device.type, enabled=False):
        angles = x[..., None] * nodes
        share = 1.0 if weights is None else weights[..., None]
        return (angles.cos() * share).sum(-2), (angles.sin() * share).sum(-2)


def compute_sums(
    samples: Tensor, nodes: Tensor, step: float | None, weights: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Return what `wave_sums` returns, without a gradient."""
    if has_kernels(samples):
        from levyjepa.ecf import kernels

        return kernels.sums(samples, nodes, step is not None, weights)
    if torch.compiler.is_compiling():
        sums: Any = _sums if step is None else _fused_sums
        return sums(samples, nodes, step, weights)
    real = samples.new_zeros(len(samples), len(nodes))
    imaginary = torch.zeros_like(real)
    for rows, tile in _tiles(samples):
        share = None if weights is None else weights[tile]
        waves = Waves(samples[tile], nodes, step)
        more_real, more_imaginary = waves.sums(share)
        real[rows] += more_real
        imaginary[rows] += more_imaginary
    return real, imaginary


def compute_slopes(
    samples: Tensor,
    nodes: Tensor,
    step: float | None,
    on_real: Tensor,
    on_imaginary: Tensor,
    weights: Tensor | None = None,
) -> Tensor:
    """Return the gradient of `compute_sums` (B, N), given those of its two results (B, K)."""
    if has_kernels(samples):
        from levyjepa.ecf import kernels

        return kernels.slopes(samples, nodes, step is not None, weights, on_real, on_imaginary)
    if torch.compiler.is_compiling():
        series: Any = _series if step is None else _fused_series
        slopes = series(samples, *_on_waves(nodes, on_real, on_imaginary), nodes, step)
    else:
        slopes = torch.empty_like(samples)
        for rows, tile in _tiles(samples):
            waves = Waves(samples[tile], nodes, step)
            slopes[tile] = waves.slopes(on_real[rows], on_imaginary[rows])
    return slopes if weights is None else slopes * weights


class Waves:
    """The waves of samples (B, N), made once, for their sums and for series of them."""

    def __init__(self, samples: Tensor, nodes: Tensor, step: float | None) -> None:
        self.samples, self.nodes = samples, nodes
        self.stacked = None if step is None else _stacked_waves(samples, len(nodes), step)

    def sums(self, weights: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the sums of cos(ux) and sin(ux), (B, K)."""
        if self.stacked is None:
            return _sums(self.samples, self.nodes, None, weights)
        low, high = self.stacked
        if weights is not None:
            high = high * weights[:, None]
        with torch.autocast(high.device.type, enabled=False):
            sums = torch.bmm(high, low.transpose(1, 2)).flatten(1)
        return _unfold(sums, len(self.nodes))

    def slopes(self, on_real: Tensor, on_imaginary: Tensor) -> Tensor:
        """Return the gradient (B, N) of the sums, given those of its two results (B, K)."""
        on_cos, on_sin = _on_waves(self.nodes, on_real, on_imaginary)
        if self.stacked is None:
            return _series(self.samples, on_cos, on_sin, self.nodes, None)
        low, high = self.stacked
        table = _fold(on_cos, on_sin).flatten(3).flatten(1, 2)
        with torch.autocast(high.device.type, enabled=False):
            return torch.bmm(table, low).mul_(high).sum(1)


def _on_waves(nodes: Tensor, on_real: Tensor, on_imaginary: Tensor) -> tuple[Tensor, Tensor]:
    """Return the factors of cos(ux) and sin(ux): d/dx of Re is -u sin(ux), of Im u cos(ux)."""
    return on_imaginary * nodes, -on_real * nodes


def _tiles(samples: Tensor) -> Iterator[tuple[slice, tuple[slice, slice]]]:
    """Rows, then rows and columns, of parts that hold as many samples as a cache does."""
    batch, n = samples.shape
    size = _CHUNK.get(samples.device.type, _CHUNK["cuda"])
    high, wide = max(1, size // n), min(n, size)
    for top in range(0, batch, high):
        rows = slice(top, top + high)
        for left in range(0, n, wide):
            yield rows, (rows, slice(left, left + wide))


def _sums(x: Tensor, nodes: Tensor, step: None, weights: Tensor | None) -> tuple[Tensor, Tensor]:
    share = 1.0 if weights is None else weights
    parts = [
        ((angle.cos() * share).sum(-1), (angle.sin() * share).sum(-1))
        for angle in _angles(x, nodes)
    ]
    real, imaginary = (torch.cat(part) for part in zip(*parts, strict=True))
    return real.T, imaginary.T


def _series(x: Tensor, on_cos: Tensor, on_sin: Tensor, nodes: Tensor, step: None) -> Tensor:
    """Return the sum over frequencies of on_cos cos(ux) + on_sin sin(ux), at every sample."""
    total, at = torch.zeros_like(x), 0
    for angle in _angles(x, nodes):
        rows = slice(at, at + len(angle))
        total = total + (on_cos.T[rows, :, None] * angle.cos()).sum(0)
        total = total + (on_sin.T[rows, :, None] * angle.sin()).sum(0)
        at += len(angle)
    return total


def _angles(x: Tensor, nodes: Tensor) -> Iterator[Tensor]:
    """Return ux for a few frequencies at a time, (k, B, N)."""
    few = max(1, _CHUNK["cpu"] // max(x.numel(), 1))
    for part in nodes.split(few):
        yield part[:, None, None] * x


def _layout(count: int) -> tuple[int, int]:
    """r and J whose waves reach `count` frequencies."""
    count = len(range(count))  # a number even where the compiler holds a symbol for any
    r = max(1, math.isqrt(count // 2))
    return r, max(1, -(-(count - r) // (2 * r + 1)))


def _waves(x: Tensor, count: int, step: float) -> list[list[tuple[Tensor, Tensor]]]:
    """z^1 ... z^r, and z^m ... z^(m J), as cosines and sines.

    z^m begins from a sine and cosine of its own, to keep errors small; a few nodes do without.
    """
    r, top = _layout(count)
    low = _chain(_wave(x * step), r)
    few = r <= 3
    base = _times(_times(low[-1], low[-1]), low[0]) if few else _wave(x * ((2 * r + 1) * step))
    return [low, _chain(base, top)]


def _wave(angle: Tensor) -> tuple[Tensor, Tensor]:
    return angle.cos(), angle.sin()


def _times(a: tuple[Tensor, Tensor], b: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    return a[0] * b[0] - a[1] * b[1], a[1] * b[0] + a[0] * b[1]


def _chain(base: tuple[Tensor, Tensor], length: int) -> list[tuple[Tensor, Tensor]]:
    return list(itertools.accumulate([base] * length, _times))


def _fused_sums(
    x: Tensor, nodes: Tensor, step: float, weights: Tensor | None
) -> tuple[Tensor, Tensor]:
    low, high = _waves(x, len(nodes), step)
    m = 2 * len(low) + 1
    cos, sin = {}, {}

    def total(wave: Tensor) -> Tensor:
        return (wave if weights is None else wave * weights).sum(-1)

    for i, (c, s) in enumerate(low, 1):
        cos[i], sin[i] = total(c), total(s)
    for k, (big_c, big_s) in zip(itertools.count(m, m), high):
        cos[k], sin[k] = total(big_c), total(big_s)
        for i, (c, s) in enumerate(low, 1):
            cc, ss = total(big_c * c), total(big_s * s)
            sc, cs = total(big_s * c), total(big_c * s)
            cos[k - i], cos[k + i] = cc + ss, cc - ss
            sin[k - i], sin[k + i] = sc - cs, sc + cs
    wanted = range(1, len(nodes) + 1)
    return torch.stack([cos[k] for k in wanted], -1), torch.stack([sin[k] for k in wanted], -1)


def _fused_series(x: Tensor, on_cos: Tensor, on_sin: Tensor, nodes: Tensor, step: float) -> Tensor:
    low, high = _waves(x, len(nodes), step)
    # What each wave is multiplied by, a column of its own: left to the sum below, the compiler
    # would work it out at every sample.
    columns = torch.stack(_fold(on_cos, on_sin).flatten(1).unbind(1), 1)
    table = columns.view(len(x), 2, len(high) + 1, 2, len(low) + 1, 1)

    def mixed(p: int, j: int) -> Tensor:
        total = table[:, p, j, 0, 0]
        for i, (c, s) in enumerate(low, 1):
            total = total + table[:, p, j, 0, i] * c + table[:, p, j, 1, i] * s
        return total

    total = mixed(0, 0)
    for j, (c, s) in enumerate(high, 1):
        total = total + c * mixed(0, j) + s * mixed(1, j)
    return total


def _fold(on_cos: Tensor, on_sin: Tensor) -> Tensor:
    """Return what the products C c, C s, S c, S s are multiplied by: (B, 2, J + 1, 2, r + 1)."""
    r, top = _layout(count := on_cos.shape[-1])
    plus, minus = _places(count, on_cos.device)[1]
    values = torch.cat([on_cos, on_sin, on_cos.new_zeros(len(on_cos), 1)], 1)
    shape = (len(values), 2, top + 1, 2, r + 1)
    plus, minus = (values.index_select(1, part).view(shape) for part in (plus, minus))
    same = plus + minus  # of Cc and Sc
    other = plus - minus  # of Cs; of Ss with the other sign
    return torch.stack(
        [
            torch.stack([same[:, 0, :, 0], other[:, 0, :, 1]], 2),
            torch.stack([same[:, 1, :, 0], -other[:, 1, :, 1]], 2),
        ],
        1,
    )


def _unfold(sums: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return sums of cosines and sines (B, count) from those of the products."""
    *places, minus = _places(count, sums.device)[0]
    cc, ss, sc, cs = (sums.index_select(1, place) for place in places)
    sign = 1 - 2 * minus.to(sums.dtype)
    return cc - sign * ss, sc + sign * cs


def _stacked_waves(x: Tensor, count: int, step: float) -> tuple[Tensor, Tensor]:
    """Return z^0 ... z^r as (B, 2 (r + 1), N) and z^0, z^m ... z^(m J) as (B, 2 (J + 1), N).

    Powers double: z^1 ... z^n times z^n are z^(n+1) ... z^2n. Few samples take a sine and cosine
    for each power, in fewer operations.
    """
    r, top = _layout(count)
    stacks = []
    if x.numel() <= FEW:
        for steps in _multiples(count, step, x.dtype, x.device):
            angles = x[:, None] * steps
            stacks.append(torch.cat([angles.cos(), angles.sin()], 1))
        low, high = stacks
        return low, high
    for base, most in ((step, r), ((2 * r + 1) * step, top)):
        waves = x.new_empty(len(x), 2, most + 1, x.shape[1])
        cos, sin = waves.unbind(1)
        angle = x * base
        cos[:, 0], sin[:, 0] = 1, 0
        torch.cos(angle, out=cos[:, 1])
        torch.sin(angle, out=sin[:, 1])
        n = 1
        while n < most:
            more = min(n, most - n)
            c, s = cos[:, n : n + 1], sin[:, n : n + 1]
            lower_c, lower_s = cos[:, 1 : more + 1], sin[:, 1 : more + 1]
            new = slice(n + 1, n + more + 1)
            torch.mul(lower_c, c, out=cos[:, new]).addcmul_(lower_s, s, value=-1)
            torch.mul(lower_s, c, out=sin[:, new]).addcmul_(lower_c, s)
            n += more
        stacks.append(waves.flatten(1, 2))
    low, high = stacks
    return low, high


@lru_cache(maxsize=16)
def _multiples(
    count: int, step: float, dtype: torch.dtype, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Return the frequencies of z^0 ... z^r and of z^0, z^m ... z^(m J), as columns."""
    r, top = _layout(count)
    factors = (step, r), ((2 * r + 1) * step, top)
    low, high = (
        (base * torch.arange(most + 1, dtype=torch.float64)).to(device, dtype)[:, None]
        for base, most in factors
    )
    return low, high


@lru_cache(maxsize=16)
def _places(count: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return where products of waves are summed for each frequency, and the transpose.

    Products have the places (a (J + 1) + j) 2 (r + 1) + b (r + 1) + i, with a = 0 for C and 1 for
    S, b = 0 for c and 1 for s. The first result (5, K) has the places of Cc, Ss, Sc and Cs, and 1
    or 0 for a frequency m j - i. The second (2, 4 (J + 1) (r + 1)) has the frequencies m j + i and
    m j - i of each product among cosines, then sines, then a 0.
    """
    r, top = _layout(count)
    m, width = 2 * r + 1, 2 * (r + 1)

    def place(a: int, j: int, b: int, i: int) -> int:
        return (a * (top + 1) + j) * width + b * (r + 1) + i

    sums = []
    for k in range(1, count + 1):
        j = (k + r) // m
        i = abs(k - m * j)
        places = [place(0, j, 0, i), place(1, j, 1, i), place(1, j, 0, i), place(0, j, 1, i)]
        sums.append([*places, int(k < m * j)])
    products = [[2 * count] * (2 * (top + 1) * width) for _ in range(2)]
    for k, (cc, ss, sc, cs, minus) in enumerate(sums):
        for at, start in ((cc, 0), (ss, 0), (sc, count), (cs, count)):
            products[minus][at] = start + k
    return torch.tensor(sums, device=device).T, torch.tensor(products, device=device)
