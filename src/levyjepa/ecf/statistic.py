"""How far samples are from a law."""

from torch import Tensor

from levyjepa import checks
from levyjepa.ecf.empirical import empirical_cf
from levyjepa.ecf.quadrature import Quadrature, equispaced
from levyjepa.laws import Law


def statistic(
    samples: Tensor, law: Law, volume: float = 1.0, quadrature: Quadrature | None = None
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

    Returns:
        (B,), at least 0.

    Source: Epps and Pulley, *A test for normality based on the empirical characteristic
    function*, 1983, for any law.
    """
    checks.floating("samples", samples, 2, "(B, N)")
    rule = equispaced(law) if quadrature is None else quadrature
    nodes, weights = rule.nodes.to(samples.device), rule.weights.to(samples.device)
    target = law.characteristic_function(nodes, volume)
    return distance(samples, target, nodes, weights, rule.step)


def distance(
    samples: Tensor, target: Tensor, nodes: Tensor, weights: Tensor, step: float | None
) -> Tensor:
    """`statistic` from plain tensors: `target` is the characteristic function at the nodes."""
    x = samples if samples.dtype.itemsize >= 4 else samples.float()
    real, imaginary = empirical_cf(x, nodes, step)
    gap = (real - target.to(x.dtype)) ** 2 + imaginary**2
    return 2 * (gap * weights.to(x.dtype)).sum(-1)
