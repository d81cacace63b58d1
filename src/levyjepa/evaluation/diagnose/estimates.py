"""Moments and correlations of increments, with standard errors that take images for the units."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from levyjepa.evaluation.diagnose.choice import Estimate
from levyjepa.lattice import Stencil, room


def jackknife(moments: Sequence[Tensor], formula: Callable[..., Tensor]) -> Estimate:
    """A formula of means over images; `moments` are (I,) each."""
    table = torch.stack(list(moments))
    n = table.shape[1]
    less = formula(*((table.sum(1, keepdim=True) - table) / (n - 1)))
    error = ((n - 1) * (less - less.mean()).square().mean()).sqrt()
    return Estimate(float(formula(*table.mean(1))), float(error))


def kurtosis(steps: Tensor) -> Estimate:
    second, fourth = steps.square().mean((1, 2)), (steps**4).mean((1, 2))
    return jackknife([second, fourth], lambda m2, m4: m4 / m2**2 - 3)


def correlation(a: Tensor, b: Tensor, centred: bool) -> Estimate:
    """Of values (I, ...) in pairs, about their mean if `centred`, about 0 otherwise."""
    values = [a, b, a * a, b * b, a * b]
    if not centred:
        values[:2] = [torch.zeros_like(a)] * 2
    return jackknife(
        [value.flatten(1).mean(1) for value in values],
        lambda a, b, aa, bb, ab: (ab - a * b) / ((aa - a * a) * (bb - b * b)).sqrt(),
    )


def neighbours(
    steps: Tensor, stencil: Stencil, grid: Sequence[int]
) -> tuple[Estimate | None, Estimate | None]:
    """Correlations of cells that share a face: of increments, and of their squared norms."""
    laid = steps.unflatten(1, room(stencil, grid))
    pairs = []
    for step in stencil.steps:
        if any(abs(n) >= size for n, size in zip(step, laid.shape[1:3], strict=True)):
            continue
        moves = list(zip(step, laid.shape[1:3], strict=True))
        here = [slice(max(0, -n), size - max(0, n)) for n, size in moves]
        there = [slice(max(0, n), size + min(0, n)) for n, size in moves]
        pairs.append([laid[(slice(None), *at)].flatten(1, 2) for at in (here, there)])
    if not pairs:
        return None, None
    a, b = (torch.cat(part, 1) for part in zip(*pairs, strict=True))
    energies = correlation(a.square().mean(-1), b.square().mean(-1), centred=True)
    return correlation(a, b, centred=False), energies


def together(probability: Tensor) -> Estimate:
    """Correlation of values (I, n, K) between two directions of a cell, their mean over pairs."""
    k = probability.shape[-1]
    middle = probability.mean(-1)
    moments = [probability.mean((1, 2)), probability.square().mean((1, 2)), middle.square().mean(1)]
    return jackknife(
        moments, lambda m, all_, mid: (k * (mid - m * m) / (all_ - m * m) - 1) / (k - 1)
    )
