"""Positive parameters: plain numbers, or the exponential of something trainable."""

import copy
import math
from typing import Any, Self, overload

import torch
from torch import Tensor, nn

from levyjepa import checks


class Positive:
    """A positive parameter of a `Parametric`, at most `most`.

    A float; when learnable, exp of a trainable log, or `most` times the sigmoid of a trainable
    logit.
    """

    def __init__(self, most: float = math.inf) -> None:
        self.most = most

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name
        self.stored = f"{'log' if self.most == math.inf else 'logit'}_{name}"

    @overload
    def __get__(self, module: None, owner: type) -> Self: ...
    @overload
    def __get__(self, module: "Parametric", owner: type) -> Any: ...
    def __get__(self, module: "Parametric | None", owner: type) -> Any:
        if module is None:
            return self
        raw = module._parameters.get(self.stored)
        if raw is None:
            return module.constants[self.name]
        return raw.exp() if self.most == math.inf else self.most * raw.sigmoid()

    def __set__(self, module: "Parametric", value: float) -> None:
        value = checks.positive(self.name, value)
        if value > self.most or (value == self.most and module.learnable):
            limit = f"below {self.most} to be learnable" if module.learnable else str(self.most)
            raise ValueError(f"`{self.name}` must be at most {limit}, got {value}.")
        if module.learnable:
            share = value if self.most == math.inf else value / (self.most - value)
            module.register_parameter(self.stored, nn.Parameter(torch.tensor(math.log(share))))
        else:
            module.constants[self.name] = value


class Parametric(nn.Module):
    """A module whose positive parameters are constants, or trainable when `learnable`.

    Constants are Python floats: they have no device and lose no precision. Trainable ones are
    stored as logarithms, so that every step keeps them positive.
    """

    def __init__(self, learnable: bool = False) -> None:
        super().__init__()
        if not isinstance(learnable, bool):
            raise TypeError(f"`learnable` must be True or False, got {learnable!r}.")
        self.learnable = learnable
        self.constants: dict[str, float] = {}

    @classmethod
    def positives(cls) -> list[str]:
        """The names of the positive parameters, in the order of the constructor."""
        return [
            name
            for base in reversed(cls.__mro__)
            for name, member in vars(base).items()
            if isinstance(member, Positive)
        ]

    def learnable_copy(self) -> Self:
        """A copy whose parameters, its parts' included, are trainable."""
        return self._copy(learnable=True)

    def constant_copy(self) -> Self:
        """A copy whose parameters, its parts' included, are constants."""
        return self._copy(learnable=False)

    def _copy(self, learnable: bool) -> Self:
        clone = copy.deepcopy(self)
        for module in clone.modules():
            if isinstance(module, Parametric) and module.learnable != learnable:
                held = {name: getattr(module, name) for name in module.positives()}
                module.constants.clear()
                module._parameters.clear()
                module.learnable = learnable
                for name, value in held.items():
                    setattr(module, name, value.item() if isinstance(value, Tensor) else value)
        return clone

    def frequencies(self, u: Tensor) -> Tensor:
        """`u` in float64, once it is found to be floating point, finite and where the law is."""
        checks.floating("u", u)
        remote = u.is_cuda or torch.compiler.is_compiling()  # to look would be to wait
        if not remote and not u.isfinite().all():
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
