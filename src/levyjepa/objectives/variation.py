"""The control: neighbouring tokens are alike, and no law says how often they are not."""

import torch
from torch import Tensor, nn

from levyjepa import checks


class TotalVariation(nn.Module):
    """The mean distance of neighbouring tokens, sum over axes of E ||A(x + e) - A(x)|| / sqrt(C).

    It stands where `LevyRegularizer` may, to ask whether the law matters or smoothness alone does.
    A constant field scores 0, so a projection trained with it may shrink to nothing: give it tokens
    that a layer norm keeps apart.

    >>> TotalVariation()(torch.tensor([0.0, 1.0, 1.0]).reshape(1, 1, 3, 1))
    tensor(0.5000)
    """

    def forward(self, field: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """The loss of a batch.

        Args:
            field: (B, *grid, C) floating point, channels last.
            generator: not used; nothing is random.

        Returns:
            A scalar, in float32 or better.
        """
        checks.floating("field", field)
        if field.ndim < 3:
            raise ValueError(f"`field` must be (B, *grid, C), got {tuple(field.shape)}.")
        field = field if field.dtype.itemsize >= 4 else field.float()
        scale = field.shape[-1] ** -0.5
        steps = [field.diff(dim=axis) for axis in range(1, field.ndim - 1) if field.shape[axis] > 1]
        terms = [torch.linalg.vector_norm(step, dim=-1).mean() for step in steps]
        return sum(terms, field.new_zeros(())) * scale
