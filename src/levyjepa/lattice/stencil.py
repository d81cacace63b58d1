"""Stencils: the lattice sites of an increment, their signs and the volume of the cell."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from numbers import Integral
from typing import Any

import numpy as np

from levyjepa import checks

Offset = tuple[int, ...]


@dataclass(frozen=True)
class Stencil:
    """A finite-difference stencil: an increment is the signed sum of a field at `offsets`.

    Args:
        offsets: Lattice sites relative to the stencil's position, as tuples of integers.
        signs: +1 or -1 for each offset. They sum to 0, so increments of a constant field are 0.
        volume: Volume of the cell that the offsets span.
        steps: Lattice vectors along which first differences are taken in turn. Cells shifted by
            them tile the lattice. Without steps, functions that need a tiling raise an error.

    Raises:
        TypeError: An offset, sign or step is not an integer.
        ValueError: The arguments do not define an increment, or `steps` do not define `offsets`
            and `signs`.
    """

    offsets: tuple[Offset, ...]
    signs: tuple[int, ...]
    volume: float
    steps: tuple[Offset, ...] = ()

    def __post_init__(self) -> None:
        for name in ("offsets", "steps"):
            object.__setattr__(self, name, _vectors(name, getattr(self, name)))
        object.__setattr__(self, "signs", _vectors("signs", (self.signs,))[0])
        if not self.offsets or len(self.offsets) != len(self.signs):
            raise ValueError(
                f"`offsets` and `signs` must have the same length, got {len(self.offsets)} "
                f"and {len(self.signs)}."
            )
        if len({len(offset) for offset in self.offsets}) != 1 or not self.offsets[0]:
            raise ValueError(f"`offsets` must all have the same length, got {self.offsets}.")
        if len(set(self.offsets)) != len(self.offsets):
            raise ValueError(f"`offsets` must be distinct, got {self.offsets}.")
        if any(sign not in (-1, 1) for sign in self.signs) or sum(self.signs) != 0:
            raise ValueError(f"`signs` must be +1 or -1 and sum to 0, got {self.signs}.")
        checks.positive("volume", self.volume)
        if self.steps and _corners(self.steps) != dict(zip(self.offsets, self.signs, strict=True)):
            raise ValueError(f"`steps` must define `offsets` and `signs`, got {self.steps}.")

    @classmethod
    def from_steps(
        cls, steps: Sequence[Offset], spacing: Sequence[float] | None = None
    ) -> "Stencil":
        """Return the stencil that takes first differences along each of `steps` in turn.

        Its volume is sqrt(det(S P^2 S^T)), that of the parallelepiped with the edges S P. Here S
        has the steps as rows, and P is the diagonal matrix of `spacing`.

        Args:
            steps: Linearly independent lattice vectors.
            spacing: Length of a lattice step along each axis, 1 if None.

        Raises:
            ValueError: The steps are linearly dependent or of different lengths.
        """
        steps = _vectors("steps", steps)
        if not steps or len({len(step) for step in steps}) != 1 or not steps[0]:
            raise ValueError(f"`steps` must be vectors of the same length, got {steps}.")
        ndim = len(steps[0])
        spacing = (1.0,) * ndim if spacing is None else spacing
        lengths = tuple(checks.positive("spacing", length) for length in spacing)
        if len(lengths) != ndim:
            raise ValueError(
                f"`spacing` must have an entry for each of {ndim} axes, got {lengths}."
            )
        if np.linalg.matrix_rank(np.array(steps)) < len(steps):
            raise ValueError(f"`steps` must be linearly independent, got {steps}.")
        scaled = np.array(steps) * np.array(lengths)
        volume = math.sqrt(max(float(np.linalg.det(scaled @ scaled.T)), 0.0))
        corners = _corners(steps)
        return cls(tuple(corners), tuple(corners.values()), float(f"{volume:.12g}"), steps)

    @property
    def lifted(self) -> "Stencil":
        """The same stencil within every frame: a time axis comes first, the volume stays the same.

        >>> box(2).lifted.offsets
        ((0, 0, 0), (0, 0, 1), (0, 1, 0), (0, 1, 1))
        """
        offsets, steps = (tuple((0, *row) for row in rows) for rows in (self.offsets, self.steps))
        return Stencil(offsets, self.signs, self.volume, steps)

    @property
    def ndim(self) -> int:
        """Number of axes of the lattice."""
        return len(self.offsets[0])

    @property
    def extent(self) -> Offset:
        """Size along each axis: on a grid of n sites the stencil fits at n - extent positions."""
        return tuple(max(axis) - min(axis) for axis in zip(*self.offsets, strict=True))

    @cached_property
    def touched(self) -> tuple[Offset, ...]:
        """Lattice sites in the cell and on its boundary, relative to the stencil's position.

        >>> box(2).touched == box(2).offsets, diamond().touched
        (True, ((0, 1), (1, 0), (1, 1), (1, 2), (2, 1)))
        """
        origin = -np.minimum(self.steps, 0).sum(0)  # the corner where all steps start
        sites = np.indices([n + 1 for n in self.extent]).reshape(self.ndim, -1).T
        along, across = np.split(
            ((sites - origin) @ np.linalg.inv(self.basis)).round(9), [len(self.steps)], 1
        )
        inside = ((along >= 0) & (along <= 1)).all(1) & (across == 0).all(1)
        return tuple(tuple(int(n) for n in site) for site in sites[inside])

    @cached_property
    def basis(self) -> np.ndarray:
        """Basis (ndim, ndim) of the shifts that tile the lattice with cells, one per row.

        It consists of the steps and, for axes that they do not span, of unit vectors.
        """
        if not self.steps:
            raise ValueError("`steps` must be set for a stencil that tiles the lattice, got none.")
        rows = list(self.steps)
        for axis in range(self.ndim):
            unit = tuple(int(axis == n) for n in range(self.ndim))
            if np.linalg.matrix_rank(np.array([*rows, unit])) > len(rows):
                rows.append(unit)
        return np.array(rows)


def _vectors(name: str, value: Any) -> tuple[Offset, ...]:
    """Return `value` as tuples of integers; raise otherwise."""
    try:
        rows = [tuple(row) for row in value]
    except TypeError:
        rows = [(value,)]
    if not all(isinstance(n, Integral) and not isinstance(n, bool) for row in rows for n in row):
        raise TypeError(f"`{name}` must be tuples of integers, got {value!r}.")
    return tuple(tuple(int(n) for n in row) for row in rows)


def _corners(steps: Sequence[Offset]) -> dict[Offset, int]:
    """Return the cell's corners and their signs, with 0 as the smallest coordinate on each axis."""
    corners = {}
    for coefficients in itertools.product((0, 1), repeat=len(steps)):
        corner = tuple(int(n) for n in np.array(coefficients) @ np.array(steps))
        if corner in corners:
            raise ValueError(f"`steps` must be linearly independent, got {tuple(steps)}.")
        corners[corner] = (-1) ** (len(steps) - sum(coefficients))
    low = np.min(list(corners), axis=0)
    return {tuple(int(n) for n in np.array(c) - low): sign for c, sign in corners.items()}


