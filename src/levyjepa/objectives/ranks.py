"""Reductions over the ranks of distributed training.

A reduced value has the gradient of the sum over ranks. Data-parallel training averages gradients
over ranks, which gives the gradient of a single process with the joint batch.
"""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

Group = Any  # torch.distributed.ProcessGroup, or None for all ranks


def ranks(group: Group = None) -> int:
    """Return the number of ranks, 1 without distributed training."""
    return dist.get_world_size(group) if dist.is_available() and dist.is_initialized() else 1


def synchronize(sample: Tensor, generator: torch.Generator | None, group: Group = None) -> Tensor:
    """Return the first rank's sample if `generator` is None; otherwise ranks share a seed."""
    if generator is None and ranks(group) > 1:
        dist.broadcast(sample, 0 if group is None else dist.get_global_rank(group, 0), group)
    return sample


def total(value: Tensor, group: Group = None) -> Tensor:
    """Return the sum over ranks, with the gradient of all ranks."""
    if ranks(group) == 1:
        return value
    if not value.requires_grad:
        value = value.clone()
        dist.all_reduce(value, group=group)
        return value
    from torch.distributed.nn.functional import all_reduce

    return all_reduce(value.contiguous(), group=group or dist.group.WORLD)


def mean(values: Tensor, group: Group = None) -> Tensor:
    """Return the mean of all ranks' values, which may be unequally many."""
    if ranks(group) == 1:
        return values.mean()
    return total(values.sum(), group) / total(values.new_tensor(values.numel()), group)
