"""Moments and correlations of increments, with standard errors over images."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from levyjepa.lattice import Stencil, room

Estimate = dict[str, float]  # "value" and its standard "error", images being independent


def jackknife(moments: Sequence[Tensor], formula: Callable[..., Tensor]) -> Estimate:
    """Return a formula of means over images; `moments` are (I,)."""
    table = torch.stack(list(moments))
    n = table.shape[1]
    less = formula(*((table.sum(1, keepdim=True) - table) / (n - 1)))
    error = ((n - 1) * (less - less.mean()).square().mean()).sqrt()
    return {"value": float(formula(*table.mean(1))), "error": float(error)}


def kurtosis(steps: Tensor) -> Estimate:
    """Return the excess kurtosis of increments (I, n, K)."""
    second, fourth = steps.square().mean((1, 2)), (steps**4).mean((1, 2))
    return jackknife([second, fourth], lambda m2, m4: m4 / m2**2 - 3)


def correlation(a: Tensor, b: Tensor, centered: bool) -> Estimate:
    """Return the correlation of pairs (I, ...), about their mean if `centered`, else about 0."""
    means = [a, b] if centered else [torch.zeros_like(a)] * 2
    return jackknife(
        [value.flatten(1).mean(1) for value in (*means, a * a, b * b, a * b)],
        lambda a, b, aa, bb, ab: (ab - a * b) / ((aa - a * a) * (bb - b * b)).sqrt(),
    )


def neighbors(steps: Tensor, stencil: Stencil, grid: Sequence[int]) -> dict[str, Estimate]:
    """Return how increments of cells that share a face correlate, and their squared norms.

    They are called "neighbors" and "energies"; both are missing where two cells don't fit.
    """
    laid = steps.unflatten(1, room(stencil, grid))
    pairs = []
    for step in stencil.steps:
        moves = list(zip(step, laid.shape[1:3], strict=True))
        here = [slice(max(0, -n), max(0, size - max(0, n))) for n, size in moves]
        there = [slice(max(0, n), max(0, size + min(0, n))) for n, size in moves]
        pairs.append([laid[:, *at].flatten(1, 2) for at in (here, there)])
    a, b = (torch.cat(part, 1) for part in zip(*pairs, strict=True))
    if not a.numel():
        return {}
    energies = correlation(a.square().mean(-1), b.square().mean(-1), centered=True)
    return {"neighbors": correlation(a, b, centered=False), "energies": energies}


def together(probability: Tensor) -> Estimate:
    """Return the mean correlation of values (I, n, K) between two directions of a cell."""
    k = probability.shape[-1]
    middle = probability.mean(-1)
    moments = [probability.mean((1, 2)), probability.square().mean((1, 2)), middle.square().mean(1)]
    return jackknife(
        moments, lambda m, square, mid: (k * (mid - m * m) / (square - m * m) - 1) / (k - 1)
    )
