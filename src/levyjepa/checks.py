"""What the public doors ask of their arguments: one error, the same words everywhere."""

import math
from numbers import Integral, Real
from typing import Any

from torch import Tensor


def positive(name: str, value: Any) -> float:
    """Return `value` as a float if it is a finite number above 0; raise otherwise."""
    if not (number := _finite(name, value, "positive")) > 0:
        raise ValueError(f"`{name}` must be positive, got {value!r}.")
    return number


def not_negative(name: str, value: Any) -> float:
    """Return `value` as a float if it is a finite number of at least 0; raise otherwise."""
    if (number := _finite(name, value, "at least 0")) < 0:
        raise ValueError(f"`{name}` must be at least 0, got {value!r}.")
    return number


def _finite(name: str, value: Any, wanted: str) -> float:
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"`{name}` must be a number, got {value!r}.")
    if not math.isfinite(value):
        raise ValueError(f"`{name}` must be {wanted} and finite, got {value!r}.")
    return float(value)


def count(name: str, value: Any, least: int = 1) -> int:
    """Return `value` if it is an integer of at least `least`; raise otherwise."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"`{name}` must be an integer, got {value!r}.")
    if value < least:
        raise ValueError(f"`{name}` must be at least {least}, got {value}.")
    return int(value)


def floating(name: str, value: Any, ndim: int | None = None, shape: str = "") -> Tensor:
    """Return `value` if it is a non-empty floating-point tensor of rank `ndim`; raise otherwise."""
    if not isinstance(value, Tensor):
        raise TypeError(
            f"`{name}` must be a tensor{shape and f' {shape}'}, got {type(value).__name__}."
        )
    if not value.is_floating_point():
        raise TypeError(f"`{name}` must be a floating-point tensor, got {value.dtype}.")
    if ndim is not None and value.ndim != ndim:
        wanted = shape or f"of rank {ndim}"
        raise ValueError(f"`{name}` must be {wanted}, got shape {tuple(value.shape)}.")
    if value.numel() == 0:
        raise ValueError(f"`{name}` must not be empty, got shape {tuple(value.shape)}.")
    return value
