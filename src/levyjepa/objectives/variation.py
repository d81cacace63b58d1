"""The control: neighbouring tokens are alike, and no law says how often they are not."""

import torch
from torch import Tensor, nn

from levyjepa import checks
from levyjepa.lattice import increments, line, whole_cells


class TotalVariation(nn.Module):
    """The mean distance of neighbouring tokens, sum over axes of E ||A(x + e) - A(x)|| / sqrt(C).

    It stands where `LevyRegularizer` may, to ask whether the law matters or smoothness alone does.
    A constant field scores 0, so a projection trained with it may shrink to nothing: give it tokens
    that a layer norm keeps apart.

    >>> TotalVariation()(torch.tensor([0.0, 1.0, 1.0]).reshape(1, 1, 3, 1))
    tensor(0.5000)
    """

    def forward(
        self,
        field: Tensor,
        generator: torch.Generator | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """The loss of a batch.

        Args:
            field: (B, *grid, C) floating point, channels last.
            generator: not used; nothing is random.
            mask: (B, *grid) bool, False where a token is missing: its differences are left out.

        Returns:
            A scalar, in float32 or better.
        """
        checks.floating("field", field)
        if field.ndim < 3:
            raise ValueError(f"`field` must be (B, *grid, C), got {tuple(field.shape)}.")
        field = field if field.dtype.itemsize >= 4 else field.float()
        if mask is not None:
            field = field.where(checks.mask("mask", mask, field.shape[:-1])[..., None], 0)
        axes = range(field.ndim - 2)
        lines = [line(len(axes), axis) for axis in axes if field.shape[1 + axis] > 1]
        total = field.new_zeros(())
        for along in lines:
            distances = torch.linalg.vector_norm(increments(field, along), dim=-1)
            if mask is None:
                total = total + distances.mean()
            else:
                whole = whole_cells(mask, along)
                total = total + (distances * whole).sum() / whole.sum().clamp_min(1)
        return total * field.shape[-1] ** -0.5
