"""Several processes as one batch."""

import torch
import torch.distributed as dist
from torch import Tensor


def ranks() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def agreed(drawn: Tensor, generator: torch.Generator | None) -> Tensor:
    """What the first rank drew, unless the ranks' generators are seeded alike anyway."""
    if generator is None and ranks() > 1:
        dist.broadcast(drawn, 0)
    return drawn


def total(count: float | Tensor, like: Tensor) -> Tensor:
    """The sum of the ranks' counts, of the type and device of `like`."""
    count = torch.as_tensor(count, dtype=like.dtype, device=like.device).clone()
    if ranks() > 1:
        dist.all_reduce(count)
    return count


def joint(cf: Tensor, count: float | Tensor) -> tuple[Tensor, Tensor]:
    """The characteristic function of all ranks' samples, and how many they are.

    Backward, the ranks' gradients are added; averaged once more by data-parallel training they
    are those of one process with the joint batch.
    """
    from torch.distributed.nn.functional import all_reduce

    samples = total(count, cf)
    return (all_reduce(cf * (count / samples.clamp_min(1))) if ranks() > 1 else cf), samples
