"""Moments and correlations of increments, with standard errors over images."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from levyjepa.diagnose.families import Estimate
from levyjepa.lattice import Stencil, room


def jackknife(moments: Sequence[Tensor], formula: Callable[..., Tensor]) -> Estimate:
    """Return a formula of means over images; `moments` are (I,)."""
    table = torch.stack(list(moments))
    n = table.shape[1]
    less = formula(*((table.sum(1, keepdim=True) - table) / (n - 1)))
    error = ((n - 1) * (less - less.mean()).square().mean()).sqrt()
    return Estimate(float(formula(*table.mean(1))), float(error))


def kurtosis(steps: Tensor) -> Estimate:
    """Return the excess kurtosis of increments (I, n, K)."""
    second, fourth = steps.square().mean((1, 2)), (steps**4).mean((1, 2))
    return jackknife([second, fourth], lambda m2, m4: m4 / m2**2 - 3)


def correlation(a: Tensor, b: Tensor, centered: bool) -> Estimate:
    """Return the correlation of pairs (I, ...), about their mean if `centered`, else about 0."""
    values = [a, b, a * a, b * b, a * b]
    if not centered:
        values[:2] = [torch.zeros_like(a)] * 2
    return jackknife(
        [value.flatten(1).mean(1) for value in values],
        lambda a, b, aa, bb, ab: (ab - a * b) / ((aa - a * a) * (bb - b * b)).sqrt(),
    )


def neighbors(
    steps: Tensor, stencil: Stencil, grid: Sequence[int]
) -> tuple[Estimate | None, Estimate | None]:
    """Return correlations of cells that share a face: of increments, of their squared norms."""
    laid = steps.unflatten(1, room(stencil, grid))
    pairs = []
    for step in stencil.steps:
        if any(abs(n) >= size for n, size in zip(step, laid.shape[1:3], strict=True)):
            continue
        moves = list(zip(step, laid.shape[1:3], strict=True))
        here = [slice(max(0, -n), size - max(0, n)) for n, size in moves]
        next_ = [slice(max(0, n), size + min(0, n)) for n, size in moves]
        pairs.append([laid[(slice(None), *at)].flatten(1, 2) for at in (here, next_)])
    if not pairs:
        return None, None
    a, b = (torch.cat(part, 1) for part in zip(*pairs, strict=True))
    energies = correlation(a.square().mean(-1), b.square().mean(-1), centered=True)
    return correlation(a, b, centered=False), energies


def together(probability: Tensor) -> Estimate:
    """Return the mean correlation of values (I, n, K) between two directions of a cell."""
    k = probability.shape[-1]
    middle = probability.mean(-1)
    moments = [probability.mean((1, 2)), probability.square().mean((1, 2)), middle.square().mean(1)]
    return jackknife(
        moments, lambda m, square, mid: (k * (mid - m * m) / (square - m * m) - 1) / (k - 1)
    )
