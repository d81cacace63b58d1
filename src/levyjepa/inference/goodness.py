"""Test whether increments follow a law."""

from dataclasses import dataclass

import torch
from torch import Tensor

from levyjepa import checks
from levyjepa.ecf import equispaced, statistic
from levyjepa.inference.density import check_finite, constant
from levyjepa.laws import Law


@dataclass(frozen=True)
class GoodnessOfFit:
    """Result of a goodness-of-fit test.

    Args:
        statistic: Distance between the samples and the law.
        p_value: Probability of a statistic at least as large if the law holds.
        n: Number of scalars in the samples.
    """

    statistic: float
    p_value: float
    n: int


def goodness_of_fit(
    samples: Tensor,
    law: Law,
    volume: float = 1.0,
    generator: torch.Generator | None = None,
    draws: int = 199,
) -> GoodnessOfFit:
    """Test whether independent increments follow a fully specified law.

    The statistic is `levyjepa.ecf.statistic` over all samples. The p-value is (1 + k) / (1 + draws)
    if k of `draws` simulated data sets have a statistic at least as large. This Monte Carlo test is
    exact for any sample size. The p-value is too large if the law was fitted to the same samples.

    Args:
        samples: (n,) scalar increments, or (n, C) isotropic vectors whose coordinates jump
            together. Floating point.
        law: Law under the null hypothesis.
        volume: Volume of the cells.
        generator: Random number generator of the simulation, on the CPU.
        draws: Number of simulated data sets. The smallest possible p-value is 1 / (1 + draws).

    Returns:
        The statistic, its p-value and the number of scalars.

    Raises:
        TypeError, ValueError: An argument is invalid.
    """
    x = check_finite(samples).detach().double().cpu()
    checks.count("draws", draws)
    if x.ndim not in (1, 2):
        raise ValueError(f"`samples` must be (n,) or (n, C), got shape {tuple(x.shape)}.")
    n, dim = len(x), x.shape[1] if x.ndim == 2 else None
    law = constant(law)
    rule = equispaced(law, 64, volume)

    def distance(sets: Tensor) -> Tensor:
        return statistic(sets.flatten(1), law, volume, rule)

    observed = distance(x[None])[0]
    threshold = observed * (1 - 1e-9)  # counts values that are equal up to rounding
    exceeding = 0
    chunk = max(1, 2**22 // x.numel())
    for size in [chunk] * (draws // chunk) + [draws % chunk] * (draws % chunk > 0):
        simulated = law.sample((size, n), volume, dim, generator, torch.float64)
        exceeding += int((distance(simulated) >= threshold).sum())
    return GoodnessOfFit(observed.item(), (1 + exceeding) / (1 + draws), x.numel())
