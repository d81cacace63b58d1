"""How far samples are from a law."""

import torch
from torch import Tensor

from levyjepa import checks
from levyjepa.ecf.empirical import empirical_cf
from levyjepa.ecf.quadrature import Quadrature, a_law, equispaced
from levyjepa.laws import Law

FAR = 1e8  # frequencies that float32 bears


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
        (B,), at least 0, in float32 or better; NaN where a row holds NaN or infinity. What its
        dtype cannot hold, of value or gradient, is its largest number.

    Raises:
        TypeError, ValueError: an argument is none of these.

    Source: Epps and Pulley, *A test for normality based on the empirical characteristic
    function*, 1983, for any law.
    """
    checks.floating("samples", samples, 2, "(B, N)")
    rule = equispaced(a_law(law)) if quadrature is None else quadrature
    if not isinstance(rule, Quadrature):
        raise TypeError(f"`quadrature` must be a Quadrature, got {rule!r}.")
    nodes = rule.nodes.to(samples.device)
    target = a_law(law).characteristic_function(nodes, volume)
    if weights is not None:
        weights = _shares(weights, samples)
    x = samples
    most = min(FAR, torch.finfo(x.dtype).max ** 0.5)
    if wide := rule.last > most and x.dtype != torch.float64:  # u x or u w past the dtype
        x = in_double(x)
    found = distance(x, target, nodes, rule.weights.to(nodes), rule.step, weights)
    return found.clamp_max(torch.finfo(torch.float32).max).float() if wide else found


def _shares(weights: Tensor, samples: Tensor) -> Tensor:
    """Weights that add to 1."""
    if not isinstance(weights, Tensor):
        raise TypeError(f"`weights` must be a tensor, got {type(weights).__name__}.")
    if weights.is_complex():
        raise TypeError(f"`weights` must be real, got {weights.dtype}.")
    if weights.shape != samples.shape:
        raise ValueError(f"`weights` must be {tuple(samples.shape)}, got {tuple(weights.shape)}.")
    weights = weights.double()
    total = weights.sum(-1, keepdim=True)
    if not ((weights >= 0).all() and ((total > 0) & total.isfinite()).all()):
        raise ValueError("`weights` must be finite and not negative, and each row must hold some.")
    return weights / total


def in_double(samples: Tensor) -> Tensor:
    """In float64, with a gradient that the dtype of `samples` holds."""
    limits = torch.finfo(samples.dtype)
    x = samples.double()
    if x.requires_grad and x is not samples:  # no hook on a tensor of the caller's
        x.register_hook(lambda grad: grad.clamp(limits.min, limits.max))
    return x


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
