"""The Lévy prior of a clip: three kinds of increments, each with a law of its own."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from levyjepa import checks
from levyjepa.lattice import Stencil, box, diamond, line
from levyjepa.laws import IndependentCoordinates, Law
from levyjepa.objectives.levy import LevyRegularizer

KINDS: tuple[str, ...] = ("spacetime", "space", "time")


class VideoRegularizer(nn.Module):
    """The weighted sum of a clip's Lévy priors: space-time boxes, stencils in every frame, lines.

    - "spacetime": `box(3)`, how a frame's increments change from one frame to the next. It sees
      corners and ends that move, appear or vanish, and is blind to whatever stands still.
    - "space": `stencils` in every frame, as if it were an image.
    - "time": the first difference along time at every place: each token's history is a Lévy
      process, a cut one jump of all of them.

    Each kind is a `LevyRegularizer` over all its increments in a clip, with its own rotation.

    A step in time is as long as `time_step` steps in space. Cells of space-time and lines have
    volume `time_step`, cells of a frame keep theirs, so one law serves clips of any stride: at half
    the time step a line holds half as many jumps, of the same sizes. One law can hold for all kinds
    up to a time step of 2: a frame's increments then correlate by 1 - time_step / 2 with the next
    frame's, and histories of neighboring places by 1/2 along each axis. Moving sums, over
    2 / time_step frames and 2 x 2 places, of independent jumps and noise do so.

    Args:
        law: of every kind, per unit volume; or one by name for each kind wanted, as
            {"space": LAW, "time": LAW}.
        stencils: of "space", on the plane.
        time_step: length of a step in time, in steps of space.
        weights: by name, 1 for kinds that are not named; a kind of weight 0 is left out.
        options: further arguments of `LevyRegularizer`: quadrature, calibrated, cells, pool,
            directions, learnable. Every kind learns a law of its own, `priors["time"].law`. The
            null of a calibrated prior takes frames and places that no cell joins as independent,
            so clips in which they correlate score up to a few deviations above 0.

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
                raise ValueError(f"`{name}` must name kinds, of {', '.join(KINDS)}; got {value!r}.")
        some = isinstance(stencils, Sequence) and all(isinstance(s, Stencil) for s in stencils)
        if not some or any(stencil.ndim != 2 for stencil in stencils):
            raise ValueError(f"`stencils` must be stencils of the plane, got {stencils!r}.")
        spacing = (checks.positive("time_step", time_step), 1.0, 1.0)
        cells = {
            "spacetime": (box(3, spacing=spacing),),
            "space": tuple(stencil.lifted for stencil in stencils),
            "time": (line(3, axis=0, spacing=spacing),),
        }
        given = {kind: checks.not_negative("weights", weights.get(kind, 1.0)) for kind in KINDS}
        self.weights = {kind: given[kind] for kind in KINDS if kind in laws and given[kind] > 0}
        if not self.weights:
            raise ValueError("`law` and `weights` must leave a kind of increments, got none.")
        self.priors = nn.ModuleDict(
            {kind: LevyRegularizer(laws[kind], cells[kind], **options) for kind in self.weights}
        )

    def terms(
        self,
        field: Tensor,
        rotation: Tensor | None = None,
        generator: torch.Generator | None = None,
        mask: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """The kinds' losses by name, unweighted: scalars whose `total` is the loss.

        Args:
            field: (B, t, h, w, C) floating point.
            rotation: (C, C) for every kind, as for `LevyRegularizer`; each draws one if None.
            generator: source of the random rotations, drawn in the order of the kinds.
            mask: (B, t, h, w) bool, False where a token is missing, as in padded frames: cells
                that touch it are left out. Not for a calibrated prior.
        """
        checks.floating("field", field, 5, "(B, t, h, w, C)")
        return {
            kind: prior(field, rotation, generator, mask) for kind, prior in self.priors.items()
        }

    def total(self, terms: Mapping[str, Tensor]) -> Tensor:
        """The weighted sum of what `terms` gives."""
        return torch.stack([self.weights[kind] * term for kind, term in terms.items()]).sum()

    def forward(
        self,
        field: Tensor,
        rotation: Tensor | None = None,
        generator: torch.Generator | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """The loss of a batch of clips, a scalar in float32 or better; arguments as for `terms`."""
        return self.total(self.terms(field, rotation, generator, mask))