def box(ndim: int = 2, side: int = 1, spacing: Sequence[float] | None = None) -> Stencil:
    """Return the mixed difference over a cube of `side` lattice steps along each axis.

    In two dimensions it is A(y, x) - A(y, x+s) - A(y+s, x) + A(y+s, x+s). The volume is side^ndim
    with unit spacing.

    Args:
        ndim: Number of axes of the lattice.
        side: Length of the cell along each axis, in lattice steps.
        spacing: Length of a lattice step along each axis, 1 if None.

    >>> box(2).offsets, box(2).signs, box(3, side=2).volume
    (((0, 0), (0, 1), (1, 0), (1, 1)), (1, -1, -1, 1), 8.0)
    """
    checks.count("ndim", ndim)
    checks.count("side", side)
    return Stencil.from_steps([_step(ndim, axis, side) for axis in range(ndim)], spacing)


def diamond(side: int = 1, spacing: Sequence[float] | None = None) -> Stencil:
    """Return the mixed difference over a square rotated by 45 degrees, in two dimensions.

    It is A(y-s, x) - A(y, x-s) - A(y, x+s) + A(y+s, x). The volume is 2 s^2 with unit spacing.

    Args:
        side: Half a diagonal of the cell, in lattice steps.
        spacing: Length of a lattice step along both axes, 1 if None.

    >>> diamond().volume
    2.0
    """
    checks.count("side", side)
    return Stencil.from_steps([(side, side), (side, -side)], spacing)


def line(
    ndim: int = 1, axis: int = 0, length: int = 1, spacing: Sequence[float] | None = None
) -> Stencil:
    """Return the first difference over `length` lattice steps along one axis.

    A prior with this stencil models every line along the axis, such as a row or a token's history
    in time, as a Lévy process. It detects straight edges that cross the axis at a right angle,
    where `box` gives 0. The volume is `length` with unit spacing.

    Args:
        ndim: Number of axes of the lattice.
        axis: Axis of the difference.
        length: Number of lattice steps.
        spacing: Length of a lattice step along each axis, 1 if None.

    >>> line(2, axis=1, length=3).volume
    3.0
    """
    checks.count("ndim", ndim)
    checks.count("length", length)
    if not 0 <= checks.count("axis", axis, least=0) < ndim:
        raise ValueError(f"`axis` must be below {ndim}, got {axis}.")
    return Stencil.from_steps([_step(ndim, axis, length)], spacing)


def _step(ndim: int, axis: int, length: int) -> Offset:
    return tuple(length if n == axis else 0 for n in range(ndim))
