"""The Lévy prior for video: three kinds of increments, in space-time, space and time."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from levyjepa import checks
from levyjepa.ecf import Quadrature
from levyjepa.lattice import Stencil, box, diamond, line
from levyjepa.laws import IndependentCoordinates, Law
from levyjepa.objectives.levy import LevyRegularizer, default_rule

KINDS: tuple[str, ...] = ("spacetime", "space", "time")


class VideoRegularizer(nn.Module):
    """The Lévy prior for video: a weighted sum of priors on three kinds of increments.

    - "spacetime": `box(3)`, the change of a frame's increments from one frame to the next. It
      detects corners and line ends that move, appear or vanish. It is 0 where nothing moves.
    - "space": `stencils` in every frame, as in an image.
    - "time": the first difference in time at every token. The history of a token is modeled as a
      Lévy process, and a cut is a jump of all tokens.

    The prior of a kind is a `LevyRegularizer` over all its increments in a clip. Kinds use
    different random rotations. The weights of the quadrature rules have one sum for all kinds, that
    of a cell of unit volume, so that a loss of a kind is a mean over its frequencies.

    One step in time is as long as `time_step` steps in space. Cells of "spacetime" and "time" have
    the volume `time_step`, and cells of "space" keep their volume. The same law therefore fits
    clips of any frame rate: at half the time step a line has half as many jumps of the same sizes.

    The same law can hold for all kinds if the time step is at most 2. Increments of consecutive
    frames then have the correlation 1 - time_step / 2, and histories of neighboring tokens the
    correlation 1/2 along each axis. An example is a moving sum of independent jumps and noise over
    2 / time_step frames and 2 x 2 tokens.

    Args:
        law: Law of all kinds per unit volume, or one law by kind, such as
            {"space": LAW, "time": LAW}. Kinds without a law are left out.
        stencils: Stencils of "space", in two dimensions.
        time_step: Length of a step in time, in steps in space.
        weights: Weights by kind, 1 by default. Kinds with weight 0 are left out.
        options: Other arguments of `LevyRegularizer`: quadrature, calibrated, cells, pool,
            directions, learnable, scale, unbiased, process_group. If learnable, every kind trains
            its own law, for example `priors["time"].law`. The null of a calibrated prior treats
            frames and tokens that share no cell as independent. Clips in which they are correlated
            have an expected score of up to a few standard deviations above 0.

    >>> from levyjepa.laws import Brownian, CompoundPoisson, LaplaceJumps
    >>> law = Brownian(sigma=0.125) + CompoundPoisson(rate=2.0, jumps=LaplaceJumps(alpha=1.0))
    >>> tokens = torch.randn(2, 8, 14, 14, 384, requires_grad=True)  # (B, t, h, w, C)
    >>> loss = VideoRegularizer(law, time_step=0.5, weights={"time": 0.1})(tokens)
    >>> loss.shape
    torch.Size([])
    """

    def __init__(
        self,
        law: Law | IndependentCoordinates | Mapping[str, Law | IndependentCoordinates],
        stencils: Sequence[Stencil] = (box(2), diamond()),
        time_step: float = 1.0,
        weights: Mapping[str, float] | None = None,
        **options: Any,
    ) -> None:
        super().__init__()
        laws = law if isinstance(law, Mapping) else dict.fromkeys(KINDS, law)
        weights = {} if weights is None else weights
        for name, value in (("law", laws), ("weights", weights)):
            if not isinstance(value, Mapping) or not set(value) <= set(KINDS):
                raise ValueError(f"`{name}` must have keys of {', '.join(KINDS)}, got {value!r}.")
        valid = isinstance(stencils, Sequence) and all(isinstance(s, Stencil) for s in stencils)
        if not valid or any(stencil.ndim != 2 for stencil in stencils):
            raise ValueError(f"`stencils` must be stencils with 2 axes, got {stencils!r}.")
        spacing = (checks.positive("time_step", time_step), 1.0, 1.0)
        cells = {
            "spacetime": (box(3, spacing=spacing),),
            "space": tuple(stencil.lifted for stencil in stencils),
            "time": (line(3, axis=0, spacing=spacing),),
        }
        weights = {kind: checks.not_negative("weights", weights.get(kind, 1.0)) for kind in KINDS}
        self.weights = {kind: weights[kind] for kind in KINDS if kind in laws and weights[kind] > 0}
        if not self.weights:
            raise ValueError(
                "`law` and `weights` must give at least one kind a law and a positive weight, "
                "got none."
            )
        rule_of = checks.function("quadrature", options.pop("quadrature", None) or default_rule)
        rules: dict[str, Any] = dict.fromkeys(KINDS, partial(_as_unit, rule_of)) | {
            "space": rule_of
        }
        self.priors = nn.ModuleDict(
            {
                kind: LevyRegularizer(laws[kind], cells[kind], rules[kind], **options)
                for kind in self.weights
            }
        )

    def terms(
        self,
        field: Tensor,
        rotation: Tensor | None = None,
        generator: torch.Generator | None = None,
        mask: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Return the unweighted loss of every kind by name. `total` combines them.

        Args:
            field: (B, t, h, w, C) floating point, channels last.
            rotation: (C, C) rotation of all kinds, as for `LevyRegularizer`. Kinds draw their own
                random rotations if None.
            generator: Random number generator of the rotations, used in the order of the kinds.
            mask: (B, t, h, w) bool, False where a token is missing, such as in padded frames.
                Cells that touch it are left out. Must be None for a calibrated prior.

        Returns:
            Scalars, in float32 or float64.
        """
        checks.floating("field", field, 5, "(B, t, h, w, C)")
        return {
            kind: prior(field, rotation, generator, mask) for kind, prior in self.priors.items()
        }

    def total(self, terms: Mapping[str, Tensor]) -> Tensor:
        """Return the weighted sum of the losses that `terms` returns."""
        return torch.stack([self.weights[kind] * term for kind, term in terms.items()]).sum()

    def forward(
        self,
        field: Tensor,
        rotation: Tensor | None = None,
        generator: torch.Generator | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """Return the loss of a batch of clips, a scalar. The arguments are those of `terms`."""
        return self.total(self.terms(field, rotation, generator, mask))


def _as_unit(rule_of: Callable[[Law, float], Quadrature], law: Law, volume: float) -> Quadrature:
    """Return a quadrature rule whose weights have the sum of those for unit volume."""
    rule, unit = rule_of(law, volume), rule_of(law, 1.0)
    factor = unit.weights.sum() / rule.weights.sum()
    return Quadrature(rule.nodes, factor * rule.weights, rule.step)
