"""The term of the Lévy prior for one stencil and one law."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from levyjepa.ecf import Quadrature, empirical_cf, null
from levyjepa.lattice import Stencil, increments, overlaps, room, tilings, whole_cells
from levyjepa.laws import Law
from levyjepa.objectives.ranks import joint, total

CELLS = ("overlapping", "one", "every")
POOLS = ("image", "channel", "batch")


class StencilTerm(nn.Module):
    """The mean statistic of a batch of fields, one of the terms that `LevyRegularizer` averages.

    Args:
        law: Law of the increments. It is passed again to every call, because it may be trained.
        stencil: Stencil of the increments.
        rule: Quadrature rule of the statistic.
        cells: Positions that form a sample, one of `CELLS`.
        pool: Increments that form a sample, one of `POOLS`.
        calibrated: Whether to express the loss in null standard deviations above the null mean.
        independent: Whether channels are independent, instead of coordinates of isotropic vectors.
    """

    def __init__(
        self,
        law: Law,
        stencil: Stencil,
        rule: Quadrature,
        cells: str,
        pool: str,
        calibrated: bool,
        independent: bool,
    ) -> None:
        super().__init__()
        if not isinstance(rule, Quadrature):
            raise TypeError(f"`quadrature` must return a Quadrature, got {rule!r}.")
        self.stencil, self.step, self.cells, self.pool = stencil, rule.step, cells, pool
        self.calibrated, self.independent = calibrated, independent
        self.fixed = not any(parameter.requires_grad for parameter in law.parameters())
        target = law.characteristic_function(rule.nodes, stencil.volume) if self.fixed else None
        self.register_buffer("nodes", rule.nodes, persistent=False)
        self.register_buffer("weights", rule.weights, persistent=False)
        self.register_buffer("target", target, persistent=False)
        self._nulls: dict[tuple, tuple[Any, Any]] = {}
        self._rule = rule
        self.wide = float(rule.nodes[-1]) > 1e6  # u x and its sums may exceed float32

    def forward(self, field: Tensor, law: Law, mask: Tensor | None = None) -> Tensor:
        """Return the mean over samples, a scalar. `field` is (B, *grid, C), `mask` (B, *grid)."""
        values = increments(field, self.stencil)
        whole = None if mask is None else whole_cells(mask, self.stencil)
        target: Any = self.target
        if target is None:
            target = law.characteristic_function(self.get_buffer("nodes"), self.stencil.volume)
        results = [
            self._distances(values[:, part], None if whole is None else whole[:, part], target)
            for part in self._positions(field)
        ]
        distances, counts = zip(*results, strict=True)
        mean = self._mean(torch.cat(distances), None if mask is None else torch.cat(counts))
        if not self.calibrated:
            return mean
        if self.pool == "batch":  # the null of n pooled images is 1/n of that of one
            mean = mean * total(len(field), mean)
        center, deviation = self._null(law, field.shape[1:-1], field.shape[-1])
        return ((mean - center) / deviation).clamp_min(0).to(field.dtype)

    def _mean(self, distances: Tensor, counts: Tensor | None) -> Tensor:
        """Return the mean over samples with at least one increment, all of them without counts."""
        if counts is None:
            return distances.mean()
        present = counts > 0
        readable = not (distances.is_cuda or torch.compiler.is_compiling())
        if readable and not present.any():
            raise ValueError(
                f"`mask` must leave a whole cell of {self.stencil} in some image, got none."
            )
        return (distances * present).sum() / present.sum().clamp_min(1)

    def _distances(
        self, values: Tensor, whole: Tensor | None, target: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """Return the statistic of every sample and, with a mask, its number of increments."""
        samples, share, counts = self._samples(values), None, None
        if whole is not None:
            share = self._samples(whole[..., None].expand_as(values)).to(samples.dtype)
            counts = share.sum(1, keepdim=True)
            share = share / counts.clamp_min(1)
        nodes, weights = self.get_buffer("nodes"), self.get_buffer("weights")
        real, imaginary = empirical_cf(samples, nodes, self.step, share)
        if self.pool == "batch":
            size = samples.new_full((1, 1), samples.shape[1])
            both = torch.stack([real, imaginary])
            (real, imaginary), counts = joint(both, size if counts is None else counts)
        gap = (real - target.to(real.dtype)) ** 2 + imaginary**2
        distances = 2 * (gap * weights.to(real.dtype)).sum(-1)
        return distances, None if counts is None else counts.squeeze(1)

    def _samples(self, x: Tensor) -> Tensor:
        """Return increments (B, n, C) grouped into samples (S, N)."""
        if self.pool == "channel":
            return x.transpose(1, 2).flatten(0, 1)
        return x.flatten(1) if self.pool == "image" else x.reshape(1, -1)

    def _positions(self, field: Tensor) -> Sequence[Any]:
        """Return the sets of positions that form separate samples."""
        if self.cells == "overlapping":
            return [slice(None)]
        shape = room(self.stencil, field.shape[1:-1])
        parts = _tilings(self.stencil, shape, field.device)  # pyright: ignore
        return parts[: 1 if self.cells == "one" else None]

    def _null(self, law: Law, grid: Sequence[int], channels: int) -> tuple[Any, Any]:
        """Return the null mean and standard deviation of a sample from one image."""
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
        if self._rule.nodes.device != (device := self.get_buffer("nodes").device):
            rule = self._rule
            self._rule = Quadrature(rule.nodes.to(device), rule.weights.to(device), rule.step)
        with torch.no_grad():
            result = null(law, self.stencil.volume, self._rule, pairs, 1 if alone else channels)
            mean, std = result.mean * share, result.std * share
        if not self.fixed:
            return mean, std
        self._nulls[key] = mean.item(), std.item()
        return self._nulls[key]


@torch.compiler.disable  # tables, computed once by numpy
@lru_cache(maxsize=64)
def _tilings(stencil: Stencil, shape: tuple[int, ...], device: torch.device) -> list[Tensor]:
    return [torch.from_numpy(part).to(device) for part in tilings(stencil, shape)]
