"""Stencils as data: which lattice sites make an increment, with which signs, over which volume."""

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
    """An increment: the signed sum of a field at `offsets`, over a cell of volume `volume`.

    Args:
        offsets: lattice sites, relative to where the stencil is laid; one tuple of integers each.
        signs: +1 or -1 each, adding to 0, so that a constant field has no increments.
        volume: the volume of the cell, whose increment it is.
        steps: the lattice vectors along which first differences are taken in turn; they tile the
            lattice with disjoint cells. Left out, the stencil is not known to tile.
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
                f"`offsets` and `signs` must be equally many, got {len(self.offsets)} "
                f"and {len(self.signs)}."
            )
        if len({len(offset) for offset in self.offsets}) != 1 or not self.offsets[0]:
            raise ValueError(f"`offsets` must have one length, got {self.offsets}.")
        if len(set(self.offsets)) != len(self.offsets):
            raise ValueError(f"`offsets` must differ, got {self.offsets}.")
        if any(sign not in (-1, 1) for sign in self.signs) or sum(self.signs) != 0:
            raise ValueError(f"`signs` must be +1 and -1 and add to 0, got {self.signs}.")
        checks.positive("volume", self.volume)
        if self.steps and _corners(self.steps) != dict(zip(self.offsets, self.signs, strict=True)):
            raise ValueError(f"`steps` {self.steps} do not make these `offsets` and `signs`.")

    @classmethod
    def from_steps(cls, steps: Sequence[Offset], spacing: Sequence[float] | None = None) -> "Stencil":
        """The stencil of first differences along each of `steps` in turn.

        Its volume is that of the parallelepiped they span, sqrt(det(S P^2 S^T)), with P the
        diagonal of `spacing`, the length of one lattice step along each axis (1 if None).
        """
        steps = _vectors("steps", steps)
        if not steps or len({len(step) for step in steps}) != 1 or not steps[0]:
            raise ValueError(f"`steps` must be vectors of one length, got {steps}.")
        ndim = len(steps[0])
        spacings = (1.0,) * ndim if spacing is None else tuple(checks.positive("spacing", p) for p in spacing)
        if len(spacings) != ndim:
            raise ValueError(f"`spacing` must have a length for each of {ndim} axes, got {spacings}.")
        if np.linalg.matrix_rank(np.array(steps)) < len(steps):
            raise ValueError(f"`steps` must span a volume, got {steps}.")
        scaled = np.array(steps) * np.array(spacings)
        volume = math.sqrt(max(float(np.linalg.det(scaled @ scaled.T)), 0.0))
        corners = _corners(steps)
        return cls(tuple(corners), tuple(corners.values()), float(f"{volume:.12g}"), steps)

    @property
    def lifted(self) -> "Stencil":
        """The same cell, of the same volume, in every frame: an axis of time before its own.

        >>> box(2).lifted.offsets
        ((0, 0, 0), (0, 0, 1), (0, 1, 0), (0, 1, 1))
        """
        offsets, steps = (tuple((0, *row) for row in rows) for rows in (self.offsets, self.steps))
        return Stencil(offsets, self.signs, self.volume, steps)

    @property
    def ndim(self) -> int:
        """How many axes the lattice has."""
        return len(self.offsets[0])

    @property
    def extent(self) -> Offset:
        """How far it reaches along each axis: a grid of n sites holds n - extent positions."""
        return tuple(max(axis) - min(axis) for axis in zip(*self.offsets, strict=True))

    @cached_property
    def touched(self) -> tuple[Offset, ...]:
        """The lattice sites in the cell or on its boundary, relative to where it is laid.

        >>> box(2).touched == box(2).offsets, diamond().touched
        (True, ((0, 1), (1, 0), (1, 1), (1, 2), (2, 1)))
        """
        origin = -np.minimum(self.steps, 0).sum(0)  # the corner that the steps lead away from
        sites = np.indices([n + 1 for n in self.extent]).reshape(self.ndim, -1).T
        along, across = np.split(
            ((sites - origin) @ np.linalg.inv(self.basis)).round(9), [len(self.steps)], 1
        )
        within = ((along >= 0) & (along <= 1)).all(1) & (across == 0).all(1)
        return tuple(tuple(int(n) for n in site) for site in sites[within])

    @cached_property
    def basis(self) -> np.ndarray:
        """Integer vectors (ndim, ndim), rows: moved by their combinations, cells tile the lattice.

        The steps themselves; axes that they do not reach are completed by single steps.
        """
        if not self.steps:
            raise ValueError("A stencil without `steps` has no tiling and no known cell.")
        rows = list(self.steps)
        for axis in range(self.ndim):
            unit = tuple(int(axis == n) for n in range(self.ndim))
            if np.linalg.matrix_rank(np.array([*rows, unit])) > len(rows):
                rows.append(unit)
        return np.array(rows)


def _vectors(name: str, value: Any) -> tuple[Offset, ...]:
    """`value` as tuples of integers; raise if it is something else."""
    try:
        rows = [tuple(row) for row in value]
    except TypeError:
        rows = [(value,)]
    if not all(isinstance(n, Integral) and not isinstance(n, bool) for row in rows for n in row):
        raise TypeError(f"`{name}` must be tuples of integers, got {value!r}.")
    return tuple(tuple(int(n) for n in row) for row in rows)


def _corners(steps: Sequence[Offset]) -> dict[Offset, int]:
    """The corners of the cell, each with its sign, moved so that the least coordinate is 0."""
    corners = {}
    for chosen in itertools.product((0, 1), repeat=len(steps)):
        corner = tuple(int(n) for n in np.array(chosen) @ np.array(steps))
        if corner in corners:
            raise ValueError(f"`steps` must be independent, got {tuple(steps)}.")
        corners[corner] = (-1) ** (len(steps) - sum(chosen))
    low = np.min(list(corners), axis=0)
    return {tuple(int(n) for n in np.array(c) - low): sign for c, sign in corners.items()}


def box(ndim: int = 2, side: int = 1, spacing: Sequence[float] | None = None) -> Stencil:
    """The mixed difference over a cell of `side` lattice steps along each axis, volume side^ndim.

    >>> box(2).offsets, box(2).signs, box(3, side=2).volume
    (((0, 0), (0, 1), (1, 0), (1, 1)), (1, -1, -1, 1), 8.0)
    """
    checks.count("ndim", ndim)
    checks.count("side", side)
    return Stencil.from_steps([_step(ndim, axis, side) for axis in range(ndim)], spacing)


def diamond(side: int = 1, spacing: Sequence[float] | None = None) -> Stencil:
    """The mixed difference at 45 degrees, A(x-s,y) - A(x,y-s) - A(x,y+s) + A(x+s,y), volume 2 s^2.

    >>> diamond().volume
    2.0
    """
    checks.count("side", side)
    return Stencil.from_steps([(side, side), (side, -side)], spacing)


def line(
    ndim: int = 1, axis: int = 0, length: int = 1, spacing: Sequence[float] | None = None
) -> Stencil:
    """The first difference over `length` steps along one axis, volume `length`.

    It asks every row, column or time line to be a Lévy process, so it sees straight edges along
    an axis, to which the mixed difference is blind.

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
