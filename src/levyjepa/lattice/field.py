"""From a field on a grid to increments, and from a law to a field."""

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from levyjepa import checks
from levyjepa.lattice.stencil import Stencil
from levyjepa.laws import Law


def increments(field: Tensor, stencil: Stencil, disjoint: bool = False) -> Tensor:
    """The increments of a field: `stencil` laid at every position of the grid where it fits.

    Args:
        field: (B, *grid, C), floating point.
        stencil: of as many axes as the grid.
        disjoint: keep only the positions of one tiling, whose cells share no volume.

    Returns:
        (B, n, C), positions in row-major order.

    Raises:
        ValueError: the grid's rank is not the stencil's, or the grid is too small for it.
    """
    checks.floating("field", field)
    if field.ndim != stencil.ndim + 2:
        raise ValueError(
            f"`field` must be (B, {', '.join('*' * stencil.ndim)}, C) for a stencil of "
            f"{stencil.ndim} axes, got shape {tuple(field.shape)}."
        )
    moved = _moved(field, stencil)
    terms = [part if sign > 0 else -part for part, sign in zip(moved, stencil.signs, strict=True)]
    flat = sum(terms[1:], terms[0]).flatten(1, -2)
    if not disjoint:
        return flat
    chosen = tiling(stencil, tuple(moved[0].shape[1:-1]))
    return flat[:, torch.from_numpy(chosen).to(flat.device)]


def room(stencil: Stencil, grid: Sequence[int]) -> tuple[int, ...]:
    """How many positions along each axis of `grid` the stencil has room for."""
    shape = tuple(n - e for n, e in zip(grid, stencil.extent, strict=True))
    if min(shape) < 1:
        least = tuple(e + 1 for e in stencil.extent)
        raise ValueError(
            f"`field` needs a grid of at least {least} for this stencil, got {tuple(grid)}."
        )
    return shape


def _grid(stencil: Stencil, grid: Any) -> tuple[int, ...]:
    found = checks.sizes("grid", grid)
    if len(found) != stencil.ndim or min(found) < 1:
        raise ValueError(
            f"`grid` must be {stencil.ndim} positive sizes for this stencil, got {found}."
        )
    return found


def _moved(field: Tensor, stencil: Stencil) -> list[Tensor]:
    """The field at each of the stencil's sites, for all positions where the stencil fits."""
    shape = room(stencil, field.shape[1:-1])
    return [
        field[(slice(None), *(slice(o, o + n) for o, n in zip(at, shape, strict=True)))]
        for at in stencil.offsets
    ]


def whole_cells(mask: Tensor, stencil: Stencil) -> Tensor:
    """Which increments touch present tokens alone.

    Args:
        mask: (B, *grid) bool, False where a token is missing or padding.
        stencil: whose cells.

    Returns:
        (B, n) bool, in the order of `increments`.
    """
    if not isinstance(mask, Tensor) or mask.dtype != torch.bool:
        got = mask.dtype if isinstance(mask, Tensor) else type(mask).__name__
        raise TypeError(f"`mask` must be a bool tensor, got {got}.")
    if mask.ndim != stencil.ndim + 1:
        raise ValueError(
            f"`mask` must be (B, *grid) for a stencil of {stencil.ndim} axes, got shape "
            f"{tuple(mask.shape)}."
        )
    present = torch.stack([part.flatten(1) for part in _moved(mask[..., None], stencil)])
    return present.all(0)


@lru_cache(maxsize=64)
def tilings(stencil: Stencil, shape: tuple[int, ...]) -> tuple[np.ndarray, ...]:
    """Positions of `shape`, parted so that the stencil's cells at those of one part are disjoint.

    Flat indices, each position in one part: two parts for the diamond (the parities), side^2 for
    a box of the plane, `length` for a line. Parts without a position are left out; the first
    holds position 0.

    >>> from levyjepa.lattice import diamond
    >>> tilings(diamond(), (2, 3))
    (array([0, 2, 4]), array([1, 3, 5]))
    """
    positions = np.indices(shape).reshape(len(shape), -1).T
    # Positions of one part differ by a combination of the basis, which det D^-1 makes multiples
    # of det D.
    det = round(abs(np.linalg.det(stencil.basis)))
    classes = (positions @ (det * np.linalg.inv(stencil.basis)).round().astype(int)) % det
    part = np.unique(classes, axis=0, return_inverse=True)[1].reshape(-1)
    return tuple(np.flatnonzero(part == n) for n in range(part.max(initial=-1) + 1))


def tiling(stencil: Stencil, shape: tuple[int, ...]) -> np.ndarray:
    """The first of `tilings`: flat indices, among positions of `shape`, of disjoint cells."""
    return tilings(stencil, shape)[0]


def centres(stencil: Stencil, grid: Sequence[int]) -> Tensor:
    """Where the cells lie: their centres in token coordinates, in the order of `increments`.

    Args:
        stencil: whose cells.
        grid: tokens along each axis.

    Returns:
        (n, ndim) float64; token (i, j) lies at (i, j).

    >>> from levyjepa.lattice import box
    >>> centres(box(2), (2, 3))
    tensor([[0.5000, 0.5000],
            [0.5000, 1.5000]], dtype=torch.float64)
    """
    shape = room(stencil, _grid(stencil, grid))
    corners = np.indices(shape).reshape(len(shape), -1).T
    return torch.from_numpy(corners + np.mean(stencil.offsets, axis=0))


