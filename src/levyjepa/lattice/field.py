"""Increments of a field on a grid, and random fields with increments of a given law."""

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
    """Return the increments of a field: the stencil applied at every position where it fits.

    Args:
        field: (B, *grid, C), floating point, channels last.
        stencil: A stencil with as many axes as the grid.
        disjoint: Whether to use only the positions of one tiling, whose cells do not overlap.

    Returns:
        (B, n, C), with positions in row-major order.

    Raises:
        ValueError: The grid and the stencil have different numbers of axes, or the grid is too
            small.
    """
    checks.floating("field", field)
    if field.ndim != stencil.ndim + 2:
        raise ValueError(
            f"`field` must be (B, {', '.join('*' * stencil.ndim)}, C) for a stencil of "
            f"{stencil.ndim} axes, got shape {tuple(field.shape)}."
        )
    shifted = _shifted(field, stencil)
    terms = [part if sign > 0 else -part for part, sign in zip(shifted, stencil.signs, strict=True)]
    flat = sum(terms[1:], terms[0]).flatten(1, -2)
    if not disjoint:
        return flat
    positions = tiling(stencil, tuple(shifted[0].shape[1:-1]))
    return flat[:, torch.from_numpy(positions).to(flat.device)]


def room(stencil: Stencil, grid: Sequence[int]) -> tuple[int, ...]:
    """Return the number of positions along each axis of `grid` where the stencil fits.

    Raises:
        ValueError: The grid is too small for the stencil.
    """
    shape = tuple(n - e for n, e in zip(grid, stencil.extent, strict=True))
    if min(shape) < 1:
        smallest = tuple(e + 1 for e in stencil.extent)
        raise ValueError(
            f"`field` must have a grid of at least {smallest} for this stencil, got {tuple(grid)}."
        )
    return shape


def _checked_grid(stencil: Stencil, grid: Any) -> tuple[int, ...]:
    sizes = checks.sizes("grid", grid)
    if len(sizes) != stencil.ndim or min(sizes) < 1:
        raise ValueError(
            f"`grid` must be {stencil.ndim} positive sizes for this stencil, got {sizes}."
        )
    return sizes


def _shifted(field: Tensor, stencil: Stencil) -> list[Tensor]:
    """Return the field at each offset of the stencil, for all positions where the stencil fits."""
    shape = room(stencil, field.shape[1:-1])
    return [
        field[(slice(None), *(slice(o, o + n) for o, n in zip(at, shape, strict=True)))]
        for at in stencil.offsets
    ]


def whole_cells(mask: Tensor, stencil: Stencil) -> Tensor:
    """Return which increments are computed from present tokens only.

    Args:
        mask: (B, *grid) bool, False where a token is missing or padding.
        stencil: Stencil of the increments.

    Returns:
        (B, n) bool, in the order of `increments`.
    """
    if not isinstance(mask, Tensor) or mask.dtype != torch.bool:
        kind = mask.dtype if isinstance(mask, Tensor) else type(mask).__name__
        raise TypeError(f"`mask` must be a bool tensor, got {kind}.")
    if mask.ndim != stencil.ndim + 1:
        raise ValueError(
            f"`mask` must be (B, *grid) for a stencil of {stencil.ndim} axes, got shape "
            f"{tuple(mask.shape)}."
        )
    present = torch.stack([part.flatten(1) for part in _shifted(mask[..., None], stencil)])
    return present.all(0)


@lru_cache(maxsize=64)
def tilings(stencil: Stencil, shape: tuple[int, ...]) -> tuple[np.ndarray, ...]:
    """Return a partition of the positions into tilings, within which cells do not overlap.

    A 2-d box has side^2 tilings, a line `length` tilings. The diamond of side 1 has two, the
    parities. Empty tilings are left out. The first tiling contains position 0.

    Args:
        stencil: A stencil that tiles the lattice.
        shape: Number of positions along each axis, as `room` returns it.

    Returns:
        Flat indices into the positions. Every position is in exactly one tiling.

    >>> from levyjepa.lattice import diamond
    >>> tilings(diamond(), (2, 3))
    (array([0, 2, 4]), array([1, 3, 5]))
    """
    positions = np.indices(shape).reshape(len(shape), -1).T
    # With D the basis, positions of one tiling differ by an integer combination of its rows. The
    # integer matrix det(D) D^-1 maps such a difference to a multiple of det(D).
    det = round(abs(np.linalg.det(stencil.basis)))
    classes = (positions @ (det * np.linalg.inv(stencil.basis)).round().astype(int)) % det
    label = np.unique(classes, axis=0, return_inverse=True)[1].reshape(-1)
    return tuple(np.flatnonzero(label == n) for n in range(label.max(initial=-1) + 1))


def tiling(stencil: Stencil, shape: tuple[int, ...]) -> np.ndarray:
    """Return the first of `tilings`: flat indices of positions whose cells do not overlap."""
    return tilings(stencil, shape)[0]


