"""The Lévy prior: the increments of a field should follow a law."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from levyjepa import checks
from levyjepa.ecf import Quadrature, equispaced, gauss_laguerre
from levyjepa.lattice import Stencil, box, diamond
from levyjepa.laws import (
    Brownian,
    CompoundPoisson,
    IndependentCoordinates,
    LaplaceJumps,
    Law,
    Pinned,
)
from levyjepa.objectives.directions import random_directions, random_rotation
from levyjepa.objectives.stencil_term import CELLS, POOLS, StencilTerm


class LevyRegularizer(nn.Module):
    """The mean distance between the increments of fields and a law, as a loss.

    A random rotation mixes the channels, and the stencils take the rotated channels in turn. The
    increments of an image, over positions and a stencil's channels, are one sample.
    `levyjepa.ecf.statistic` compares it with the law. The loss is the mean over images and
    stencils.

    The expected loss of exact samples of the law is not 0. It is the null mean of the statistic,
    which depends on the grid. `calibrated` subtracts the null mean and divides by the null
    standard deviation (`levyjepa.ecf.null`), so samples of the law score 0 +- 1 on every grid.
    A stencil's mean score is clamped at 0, where it has no gradient.

    `IndependentCoordinates` are not rotated. The laws take the channels in turn, and the stencils
    take the channels of a law in turn.

    A `learnable` law trains its shape with the network, but not its scale. With a free scale, field
    and law would shrink together: a zero field follows a zero law exactly, and noise decreases with
    the scale. `levyjepa.laws.Pinned` therefore fixes the frequency at which the exponent is -1.
    A calibrated prior computes the null of the current law at every step, without a gradient.

    Args:
        law: Law of the increments, per unit volume. Trainable parameters of the law are trained
            even if `learnable` is False, but only `learnable` fixes its scale.
        stencils: Stencils of the increments.
        quadrature: Function of a law and a cell volume that returns the quadrature rule. 64
            equispaced nodes if None.
        calibrated: Whether to express the loss in null standard deviations above the null mean.
        cells: "overlapping" for cells at every position, "one" for one tiling of disjoint, hence
            independent cells, or "every" for the mean statistic over all tilings. For "every" the
            null mean is exact. Its standard deviation is replaced by an upper bound, the mean of
            the tilings' standard deviations.
        pool: Increments that form one sample: those of an "image", of one "channel" of an image, or
            of the "batch" with the images of all ranks, with gradients. "image" and "batch" test
            only the mean over orthonormal directions. With a single stencil, channels with
            different variances may then go undetected, or look like jumps. "channel" tests every
            channel.
        directions: Number of independent random unit directions, drawn at every call, that replace
            the orthogonal axes of a rotation. They are then the channels in this text. A calibrated
            prior allows them only with pool="channel", where angles between them do not matter.
        learnable: Whether to train a copy of the law, `self.law`, at a fixed scale.
            `self.law.constant_copy()` returns the trained law.

    Raises:
        TypeError, ValueError: An argument is invalid.

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
        cells: str = "overlapping",
        pool: str = "image",
        directions: int | None = None,
        learnable: bool = False,
    ) -> None:
        super().__init__()
        if not isinstance(law, (Law, IndependentCoordinates)):
            raise TypeError(f"`law` must be a Law or IndependentCoordinates, got {law!r}.")
        nonempty = isinstance(stencils, Sequence) and len(stencils) > 0
        if not nonempty or not all(isinstance(stencil, Stencil) for stencil in stencils):
            raise TypeError(f"`stencils` must be one Stencil or more, got {stencils!r}.")
        if len({stencil.ndim for stencil in stencils}) != 1:
            raise ValueError("`stencils` must all have the same number of axes.")
        for name, value, choices in (("cells", cells, CELLS), ("pool", pool, POOLS)):
            if value not in choices:
                raise ValueError(f"`{name}` must be one of {choices}, got {value!r}.")
        self.independent = isinstance(law, IndependentCoordinates)
        if directions is not None:
            checks.count("directions", directions, least=len(stencils))
            if self.independent or (calibrated and pool != "channel"):
                raise ValueError(
                    f"`directions` must be None for independent coordinates, and for a calibrated "
                    f"prior unless `pool` is 'channel', got {directions}."
                )
        self.law, self.pool, self.directions = law, pool, directions
        if learnable and isinstance(law, IndependentCoordinates):
            self.law = IndependentCoordinates(*map(Pinned, law.laws))  # pyright: ignore
        elif learnable:
            self.law = Pinned(law)  # pyright: ignore
        if quadrature is not None and not callable(quadrature):
            raise TypeError(f"`quadrature` must be a function or None, got {quadrature!r}.")
        rule_of = quadrature or (lambda law, volume: equispaced(law, volume=volume))
        self.terms = nn.ModuleList(
            StencilTerm(
                law,
                stencil,
                rule_of(law, stencil.volume),
                cells,
                pool,
                calibrated,
                self.independent,
            )
            for stencil in stencils
            for law in self._laws()
        )
        self.calibrated = calibrated

    def _laws(self) -> list[Law]:
        return list(self.law.laws) if self.independent else [self.law]  # pyright: ignore

    @classmethod
    def reference(
        cls, alpha: float = 1.0, sigma: float = 0.125, rate: float = 2.0
    ) -> "LevyRegularizer":
        """Return the prior of the original experiments.

        It uses 17 Gauss-Laguerre nodes, over one frequency range for all cell volumes.

        Args:
            alpha: Inverse mean absolute size of the Laplace jumps.
            sigma: Standard deviation of the Brownian part.
            rate: Expected number of jumps per unit volume.
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
        """Return the loss of a batch of fields.

        Args:
            field: (B, *grid, C) floating point, channels last, with at least one channel per
                stencil (per pair of a law and a stencil for independent coordinates).
            rotation: (C, C) rotation, or (C, directions) unit columns, used instead of random ones.
                Must be None for independent coordinates.
            generator: Random number generator of the rotation, on the field's device. For
                pool="batch" in distributed training it must have the same seed on all ranks.
            mask: (B, *grid) bool, False where a token is missing. Cells that touch it and images
                without a remaining cell are left out. Must be None for a calibrated prior.

        Returns:
            A scalar, in float32 or float64. It is not finite if the field is not.

        Raises:
            ValueError: The mask leaves no cell of some stencil in any image. This is not checked on
                a GPU, to avoid synchronization. The stencil's term is 0 there.
        """
        if checks.floating("field", field).ndim < 3:
            raise ValueError(f"`field` must be (B, *grid, C), got shape {tuple(field.shape)}.")
        if mask is not None:
            checks.mask("mask", mask, field.shape[:-1])
            if self.calibrated:
                raise ValueError("`mask` must be None for a calibrated prior.")
            field = field.where(mask[..., None], 0)
        laws, count = self._laws(), len(self.terms)
        with torch.autocast(field.device.type, enabled=False):
            exact = torch.promote_types(field.dtype, torch.float32)
            wide = any(term.wide for term in self.terms)
            field = _limited(field) if wide else field.to(exact)
            field = self._rotated(field, rotation, generator)
            if (channels := field.shape[-1]) < count:
                unit = "pair of a law and a stencil" if self.independent else "stencil"
                raise ValueError(
                    f"`field` must have at least {count} channels, one per {unit}, got {channels}."
                )
            terms = [
                term(field[..., n::count], laws[n % len(laws)], mask)
                for n, term in enumerate(self.terms)
            ]
            return torch.stack(terms).mean().to(exact)

    def _rotated(
        self, field: Tensor, rotation: Tensor | None, generator: torch.Generator | None
    ) -> Tensor:
        """Return the field in rotated axes, or projected on directions."""
        if self.independent:
            if rotation is not None:
                raise ValueError("`rotation` must be None for independent coordinates.")
            return field
        channels, options = field.shape[-1], (field.dtype, field.device, generator)
        columns, same_on_ranks = self.directions or channels, self.pool == "batch"
        if rotation is not None:
            checks.floating("rotation", rotation)
            if rotation.shape != (channels, columns):
                raise ValueError(
                    f"`rotation` must be ({channels}, {columns}), got {tuple(rotation.shape)}."
                )
        elif self.directions is None:
            rotation = random_rotation(channels, *options, same_on_ranks)
        else:
            rotation = random_directions(channels, columns, *options, same_on_ranks)
        return field @ rotation.to(field)


def _limited(field: Tensor) -> Tensor:
    """Return `field` in float64, with its gradient clamped to the range of the dtype of `field`."""
    limits, wide = torch.finfo(field.dtype), field.double()
    if wide.requires_grad:
        wide.register_hook(lambda grad: grad.clamp(limits.min, limits.max))
    return wide
