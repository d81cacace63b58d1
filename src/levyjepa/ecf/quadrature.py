"""Frequencies and weights as data."""

import math
from dataclasses import dataclass

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

    def __post_init__(self) -> None:
        for name in ("nodes", "weights"):
            checks.floating(name, getattr(self, name), 1)
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
        if self.step is not None:
            expected = self.step * torch.arange(1, len(self.nodes) + 1, dtype=self.nodes.dtype)
            if not torch.allclose(self.nodes, expected.to(self.nodes.device), rtol=1e-9):
                raise ValueError(f"`nodes` must be multiples of `step` {self.step}, got others.")


def frequency_range(law: Law, volume: float = 1.0) -> float:
    """The frequency u_max beyond which the law says nothing more: volume * psi(u_max) = -4.

    A law whose exponent never falls so far (jumps alone) has u_max where 99 % of its fall is done.
    """

    def psi(u: float) -> float:
        with torch.no_grad():
            return float(volume * law.exponent(torch.tensor([u], dtype=torch.float64)))

    target = max(-4.0, 0.99 * psi(1e100))
    low, high = -230.0, 230.0
    for _ in range(64):
        middle = (low + high) / 2
        low, high = (low, middle) if psi(math.exp(middle)) < target else (middle, high)
    return math.exp(high)


def equispaced(law: Law, nodes: int = 64, volume: float = 1.0) -> Quadrature:
    """The trapezoid rule on [0, u_max] for the weight e^(-10 u / u_max).

    With h = u_max / nodes it resolves increments up to about pi / h; u = 0, at which every
    characteristic function is 1, is left out.

    Args:
        law: sets the range u_max, where volume * psi(u_max) = -4.
        nodes: how many frequencies.
        volume: the volume of the cells that it will be used for.
    """
    checks.count("nodes", nodes, least=2)
    u_max = frequency_range(law, checks.positive("volume", volume))
    step = u_max / nodes
    u = step * torch.arange(1, nodes + 1, dtype=torch.float64)
    weights = step * torch.exp(-10 / u_max * u)
    weights[-1] /= 2
    return Quadrature(u, weights, step)


def gauss_laguerre(law: Law, nodes: int = 17, volume: float = 1.0) -> Quadrature:
    """Gauss-Laguerre nodes for the weight e^(-10 u / u_max) on [0, inf): the original setting.

    17 of them alias increments larger than about 3; `equispaced` does not.
    """
    checks.count("nodes", nodes)
    scale = frequency_range(law, checks.positive("volume", volume)) / 10
    x, w = np.polynomial.laguerre.laggauss(nodes)
    return Quadrature(torch.from_numpy(x) * scale, torch.from_numpy(w) * scale)
