"""Positive parameters, either constants or trainable."""

import copy
import math
from typing import Any, Self, overload

import torch
from torch import Tensor, nn

from levyjepa import checks


class Positive:
    """A positive parameter of a `Parametric`.

    A constant parameter is a float. A trainable one is exp of a trainable logarithm or, if there
    is a maximum, the maximum times the sigmoid of a trainable logit.

    Args:
        maximum: Largest value that is allowed.
    """

    def __init__(self, maximum: float = math.inf) -> None:
        self.maximum = maximum

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
        return raw.exp() if self.maximum == math.inf else self.maximum * raw.sigmoid()

    def __set__(self, module: "Parametric", value: float) -> None:
        value = checks.positive(self.name, value)
        if value > self.maximum or (value == self.maximum and module.learnable):
            limit = "below" if module.learnable else "at most"
            suffix = " to be learnable" if module.learnable else ""
            raise ValueError(f"`{self.name}` must be {limit} {self.maximum}{suffix}, got {value}.")
        if module.learnable:
            odds = value if self.maximum == math.inf else value / (self.maximum - value)
            module.register_parameter(self.raw_name, nn.Parameter(torch.tensor(math.log(odds))))
        else:
            module.constants[self.name] = value


class Parametric(nn.Module):
    """A module whose positive parameters are constants or, if `learnable`, trainable.

    Constants are Python floats: they have no device and full precision. Trainable parameters are
    stored as logarithms or logits, so they stay positive at every optimization step.

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

    def frequencies(self, u: Tensor) -> Tensor:
        """Return `u` in float64 if it is floating point, finite and on the law's device."""
        checks.floating("u", u)
        unreadable = u.is_cuda or torch.compiler.is_compiling()  # reading values would synchronize
        if not unreadable and not u.isfinite().all():
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


def _number(value: float | Tensor) -> float:
    return float(f"{value.item():.9g}") if isinstance(value, Tensor) else value
