"""The Lévy prior: the increments of a field follow a law."""

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
from levyjepa.objectives.comparison import CELLS, POOLS, Comparison
from levyjepa.objectives.directions import random_directions, random_rotation


class LevyRegularizer(nn.Module):
    """The mean distance of a batch of fields from a Lévy sheet.

    The channels are turned by a random rotation and dealt to the stencils in turn; each image's
    increments, over positions and its channels, are one sample, compared with the law by
    `levyjepa.ecf.statistic`; the mean over images and stencils is the loss.

    Exact samples of a law do not score 0 but the statistic's null mean, which depends on the grid.
    `calibrated` takes it away and divides by the null deviation (`levyjepa.ecf.null`), so a
    sample of the law scores 0 +- 1 on any grid; a stencil whose mean over the samples falls below
    0 no longer pulls.

    The channels of `IndependentCoordinates` are not turned: dealt to the laws in turn, and those
    of each law to the stencils.

    A `learnable` law is trained with the network in its shape alone. Were its scale free too,
    field and law would shrink together: nothing is at no distance from nothing, and the smaller
    both are the less noise is in between. So the frequency at which its exponent is -1 is held
    where it was (`levyjepa.laws.Pinned`). The null of a calibrated prior follows the law at every
    step, as a constant to the gradient.

    Args:
        law: what increments should look like, per unit volume. One with trainable parameters
            trains, whether `learnable` or not; only `learnable` holds its scale.
        stencils: whose increments are tested.
        quadrature: makes the rule for a law and a cell volume; 64 equispaced nodes if None.
        calibrated: measure in null deviations above the null mean.
        cells: "overlapping", at every position; "one" tiling of disjoint, so independent, cells;
            or "every" tiling, the statistic of each and their mean. Of the last the null mean is
            exact, and the deviation, at most the mean of the tilings' own, is taken as that bound.
        pool: what one sample is: an "image", each "channel" of each image, or the whole "batch",
            all ranks' images together, gradients included. Over all channels together only the
            mean over orthonormal directions is seen, so with one stencil channels of uneven
            variance may hide, or look like jumps; "channel" sees each.
        directions: look along so many random unit directions, drawn independently at each call,
            in place of the orthogonal axes of a rotation; they are then what the docs call
            channels. Calibrated only with pool="channel", where their angles do not count.
        learnable: train a copy of the law, `self.law`, its scale held; `self.law.constant_copy()`
            is what it has become.

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
        some = isinstance(stencils, Sequence) and len(stencils) > 0
        if not some or not all(isinstance(stencil, Stencil) for stencil in stencils):
            raise TypeError(f"`stencils` must be one Stencil or more, got {stencils!r}.")
        if len({stencil.ndim for stencil in stencils}) != 1:
            raise ValueError("`stencils` must have one number of axes.")
        for name, value, known in (("cells", cells, CELLS), ("pool", pool, POOLS)):
            if value not in known:
                raise ValueError(f"`{name}` must be one of {known}, got {value!r}.")
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
            raise TypeError(f"`quadrature` must make a Quadrature, got {quadrature!r}.")
        make = quadrature or (lambda law, volume: equispaced(law, volume=volume))
        self.terms = nn.ModuleList(
            Comparison(
                law, stencil, make(law, stencil.volume), cells, pool, calibrated, self.independent
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
            rotation: (C, C) to use instead of a random one, or (C, directions) unit columns; not
                for independent coordinates.
            generator: source of the random rotation, on the field's device; for pool="batch" on
                several ranks, seeded alike on all of them.
            mask: (B, *grid) bool, False where a token is missing: cells that touch it are left
                out, and images left without a cell. Not for a calibrated prior.

        Returns:
            A scalar, in float32 or better; not finite where the field is not.

        Raises:
            ValueError: no image keeps a whole cell of some stencil. On a GPU, where to look would
                be to wait, that stencil adds 0 instead.
        """
        if checks.floating("field", field).ndim < 3:
            raise ValueError(f"`field` must be (B, *grid, C), got shape {tuple(field.shape)}.")
        if mask is not None:
            checks.mask("mask", mask, field.shape[:-1])
            if self.calibrated:
                raise ValueError("`mask` must be None for a calibrated prior.")
            field = field.where(mask[..., None], 0)
        laws, kinds = self._laws(), len(self.terms)
        with torch.autocast(field.device.type, enabled=False):
            exact = torch.promote_types(field.dtype, torch.float32)
            wide = any(term.wide for term in self.terms)
            field = _limited(field) if wide else field.to(exact)
            field = self._seen(field, rotation, generator)
            if (channels := field.shape[-1]) < kinds:
                each = "law and stencil" if self.independent else f"of its {kinds} stencils"
                raise ValueError(
                    f"`field` needs a channel for each {each}, got {channels} of {kinds}."
                )
            terms = [
                term(field[..., n::kinds], laws[n % len(laws)], mask)
                for n, term in enumerate(self.terms)
            ]
            return torch.stack(terms).mean().to(exact)

    def _seen(
        self, field: Tensor, rotation: Tensor | None, generator: torch.Generator | None
    ) -> Tensor:
        """The field along other axes: rotated, or along directions."""
        if self.independent:
            if rotation is not None:
                raise ValueError("`rotation` must be None: independent coordinates are not turned.")
            return field
        channels, kind = field.shape[-1], (field.dtype, field.device)
        wide, alike = self.directions or channels, self.pool == "batch"
        if rotation is not None:
            checks.floating("rotation", rotation)
            if rotation.shape != (channels, wide):
                raise ValueError(
                    f"`rotation` must be ({channels}, {wide}), got {tuple(rotation.shape)}."
                )
        elif self.directions is None:
            rotation = random_rotation(channels, *kind, generator, alike)
        else:
            rotation = random_directions(channels, wide, *kind, generator, alike)
        return field @ rotation.to(field)


def _limited(field: Tensor) -> Tensor:
    """In float64, with a gradient that the dtype of `field` holds."""
    limits, wide = torch.finfo(field.dtype), field.double()
    if wide.requires_grad:
        wide.register_hook(lambda grad: grad.clamp(limits.min, limits.max))
    return wide