def on_tokens(values: Tensor, stencil: Stencil, grid: Sequence[int]) -> Tensor:
    """A value for each cell, laid back on the tokens: the mean over the cells that touch a token.

    A cell touches the tokens in its interior, on its sides and at its corners: 4 for `box(2)`, 5
    for `diamond()`, 3 for a line of length 2. NaN for tokens that no cell touches, as a grid's
    corners for the diamond.

    Args:
        values: (B, n) floating point, in the order of `increments`.
        stencil: whose cells; one that tiles.
        grid: tokens along each axis.

    Returns:
        (B, *grid).

    >>> from levyjepa.lattice import line
    >>> on_tokens(torch.tensor([[1.0, 3.0]]), line(), (3,))
    tensor([[1., 2., 3.]])
    """
    checks.floating("values", values, 2, "(B, n)")
    grid = _grid(stencil, grid)
    shape = room(stencil, grid)
    if values.shape[1] != math.prod(shape):
        raise ValueError(
            f"`values` must be (B, {math.prod(shape)}) for this stencil on a grid of "
            f"{grid}, got {tuple(values.shape)}."
        )
    cells = torch.stack([values, torch.ones_like(values)]).unflatten(2, shape)
    sums = cells.new_zeros(2, len(values), *grid)
    for site in stencil.touched:
        at = tuple(slice(o, o + n) for o, n in zip(site, shape, strict=True))
        sums[(slice(None), slice(None), *at)] += cells
    total, count = sums
    return torch.where(count > 0, total / count, math.nan)


def overlaps(stencil: Stencil, shape: tuple[int, ...]) -> dict[float, int]:
    """How cells laid at all positions of `shape` overlap: shared part of the volume -> pairs.

    Pairs are ordered, and each position makes one with itself, of part 1. Pairs that share
    nothing are left out.

    >>> from levyjepa.lattice import box, line
    >>> overlaps(box(2), (3, 3)), overlaps(line(1, length=2), (4,))
    ({1.0: 9}, {1.0: 4, 0.5: 6})
    """
    reach = [range(-min(e, n), min(e, n) + 1) for e, n in zip(stencil.extent, shape, strict=True)]
    moves = np.stack(np.meshgrid(*reach, indexing="ij"), -1).reshape(-1, stencil.ndim)
    # In the steps' own coordinates a cell is the unit cube; axes without a step share all or none.
    along = len(stencil.steps)
    coordinates = np.abs(moves @ np.linalg.inv(stencil.basis)).round(9)
    parts = np.clip(1 - coordinates[:, :along], 0, 1).prod(1)
    parts *= (coordinates[:, along:] == 0).all(1)
    pairs = np.clip(np.array(shape) - np.abs(moves), 0, None).prod(1)
    found: dict[float, int] = {}
    for part, count in sorted(zip(parts.round(9).tolist(), pairs.tolist(), strict=True))[::-1]:
        if part > 0 and count > 0:
            found[part] = found.get(part, 0) + count
    return found


def sample_sheet(
    law: Law,
    stencil: Stencil,
    grid: Sequence[int] = (16, 16),
    channels: int = 16,
    batch: int = 8,
    generator: torch.Generator | None = None,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """A field whose increments obey the law exactly: a Lévy sheet in the stencil's own axes.

    Overlapping cells share what lies in both, disjoint cells are independent, and a jump strikes
    all channels at once. Axes along which the stencil takes no difference hold independent
    processes.

    Args:
        law: of the increments, per unit volume.
        stencil: one that tiles.
        grid: sites along each axis.
        channels: coordinates of each increment.
        batch: independent fields.

    Returns:
        (batch, *grid, channels).
    """
    checks.count("channels", channels)
    checks.count("batch", batch)
    grid = _grid(stencil, grid)
    along = len(stencil.steps)
    basis = stencil.basis // np.gcd.reduce(stencil.basis, axis=1, keepdims=True)
    # Site x has coordinates x D^-1 in the primitive steps D; det D makes them integers, and a
    # cell of unit sides in them the finest that increments can tell apart.
    det = round(abs(np.linalg.det(basis)))
    sites = np.stack(np.meshgrid(*map(np.arange, grid), indexing="ij"), -1)
    fine = (sites @ np.linalg.inv(basis) * det).round().astype(int)
    fine -= fine.reshape(-1, stencil.ndim).min(0)
    shape = tuple(int(n) + 1 for n in fine.reshape(-1, stencil.ndim).max(0))
    ratio = np.gcd.reduce(np.array(stencil.steps), axis=1).prod() * det**along
    sheet = law.sample(
        (batch, *shape), stencil.volume / float(ratio), channels, generator, torch.float64
    )
    for axis in range(along):
        sheet = sheet.cumsum(axis + 1)
    index = tuple(torch.from_numpy(axis) for axis in np.moveaxis(fine, -1, 0))
    return sheet[(slice(None), *index)].to(dtype or torch.get_default_dtype())
