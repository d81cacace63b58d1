"""The invariance term: views of one image should have the same projection."""

from torch import Tensor

from levyjepa import checks
from levyjepa.objectives.ranks import mean


def invariance(projections: Tensor, num_global: int | None = None) -> Tensor:
    """Return the mean squared difference between views and the center of their image.

    The center is the mean projection of the image's global views. The mean is over views, images
    and coordinates, with the images of all ranks.

    Args:
        projections: (V, N, D) floating-point projections of V views of N images.
        num_global: Number of global views, which come first. All views are global if None.

    Returns:
        A scalar, in float32 or float64.
    """
    checks.floating("projections", projections, 3, "(V, N, D)")
    z = projections if projections.dtype.itemsize >= 4 else projections.float()
    if num_global is not None and not 1 <= checks.count("num_global", num_global) <= len(z):
        raise ValueError(f"`num_global` must be from 1 to {len(z)}, got {num_global}.")
    return mean((z - z[:num_global].mean(0)).square())