def centers(stencil: Stencil, grid: Sequence[int]) -> Tensor:
    """Return the centers of the cells in token coordinates, in the order of `increments`.

    Args:
        stencil: Stencil of the cells.
        grid: Number of tokens along each axis.

    Returns:
        (n, ndim) float64. Token (i, j) has the coordinates (i, j).

    >>> from levyjepa.lattice import box
    >>> centers(box(2), (2, 3))
    tensor([[0.5000, 0.5000],
            [0.5000, 1.5000]], dtype=torch.float64)
    """
    shape = room(stencil, _checked_grid(stencil, grid))
    corners = np.indices(shape).reshape(len(shape), -1).T
    return torch.from_numpy(corners + np.mean(stencil.offsets, axis=0))


def on_tokens(values: Tensor, stencil: Stencil, grid: Sequence[int]) -> Tensor:
    """Map values of cells to tokens: the mean over the cells that touch each token.

    A cell touches the tokens in its interior and on its boundary: 4 tokens for `box(2)`, 5 for
    `diamond()`, 3 for a line of length 2.

    Args:
        values: (B, n) floating point, in the order of `increments`.
        stencil: Stencil of the cells, one that tiles the lattice.
        grid: Number of tokens along each axis.

    Returns:
        (B, *grid), NaN at tokens that no cell touches, such as a grid's corners for the diamond.

    >>> from levyjepa.lattice import line
    >>> on_tokens(torch.tensor([[1.0, 3.0]]), line(), (3,))
    tensor([[1., 2., 3.]])
    """
    checks.floating("values", values, 2, "(B, n)")
    grid = _checked_grid(stencil, grid)
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
    """Count the pairs of overlapping cells, by the fraction of the volume that they share.

    Args:
        stencil: A stencil that tiles the lattice.
        shape: Number of positions along each axis, as `room` returns it.

    Returns:
        The number of ordered pairs for each positive fraction. A position and itself are a pair
        with fraction 1.

    >>> from levyjepa.lattice import box, line
    >>> overlaps(box(2), (3, 3)), overlaps(line(1, length=2), (4,))
    ({1.0: 9}, {1.0: 4, 0.5: 6})
    """
    reach = [range(-min(e, n), min(e, n) + 1) for e, n in zip(stencil.extent, shape, strict=True)]
    shifts = np.stack(np.meshgrid(*reach, indexing="ij"), -1).reshape(-1, stencil.ndim)
    # In the coordinates of the steps a cell is the unit cube. Cells that are apart along an axis
    # without a step share nothing.
    num_steps = len(stencil.steps)
    coordinates = np.abs(shifts @ np.linalg.inv(stencil.basis)).round(9)
    shares = np.clip(1 - coordinates[:, :num_steps], 0, 1).prod(1)
    shares *= (coordinates[:, num_steps:] == 0).all(1)
    pairs = np.clip(np.array(shape) - np.abs(shifts), 0, None).prod(1)
    counts: dict[float, int] = {}
    for share, count in sorted(zip(shares.round(9).tolist(), pairs.tolist(), strict=True))[::-1]:
        if share > 0 and count > 0:
            counts[share] = counts.get(share, 0) + count
    return counts


def sample_sheet(
    law: Law,
    stencil: Stencil,
    grid: Sequence[int] = (16, 16),
    channels: int = 16,
    batch: int = 8,
    generator: torch.Generator | None = None,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """Sample fields whose increments follow a law exactly: a Lévy sheet in the stencil's axes.

    Increments of overlapping cells share the noise of their intersection. Increments of disjoint
    cells are independent. A jump changes all channels at once. Along axes where the stencil takes
    no difference, the field consists of independent processes.

    Args:
        law: Law of the increments, per unit volume.
        stencil: A stencil that tiles the lattice.
        grid: Number of sites along each axis.
        channels: Number of coordinates of an increment.
        batch: Number of independent fields.
        generator: Random number generator. Fields are sampled on its device.
        dtype: Dtype of the fields, torch's default if None.

    Returns:
        (batch, *grid, channels).
    """
    checks.count("channels", channels)
    checks.count("batch", batch)
    grid = _checked_grid(stencil, grid)
    num_steps = len(stencil.steps)
    basis = stencil.basis // np.gcd.reduce(stencil.basis, axis=1, keepdims=True)
    # Site x has the coordinates x D^-1 in the primitive steps D. Multiplied by det(D) they are
    # integers, and a unit cell in them is the smallest volume that increments can resolve.
    det = round(abs(np.linalg.det(basis)))
    sites = np.stack(np.meshgrid(*map(np.arange, grid), indexing="ij"), -1)
    fine = (sites @ np.linalg.inv(basis) * det).round().astype(int)
    fine -= fine.reshape(-1, stencil.ndim).min(0)
    shape = tuple(int(n) + 1 for n in fine.reshape(-1, stencil.ndim).max(0))
    ratio = np.gcd.reduce(np.array(stencil.steps), axis=1).prod() * det**num_steps
    sheet = law.sample(
        (batch, *shape), stencil.volume / float(ratio), channels, generator, torch.float64
    )
    for axis in range(num_steps):
        sheet = sheet.cumsum(axis + 1)
    index = tuple(torch.from_numpy(axis) for axis in np.moveaxis(fine, -1, 0))
    return sheet[(slice(None), *index)].to(dtype or torch.get_default_dtype())
