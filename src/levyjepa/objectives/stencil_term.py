"""The term of the Lévy prior for one stencil and one law."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from levyjepa.ecf import Quadrature, null
from levyjepa.ecf.pairs import near_groups, pair_sums
from levyjepa.lattice import Stencil, overlaps, room, tilings
from levyjepa.laws import Law
from levyjepa.objectives.constants import Constants
from levyjepa.objectives.ranks import Group, ranks, total

CELLS = ("overlapping", "one", "every")
POOLS = ("image", "channel", "batch")
LEAST = 8  # samples of a group; smaller groups are slow


class StencilTerm(nn.Module):
    """The distance of a batch of increments to a law, one of the terms of `LevyRegularizer`.

    Increments of one sample come in groups along an axis on which the stencil takes differences.
    Without the noise floor, pairs of one group and of groups whose cells may overlap are left out.

    Args:
        law: Law of the increments. It is passed again to every call, because it may be trained.
        stencil: Stencil of the increments.
        rule: Quadrature rule of the statistic.
        cells: Positions that form a sample, one of `CELLS`.
        pool: Increments that form a sample, one of `POOLS`.
        unbiased: Whether to take the noise floor out.
        calibrated: Whether to express the loss in null standard deviations above the null mean.
        independent: Whether channels are independent, instead of coordinates of isotropic vectors.
        group: Process group of the ranks that share a batch.
    """

    def __init__(
        self,
        law: Law,
        stencil: Stencil,
        rule: Quadrature,
        cells: str,
        pool: str,
        unbiased: bool,
        calibrated: bool,
        independent: bool,
        group: Group,
    ) -> None:
        super().__init__()
        if not isinstance(rule, Quadrature):
            raise TypeError(f"`quadrature` must return a Quadrature, got {rule!r}.")
        self.stencil, self.rule, self.cells, self.pool = stencil, rule, cells, pool
        self.unbiased, self.calibrated, self.independent = unbiased, calibrated, independent
        self.group = group
        self.fixed = not any(parameter.requires_grad for parameter in law.parameters())
        tables = [rule.nodes.cpu(), rule.weights.cpu()]
        if self.fixed:
            tables.append(law.characteristic_function(tables[0], stencil.volume))
        self.tables = Constants(*tables)
        self.wide = rule.last > 1e6  # u x and its sums may exceed float32
        self._keys = None if cells == "overlapping" else _tiling_keys(stencil)
        self._nulls: dict[tuple, tuple[Any, Any]] = {}

    def forward(
        self, values: Tensor, grid: Sequence[int], law: Law, whole: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Return the mean over samples and, with a mask, the number of samples.

        Args:
            values: (B, n, C) increments at every position.
            grid: Number of tokens along each axis.
            law: Law of the increments.
            whole: (B, n) bool, False where an increment is absent.
        """
        nodes, weights, *target = self.tables.on(values.device, values.dtype)
        if target:
            phi = target[0]
        else:
            exact = self.tables.on(values.device)[0]
            phi = law.characteristic_function(exact, self.stencil.volume)
        squares, pairs, full = [], [], whole is None and self._keys is None
        for x, counts, reach in self._samples(values, whole, room(self.stencil, grid)):
            full = full and (reach is None or x.shape[1] > reach + 1 or self.pool == "batch")
            real, imaginary, near = pair_sums(x, counts, phi, nodes, self.rule.step, reach)
            number, close = _numbers(x, counts, reach)
            if self.pool == "batch":
                sums = total(torch.stack([real, imaginary, near]).sum(1, keepdim=True), self.group)
                real, imaginary, near = sums
                number, close = self._of_batch(number, close, x)
            square = ((real**2 + imaginary**2 - near) * weights).sum(-1)
            squares.append(2 * square)
            pairs.append(number**2 - close)
        mean, samples = self._mean(squares, pairs, full)
        if not self.calibrated:
            return mean, samples
        if self.pool == "batch":  # the null of n pooled images is 1/n of that of one
            mean = mean * total(mean.detach().new_tensor(len(values)), self.group)
        center, deviation = self._null(law, grid, values)
        return ((mean - center) / deviation).clamp_min(0).to(values.dtype), samples

    def _of_batch(self, number: Any, close: Any, x: Tensor) -> tuple[Any, Any]:
        """Return the numbers of samples and of pairs left out over all images of all ranks."""
        if isinstance(number, Tensor):
            images = len(x) // len(number)
            both = torch.stack([number.sum(0, keepdim=True), close.sum(0, keepdim=True)]) * images
        elif ranks(self.group) == 1:
            return number * len(x), close * len(x)
        else:
            both = torch.tensor([[number], [close]], dtype=torch.float64, device=x.device) * len(x)
        number, close = total(both, self.group)
        return number, close

    def _mean(
        self, squares: list[Tensor], pairs: list[Any], full: bool
    ) -> tuple[Tensor, Tensor | None]:
        """Return the mean over the samples of all ranks that have a pair, and their number.

        If `full`, they all have, and the number is None.
        """
        several = self.pool != "batch" and ranks(self.group) > 1
        if full and not several:
            ratios = [square / number for square, number in zip(squares, pairs, strict=True)]
            return torch.cat(ratios).mean().to(squares[0].dtype), None
        square = torch.cat(squares)
        numbers = [square.new_tensor(n) if isinstance(n, (int, float)) else n for n in pairs]
        number = torch.cat([n.expand(len(s)) for n, s in zip(numbers, squares, strict=True)])
        present = number > 0
        ratios = torch.where(present, square / number.clamp_min(1).to(square.dtype), 0)
        sums, samples = ratios.sum(), present.sum()
        if several:
            sums, samples = total(sums, self.group), total(samples, self.group)
        return sums / samples.clamp_min(1), samples

    def _samples(
        self, values: Tensor, whole: Tensor | None, shape: tuple[int, ...]
    ) -> list[tuple[Tensor, Tensor | None, int | None]]:
        """Return samples (R, G, N), their counts (R or 1, G) and the reach of pairs left out.

        Counts are None if all samples are present.
        """
        axis = _axis(self.stencil, shape) if self.unbiased else 0
        front = (len(values), shape[axis], -1)
        values = values.unflatten(1, shape).movedim(1 + axis, 1).reshape(*front, values.shape[-1])
        extent = self.stencil.extent[axis]
        masks = [whole] if self._keys is None else self._tilings(whole, shape, values.device)
        parts = []
        for mask in masks:
            if mask is not None:
                mask = mask.unflatten(1, shape).movedim(1 + axis, 1).reshape(len(mask), *front[1:])
            parts.append(self._groups(values, mask, extent))
        return parts

    def _tilings(
        self, whole: Tensor | None, shape: tuple[int, ...], device: torch.device
    ) -> list[Tensor | None]:
        """Return which increments are present and belong to a tiling, (B or 1, n) for each."""
        matrix, det, keys = self._keys  # pyright: ignore
        axes = torch.meshgrid(*(torch.arange(n, device=device) for n in shape), indexing="ij")
        key = sum(
            det**b * (sum(row[b] * x for row, x in zip(matrix, axes, strict=True)) % det)
            for b in range(len(shape))
        )
        key = torch.as_tensor(key).reshape(1, -1)
        tilings = [key == value for value in (keys[:1] if self.cells == "one" else keys)]
        return [part if whole is None else part & whole for part in tilings]

    def _groups(
        self, values: Tensor, whole: Tensor | None, extent: int
    ) -> tuple[Tensor, Tensor | None, int | None]:
        """Return one entry of `_samples`.

        Args:
            values: (B, P, n, C) increments. Those at different p < P have cells that do not
                overlap if they are at least `extent` apart.
            whole: (B or 1, P, n) bool, False where an increment is absent.
            extent: Extent of a cell along P.
        """
        length, rest, channels = values.shape[1:]
        if whole is not None:
            values = values.where(whole[..., None], 0)
        alone = self.pool == "channel"
        if alone:
            values = values.movedim(-1, 1).flatten(0, 1)[..., None]
        share, counts = 1 if alone else channels, None  # samples of a cell
        if whole is not None:
            counts = whole.sum(2).double() * share
            counts = counts.repeat_interleave(channels, 0) if alone and len(whole) > 1 else counts
        if not self.unbiased:
            counts = None if counts is None else counts.sum(1, keepdim=True)
            return values.flatten(1).unsqueeze(1), counts, None
        size = max(1, min(math.ceil(LEAST / (rest * share)), length // 8))
        groups = math.ceil(length / size)
        reach = (extent - 2) // size + 1 if extent > 1 else 0
        if tail := groups * size - length:
            values = F.pad(values, (0, 0, 0, 0, 0, tail))
            if counts is None:
                counts = values.new_full((1, length), rest * share, dtype=torch.float64)
            counts = F.pad(counts, (0, tail))
        if counts is not None:
            counts = counts.unflatten(1, (groups, size)).sum(2)
        return values.reshape(len(values), groups, -1), counts, reach

    def _null(self, law: Law, grid: Sequence[int], values: Tensor) -> tuple[Any, Any]:
        """Return the null mean and standard deviation of a sample from one image."""
        channels = values.shape[-1]
        key = (*grid, channels)
        if key in self._nulls:
            return self._nulls[key]
        shape, pairs, share = room(self.stencil, grid), {1.0: 1}, 1.0
        if self.cells == "overlapping":
            pairs = overlaps(self.stencil, shape)
        else:  # the null of n disjoint cells is 1/n of that of one
            parts = tilings(self.stencil, shape)[: 1 if self.cells == "one" else None]
            share = sum(1 / len(part) for part in parts) / len(parts)
        alone = self.independent or self.pool == "channel"
        if self.independent and self.pool != "channel":  # one sample per channel, pooled
            share = share / channels
        nodes, weights, *_ = self.tables.on(values.device)
        rule = Quadrature(nodes, weights, self.rule.step)
        with torch.no_grad():
            result = null(law, self.stencil.volume, rule, pairs, 1 if alone else channels)
            mean, std = result.mean * share, result.std * share
        if not self.fixed:
            return mean, std
        self._nulls[key] = mean.item(), std.item()
        return self._nulls[key]


def _numbers(x: Tensor, counts: Tensor | None, reach: int | None) -> tuple[Any, Any]:
    """Return the numbers of samples and of ordered pairs that are left out, of each row."""
    groups, n = x.shape[1:]
    if counts is None:
        close = (
            0
            if reach is None
            else groups + 2 * sum(max(groups - d, 0) for d in range(1, reach + 1))
        )
        return groups * n, close * n**2
    number = counts.sum(1)
    if reach is None:
        return number, number.new_zeros(1).expand_as(number)
    return number, (counts * near_groups(counts[..., None], reach)[..., 0]).sum(1)


def _axis(stencil: Stencil, shape: tuple[int, ...]) -> int:
    """Return the first axis along which there is room for two cells, among those with differences.

    A law says nothing about increments that differ along the other axes only.
    """
    axes = [axis for axis, extent in enumerate(stencil.extent) if extent]
    return next((axis for axis in axes if shape[axis] > stencil.extent[axis]), axes[0])


def _tiling_keys(stencil: Stencil) -> tuple[list[list[int]], int, list[int]]:
    """Return a matrix, a modulus and keys: positions of one tiling have one key.

    The key of a position p is sum_b (p M)_b det^b with (p M)_b modulo det, where M = det D^-1 for
    the basis D of the stencil's tilings.
    """
    det = round(abs(np.linalg.det(stencil.basis)))
    matrix = (det * np.linalg.inv(stencil.basis)).round().astype(int)
    period = np.indices([det] * stencil.ndim).reshape(stencil.ndim, -1).T
    keys = (period @ matrix % det) @ (det ** np.arange(stencil.ndim))
    return matrix.tolist(), det, sorted({int(key) for key in keys})
