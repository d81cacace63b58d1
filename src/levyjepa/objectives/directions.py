"""Random rotations and directions, uniformly distributed."""

import torch
from torch import Tensor

from levyjepa.objectives.ranks import Group, synchronize


def random_rotation(
    n: int,
    dtype: torch.dtype,
    device: torch.device,
    generator: torch.Generator | None,
    same_on_ranks: bool = False,
    group: Group = None,
) -> Tensor:
    """Draw a uniformly distributed (Haar) orthogonal matrix.

    It is Q diag(sign(diag R)) for the QR decomposition of a Gaussian matrix.

    Args:
        n: Number of rows and columns.
        dtype: Dtype of the matrix.
        device: Device of the matrix.
        generator: Random number generator on that device.
        same_on_ranks: Whether all ranks get the matrix of the first one if `generator` is None.
        group: Process group of these ranks, all ranks if None.

    Returns:
        (n, n).
    """
    matrix = torch.randn(n, n, dtype=dtype, device=device, generator=generator)
    q, r = torch.linalg.qr(synchronize(matrix, generator, group) if same_on_ranks else matrix)
    return q * r.diagonal().sign()


def random_directions(
    n: int,
    count: int,
    dtype: torch.dtype,
    device: torch.device,
    generator: torch.Generator | None,
    same_on_ranks: bool = False,
    group: Group = None,
) -> Tensor:
    """Draw `count` independent, uniformly distributed unit vectors, the columns of (n, count).

    The other arguments are those of `random_rotation`.
    """
    matrix = torch.randn(n, count, dtype=dtype, device=device, generator=generator)
    matrix = synchronize(matrix, generator, group) if same_on_ranks else matrix
    return matrix / matrix.norm(dim=0)
