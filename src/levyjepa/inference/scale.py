"""Find the scale of a law that fits increments."""

import math
from typing import Any

from scipy.optimize import minimize_scalar
from torch import Tensor

from levyjepa.ecf import equispaced, statistic
from levyjepa.inference.density import check_finite, constant
from levyjepa.laws import Law
from levyjepa.laws.scale import rescaled

DECADES, STEPS = 8, 4  # of the first search, on both sides of a guess, and steps in a decade


def fit_scale(samples: Tensor, law: Law, volume: float = 1.0) -> Law:
    """Return the law of the same shape whose scale fits independent scalar increments best.

    It is the law of s times the increments of `law`. The scale s minimizes the distance
    `levyjepa.ecf.statistic` between `samples / s` and `law`, which needs no moments. The search
    starts on a grid of many decades, for at most 2^14 of the samples.

    Args:
        samples: Finite floating-point increments of any shape.
        law: Law that gives the shape.
        volume: Volume of the cells.

    Returns:
        A constant law.

    Raises:
        ValueError: The samples are not finite, or all are 0.

    >>> import torch
    >>> from levyjepa.laws import Stable
    >>> x = Stable(1.0, scale=500.0).sample((4000,), generator=torch.Generator().manual_seed(0))
    >>> round(fit_scale(x, Stable(1.0)).scale / 500, 1)
    1.0
    """
    x = check_finite(samples).detach().double().cpu().flatten()
    law = constant(law)
    if not x.any():
        raise ValueError("`samples` must not all be 0.")
    rule = equispaced(law, 64, volume)

    def distance(log_scale: float, x: Tensor = x) -> float:
        return statistic(x[None] / math.exp(log_scale), law, volume, rule).item()

    guess = x[x != 0].abs().median().log().item() + math.log(rule.last)
    step, some = math.log(10) / STEPS, x[:: math.ceil(len(x) / 2**14)]
    steps = range(-DECADES * STEPS, DECADES * STEPS + 1)
    best = min((guess + step * k for k in steps), key=lambda log_scale: distance(log_scale, some))
    result: Any = minimize_scalar(distance, bounds=(best - step, best + step), method="bounded")
    return rescaled(law, math.exp(result.x))
