"""Positive parameters, either constants or trainable."""

import copy
import math
import zlib
from typing import Any, Self, overload

import torch
from torch import Tensor, nn

from levyjepa import checks


class Positive:
    """A positive parameter of a `Parametric`.

    A constant parameter is a float. A trainable one is exp of a trainable logarithm or, if there
    is a maximum, the maximum times the sigmoid of a trainable logit. It is set once: a law does
    not change, except by training.

    Args:
        maximum: Largest value that is allowed.
        trainable: Whether a learnable module trains it.
    """

    def __init__(self, maximum: float = math.inf, trainable: bool = True) -> None:
        self.maximum = maximum
        self.trainable = trainable

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name
        self.raw_name = f"{'log' if self.maximum == math.inf else 'logit'}_{name}"

    @overload
    def __get__(self, module: None, owner: type) -> Self: ...
    @overload
    def __get__(self, module: "Parametric", owner: type) -> Any: ...
    def __get__(self, module: "Parametric | None", owner: type) -> Any:
        if module is None:
            return self
        raw = module._parameters.get(self.raw_name)
        if raw is None:
            return module.constants[self.name]
        raw = raw.reshape(())
        return raw.exp() if self.maximum == math.inf else self.maximum * raw.sigmoid()

    def __set__(self, module: "Parametric", value: float) -> None:
        kind, learnable = type(module).__name__, module.learnable and self.trainable
        if self.name in module.constants or self.raw_name in module._parameters:
            raise AttributeError(
                f"`{self.name}` cannot be changed; build a new law, such as "
                f"{kind}({self.name}={value!r})."
            )
        if isinstance(value, Tensor):
            raise TypeError(
                f"`{self.name}` must be a number, got a tensor. To train it, write "
                f"{kind}({self.name}=..., learnable=True)."
            )
        value = checks.positive(self.name, value)
        if value > self.maximum or (value == self.maximum and learnable):
            limit = "below" if learnable else "at most"
            suffix = " to be learnable" if learnable else ""
            raise ValueError(f"`{self.name}` must be {limit} {self.maximum}{suffix}, got {value}.")
        if learnable:
            odds = value if self.maximum == math.inf else value / (self.maximum - value)
            # Of shape (1,), because `torch.distributed.fsdp.fully_shard` refuses scalars.
            module.register_parameter(self.raw_name, nn.Parameter(torch.tensor([math.log(odds)])))
        else:
            module.constants[self.name] = value


class Parametric(nn.Module):
    """A module whose positive parameters are constants or, if `learnable`, trainable.

    Constants are Python floats: they have no device and full precision. Trainable parameters are
    stored as logarithms or logits, so they stay positive at every optimization step. A state dict
    holds the constants as the extra state of each module. Loading other constants is an error.

    Args:
        learnable: Whether the parameters are trainable.
    """

    def __init__(self, learnable: bool = False) -> None:
        super().__init__()
        if not isinstance(learnable, bool):
            raise TypeError(f"`learnable` must be True or False, got {learnable!r}.")
        self.learnable = learnable
        self.constants: dict[str, float] = {}

    @classmethod
    def positives(cls) -> list[str]:
        """Return the names of the positive parameters, in the order of the constructor."""
        return [
            name
            for base in reversed(cls.__mro__)
            for name, member in vars(base).items()
            if isinstance(member, Positive)
        ]

    def learnable_copy(self) -> Self:
        """Return a copy in which all parameters, including those of its parts, are trainable."""
        return self._copy(learnable=True)

    def constant_copy(self) -> Self:
        """Return a copy in which all parameters, including those of its parts, are constants."""
        return self._copy(learnable=False)

    def _copy(self, learnable: bool) -> Self:
        clone = copy.deepcopy(self)
        for module in clone.modules():
            if isinstance(module, Parametric) and module.learnable != learnable:
                values = {name: getattr(module, name) for name in module.positives()}
                module.constants.clear()
                module._parameters.clear()
                module.learnable = learnable
                for name, value in values.items():
                    setattr(module, name, value.item() if isinstance(value, Tensor) else value)
        return clone

    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(getattr(type(self), name, None), Positive):
            object.__setattr__(self, name, value)  # `nn.Module` would register an `nn.Parameter`
        elif isinstance(value, Parametric) and name in self._modules:
            raise AttributeError(f"`{name}` cannot be changed; build a new {type(self).__name__}.")
        else:
            super().__setattr__(name, value)

    def get_extra_state(self) -> Tensor:
        """Return the constants after a checksum of their names: (1 + n,) float64 on the CPU."""
        names = [name for name in self.positives() if name in self.constants]
        numbers = [zlib.crc32(" ".join(names).encode()), *(self.constants[n] for n in names)]
        return torch.tensor(numbers, dtype=torch.float64, device="cpu")

    def set_extra_state(self, state: Tensor) -> None:
        """Compare the constants with those of a state dict; raise ValueError if they differ."""
        state = torch.as_tensor(state)
        if state.is_meta:
            return
        own, state = self.get_extra_state().to(state.dtype), state.cpu()
        tolerance = max(1e-6, 2 * torch.finfo(state.dtype).eps)
        if own.shape != state.shape or not torch.allclose(own, state, rtol=tolerance, atol=0):
            found = ", ".join(f"{number:.6g}" for number in state[1:].tolist()) or "none"
            whose = "" if own[:1].equal(state[:1]) else " of another law"
            raise ValueError(f"`state_dict` must be of {self!r}, got constants{whose}: {found}.")

    def _load_from_state_dict(
        self,
        state_dict: Any,
        prefix: str,
        metadata: Any,
        strict: bool,
        missing_keys: list,
        *rest: Any,
    ) -> None:
        for name in self._parameters:  # scalars in checkpoints of earlier versions
            if (value := state_dict.get(prefix + name)) is not None and value.ndim == 0:
                state_dict[prefix + name] = value.reshape(1)
        super()._load_from_state_dict(state_dict, prefix, metadata, strict, missing_keys, *rest)
        if (key := f"{prefix}_extra_state") in missing_keys:  # absent from them, too
            missing_keys.remove(key)

    def frequencies(self, u: Tensor) -> Tensor:
        """Return `u` in float64 if it is floating point, finite and on the law's device."""
        checks.floating("u", u)
        # Reading values would synchronize a GPU. A meta tensor has none.
        readable = u.device.type == "cpu" and not torch.compiler.is_compiling()
        if readable and not u.isfinite().all():
            raise ValueError("`u` must be finite, got NaN or infinity.")
        for parameter in self.parameters():
            if parameter.device not in (u.device, torch.device("cpu")):
                raise ValueError(f"`u` must be on {parameter.device}, got {u.device}.")
        return u.double()

    def __repr__(self) -> str:
        parts = [f"{name}={_number(getattr(self, name))}" for name in self.positives()]
        parts += [f"{name}={part!r}" for name, part in self.named_children()]
        parts += ["learnable=True"] if self.learnable and self.positives() else []
        return f"{type(self).__name__}({', '.join(parts)})"


def _number(value: float | Tensor) -> float | str:
    if not isinstance(value, Tensor):
        return value
    return "meta" if value.is_meta else float(f"{value.item():.9g}")
