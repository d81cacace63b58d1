"""Frequencies and weights as data."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from levyjepa import checks
from levyjepa.laws import Law


@dataclass(frozen=True)
class Quadrature:
    """A rule for integrals over frequencies u > 0: sum of weights times values at nodes.

    Args:
        nodes: (K,) float64, positive and increasing.
        weights: (K,) float64, not negative, the weight function included.
        step: h if nodes are h, 2h, ..., Kh, which the fused characteristic function makes use of.
    """

    nodes: Tensor
    weights: Tensor
    step: float | None = None
    last: float = field(init=False, repr=False, compare=False)  # the largest node, as a number

    def __post_init__(self) -> None:
        for name in ("nodes", "weights"):
            checks.floating(name, getattr(self, name), 1, "(K,)")
            object.__setattr__(self, name, getattr(self, name).detach())
            if not getattr(self, name).isfinite().all():
                raise ValueError(f"`{name}` must be finite, got {getattr(self, name)}.")
        if self.nodes.shape != self.weights.shape:
            raise ValueError(
                f"`nodes` and `weights` must be equally many, got {len(self.nodes)} and "
                f"{len(self.weights)}."
            )
        if self.nodes[0] <= 0 or (self.nodes.diff() <= 0).any():
            raise ValueError(f"`nodes` must be positive and increasing, got {self.nodes}.")
        if (self.weights < 0).any():
            raise ValueError(f"`weights` must not be negative, got {self.weights}.")
        object.__setattr__(self, "last", float(self.nodes[-1]))
        if self.step is not None:
            checks.positive("step", self.step)
            expected = self.step * torch.arange(1, len(self.nodes) + 1, device="cpu").to(self.nodes)
            if not torch.allclose(self.nodes, expected.to(self.nodes.device), rtol=1e-9):
                raise ValueError(f"`nodes` must be multiples of `step` {self.step}, got others.")


def frequency_range(law: Law, volume: float = 1.0) -> float:
    """The frequency u_max beyond which the law says nothing more: volume * psi(u_max) = -4.

    A law whose exponent never falls so far (jumps alone) has u_max where 99 % of its fall is done.
    """

    a_law(law)
    volume = checks.positive("volume", volume)

    def psi(u: float) -> float:
        with torch.no_grad():
            return float(
                volume * law.exponent(torch.tensor([u], dtype=torch.float64, device="cpu"))
            )

    target = max(-4.0, 0.99 * psi(1e100))
    low, high = -230.0, 230.0
    for _ in range(64):
        middle = (low + high) / 2
        low, high = (low, middle) if psi(math.exp(middle)) < target else (middle, high)
    return math.exp(high)


def a_law(law: Law) -> Law:
    """Return `law` if it is one; raise otherwise."""
    if not isinstance(law, Law):
        raise TypeError(f"`law` must be a Law, got {law!r}.")
    return law


def exponential_weight(share: Tensor) -> Tensor:
    """The weight e^(-10 u / u_max) at `share` = u / u_max: on the whole line, two-sided."""
    return torch.exp(-10 * checks.floating("share", share))


def gaussian_weight(share: Tensor) -> Tensor:
    """The weight e^(-10 (u / u_max)^2) at `share` = u / u_max, smooth at 0."""
    return torch.exp(-10 * checks.floating("share", share).square())


def equispaced(
    law: Law,
    nodes: int = 64,
    volume: float = 1.0,
    weight: Callable[[Tensor], Tensor] = exponential_weight,
    tolerance: float | None = None,
    size: float = 8.0,
) -> Quadrature:
    """The trapezoid rule on [0, u_max]; u = 0, where every characteristic function is 1, left out.

    With spacing h it tells increments apart up to about pi / h; larger ones alias.

    Args:
        law: sets the range u_max, where volume * psi(u_max) = -4.
        nodes: how many frequencies, unless `tolerance` is given.
        volume: the volume of the cells that it will be used for.
        weight: the weight function, of u / u_max.
        tolerance: take as few nodes as keep the statistic's error below `tolerance` times the
            integral of the weight, for any increments up to `size`.
        size: the largest increment, where `tolerance` is given.

    >>> from levyjepa.laws import Brownian
    >>> [len(equispaced(Brownian(1.0), tolerance=1e-3, size=size).nodes) for size in (2.0, 8.0)]
    [13, 27]
    """
    checks.count("nodes", nodes, least=2)
    if not callable(weight):
        raise TypeError(f"`weight` must be a function of u / u_max, got {weight!r}.")
    u_max = frequency_range(law, volume)
    if tolerance is None:
        return _trapezoid(u_max, nodes, weight)
    checks.positive("tolerance", tolerance)
    size = checks.positive("size", size)
    fine = _trapezoid(u_max, 2**13, weight)
    exact, total = _pairs(fine, law, volume, size), fine.weights.sum()
    for count in range(2, 2**11):
        rule = _trapezoid(u_max, count, weight)
        if (_pairs(rule, law, volume, size) - exact).abs().max() <= tolerance * total:
            return rule
    raise ValueError(
        f"`tolerance` {tolerance} needs more than 2,048 nodes for increments up to {size}."
    )


def _trapezoid(u_max: float, nodes: int, weight: Callable[[Tensor], Tensor]) -> Quadrature:
    step = u_max / nodes
    share = torch.arange(1, nodes + 1, dtype=torch.float64, device="cpu") / nodes
    weights = step * weight(share)
    weights[-1] /= 2
    return Quadrature(step * share * nodes, weights, step)


def _pairs(rule: Quadrature, law: Law, volume: float, size: float) -> Tensor:
    """What each pair of increments adds to the statistic, of which it is the mean over pairs.

    Re integral of (e^(iux) - phi)(e^(-iux') - phi) w(u) du, for x and x' on a grid up to `size`.
    """
    x = torch.linspace(-size, size, 65, dtype=torch.float64, device="cpu")
    pair, single = torch.zeros_like(x), torch.zeros_like(x)  # by x - x' from 0 up, and by x
    phi = law.characteristic_function(rule.nodes, volume).detach()
    parts = (rule.nodes, rule.weights, phi)
    for u, w, f in zip(*(part.split(1024) for part in parts), strict=True):
        pair += ((x + size)[:, None] * u).cos() @ w
        single += (x[:, None] * u).cos() @ (w * f)
    at = torch.arange(len(x), device=x.device)
    between = pair[(at[:, None] - at).abs()]
    return between - single[:, None] - single + (rule.weights * phi**2).sum()


def gauss_laguerre(law: Law, nodes: int = 17, volume: float = 1.0) -> Quadrature:
    """Gauss-Laguerre nodes for the weight e^(-10 u / u_max) on [0, inf): the original setting.

    17 of them alias increments larger than about 3; `equispaced` does not.
    """
    if checks.count("nodes", nodes) > 180:
        raise ValueError(f"`nodes` must be at most 180, got {nodes}: their weights are no numbers.")
    scale = frequency_range(law, volume) / 10
    x, w = np.polynomial.laguerre.laggauss(nodes)
    return Quadrature(torch.from_numpy(x) * scale, torch.from_numpy(w) * scale)
