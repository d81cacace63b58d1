"""Numbers as they are printed."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeGuard

from levyjepa.training.comparison import Difference, is_share

NOTHING = "–"


@dataclass(frozen=True)
class Entry:
    """A number as it is printed, and what stands small under it."""

    value: str
    interval: str = ""
    effect: str = ""


def percent(value: float | None) -> str:
    """0.9312 as "93.1 %"."""
    return f"{100 * value:.1f} %" if known(value) else NOTHING


def points(value: float) -> str:
    """0.0042 as "+0.4", a difference in percentage points."""
    return f"{100 * value:+.1f}".replace("-", "−")


def known(value: float | None) -> TypeGuard[float]:
    """Whether there is a number."""
    return value is not None and math.isfinite(value)


def signed(metric: str, value: float) -> str:
    """A difference of a metric, shares in percentage points."""
    return points(value) if is_share(metric) else f"{value:+.3g}".replace("-", "−")


def plain(metric: str, value: float) -> str:
    """A metric's value, shares in percent."""
    return percent(value) if is_share(metric) else f"{value:.3g}".replace("-", "−")


def entry(
    metric: str, value: float | None, low: float | None = None, high: float | None = None
) -> Entry:
    """A value with its interval, where it has one."""
    if not known(value):
        return Entry(NOTHING)
    if not (known(low) and known(high)):
        return Entry(plain(metric, value))
    low_text, high_text = (plain(metric, each).removesuffix(" %") for each in (low, high))
    return Entry(plain(metric, value), f"{low_text} to {high_text}")


def leaf_entry(leaf: Mapping[str, Any], metric: str) -> Entry:
    """A leaf of an evaluation with its interval, or with its deviation over draws."""
    made = entry(metric, leaf.get("accuracy"), leaf.get("low"), leaf.get("high"))
    spread = leaf.get("deviation")
    return Entry(made.value, f"± {100 * spread:.1f}") if known(spread) else made


def difference_entry(row: Difference | None) -> Entry:
    """A paired difference with its interval and effect size."""
    if row is None:
        return Entry(NOTHING)
    value, *bounds = (
        signed(row.metric, each) if known(each) else "" for each in (row.mean, row.low, row.high)
    )
    effect = f"d_z {row.d_z:+.1f}".replace("-", "−") if known(row.d_z) else ""
    return Entry(value, f"{bounds[0]} to {bounds[1]}" if bounds[0] else "", effect)
