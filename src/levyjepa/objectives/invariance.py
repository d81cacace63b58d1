"""Invariance: views of one image get the same projection."""

from torch import Tensor

from levyjepa import checks


def invariance(projections: Tensor, num_global: int | None = None) -> Tensor:
    """The mean squared distance of every view from its image's centre.

    Args:
        projections: (V, N, D) floating point.
        num_global: the first views, whose mean is the centre (LeJEPA's multi-crop); all if None.

    Returns:
        A scalar, in float32 or better.
    """
    checks.floating("projections", projections, 3, "(V, N, D)")
    z = projections if projections.dtype.itemsize >= 4 else projections.float()
    if num_global is not None and not 1 <= checks.count("num_global", num_global) <= len(z):
        raise ValueError(f"`num_global` must be from 1 to {len(z)}, got {num_global}.")
    return (z - z[:num_global].mean(0)).square().mean()
