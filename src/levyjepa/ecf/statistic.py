"""How far samples are from a law."""

from torch import Tensor

from levyjepa import checks
from levyjepa.ecf.empirical import empirical_cf
from levyjepa.ecf.quadrature import Quadrature, equispaced
from levyjepa.laws import Law


def statistic(
    samples: Tensor,
    law: Law,
    volume: float = 1.0,
    quadrature: Quadrature | None = None,
    weights: Tensor | None = None,
) -> Tensor:
    """The weighted squared distance of characteristic functions, a row of samples at a time.

    D = integral over the real line of |mean exp(iux) - exp(volume psi(u))|^2 w(u) du, twice that
    over u > 0. Differentiable in the samples and in the law's parameters; computed in float32 or
    better whatever autocast says, in memory that does not grow with the number of frequencies.

    Args:
        samples: (B, N) increments, floating point.
        law: what they should follow.
        volume: of their cells.
        quadrature: the rule, weight function included; `equispaced(law, 64)` if None.
        weights: (B, N) of the samples, not negative, each row of a positive sum: 0 leaves one out.
            Equal if None.

    Returns:
        (B,), at least 0.

    Source: Epps and Pulley, *A test for normality based on the empirical characteristic
    function*, 1983, for any law.
    """
    checks.floating("samples", samples, 2, "(B, N)")
    rule = equispaced(law) if quadrature is None else quadrature
    nodes = rule.nodes.to(samples.device)
    target = law.characteristic_function(nodes, volume)
    if weights is not None:
        if weights.shape != samples.shape:
            raise ValueError(
                f"`weights` must be {tuple(samples.shape)}, got {tuple(weights.shape)}."
            )
        if (weights < 0).any() or not (weights.sum(-1) > 0).all():
            raise ValueError("`weights` must not be negative, and each row must hold some.")
        weights = weights / weights.sum(-1, keepdim=True)
    return distance(samples, target, nodes, rule.weights.to(nodes), rule.step, weights)


def distance(
    samples: Tensor,
    target: Tensor,
    nodes: Tensor,
    rule: Tensor,
    step: float | None,
    weights: Tensor | None = None,
) -> Tensor:
    """`statistic` from plain tensors: the characteristic function `target` at the nodes, the
    weights `rule` of the nodes, and `weights` of the samples that add to 1."""
    x = samples if samples.dtype.itemsize >= 4 else samples.float()
    real, imaginary = empirical_cf(x, nodes, step, weights)
    gap = (real - target.to(x.dtype)) ** 2 + imaginary**2
    return 2 * (gap * rule.to(x.dtype)).sum(-1)
