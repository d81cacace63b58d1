"""One stencil's increments against one law."""

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


class Comparison(nn.Module):
    """The mean statistic of the samples that a batch of fields gives: `LevyRegularizer`'s term.

    Args:
        law: what the increments are compared with, given at each call again as it is then.
        stencil: whose increments.
        rule: the statistic's quadrature.
        cells: which positions make a sample, of `CELLS`.
        pool: which increments make a sample, of `POOLS`.
        calibrated: measure in null deviations above the null mean.
        independent: channels are independent, not coordinates of one isotropic vector.
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
            raise TypeError(f"`quadrature` must make a Quadrature, got {rule!r}.")
        self.stencil, self.step, self.cells, self.pool = stencil, rule.step, cells, pool
        self.calibrated, self.independent = calibrated, independent
        self.fixed = not any(parameter.requires_grad for parameter in law.parameters())
        target = law.characteristic_function(rule.nodes, stencil.volume) if self.fixed else None
        self.register_buffer("nodes", rule.nodes, persistent=False)
        self.register_buffer("weights", rule.weights, persistent=False)
        self.register_buffer("target", target, persistent=False)
        self._nulls: dict[tuple, tuple[Any, Any]] = {}
        self._rule = rule
        self.wide = float(rule.nodes[-1]) > 1e6  # u x and its sums may leave float32

    def forward(self, field: Tensor, law: Law, mask: Tensor | None = None) -> Tensor:
        """The mean over samples, a scalar; `field` (B, *grid, C), `mask` (B, *grid)."""
        moves = increments(field, self.stencil)
        whole = None if mask is None else whole_cells(mask, self.stencil)
        target: Any = self.target
        if target is None:
            target = law.characteristic_function(self.get_buffer("nodes"), self.stencil.volume)
        found = [
            self._distances(moves[:, part], None if whole is None else whole[:, part], target)
            for part in self._parts(field)
        ]
        distances, counts = (torch.cat(part) for part in zip(*found, strict=True))
        present = counts > 0
        looks = mask is not None and not (field.is_cuda or torch.compiler.is_compiling())
        if looks and not present.any():
            raise ValueError(
                f"`mask` must leave a whole cell of {self.stencil} in some image, got none."
            )
        mean = (distances * present).sum() / present.sum().clamp_min(1)
        if not self.calibrated:
            return mean
        if self.pool == "batch":  # the null of n images together is an nth of that of one
            mean = mean * total(len(field), mean)
        centre, deviation = self._null(law, field.shape[1:-1], field.shape[-1])
        return ((mean - centre) / deviation).clamp_min(0).to(field.dtype)

    def _distances(
        self, moves: Tensor, whole: Tensor | None, target: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The statistic of each sample, and how many increments it has."""
        samples, share = self._samples(moves), None
        counts = samples.new_full((len(samples), 1), samples.shape[1])
        if whole is not None:
            share = self._samples(whole[..., None].expand_as(moves)).to(samples.dtype)
            counts = share.sum(1, keepdim=True)
            share = share / counts.clamp_min(1)
        nodes, weights = self.get_buffer("nodes"), self.get_buffer("weights")
        cf = torch.stack(empirical_cf(samples, nodes, self.step, share))
        if self.pool == "batch":
            cf, counts = joint(cf, counts)
        gap = (cf[0] - target.to(cf.dtype)) ** 2 + cf[1] ** 2
        return 2 * (gap * weights.to(cf.dtype)).sum(-1), counts.squeeze(1)

    def _samples(self, x: Tensor) -> Tensor:
        """(B, n, C) parted into samples, (S, N)."""
        if self.pool == "channel":
            return x.transpose(1, 2).flatten(0, 1)
        return x.flatten(1) if self.pool == "image" else x.reshape(1, -1)

    def _parts(self, field: Tensor) -> Sequence[Any]:
        """The positions that are samples of their own."""
        if self.cells == "overlapping":
            return [slice(None)]
        shape = room(self.stencil, field.shape[1:-1])
        found = _tilings(self.stencil, shape, field.device)  # pyright: ignore
        return found[: 1 if self.cells == "one" else None]

    def _null(self, law: Law, grid: Sequence[int], channels: int) -> tuple[Any, Any]:
        """Null mean and deviation of a sample from one image; a trained law's, as it is now."""
        key = (*grid, channels)
        if key in self._nulls:
            return self._nulls[key]
        shape, pairs, share = room(self.stencil, grid), {1.0: 1}, 1.0
        if self.cells == "overlapping":
            pairs = overlaps(self.stencil, shape)
        else:  # the null of n disjoint cells is an nth of that of one
            parts = tilings(self.stencil, shape)[: 1 if self.cells == "one" else None]
            share = sum(1 / len(part) for part in parts) / len(parts)
        alone = self.independent or self.pool == "channel"
        if self.independent and self.pool != "channel":  # so many times the samples of one
            share = share / channels
        if self._rule.nodes.device != (device := self.get_buffer("nodes").device):
            rule = self._rule
            self._rule = Quadrature(rule.nodes.to(device), rule.weights.to(device), rule.step)
        with torch.no_grad():
            found = null(law, self.stencil.volume, self._rule, pairs, 1 if alone else channels)
            mean, std = found.mean * share, found.std * share
        if not self.fixed:
            return mean, std
        self._nulls[key] = mean.item(), std.item()
        return self._nulls[key]


@torch.compiler.disable  # tables, made once by numpy
@lru_cache(maxsize=64)
def _tilings(stencil: Stencil, shape: tuple[int, ...], device: torch.device) -> list[Tensor]:
    return [torch.from_numpy(part).to(device) for part in tilings(stencil, shape)]
