"""The Lévy prior: the increments of a field should follow a law."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from levyjepa import checks
from levyjepa.ecf import Quadrature, equispaced, gauss_laguerre
from levyjepa.lattice import (
    Stencil,
    box,
    diamond,
    increments,
    line,
    parse_stencils,
    whole_cells,
)
from levyjepa.laws import (
    Brownian,
    CompoundPoisson,
    IndependentCoordinates,
    LaplaceJumps,
    Law,
    Pinned,
    parse_law,
)
from levyjepa.objectives.directions import random_directions, random_rotation
from levyjepa.objectives.ranks import Group
from levyjepa.objectives.scale import SCALES, deviations, kind, root_mean_square, units
from levyjepa.objectives.stencil_term import CELLS, POOLS, StencilTerm
from levyjepa.objectives.watch import Watch

STENCILS = (box(2), diamond())


class LevyRegularizer(nn.Module):
    """The mean distance between the increments of fields and a law, as a loss.

    A random rotation mixes the channels, and the stencils take the rotated channels in turn. The
    increments of an image, over positions and a stencil's channels, are one sample. Its distance D
    to the law is that of `levyjepa.ecf.statistic`, the weighted, integrated squared difference of
    characteristic functions. The loss is the mean over images and stencils.

    D is a mean over pairs of increments. A pair of independent increments of the law adds 0 on
    average, but pairs that share volume or a position add the noise floor, which depends on the
    grid and the mask. `unbiased` leaves these pairs out. Increments that are samples of the law
    then score 0 on average on every grid and under every mask, and the same departure from the law
    has the same mean score. A score can be negative. A field of `sample_sheet` follows the law for
    its own stencil alone. Moving sums over 2 x 2 independent samples of the law over a quarter of
    the volume follow it for `box(2)` and `diamond()`.

    The law has units. `scale` chooses them:

    - "fixed": those of the field's values. A jump of size 1 changes a token by 1. A field that is
      much too large has no useful gradient, which causes a warning. `levyjepa.fit_scale` chooses
      the scale of a law from data.
    - "tokens": the standard deviation of the tokens, for each channel before the rotation, over
      the images of all ranks. The law's variance then says how smooth a field is: independent
      tokens have increments of variance 4 for a box, and tokens whose neighbors correlate by rho
      have 4 (1 - rho)^2. The law describes the first kind of stencil. Other kinds get their
      variance from the correlation that it implies (`levyjepa.objectives.scale.units`).
    - "free": the root mean square of the increments of each kind of stencil per unit volume, over
      the images of all ranks. It is the law's standard deviation there. Only the shape of the law
      matters.

    Under "tokens" and "free" the loss does not depend on the field's scale, gradients pass through
    the unit, and the score of samples of the law is 0 up to the inverse number of increments.

    `IndependentCoordinates` are not rotated. The laws take the channels in turn, and the stencils
    take the channels of a law in turn.

    A `learnable` law trains its shape with the network, but not its scale. With a free scale, field
    and law would shrink together: a zero field follows a zero law exactly, and noise decreases with
    the scale. `levyjepa.laws.Pinned` therefore fixes the frequency at which the exponent is -1.

    Args:
        law: Law of the increments, per unit volume, or its text. Trainable parameters of the law
            are trained even if `learnable` is False, but only `learnable` fixes its scale.
        stencils: One or more stencils of the increments, or their text.
        quadrature: Function of a law and a cell volume that returns the quadrature rule. 64
            equispaced nodes if None.
        calibrated: Whether to express the loss in null standard deviations above the null mean
            (`levyjepa.ecf.null`), to test whether a field follows the law. Samples of the law score
            0 +- 1, and a stencil's mean score is clamped at 0, where it has no gradient. The score
            of a departure grows with the number of cells, so use it for tests and not for training.
            It includes the noise floor, and is not available with a mask.
        cells: "overlapping" for cells at every position, "one" for one tiling of disjoint, hence
            independent cells, or "every" for the mean statistic over all tilings. For "every" the
            null standard deviation is replaced by an upper bound, the mean over tilings.
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
        scale: "fixed", "tokens" or "free".
        unbiased: Whether to take the noise floor out. A calibrated prior ignores it.
        process_group: Process group of the ranks that share a batch, all ranks if None.

    Raises:
        TypeError, ValueError: An argument is invalid.

    >>> law = Brownian(sigma=0.25) + CompoundPoisson(rate=0.3, jumps=LaplaceJumps(alpha=1.0))
    >>> tokens = torch.randn(8, 14, 14, 384, requires_grad=True)  # (B, H, W, C)
    >>> loss = LevyRegularizer(law, scale="tokens")(tokens)
    >>> loss.shape
    torch.Size([])
    """

    def __init__(
        self,
        law: Law | IndependentCoordinates | str,
        stencils: Stencil | Sequence[Stencil] | str = STENCILS,
        quadrature: Callable[[Law, float], Quadrature] | None = None,
        calibrated: bool = False,
        cells: str = "overlapping",
        pool: str = "image",
        directions: int | None = None,
        learnable: bool = False,
        scale: str = "fixed",
        unbiased: bool = True,
        process_group: Group = None,
    ) -> None:
        super().__init__()
        law = parse_law(law) if isinstance(law, str) else law
        if not isinstance(law, (Law, IndependentCoordinates)):
            raise TypeError(f"`law` must be a Law or IndependentCoordinates, got {law!r}.")
        self.stencils = _stencils(stencils)
        choices = {"cells": (cells, CELLS), "pool": (pool, POOLS), "scale": (scale, SCALES)}
        for name, (value, allowed) in choices.items():
            if value not in allowed:
                raise ValueError(f"`{name}` must be one of {allowed}, got {value!r}.")
        self.independent = isinstance(law, IndependentCoordinates)
        if directions is not None:
            checks.count("directions", directions, least=len(self.stencils))
            if self.independent or (calibrated and pool != "channel"):
                raise ValueError(
                    f"`directions` must be None for independent coordinates, and for a calibrated "
                    f"prior unless `pool` is 'channel', got {directions}."
                )
        self.law, self.pool, self.cells, self.directions = law, pool, cells, directions
        self.calibrated, self.scale, self.group = calibrated, scale, process_group
        self.unbiased = unbiased and not calibrated
        if learnable and isinstance(law, IndependentCoordinates):
            self.law = IndependentCoordinates(*map(Pinned, law.laws))  # pyright: ignore
        elif learnable:
            self.law = Pinned(law)  # pyright: ignore
        rule_of = default_rule if quadrature is None else checks.function("quadrature", quadrature)
        starts: list[Any] = list(law.laws) if self.independent else [law]  # pyright: ignore
        laws = list(zip(starts, self._laws(), strict=True))
        self.terms = nn.ModuleList(
            StencilTerm(
                law,
                stencil,
                rule_of(start, stencil.volume),  # `law` may be on the meta device
                cells,
                pool,
                self.unbiased,
                calibrated,
                self.independent,
                process_group,
            )
            for stencil in self.stencils
            for start, law in laws
        )
        self._units = self._fixed_units(starts)
        self.watch = Watch(repr(self.law), scale == "fixed")

    def _laws(self) -> list[Law]:
        return list(self.law.laws) if self.independent else [self.law]  # pyright: ignore

    def _fixed_units(self, laws: Sequence[Law]) -> list[float]:
        """Return the unit of each term in deviations of the tokens; 1 for other scales."""
        kinds = {kind(stencil) for stencil in self.stencils}
        if self.scale == "fixed" or (self.scale == "tokens" and len(kinds) == 1):
            return [1.0] * len(self.terms)
        try:
            variances = [_number(law.variance()) for law in laws]
        except ValueError as error:
            need = "several kinds of stencils" if self.scale == "tokens" else ""
            raise ValueError(
                f"`law` must have a variance for scale={self.scale!r}{need and f' with {need}'}, "
                f"got {self.law!r}."
            ) from error
        if self.scale == "free":
            return [1.0] * len(self.terms)
        by_law = [units(self.stencils, variance) for variance in variances]
        return [by_law[n][at] for at in range(len(self.stencils)) for n in range(len(laws))]

    @classmethod
    def reference(
        cls, alpha: float = 1.0, sigma: float = 0.125, rate: float = 2.0
    ) -> "LevyRegularizer":
        """Return the prior of the original experiments.

        It uses 17 Gauss-Laguerre nodes, over one frequency range for all cell volumes, a fixed
        scale, and leaves the noise floor in.

        Args:
            alpha: Inverse mean absolute size of the Laplace jumps.
            sigma: Standard deviation of the Brownian part.
            rate: Expected number of jumps per unit volume.
        """
        law = Brownian(sigma) + CompoundPoisson(rate, LaplaceJumps(alpha))
        rule = lambda law, volume: gauss_laguerre(law)  # noqa: E731
        return cls(law, (box(2), diamond()), rule, unbiased=False)

    @classmethod
    def of_increments(
        cls, law: Law | IndependentCoordinates | str, volume: float = 1.0, **options: object
    ) -> "LevyRegularizer":
        """Return a prior for increments that are given directly, such as those along a graph.

        Its input is (B, n, C): n increments of C coordinates, which are independent of each other
        under the law. Its mask is (B, n).

        Args:
            law: Law of the increments, per unit volume, or its text.
            volume: Volume of the cell of an increment, such as the length of an edge.
            options: Other arguments of `LevyRegularizer`, except stencils and cells.

        >>> levy = LevyRegularizer.of_increments("Brownian(1.0)", volume=0.5)
        >>> levy(torch.randn(8, 100, 16)).shape
        torch.Size([])
        """
        unit = line(spacing=(checks.positive("volume", volume),))
        levy = cls(law, (unit,), cells="overlapping", **options)  # pyright: ignore
        levy.takes_increments = True
        return levy

    takes_increments = False

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
            mask: (B, *grid) bool, or integers 0 and 1; False where a token is missing. Cells that
                touch it and images without a remaining pair of cells are left out. Must be None for
                a calibrated prior.

        Returns:
            A scalar, in float32 or float64. It is not finite if the field is not. A stencil that
            has no cell left in any image adds 0, with a warning.
        """
        if checks.floating("field", field).ndim < 3:
            raise ValueError(f"`field` must be (B, *grid, C), got shape {tuple(field.shape)}.")
        ndim = 1 if self.takes_increments else self.stencils[0].ndim
        if field.ndim == 3 and ndim == 2:
            raise ValueError(
                f"`field` must be (B, *, *, C) for a stencil of 2 axes, got shape "
                f"{tuple(field.shape)}; levyjepa.tokens_to_grid puts tokens (B, N, C) on a grid."
            )
        _, first, *rest = field.shape
        if len(rest) == 2 and rest[0] == rest[1] and first >= 8 * rest[0]:
            raise ValueError(
                f"`field` must be (B, h, w, C), channels last; {tuple(field.shape)} looks like "
                "features (B, C, H, W): pass field.movedim(1, -1)."
            )
        if mask is not None:
            mask = checks.mask("mask", mask, field)
            if self.calibrated:
                raise ValueError("`mask` must be None for a calibrated prior.")
            field = field.where(mask[..., None], 0)
        with torch.autocast(field.device.type, enabled=False):
            exact = torch.promote_types(field.dtype, torch.float32)
            wide = any(term.wide for term in self.terms)
            field = _limited(field) if wide else field.to(exact)
            if self.scale == "tokens":
                field = field / deviations(field, mask, self.group)
            field = self._rotated(field, rotation, generator)
            return self._loss(field, mask).to(exact)

    def _loss(self, field: Tensor, mask: Tensor | None) -> Tensor:
        """Return the loss of a rotated field."""
        parts: list[StencilTerm] = list(self.terms)  # pyright: ignore
        laws, count, grid = self._laws(), len(parts), field.shape[1:-1]
        if field.shape[-1] < count:
            unit = "pair of a law and a stencil" if self.independent else "stencil"
            raise ValueError(
                f"`field` must have at least {count} channels, one per {unit}, got "
                f"{field.shape[-1]}."
            )
        if self.takes_increments:
            grid = (grid[0] + 1,)
            moves = [field[..., n::count] for n in range(count)]
            whole = [mask] * count
        else:
            moves = [increments(field[..., n::count], t.stencil) for n, t in enumerate(parts)]
            whole = [None if mask is None else whole_cells(mask, t.stencil) for t in parts]
        scales = self._scales(moves, whole)
        losses, samples = [], []
        for n, term in enumerate(parts):
            scale = scales[n]
            values = moves[n] if scale is None else moves[n] / scale
            loss, number = term(values, grid, laws[n % len(laws)], whole[n])
            losses.append(loss)
            samples.append(number)
        self.watch.see(moves, [term.rule for term in parts], samples)
        return torch.stack(losses).mean()

    def _scales(
        self, moves: Sequence[Tensor], whole: Sequence[Tensor | None]
    ) -> list[Tensor | float | None]:
        """Return what the increments of each term are divided by; None for 1."""
        if self.scale != "free":
            return [None if unit == 1 else unit for unit in self._units]
        laws = self._laws()
        count = len(laws)
        kinds = [(kind(t.stencil), n % count) for n, t in enumerate(self.terms)]  # pyright: ignore
        squares = {}
        for key in dict.fromkeys(kinds):
            own = [n for n, other in enumerate(kinds) if other == key]
            terms = [(moves[n], whole[n], self.terms[n].stencil) for n in own]
            squares[key] = root_mean_square(terms, self.group)  # pyright: ignore
        laws = [laws[n] for _, n in kinds]
        return [squares[k] / law.variance() ** 0.5 for k, law in zip(kinds, laws, strict=True)]

    def check(self) -> None:
        """Warn of masks that leave no cell, and of fields out of the range of the law, once each.

        Every call on a CPU does this. On other devices calls only count, and reading the counts
        waits for the device.
        """
        self.watch.report()

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
            rotation = random_rotation(channels, *options, same_on_ranks, self.group)
        else:
            rotation = random_directions(channels, columns, *options, same_on_ranks, self.group)
        return field @ rotation.to(field)

    def extra_repr(self) -> str:
        """Return the options, for `repr`."""
        parts = [f"stencils={self.stencils}", f"scale={self.scale!r}", f"pool={self.pool!r}"]
        parts += [f"cells={self.cells!r}", f"unbiased={self.unbiased}"]
        parts += ["calibrated=True"] * self.calibrated
        return ", ".join(parts)


def default_rule(law: Law, volume: float) -> Quadrature:
    """Return 64 equispaced nodes on the range of the law."""
    return equispaced(law, volume=volume)


def _number(value: float | Tensor) -> float:
    return value.item() if isinstance(value, Tensor) else float(value)


def _limited(field: Tensor) -> Tensor:
    """Return `field` in float64, with its gradient clamped to the range of the dtype of `field`."""
    limits, wide = torch.finfo(field.dtype), field.double()
    if wide.requires_grad:
        wide.register_hook(lambda grad: grad.clamp(limits.min, limits.max))
    return wide


def _stencils(stencils: Stencil | Sequence[Stencil] | str) -> tuple[Stencil, ...]:
    if isinstance(stencils, str):
        return parse_stencils(stencils)
    listed = (stencils,) if isinstance(stencils, Stencil) else stencils
    valid = isinstance(listed, Sequence) and len(listed) > 0
    if not valid or not all(isinstance(stencil, Stencil) for stencil in listed):
        raise TypeError(f"`stencils` must be one Stencil or more, got {stencils!r}.")
    if len({stencil.ndim for stencil in listed}) != 1:
        raise ValueError("`stencils` must all have the same number of axes.")
    return tuple(listed)
