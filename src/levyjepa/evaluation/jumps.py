"""Where a field jumps, corner by corner."""

from torch import Tensor

from levyjepa.checks import floating
from levyjepa.inference import jump_probability
from levyjepa.lattice import box, increments
from levyjepa.laws import Law


def jump_map(field: Tensor, law: Law, rescale: bool = False) -> Tensor:
    """The probability of at least one jump at each inner corner of the patch grid.

    Args:
        field: (B, h, w, C), projected patch tokens.
        law: The law of the field's increments.
        rescale: First scale the field so that the mean square of all its increments is the law's
            variance, for a model trained without the prior, whose field has no scale.

    Returns:
        (B, h - 1, w - 1) in [0, 1]; entry (i, j) belongs to the corner that patches
        (i, j) and (i + 1, j + 1) share.

    Raises:
        ValueError: A field of another rank, of fewer than 2 × 2 patches, or, to be rescaled,
            a constant field or a law without variance.
    """
    floating("field", field, 4, "(B, h, w, C)")
    stencil = box(2)
    samples = increments(field, stencil)
    if rescale:
        mean_square = samples.square().mean()
        if not mean_square > 0:
            raise ValueError("`field` must vary to be rescaled, got increments that are all 0.")
        samples = samples * (law.variance(stencil.volume) / mean_square) ** 0.5
    probability = jump_probability(samples, law, stencil.volume, isotropic=True)
    return probability.unflatten(1, (field.shape[1] - 1, field.shape[2] - 1))
