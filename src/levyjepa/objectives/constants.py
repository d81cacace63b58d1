"""Tensors that belong to a module's definition and not to its state."""

import torch
from torch import Tensor


class Constants:
    """Float64 tensors with a copy on every device where they are used.

    They are no buffers: buffers that are not saved are lost if a module is built on the meta device
    or loaded by `from_pretrained`.

    Args:
        tensors: Tensors on the CPU.
    """

    def __init__(self, *tensors: Tensor) -> None:
        self.copies = {"cpu": tuple(tensor.detach() for tensor in tensors)}

    def on(self, device: torch.device) -> tuple[Tensor, ...]:
        """Return the tensors on a device."""
        key = str(device)
        if key not in self.copies:
            self.copies[key] = tuple(tensor.to(device) for tensor in self.copies["cpu"])
        return self.copies[key]
