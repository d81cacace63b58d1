"""Time and memory of the fused statistic beside the plain formula, forward and backward.

    python benchmarks/statistic.py

[384, 1800] increments (the original's batch: 96 images, 4 views), float32, all cores. Ratios are
to the plain formula with 17 nodes, timed in the same run, rounds interleaved, the best of each. The
floor is one sine and cosine of each increment forward, summed, and one backward, which writes the
gradient: the statistic of a single frequency, without the law. "In one loop" lifts two limits of
torch's compiler for CPUs, 16 sums a loop and multiplications rounded before they are added.
"""

from collections.abc import Callable

import torch
from timing import table
from torch import Tensor

from levyjepa.ecf import Quadrature, equispaced, statistic
from levyjepa.laws import Brownian, CompoundPoisson, LaplaceJumps

ONE_LOOP = {
    "cpp.max_horizontal_fusion_size": 256,
    "max_fusion_size": 256,
    "cpp.enable_floating_point_contract_flag": "fast",
}
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
    return x.cos().mean(-1) + x.sin().mean(-1)


def step(function: Callable[..., Tensor], x: Tensor, *args: Quadrature) -> None:
    function(x, *args).sum().backward()
    x.grad = None


def main() -> None:
    torch.manual_seed(0)
    x = torch.randn(384, 1800).requires_grad_()
    cases: dict[str, Callable[[], None]] = {}
    for nodes in (17, 64):
        rule = equispaced(LAW, nodes)
        ways = {
            "plain": plain,
            "fused": fused,
            "fused and compiled": torch.compile(fused, fullgraph=True),
            "fused, compiled in one loop": torch.compile(fused, fullgraph=True, options=ONE_LOOP),
        }
        for name, way in ways.items():
            cases[f"{name}, {nodes} nodes"] = lambda way=way, rule=rule: step(way, x, rule)
    sincos = torch.compile(floor)
    cases["the floor, compiled"] = lambda: step(sincos, x)
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    text, best = table(cases, "plain, 17 nodes")
    print(text)
    ratios = [f"{n}: {t / best['the floor, compiled']:.1f}" for n, t in best.items() if "loop" in n]
    print(f"times the floor: {'; '.join(ratios)}")


if __name__ == "__main__":
    main()
