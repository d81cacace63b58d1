"""Time and memory of the fused statistic beside the plain formula, forward and backward.

    python benchmarks/statistic.py

[384, 1800] increments (the original's batch: 96 images, 4 views), float32, all cores. Ratios are
to the plain formula with 17 nodes, timed in the same run, rounds interleaved.
"""

import statistics
import threading
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from levyjepa.ecf import Quadrature, equispaced, statistic
from levyjepa.laws import Brownian, CompoundPoisson, LaplaceJumps

LAW = Brownian(0.125) + CompoundPoisson(2.0, LaplaceJumps(1.0))
ROUNDS = 15


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


def peak(run: Callable[[], None]) -> float:
    """Extra resident memory while running, MB, sampled every 0.2 ms."""

    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

    before, most, done = resident(), [0], threading.Event()

    def watch() -> None:
        while not done.is_set():
            most[0] = max(most[0], resident())
            time.sleep(2e-4)

    watcher = threading.Thread(target=watch)
    watcher.start()
    run()
    done.set()
    watcher.join()
    return max(most[0] - before, 0) / 2**20


def main() -> None:
    torch.manual_seed(0)
    x = torch.randn(384, 1800).requires_grad_()
    rules = {nodes: equispaced(LAW, nodes) for nodes in (17, 64)}
    cases: dict[str, Callable[[], None]] = {}
    for nodes, rule in rules.items():
        compiled = torch.compile(fused, fullgraph=True)
        cases[f"plain, {nodes} nodes"] = lambda rule=rule: step(plain, x, rule)
        cases[f"fused, {nodes} nodes"] = lambda rule=rule: step(fused, x, rule)
        cases[f"fused and compiled, {nodes} nodes"] = lambda rule=rule, f=compiled: step(f, x, rule)
    sincos = torch.compile(floor)
    cases["one sine and cosine each way, compiled"] = lambda: step(sincos, x)

    memory, times = {}, {name: [] for name in cases}
    for name, run in cases.items():
        run()
        memory[name] = peak(run)
    for _ in range(ROUNDS):
        for name, run in cases.items():
            start = time.perf_counter()
            run()
            times[name].append(time.perf_counter() - start)

    base = statistics.median(times["plain, 17 nodes"])
    print(
        f"torch {torch.__version__}, {torch.get_num_threads()} threads, median of {ROUNDS} rounds"
    )
    print("| | ms | times faster than plain, 17 nodes | peak extra memory, MB |")
    print("|---|---|---|---|")
    for name, seconds in times.items():
        middle = statistics.median(seconds)
        print(f"| {name} | {middle * 1e3:.2f} | {base / middle:.1f} | {memory[name]:.0f} |")


if __name__ == "__main__":
    main()
