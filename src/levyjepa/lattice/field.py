"""From a field on a grid to increments, and from a law to a field."""

from collections.abc import Sequence
from functools import lru_cache

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


def _moved(field: Tensor, stencil: Stencil) -> list[Tensor]:
    """The field at each of the stencil's sites, for all positions where the stencil fits."""
    grid = tuple(field.shape[1:-1])
    shape = tuple(n - e for n, e in zip(grid, stencil.extent, strict=True))
    if min(shape) < 1:
        least = tuple(e + 1 for e in stencil.extent)
        raise ValueError(f"`field` needs a grid of at least {least} for this stencil, got {grid}.")
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
    if mask.dtype != torch.bool:
        raise TypeError(f"`mask` must be a bool tensor, got {mask.dtype}.")
    present = torch.stack([part.flatten(1) for part in _moved(mask[..., None], stencil)])
    return present.all(0)


@lru_cache(maxsize=64)
def tiling(stencil: Stencil, shape: tuple[int, ...]) -> np.ndarray:
    """The flat indices, among positions of `shape`, at which the stencil's cells are disjoint."""
    positions = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1).reshape(
        -1, len(shape)
    )
    coordinates = positions @ np.linalg.inv(stencil.basis)
    return np.flatnonzero((np.abs(coordinates - coordinates.round()) < 1e-6).all(1))


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
    if len(grid) != stencil.ndim:
        raise ValueError(f"`grid` must have {stencil.ndim} axes for this stencil, got {grid}.")
    grid = tuple(checks.count("grid", n) for n in grid)
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
