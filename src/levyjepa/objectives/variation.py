"""Total variation, a control for the Lévy prior."""

import torch
from torch import Tensor, nn

from levyjepa import checks
from levyjepa.lattice import increments, line, whole_cells
from levyjepa.objectives.ranks import mean, total


class TotalVariation(nn.Module):
    """The mean distance of neighboring tokens: sum over axes of E ||A(x + e) - A(x)|| / sqrt(C).

    It can replace `LevyRegularizer` to test whether the law matters or only smoothness. The loss
    of a constant field is 0, so the field may collapse: normalize the tokens, for example with a
    layer norm.

    >>> TotalVariation()(torch.tensor([0.0, 1.0, 1.0]).reshape(1, 1, 3, 1))
    tensor(0.5000)
    """

    def forward(
        self,
        field: Tensor,
        generator: torch.Generator | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """Return the loss of a batch of fields.

        Args:
            field: (B, *grid, C) floating point, channels last.
            generator: Not used, because nothing is random.
            mask: (B, *grid) bool, False where a token is missing. Differences that involve it are
                left out.

        Returns:
            A scalar, in float32 or float64.
        """
        checks.floating("field", field)
        if field.ndim < 3:
            raise ValueError(f"`field` must be (B, *grid, C), got {tuple(field.shape)}.")
        field = field if field.dtype.itemsize >= 4 else field.float()
        if mask is not None:
            mask = checks.mask("mask", mask, field)
            field = field.where(mask[..., None], 0)
        axes = range(field.ndim - 2)
        stencils = [line(len(axes), axis) for axis in axes if field.shape[1 + axis] > 1]
        loss = field.new_zeros(())
        for stencil in stencils:
            distances = torch.linalg.vector_norm(increments(field, stencil), dim=-1)
            if mask is None:
                loss = loss + mean(distances)
            else:
                whole = whole_cells(mask, stencil)
                number = total(whole.sum()).clamp_min(1)
                loss = loss + total((distances * whole).sum()) / number
        return loss * field.shape[-1] ** -0.5
