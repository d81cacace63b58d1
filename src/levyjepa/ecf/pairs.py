"""Sums over pairs of samples, without pairs that are not independent.

The squared distance of an empirical characteristic function to a law's is a mean over all pairs of
samples (j, k) of Re (exp(iux_j) - phi)(exp(-iux_k) - phi). A pair of independent samples of the law
adds 0 on average. Pairs that are not independent, such as every sample with itself, add the noise
floor, which depends on the number of samples. Here samples come in a row of groups, and pairs of
one group, or of groups near each other, can be left out: what remains has no floor, and may be
negative.
"""

from typing import Any

import torch
from torch import Tensor

from levyjepa.ecf import empirical
from levyjepa.ecf.empirical import (
    FEW,
    Waves,
    compute_slopes,
    compute_sums,
    plain_gradients,
    transforming,
)

_CHUNK = 2**16  # samples at a time, on a CPU
_ENTRIES = 2**23  # sums at a time, on a GPU


def pair_sums(
    samples: Tensor,
    counts: Tensor | None,
    target: Tensor,
    nodes: Tensor,
    step: float | None,
    reach: int | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return sums of centered waves, and what the pairs of nearby groups add to their square.

    With s_g the sum of exp(iux) - phi over the samples of group g, it returns Re and Im of
    S = sum_g s_g, and Q = sum of Re s_g conj(s_h) over the pairs |g - h| <= reach. The remaining
    pairs add |S|^2 - Q.

    Args:
        samples: (R, G, N), float32 or float64: R rows of G groups. Absent samples must be 0.
        counts: (R, G) or (1, G), the number of samples that are present. All are if None.
        target: (K,) phi, the law's characteristic function.
        nodes: (K,) frequencies u.
        step: h if the nodes are h, 2h, ..., Kh.
        reach: Largest distance of groups whose pairs belong to Q. Q is 0 if None.

    Returns:
        Three tensors (R, K), differentiable in `samples` and `target`.
    """
    target = target.to(samples.dtype)
    counts = None if counts is None else counts.to(samples.dtype)
    if not empirical.has_kernels(samples):
        nodes = nodes.to(samples.dtype)
    if transforming():
        return _plain(samples, target, counts, nodes.to(samples.dtype), reach)
    return _PairSums.apply(samples, target, counts, nodes, step, reach)  # pyright: ignore


class _PairSums(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        samples: Tensor,
        target: Tensor,
        counts: Tensor | None,
        nodes: Tensor,
        step: float | None,
        reach: int | None,
    ) -> Any:
        ctx.save_for_backward(samples, target, counts, nodes)
        ctx.step, ctx.reach, ctx.kept = step, reach, None
        if samples.numel() <= FEW and not _elsewhere(samples):  # keep the waves of few samples
            waves = Waves(samples.flatten(0, 1), nodes, step)
            real, imaginary = _centered(waves.sums(), samples, target, counts)
            ctx.kept = waves, real, imaginary
            return _squared(real, imaginary, reach)
        parts = []
        for rows in _parts(samples, len(nodes)):
            sums = compute_sums(samples[rows].flatten(0, 1), nodes, step)
            real, imaginary = _centered(sums, samples[rows], target, _of(counts, rows))
            parts.append(_squared(real, imaginary, reach))
        return tuple(
            part[0] if len(part) == 1 else torch.cat(part) for part in zip(*parts, strict=True)
        )

    @staticmethod
    def backward(ctx: Any, on_real: Tensor, on_imaginary: Tensor, on_near: Tensor) -> Any:
        samples, target, counts, nodes = ctx.saved_tensors
        grads, reach = (on_real, on_imaginary, on_near), ctx.reach
        if torch.is_grad_enabled() and not torch.compiler.is_compiling():
            results = _plain(samples, target, counts, nodes.to(samples.dtype), reach)
            return *plain_gradients(results, grads, samples, target), None, None, None, None
        slopes, on_target = [], torch.zeros_like(target)
        everything = [slice(None)] if ctx.kept else _parts(samples, len(nodes))
        for rows in everything:
            x, count = samples[rows], _of(counts, rows)
            flat, waves = x.flatten(0, 1), None
            if ctx.kept is not None:
                waves, real, imaginary = ctx.kept
            else:
                waves = None if _elsewhere(samples) else Waves(flat, nodes, ctx.step)
                sums = compute_sums(flat, nodes, ctx.step) if waves is None else waves.sums()
                real, imaginary = _centered(sums, x, target, count)
            at_real = on_real[rows, None].expand_as(real)
            at_imaginary = on_imaginary[rows, None].expand_as(real)
            if reach is not None:
                twice = 2 * on_near[rows, None]
                at_real = at_real + twice * near_groups(real, reach)
                at_imaginary = at_imaginary + twice * near_groups(imaginary, reach)
            if ctx.needs_input_grad[1]:
                sizes = x.shape[2] if count is None else count[..., None]
                on_target = on_target - (sizes * at_real).sum((0, 1))
            at_real, at_imaginary = at_real.flatten(0, 1), at_imaginary.flatten(0, 1)
            if waves is None:
                slope = compute_slopes(flat, nodes, ctx.step, at_real, at_imaginary)
            else:
                slope = waves.slopes(at_real, at_imaginary)
            slopes.append(slope.view_as(x))
        slope = slopes[0] if len(slopes) == 1 else torch.cat(slopes)
        return slope, on_target if ctx.needs_input_grad[1] else None, None, None, None, None


def _elsewhere(samples: Tensor) -> bool:
    """Return whether the compiler or the Triton kernels make the waves."""
    return torch.compiler.is_compiling() or empirical.has_kernels(samples)


def _parts(samples: Tensor, nodes: int) -> list[slice]:
    """Return slices of rows, few enough at a time to stay in a CPU's cache or a GPU's memory."""
    rows, groups, n = samples.shape
    if torch.compiler.is_compiling():
        return [slice(None)]
    size = _ENTRIES // (groups * nodes) if samples.is_cuda else _CHUNK // (groups * n)
    size = max(1, size)
    return [slice(first, first + size) for first in range(0, rows, size)] or [slice(None)]


def _of(counts: Tensor | None, rows: slice) -> Tensor | None:
    return counts if counts is None or len(counts) == 1 else counts[rows]


def _offset(n: int, counts: Tensor | None, target: Tensor) -> Tensor:
    """Return what `_centered` subtracts: phi for present samples, and 1 for absent ones."""
    return n * target if counts is None else n - counts[..., None] * (1 - target)


def _centered(
    sums: tuple[Tensor, Tensor], x: Tensor, target: Tensor, counts: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Return sums (R, G, K) of exp(iux) - phi over present samples; an absent 0 has the wave 1."""
    real, imaginary = (part.unflatten(0, x.shape[:2]) for part in sums)
    return real - _offset(x.shape[2], counts, target), imaginary


def _squared(real: Tensor, imaginary: Tensor, reach: int | None) -> tuple[Tensor, Tensor, Tensor]:
    total = real.sum(1), imaginary.sum(1)
    if reach is None:
        return *total, torch.zeros_like(total[0])
    near = real * near_groups(real, reach) + imaginary * near_groups(imaginary, reach)
    return *total, near.sum(1)


def near_groups(sums: Tensor, reach: int) -> Tensor:
    """Return, for sums (R, G, K), the totals over the groups at a distance of at most `reach`."""
    total = sums
    for d in range(1, min(reach, sums.shape[1] - 1) + 1):
        total = total + torch.nn.functional.pad(sums[:, d:], (0, 0, 0, d))
        total = total + torch.nn.functional.pad(sums[:, :-d], (0, 0, d, 0))
    return total


def _plain(
    x: Tensor, target: Tensor, counts: Tensor | None, nodes: Tensor, reach: int | None
) -> tuple[Tensor, Tensor, Tensor]:
    with torch.autocast(x.device.type, enabled=False):
        angles = x[..., None] * nodes
        real = angles.cos().sum(2) - _offset(x.shape[2], counts, target)
        return _squared(real, angles.sin().sum(2), reach)
