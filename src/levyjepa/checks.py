"""Argument checks, so that every public function raises the same errors in the same words."""

import math
from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any

import torch
from torch import Tensor


def positive(name: str, value: Any) -> float:
    """Return `value` as a float if it is a finite number above 0; raise otherwise."""
    if not (number := finite(name, value, "positive")) > 0:
        raise ValueError(f"`{name}` must be positive, got {value!r}.")
    return number


def not_negative(name: str, value: Any) -> float:
    """Return `value` as a float if it is a finite number of at least 0; raise otherwise."""
    if (number := finite(name, value, "at least 0")) < 0:
        raise ValueError(f"`{name}` must be at least 0, got {value!r}.")
    return number


def finite(name: str, value: Any, kind: str = "a number") -> float:
    """Return `value` as a float if it is a finite number; raise otherwise."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"`{name}` must be a number, got {value!r}.")
    try:
        number = float(value)
    except OverflowError:  # an integer too large for a float
        number = math.inf
    if not math.isfinite(number):
        raise ValueError(f"`{name}` must be {kind} and finite, got {value!r}.")
    return number


def count(name: str, value: Any, least: int = 1) -> int:
    """Return `value` if it is an integer of `least` or more; raise otherwise."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"`{name}` must be an integer, got {value!r}.")
    if value < least:
        raise ValueError(f"`{name}` must be at least {least}, got {value}.")
    return int(value)


def sizes(name: str, value: Any) -> tuple[int, ...]:
    """Return `value` as a tuple if it is a sequence of integers >= 0; raise otherwise."""
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise TypeError(f"`{name}` must be a sequence of integers, got {value!r}.")
    return tuple(count(name, size, least=0) for size in value)


def dtype(value: Any) -> torch.dtype:
    """Return `value` if it is a floating-point dtype, torch's default if None; else raise."""
    result = torch.get_default_dtype() if value is None else value
    if not isinstance(result, torch.dtype) or not result.is_floating_point:
        raise TypeError(f"`dtype` must be a floating-point dtype, got {value!r}.")
    return result


def generator_device(value: Any) -> torch.device:
    """Return the device of a generator, or the CPU if `value` is None; raise otherwise."""
    if value is not None and not isinstance(value, torch.Generator):
        raise TypeError(f"`generator` must be a torch.Generator, got {value!r}.")
    return torch.device("cpu") if value is None else value.device


def function(name: str, value: Any) -> Any:
    """Return `value` if it is a function; raise otherwise."""
    if not callable(value):
        raise TypeError(f"`{name}` must be a function or None, got {value!r}.")
    return value


def floating(name: str, value: Any, ndim: int | None = None, shape: str = "") -> Tensor:
    """Return `value` if it is a non-empty floating-point tensor of rank `ndim`; raise otherwise."""
    if not isinstance(value, Tensor):
        raise TypeError(
            f"`{name}` must be a tensor{shape and f' {shape}'}, got {type(value).__name__}."
        )
    if not value.is_floating_point():
        raise TypeError(f"`{name}` must be a floating-point tensor, got {value.dtype}.")
    if ndim is not None and value.ndim != ndim:
        expected = shape or f"of rank {ndim}"
        raise ValueError(f"`{name}` must be {expected}, got shape {tuple(value.shape)}.")
    if value.numel() == 0:
        raise ValueError(f"`{name}` must not be empty, got shape {tuple(value.shape)}.")
    return value


def mask(name: str, value: Any, field: Tensor) -> Tensor:
    """Return `value` as a bool tensor with the shape of `field` but for its channels; else raise.

    Integers must be 0 and 1, which is checked on the CPU.
    """
    kinds = (torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)
    if not isinstance(value, Tensor) or value.dtype not in kinds:
        got = value.dtype if isinstance(value, Tensor) else type(value).__name__
        raise TypeError(f"`{name}` must be a bool tensor, or integers 0 and 1, got {got}.")
    if value.shape != field.shape[:-1]:
        raise ValueError(f"`{name}` must be {tuple(field.shape[:-1])}, got {tuple(value.shape)}.")
    if value.device != field.device:
        raise ValueError(f"`{name}` must be on {field.device} like the field, got {value.device}.")
    if value.dtype == torch.bool:
        return value
    if value.device.type == "cpu" and not torch.compiler.is_compiling() and (value > 1).any():
        raise ValueError(f"`{name}` must be 0 and 1, got {int(value.max())}.")
    return value != 0
