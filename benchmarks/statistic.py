"""Time and memory of the fused statistic beside the plain formula, forward and backward.

    python benchmarks/statistic.py

[384, 1800] increments (the original's batch: 96 images, 4 views), float32, all cores. Ratios are
to the plain formula with 17 nodes, timed in the same run, rounds interleaved.
"""

from collections.abc import Callable

import torch
from timing import table
from torch import Tensor

from levyjepa.ecf import Quadrature, equispaced, statistic
from levyjepa.laws import Brownian, CompoundPoisson, LaplaceJumps

LAW = Brownian(0.125) + CompoundPoisson(2.0, LaplaceJumps(1.0))


def plain(x: Tensor, rule: Quadrature) -> Tensor:
    """The statistic as the formula reads: waves in a [nodes, images, increments] array."""
    angle = x * rule.nodes.to(x.dtype)[:, None, None]
    target = LAW.characteristic_function(rule.nodes).to(x.dtype)[:, None]
    gap = (angle.cos().mean(-1) - target) ** 2 + angle.sin().mean(-1) ** 2
    return 2 * (gap.T @ rule.weights.to(x.dtype))


def fused(x: Tensor, rule: Quadrature) -> Tensor:
    return statistic(x, LAW, 1.0, rule)


def floor(x: Tensor) -> Tensor:
    return x.cos() + x.sin()


def step(function: Callable[..., Tensor], x: Tensor, *args: Quadrature) -> None:
    function(x, *args).sum().backward()
    x.grad = None


def main() -> None:
    torch.manual_seed(0)
    x = torch.randn(384, 1800).requires_grad_()
    cases: dict[str, Callable[[], None]] = {}
    for nodes in (17, 64):
        rule = equispaced(LAW, nodes)
        compiled = torch.compile(fused, fullgraph=True)
        cases[f"plain, {nodes} nodes"] = lambda rule=rule: step(plain, x, rule)
        cases[f"fused, {nodes} nodes"] = lambda rule=rule: step(fused, x, rule)
        cases[f"fused and compiled, {nodes} nodes"] = lambda rule=rule, f=compiled: step(f, x, rule)
    sincos = torch.compile(floor)
    cases["one sine and cosine each way, compiled"] = lambda: step(sincos, x)
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    print(table(cases, "plain, 17 nodes"))


if __name__ == "__main__":
    main()
