"""Tensors that belong to a module's definition and not to its state."""

import torch
from torch import Tensor


class Constants:
    """Float64 tensors with a copy on every device, and of every dtype, where they are used.

    They are no buffers: buffers that are not saved are lost if a module is built on the meta device
    or loaded by `from_pretrained`.

    Args:
        tensors: Tensors on the CPU.
    """

    def __init__(self, *tensors: Tensor) -> None:
        self.original = tuple(tensor.detach() for tensor in tensors)
        self.copies: dict[str, tuple[Tensor, ...]] = {}

    def on(self, device: torch.device, dtype: torch.dtype = torch.float64) -> tuple[Tensor, ...]:
        """Return the tensors on a device in a dtype."""
        key = f"{device} {dtype}"
        if key not in self.copies:
            self.copies[key] = tuple(tensor.to(device, dtype) for tensor in self.original)
        return self.copies[key]
