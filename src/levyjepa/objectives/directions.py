"""Along what the vectors are looked at: drawn uniformly, anew at each call."""

import torch
from torch import Tensor

from levyjepa.objectives.ranks import agreed


def random_rotation(
    n: int,
    dtype: torch.dtype,
    device: torch.device,
    generator: torch.Generator | None,
    alike: bool = False,
) -> Tensor:
    """An orthogonal matrix (n, n) drawn uniformly (Haar): QR of a Gaussian, signs of R undone.

    `alike` makes it the same on every rank where `generator` is None.
    """
    drawn = torch.randn(n, n, dtype=dtype, device=device, generator=generator)
    q, r = torch.linalg.qr(agreed(drawn, generator) if alike else drawn)
    return q * r.diagonal().sign()


def random_directions(
    n: int,
    count: int,
    dtype: torch.dtype,
    device: torch.device,
    generator: torch.Generator | None,
    alike: bool = False,
) -> Tensor:
    """Unit columns (n, count), independent and uniform; `alike` as for `random_rotation`."""
    drawn = torch.randn(n, count, dtype=dtype, device=device, generator=generator)
    drawn = agreed(drawn, generator) if alike else drawn
    return drawn / drawn.norm(dim=0)
