"""Test a law against increments."""

from dataclasses import dataclass

import torch
from torch import Tensor

from levyjepa import checks
from levyjepa.ecf import equispaced, statistic
from levyjepa.inference.density import finite, plain
from levyjepa.laws import Law


@dataclass(frozen=True)
class GoodnessOfFit:
    """The statistic of n samples, and the chance of one as large under the law."""

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
    """Test whether independent increments follow a law given beforehand.

    The statistic is `levyjepa.ecf.statistic` over all samples; its p-value, (1 + those of `draws`
    simulated sets that reach it) / (1 + draws), is exact for any size. Parameters fitted to the
    same samples make it too large.

    Args:
        samples: (n,) scalar increments, or (n, C) vectors whose coordinates a jump strikes
            together; floating point.
        law: what they should follow.
        volume: of their cells.
        generator: source of the simulation, on the CPU.
        draws: simulated sets; the least p-value is 1 / (1 + draws).
    """
    x = finite(samples).detach().double().cpu()
    checks.count("draws", draws)
    if x.ndim not in (1, 2):
        raise ValueError(f"`samples` must be (n,) or (n, C), got shape {tuple(x.shape)}.")
    n, dim = len(x), x.shape[1] if x.ndim == 2 else None
    law = plain(law)
    rule = equispaced(law, 64, volume)

    def distance(sets: Tensor) -> Tensor:
        return statistic(sets.flatten(1), law, volume, rule)

    found = distance(x[None])[0]
    least = found * (1 - 1e-9)  # what is equal but for rounding reaches it too
    reached = 0
    most = max(1, 2**22 // x.numel())
    for size in [most] * (draws // most) + [draws % most] * (draws % most > 0):
        null = law.sample((size, n), volume, dim, generator, torch.float64)
        reached += int((distance(null) >= least).sum())
    return GoodnessOfFit(found.item(), (1 + reached) / (1 + draws), x.numel())
