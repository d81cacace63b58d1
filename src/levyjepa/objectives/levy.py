"""The Lévy prior: the increments of a field follow a law."""

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from levyjepa import checks
from levyjepa.ecf import Quadrature, distance, equispaced, gauss_laguerre, null
from levyjepa.lattice import Stencil, box, diamond, increments, overlaps, whole_cells
from levyjepa.laws import Brownian, CompoundPoisson, IndependentCoordinates, LaplaceJumps, Law


class LevyRegularizer(nn.Module):
    """The mean distance of a batch of fields from a Lévy sheet.

    The channels are turned by a random rotation and dealt to the stencils in turn; each image's
    increments, over positions and its channels, are one sample, compared with the law by
    `levyjepa.ecf.statistic`; the mean over images and stencils is the loss.

    Exact samples of a law do not score 0 but the statistic's null mean, which depends on the grid.
    `calibrated` takes it away and divides by the null deviation (`levyjepa.ecf.null`), so an
    image of the law scores 0 +- 1 on any grid; a stencil whose mean over the batch falls below 0
    no longer pulls.

    The channels of `IndependentCoordinates` are not turned: dealt to the laws in turn, and those
    of each law to the stencils.

    Args:
        law: what increments should look like, per unit volume. A learnable law trains with the
            network.
        stencils: whose increments are tested.
        quadrature: makes the rule for a law and a cell volume; 64 equispaced nodes if None.
        calibrated: measure in null deviations above the null mean.

    >>> law = Brownian(sigma=0.125) + CompoundPoisson(rate=2.0, jumps=LaplaceJumps(alpha=1.0))
    >>> tokens = torch.randn(8, 14, 14, 384, requires_grad=True)  # (B, H, W, C)
    >>> loss = LevyRegularizer(law)(tokens)
    >>> loss.shape
    torch.Size([])
    """

    def __init__(
        self,
        law: Law | IndependentCoordinates,
        stencils: Sequence[Stencil] = (box(2), diamond()),
        quadrature: Callable[[Law, float], Quadrature] | None = None,
        calibrated: bool = False,
    ) -> None:
        super().__init__()
        if not isinstance(law, (Law, IndependentCoordinates)):
            raise TypeError(f"`law` must be a Law or IndependentCoordinates, got {law!r}.")
        if not stencils or not all(isinstance(stencil, Stencil) for stencil in stencils):
            raise TypeError(f"`stencils` must be one Stencil or more, got {stencils!r}.")
        if len({stencil.ndim for stencil in stencils}) != 1:
            raise ValueError("`stencils` must have one number of axes.")
        self.law = law
        self.stencils = tuple(stencils)
        self.independent = isinstance(law, IndependentCoordinates)
        laws: list[Any] = list(law.laws) if isinstance(law, IndependentCoordinates) else [law]
        self._kinds = [(law, stencil) for stencil in stencils for law in laws]
        make = quadrature or (lambda law, volume: equispaced(law, volume=volume))
        rules = [make(law, stencil.volume) for law, stencil in self._kinds]
        self._steps = [rule.step for rule in rules]
        self.calibrated = calibrated
        self._nulls: dict[tuple, tuple[float, float]] = {}
        for n, rule in enumerate(rules):
            self.register_buffer(f"_nodes{n}", rule.nodes, persistent=False)
            self.register_buffer(f"_weights{n}", rule.weights, persistent=False)
            law, stencil = self._kinds[n]
            if not any(parameter.requires_grad for parameter in law.parameters()):
                target = law.characteristic_function(rule.nodes, stencil.volume)
                self.register_buffer(f"_target{n}", target, persistent=False)

    @classmethod
    def reference(
        cls, alpha: float = 1.0, sigma: float = 0.125, rate: float = 2.0
    ) -> "LevyRegularizer":
        """Exactly the original experiments' term: 17 Gauss-Laguerre nodes, one range for all cells.

        Args:
            alpha: of the Laplace jumps.
            sigma: of the Brownian part.
            rate: of the jumps.
        """
        law = Brownian(sigma) + CompoundPoisson(rate, LaplaceJumps(alpha))
        return cls(law, (box(2), diamond()), lambda law, volume: gauss_laguerre(law))

    def forward(
        self,
        field: Tensor,
        rotation: Tensor | None = None,
        generator: torch.Generator | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """The loss of a batch of fields.

        Args:
            field: (B, *grid, C) floating point, channels last, at least a channel for each stencil
                (and independent law).
            rotation: (C, C) to use instead of a random one; not for independent coordinates.
            generator: source of the random rotation, on the field's device.
            mask: (B, *grid) bool, False where a token is missing: cells that touch it are left
                out. Every image must keep a cell. Not for a calibrated prior.

        Returns:
            A scalar, in float32 or better.
        """
        checks.floating("field", field)
        channels = field.shape[-1]
        if mask is not None and (mask.shape != field.shape[:-1] or self.calibrated):
            raise ValueError(
                f"`mask` must be {tuple(field.shape[:-1])} and the prior not calibrated, "
                f"got {tuple(mask.shape)}, calibrated={self.calibrated}."
            )
        if channels < (kinds := len(self._kinds)):
            each = "law and stencil" if self.independent else f"of its {kinds} stencils"
            raise ValueError(f"`field` needs a channel for each {each}, got {channels} of {kinds}.")
        if self.independent and rotation is not None:
            raise ValueError("`rotation` must be None: independent coordinates are not turned.")
        with torch.autocast(field.device.type, enabled=False):
            field = field if field.dtype.itemsize >= 4 else field.float()
            if not self.independent:
                if rotation is None:
                    rotation = random_rotation(channels, field.dtype, field.device, generator)
                elif rotation.shape != (channels, channels):
                    raise ValueError(
                        f"`rotation` must be ({channels}, {channels}), got {tuple(rotation.shape)}."
                    )
                field = field @ rotation.to(field)
            terms = [self._term(n, field[..., n::kinds], mask) for n in range(kinds)]
            return torch.stack(terms).mean()

    def _term(self, n: int, field: Tensor, mask: Tensor | None) -> Tensor:
        law, stencil = self._kinds[n]
        samples = increments(field, stencil).flatten(1)
        nodes, weights = self.get_buffer(f"_nodes{n}"), self.get_buffer(f"_weights{n}")
        target = getattr(self, f"_target{n}", None)
        if target is None:
            target = law.characteristic_function(nodes, stencil.volume)
        kept = None
        if mask is not None:
            cells = whole_cells(mask, stencil)[..., None].expand(-1, -1, field.shape[-1])
            kept = cells.flatten(1).to(samples.dtype)
            kept = kept / kept.sum(-1, keepdim=True)
        mean = distance(samples, target, nodes, weights, self._steps[n], kept).mean()
        if not self.calibrated:
            return mean
        null_mean, null_std = self._null(n, tuple(field.shape[1:]))
        return ((mean - null_mean) / null_std).clamp_min(0)

    def _null(self, n: int, shape: tuple[int, ...]) -> tuple[float, float]:
        """Null mean and deviation for kind `n` on a field of `shape` (*grid, C).

        A learnable law's are those it began with.
        """
        key = (n, shape)
        if key not in self._nulls:
            (law, stencil), *grid = self._kinds[n], *shape[:-1]
            rule = Quadrature(
                self.get_buffer(f"_nodes{n}").double().cpu(),
                self.get_buffer(f"_weights{n}").double().cpu(),
            )
            room = tuple(size - reach for size, reach in zip(grid, stencil.extent, strict=True))
            law = copy.deepcopy(law).cpu()
            # independent channels are so many times the samples of one
            together, apart = (1, shape[-1]) if self.independent else (shape[-1], 1)
            with torch.no_grad():
                found = null(law, stencil.volume, rule, overlaps(stencil, room), together)
            self._nulls[key] = (found.mean.item() / apart, found.std.item() / apart)
        return self._nulls[key]


def random_rotation(
    n: int, dtype: torch.dtype, device: torch.device, generator: torch.Generator | None
) -> Tensor:
    """An orthogonal matrix (n, n) drawn uniformly (Haar): QR of a Gaussian, signs of R undone."""
    q, r = torch.linalg.qr(torch.randn(n, n, dtype=dtype, device=device, generator=generator))
    return q * r.diagonal().sign()
