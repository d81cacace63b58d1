"""What the statistic is worth where the law holds: its mean and deviation, in closed form."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from levyjepa import checks
from levyjepa.ecf.quadrature import Quadrature, a_law
from levyjepa.laws import Law


@dataclass(frozen=True)
class Null:
    """Mean and standard deviation of `statistic` for samples of the law."""

    mean: Tensor
    std: Tensor


def null(
    law: Law,
    volume: float,
    quadrature: Quadrature,
    overlaps: Mapping[float, int],
    channels: int = 1,
) -> Null:
    """Mean and deviation of the statistic over the increments of one sheet of the law.

    Samples are increments at n positions in `channels` orthogonal channels. Two cells that share
    a part f of their volume v have, in one channel and in two (which a jump strikes together),

        E exp(i(u x - u' x')) = exp(v (1-f) (psi(u) + psi(u')) + v f psi(u - u')),
        E exp(i(u x - u' x')) = exp(v (1-f) (psi(u) + psi(u')) + v f psi(sqrt(u^2 + u'^2))).

    The mean is exact. The deviation is that of the limit of many samples, in which the empirical
    characteristic function is a Gaussian process: twice the squares of its covariance.

    Args:
        law: what the samples follow.
        volume: of a cell.
        quadrature: of the statistic.
        overlaps: shared part of the volume -> ordered pairs of positions that share it, each
            position with itself (part 1) included, as `levyjepa.lattice.overlaps` counts them;
            {1.0: n} for n disjoint cells.
        channels: how many.
    """
    a_law(law)
    checks.positive("volume", volume)
    checks.count("channels", channels)
    if not isinstance(quadrature, Quadrature):
        raise TypeError(f"`quadrature` must be a Quadrature, got {quadrature!r}.")
    if not isinstance(overlaps, Mapping):
        raise TypeError(f"`overlaps` must map parts to counts, got {overlaps!r}.")
    for share, pairs in overlaps.items():
        if checks.positive("overlaps", share) > 1 or checks.count("overlaps", pairs) < 1:
            raise ValueError(f"`overlaps` must be parts of at most 1, got {share!r}.")
    n = float(overlaps.get(1.0, 0) * channels)
    if n < 1:
        raise ValueError(f"`overlaps` must count positions as part 1.0, got {dict(overlaps)}.")
    u, w = quadrature.nodes, quadrature.weights
    row, column = u[:, None], u[None, :]
    psi = law.exponent(u)
    alone = psi[:, None] + psi[None, :]
    apart = (volume * alone).exp()
    minus, plus = law.exponent(row - column), law.exponent(row + column)
    across = law.exponent((row**2 + column**2).sqrt())
    on_cos = on_sin = torch.zeros_like(alone)
    for share, pairs in overlaps.items():
        rest = volume * (1 - share) * alone
        together = [(rest + volume * share * shared).exp() for shared in (minus, plus, across)]
        same, opposite, other = together
        on_cos = on_cos + pairs * ((same + opposite) / 2 - apart)
        on_cos = on_cos + pairs * (channels - 1) * (other - apart)
        on_sin = on_sin + pairs * (same - opposite) / 2
    on_cos, on_sin = on_cos * channels / n**2, on_sin * channels / n**2
    mean = 2 * (w * (on_cos + on_sin).diagonal()).sum()
    weights = w[:, None] * w[None, :]
    variance = 8 * (weights * (on_cos**2 + on_sin**2)).sum()
    return Null(mean, variance.sqrt())
