"""Units of the increments: those of the tokens, or those of the increments themselves."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from levyjepa.lattice import Stencil
from levyjepa.objectives.ranks import Group, total

SCALES = ("fixed", "tokens", "free")
FLOOR = 1e-4  # of the channels' root mean square deviation


def deviations(field: Tensor, mask: Tensor | None, group: Group = None) -> Tensor:
    """Return the standard deviation of every channel over images and positions of all ranks.

    It is sqrt(variance + floor^2), where the floor is 1e-4 of the deviation of all channels
    together, and differentiable.

    Args:
        field: (B, *grid, C), 0 where a token is missing.
        mask: (B, *grid) bool, False where a token is missing.
        group: Process group of the ranks.

    Returns:
        (C,).
    """
    flat = field.flatten(0, -2)
    present = None if mask is None else mask.flatten()[:, None]
    number = flat.new_tensor(len(flat)) if present is None else present.sum().to(flat.dtype)
    number = total(number, group).clamp_min(1)
    centered = flat - total(flat.sum(0), group) / number
    if present is not None:
        centered = centered.where(present, 0)
    variance = total(centered.square().sum(0), group) / number
    floor = FLOOR**2 * variance.mean() + torch.finfo(flat.dtype).tiny
    return (variance + floor).sqrt()


def root_mean_square(
    values: Sequence[tuple[Tensor, Tensor | None, Stencil]], group: Group = None
) -> Tensor:
    """Return the root mean square of increments per unit volume, over all ranks.

    Args:
        values: (B, n, C) increments, (B, n) bool that is False where one is absent, and stencil.
        group: Process group of the ranks.

    Returns:
        A scalar.
    """
    squares = number = values[0][0].new_zeros(())
    for x, whole, stencil in values:
        if whole is None:
            squares = squares + x.square().sum()
            number = number + x.numel() * stencil.volume
        else:
            squares = squares + x.where(whole[..., None], 0).square().sum()
            number = number + whole.sum() * x.shape[-1] * stencil.volume
    sums = total(torch.stack([squares, number]), group)
    return (sums[0] / sums[1].clamp_min(1) + torch.finfo(sums.dtype).tiny).sqrt()


def kind(stencil: Stencil) -> tuple:
    """Return what stencils of one kind share, whatever their side: their directions.

    >>> from levyjepa.lattice import box, diamond, line
    >>> kind(box(2)) == kind(box(2, side=2)), kind(line(2, 0)) == kind(line(2, 1))
    (True, True)
    >>> kind(box(2)) == kind(diamond())
    False
    """
    unit = [tuple(n // math.gcd(*step) for n in step) for step in stencil.steps]
    if len(unit) == 1:
        return tuple(sorted(map(abs, unit[0])))
    return tuple(sorted(unit)) or (stencil.offsets, stencil.signs)


def correlated_variance(stencil: Stencil, correlation: float) -> float:
    """Return the variance of an increment of tokens with variance 1 and separable correlation.

    Tokens at a distance of (a, b) steps have the correlation rho^(|a| + |b|). A box in d dimensions
    has the variance (2 (1 - rho))^d, a diamond 4 (1 - rho^2).

    >>> from levyjepa.lattice import box, diamond
    >>> correlated_variance(box(2), 0.5), correlated_variance(diamond(), 0.5)
    (1.0, 3.0)
    """
    sites = list(zip(stencil.offsets, stencil.signs, strict=True))
    return sum(
        s * t * correlation ** sum(abs(a - b) for a, b in zip(p, q, strict=True))
        for p, s in sites
        for q, t in sites
    )


def units(stencils: Sequence[Stencil], variance: float) -> list[float]:
    """Return the unit in which the increments of each stencil follow one law.

    The law describes the first kind of stencil. Its variance implies the correlation of neighbors
    (`correlated_variance`), which implies the variance of the other kinds. Sides of one kind share
    a unit.

    Args:
        stencils: One or more stencils.
        variance: Of the law for unit volume, in units of the tokens' variance.
    """
    unit = [_smallest(stencil) for stencil in stencils]
    first, volume = unit[0]
    low, high = 0.0, 1 - 1e-9
    for _ in range(60):  # the variance falls as the correlation rises
        middle = (low + high) / 2
        above = correlated_variance(first, middle) > variance * volume
        low, high = (middle, high) if above else (low, middle)
    start = correlated_variance(first, low) / volume
    return [(correlated_variance(s, low) / v / start) ** 0.5 for s, v in unit]


def _smallest(stencil: Stencil) -> tuple[Stencil, float]:
    """Return the stencil of the same kind with the smallest side, and its volume."""
    sides = [math.gcd(*step) for step in stencil.steps]
    if not sides:
        return stencil, stencil.volume
    steps = [tuple(n // s for n in step) for step, s in zip(stencil.steps, sides, strict=True)]
    return Stencil.from_steps(steps), stencil.volume / math.prod(sides)
