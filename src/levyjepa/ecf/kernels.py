"""Triton kernels of the empirical characteristic function: one launch forward, one backward.

Angles ux would be the whole cost, so equispaced frequencies come in runs. The first frequency of a
run has a sine and cosine of its own. Forward, the others are its products with z, z^2, ..., where
z = exp(ihx). Backward, a run is a polynomial in z, which Horner's rule evaluates. Frequencies of
another rule are runs of one. All of this happens in registers, in float32, and sums are added in
the same order at every call.

The compiler takes `sums` and `slopes` for operators and does not look inside.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

_RUN, _RUNS, _LANES = 8, 4, 128  # forward: frequencies of a run, runs and samples at a time
_LONGEST = 2**14  # samples of a program, few of which are added one by one
_BACK_RUN, _TILE = 16, 512  # backward: frequencies of a run, samples of a program


@triton.jit
def _sums(
    x_at, nodes_at, weights_at, real_at, imaginary_at, n, count, part,
    WEIGHTED: tl.constexpr, RUN: tl.constexpr, RUNS: tl.constexpr, LANES: tl.constexpr,
):  # fmt: skip
    """Sum the waves of some runs over a part of one row."""
    row, lane = tl.program_id(0).to(tl.int64), tl.arange(0, LANES)
    first = (tl.program_id(1) * RUNS + tl.arange(0, RUNS)) * RUN
    u = tl.load(nodes_at + first, first < count, 0.0).to(tl.float32)[:, None, None]
    ahead = (tl.load(nodes_at).to(tl.float32) * tl.arange(0, RUN))[None, :, None]
    real = tl.zeros((RUNS, RUN, LANES), tl.float32)
    imaginary = tl.zeros((RUNS, RUN, LANES), tl.float32)
    left = tl.program_id(2) * part
    for at in range(left, tl.minimum(left + part, n), LANES):
        inside = at + lane < n
        x = tl.load(x_at + row * n + at + lane, inside, 0.0)
        if WEIGHTED:
            share = tl.load(weights_at + row * n + at + lane, inside, 0.0)
        else:
            share = tl.where(inside, 1.0, 0.0)
        x, share = x[None, None, :], share[None, None, :]
        c, s = share * tl.cos(u * x), share * tl.sin(u * x)
        z_c, z_s = tl.cos(ahead * x), tl.sin(ahead * x)
        real = real + c * z_c - s * z_s
        imaginary = imaginary + s * z_c + c * z_s
    k = first[:, None] + tl.arange(0, RUN)[None, :]
    to = (tl.program_id(2) * tl.num_programs(0) + row) * count + k
    tl.store(real_at + to, tl.sum(real, 2), k < count)
    tl.store(imaginary_at + to, tl.sum(imaginary, 2), k < count)


@triton.jit
def _slopes(
    x_at, nodes_at, weights_at, on_real_at, on_imaginary_at, slope_at, n, count,
    WEIGHTED: tl.constexpr, RUN: tl.constexpr, TILE: tl.constexpr,
):  # fmt: skip
    """Sum u (on_imaginary cos(ux) - on_real sin(ux)) over frequencies, at a tile of one row."""
    tiles = tl.cdiv(n, TILE)
    row = (tl.program_id(0) // tiles).to(tl.int64)
    column = tl.program_id(0) % tiles * TILE + tl.arange(0, TILE)
    inside = column < n
    x = tl.load(x_at + row * n + column, inside, 0.0)
    angle = tl.load(nodes_at).to(tl.float32) * x
    z_c, z_s = tl.cos(angle), tl.sin(angle)
    slope = tl.zeros((TILE,), tl.float32)
    for first in range(0, count, RUN):
        c, s = tl.zeros((TILE,), tl.float32), tl.zeros((TILE,), tl.float32)
        for back in tl.static_range(RUN):  # pyright: ignore
            k = first + RUN - 1 - back
            u = tl.load(nodes_at + k, k < count, 0.0).to(tl.float32)
            on_real = tl.load(on_real_at + row * count + k, k < count, 0.0)
            on_imaginary = tl.load(on_imaginary_at + row * count + k, k < count, 0.0)
            c, s = c * z_c - s * z_s + u * on_imaginary, s * z_c + c * z_s + u * on_real
        angle = tl.load(nodes_at + first).to(tl.float32) * x
        slope += c * tl.cos(angle) - s * tl.sin(angle)
    if WEIGHTED:
        slope *= tl.load(weights_at + row * n + column, inside, 0.0)
    tl.store(slope_at + row * n + column, slope, inside)


def _run_sums(
    x: Tensor, nodes: Tensor, equispaced: bool, weights: Tensor | None
) -> tuple[Tensor, Tensor]:
    (rows, n), count, run = x.shape, len(nodes), _RUN if equispaced else 1
    x, nodes = x.contiguous(), nodes.contiguous()
    weights = None if weights is None else weights.contiguous()
    parts = _ceil(n, _LONGEST)
    part = _ceil(_ceil(n, parts), _LANES) * _LANES
    real, imaginary = (x.new_empty(parts, rows, count) for _ in range(2))
    launch: Any = _sums[(rows, _ceil(count, run * _RUNS), parts)]
    with torch.cuda.device_of(x):
        launch(
            x, nodes, weights, real, imaginary, n, count, part,
            WEIGHTED=weights is not None, RUN=run, RUNS=_RUNS, LANES=_LANES,
        )  # fmt: skip
    return (real[0], imaginary[0]) if parts == 1 else (real.sum(0), imaginary.sum(0))


def _run_slopes(
    x: Tensor, nodes: Tensor, equispaced: bool, weights: Tensor | None,
    on_real: Tensor, on_imaginary: Tensor,
) -> Tensor:  # fmt: skip
    (rows, n), count, run = x.shape, len(nodes), _BACK_RUN if equispaced else 1
    x, nodes = x.contiguous(), nodes.contiguous()
    weights = None if weights is None else weights.contiguous()
    on_real, on_imaginary = on_real.contiguous(), on_imaginary.contiguous()
    slope = torch.empty_like(x)
    launch: Any = _slopes[(rows * _ceil(n, _TILE),)]
    with torch.cuda.device_of(x):
        launch(
            x, nodes, weights, on_real, on_imaginary, slope, n, count,
            WEIGHTED=weights is not None, RUN=run, TILE=_TILE,
        )  # fmt: skip
    return slope


def _ceil(a: int, b: int) -> int:
    return -(-a // b)  # `triton.cdiv` takes as long as half a launch


def _like_sums(x: Tensor, nodes: Tensor, *_: object) -> tuple[Tensor, Tensor]:
    shape = x.shape[0], nodes.shape[0]
    return x.new_empty(shape), x.new_empty(shape)


_ARGUMENTS = "Tensor x, Tensor nodes, bool equispaced, Tensor? weights"
_SLOPES_ARGUMENTS = f"{_ARGUMENTS}, Tensor on_real, Tensor on_imaginary"
torch.library.define("levyjepa::sums", f"({_ARGUMENTS}) -> (Tensor, Tensor)")
torch.library.impl("levyjepa::sums", "default", _run_sums)
torch.library.register_fake("levyjepa::sums", _like_sums)
torch.library.define("levyjepa::slopes", f"({_SLOPES_ARGUMENTS}) -> Tensor")
torch.library.impl("levyjepa::slopes", "default", _run_slopes)
torch.library.register_fake("levyjepa::slopes", lambda x, *_: x.new_empty(x.shape))

sums = torch.ops.levyjepa.sums.default
"""Return the sums of cos(ux) and sin(ux) over the samples of each row, weighted or not."""
slopes = torch.ops.levyjepa.slopes.default
"""Return the gradient of `sums` with respect to the samples, given those of its two results."""
