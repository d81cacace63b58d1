"""The LeJEPA loss: a weighted sum of invariance, SIGReg and the Lévy prior."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from levyjepa import checks
from levyjepa.objectives.invariance import invariance
from levyjepa.objectives.levy import LevyRegularizer
from levyjepa.objectives.sigreg import SIGReg
from levyjepa.objectives.variation import TotalVariation
from levyjepa.objectives.video import VideoRegularizer


@dataclass(frozen=True)
class LeJEPALoss:
    """The LeJEPA loss and its unweighted terms, as scalars.

    Args:
        total: The weighted sum.
        sigreg: The SIGReg term.
        invariance: The invariance term.
        levy: The prior. None if gamma is 0.
        kinds: The terms of a `VideoRegularizer` by name. None for other priors.
    """

    total: Tensor
    sigreg: Tensor
    invariance: Tensor
    levy: Tensor | None = None
    kinds: Mapping[str, Tensor] | None = None


class LeJEPA(nn.Module):
    """The LeJEPA loss: gamma * levy + lamb * sigreg + kappa * (1 - lamb) * invariance.

    Args:
        levy: The prior. Required unless `gamma` is 0.
        sigreg: The SIGReg term, `SIGReg()` if None.
        gamma: Weight of the prior. If it is 0, the prior is not computed.
        lamb: Weight of SIGReg, from 0 to 1.
        kappa: Weight of the invariance term.
    """

    def __init__(
        self,
        levy: LevyRegularizer | VideoRegularizer | TotalVariation | None = None,
        sigreg: SIGReg | None = None,
        gamma: float = 1.0,
        lamb: float = 0.02,
        kappa: float = 1.0,
    ) -> None:
        super().__init__()
        self.gamma = checks.not_negative("gamma", gamma)
        self.kappa = checks.not_negative("kappa", kappa)
        self.lamb = checks.not_negative("lamb", lamb)
        if self.lamb > 1:
            raise ValueError(f"`lamb` must be from 0 to 1, got {lamb}.")
        for name, term in (("levy", levy), ("sigreg", sigreg)):
            if term is not None and not isinstance(term, nn.Module):
                raise TypeError(f"`{name}` must be a module or None, got {term!r}.")
        if self.gamma > 0 and levy is None:
            raise ValueError(f"`levy` must be given unless `gamma` is 0, got gamma={gamma}.")
        self.levy = levy
        self.sigreg = SIGReg() if sigreg is None else sigreg

    def forward(
        self,
        projections: Tensor,
        field: Tensor | Sequence[Tensor] | None = None,
        num_global: int | None = None,
        generator: torch.Generator | None = None,
        mask: Tensor | Sequence[Tensor] | None = None,
    ) -> LeJEPALoss:
        """Return the loss of a batch.

        Args:
            projections: (V, N, D) projections, as for `SIGReg`.
            field: (B, *grid, C), as for `LevyRegularizer`, or several fields with different grids.
                The prior is then averaged over all images. Required unless `gamma` is 0.
            num_global: Number of global views, as for `invariance`.
            generator: Random number generator of directions and rotations.
            mask: (B, *grid) bool, False where a token is missing, or one mask for each field.

        Returns:
            The total loss and its terms.
        """
        sigreg = self.sigreg(projections, generator=generator)
        distance = invariance(projections, num_global)
        total = self.lamb * sigreg + self.kappa * (1 - self.lamb) * distance
        if self.gamma == 0 or self.levy is None:
            return LeJEPALoss(total, sigreg, distance)
        if field is None:
            raise ValueError("`field` must be given unless `gamma` is 0, got None.")
        fields = [field] if isinstance(field, Tensor) else list(field)
        if not fields:
            raise ValueError("`field` must be one field or more, got none.")
        for field in fields:
            checks.floating("field", field)
        masks = [mask] if mask is None or isinstance(mask, Tensor) else list(mask)
        masks = masks * len(fields) if mask is None else masks
        if len(masks) != len(fields):
            raise ValueError(
                f"`mask` must be one for each of {len(fields)} fields, got {len(masks)}."
            )
        images = sum(len(field) for field in fields)
        terms: dict[str, Tensor] = {}
        for field, present in zip(fields, masks, strict=True):
            options = {} if present is None else {"mask": present}
            if isinstance(self.levy, VideoRegularizer):
                parts = self.levy.terms(field, generator=generator, **options)
            else:
                parts = {"levy": self.levy(field, generator=generator, **options)}
            for kind, term in parts.items():
                terms[kind] = terms.get(kind, 0) + term * (len(field) / images)
        if isinstance(self.levy, VideoRegularizer):
            levy, kinds = self.levy.total(terms), terms
        else:
            levy, kinds = terms["levy"], None
        return LeJEPALoss(total + self.gamma * levy, sigreg, distance, levy, kinds)
