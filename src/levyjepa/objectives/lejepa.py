"""The weighted sum."""

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
    """The terms, unweighted, and their weighted sum: scalars; `levy` is None where gamma is 0.

    `kinds` holds the terms of a `VideoRegularizer` by name.
    """

    total: Tensor
    sigreg: Tensor
    invariance: Tensor
    levy: Tensor | None = None
    kinds: Mapping[str, Tensor] | None = None


class LeJEPA(nn.Module):
    """gamma * levy + lamb * sigreg + kappa * (1 - lamb) * invariance.

    Args:
        levy: the prior; needed where `gamma` is not 0.
        sigreg: `SIGReg()` if None.
        gamma: weight of the prior; with 0 nothing of it is computed.
        lamb: weight of SIGReg, from 0 to 1.
        kappa: weight of the invariance.
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
            raise ValueError(f"`levy` must be given where `gamma` is not 0, got gamma={gamma}.")
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
        """The loss of a batch.

        Args:
            projections: (V, N, D), as for `SIGReg`.
            field: (B, *grid, C), as for `LevyRegularizer`, or several of different grids, of which
                the mean over images is taken; needed where gamma is not 0.
            num_global: as for `invariance`.
            generator: source of directions and rotation.
            mask: (B, *grid) bool, False where a token is missing, as for the prior; one for each
                field where they are several.
        """
        sigreg = self.sigreg(projections, generator=generator)
        apart = invariance(projections, num_global)
        total = self.lamb * sigreg + self.kappa * (1 - self.lamb) * apart
        if self.gamma == 0 or self.levy is None:
            return LeJEPALoss(total, sigreg, apart)
        if field is None:
            raise ValueError("`field` must be given where `gamma` is not 0, got None.")
        fields = [field] if isinstance(field, Tensor) else list(field)
        if not fields:
            raise ValueError("`field` must be one field or more, got none.")
        for each in fields:
            checks.floating("field", each)
        masks = [mask] if mask is None or isinstance(mask, Tensor) else list(mask)
        masks = masks * len(fields) if mask is None else masks
        if len(masks) != len(fields):
            raise ValueError(
                f"`mask` must be one for each of {len(fields)} fields, got {len(masks)}."
            )
        images = sum(len(f) for f in fields)
        terms: dict[str, Tensor] = {}
        for f, present in zip(fields, masks, strict=True):
            given = {} if present is None else {"mask": present}
            if isinstance(self.levy, VideoRegularizer):
                found = self.levy.terms(f, generator=generator, **given)
            else:
                found = {"levy": self.levy(f, generator=generator, **given)}
            for kind, term in found.items():
                terms[kind] = terms.get(kind, 0) + term * (len(f) / images)
        if isinstance(self.levy, VideoRegularizer):
            levy, kinds = self.levy.total(terms), terms
        else:
            levy, kinds = terms["levy"], None
        return LeJEPALoss(total + self.gamma * levy, sigreg, apart, levy, kinds)
