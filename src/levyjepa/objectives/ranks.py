"""Reductions over the ranks of distributed training."""

import torch
import torch.distributed as dist
from torch import Tensor


def ranks() -> int:
    """Return the number of ranks, 1 without distributed training."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def synchronize(sample: Tensor, generator: torch.Generator | None) -> Tensor:
    """Return the first rank's sample if `generator` is None; otherwise ranks share a seed."""
    if generator is None and ranks() > 1:
        dist.broadcast(sample, 0)
    return sample


def total(count: float | Tensor, like: Tensor) -> Tensor:
    """Return the sum of the ranks' counts, with the dtype and device of `like`."""
    count = torch.as_tensor(count, dtype=like.dtype, device=like.device).clone()
    if ranks() > 1:
        dist.all_reduce(count)
    return count


def joint(cf: Tensor, count: float | Tensor) -> tuple[Tensor, Tensor]:
    """Return the empirical characteristic function of all ranks' samples, and their number.

    The backward pass sums the gradients of all ranks. Data-parallel training averages gradients
    over ranks, which gives the gradient of a single process with the joint batch.
    """
    from torch.distributed.nn.functional import all_reduce

    samples = total(count, cf)
    return (all_reduce(cf * (count / samples.clamp_min(1))) if ranks() > 1 else cf), samples
