"""The prior and SIGReg beside fair baselines, forward and backward, on the CPU.

    python benchmarks/losses.py

The baseline is the formula as the original and LeJEPA write it, compiled, and for SIGReg that of
lightly, if it is installed. Small, middle and large inputs, float32, all cores, the best of many
alternating runs. The cold compilation is measured apart, in seconds of all processes.
"""

import argparse
import importlib.util
import resource
from collections.abc import Callable, Collection
from typing import Any

import torch
from timing import table
from torch import Tensor, nn
from torch._inductor import config as inductor

from levyjepa.ecf import equispaced, gauss_laguerre
from levyjepa.laws import Brownian, CompoundPoisson, LaplaceJumps
from levyjepa.objectives import LevyRegularizer, SIGReg

LAW = Brownian(0.125) + CompoundPoisson(2.0, LaplaceJumps(1.0))
FIELDS = {"small": (16, 6, 6, 32), "middle": (96, 14, 14, 32), "large": (384, 16, 16, 16)}
PROJECTIONS = {"small": (2, 64, 32), "middle": (4, 128, 64), "large": (4, 256, 512)}


class PlainPrior(nn.Module):
    """The original's term: waves in [images, increments, nodes] arrays, the floor left in."""

    def __init__(self, nodes: int | None = None) -> None:
        super().__init__()
        rules = [
            gauss_laguerre(LAW) if nodes is None else equispaced(LAW, nodes, v) for v in (1.0, 2.0)
        ]
        self.rules = [
            tuple(x.float() for x in (r.nodes, r.weights, LAW.characteristic_function(r.nodes, v)))
            for r, v in zip(rules, (1.0, 2.0), strict=True)
        ]

    def forward(self, field: Tensor) -> Tensor:
        channels = field.shape[-1]
        field = field @ torch.linalg.qr(torch.randn(channels, channels))[0]
        a, b = field[..., 0::2], field[..., 1::2]
        a = a[:, 1:, 1:] - a[:, 1:, :-1] - a[:, :-1, 1:] + a[:, :-1, :-1]
        b = b[:, :-2, 1:-1] - b[:, 1:-1, :-2] - b[:, 1:-1, 2:] + b[:, 2:, 1:-1]
        loss = field.new_zeros(())
        for x, (nodes, weights, phi) in zip((a, b), self.rules, strict=True):
            angle = x.flatten(1)[..., None] * nodes
            gap = (angle.cos().mean(1) - phi) ** 2 + angle.sin().mean(1) ** 2
            loss = loss + 2 * (gap @ weights).mean()
        return loss / 2


class PlainSIGReg(nn.Module):
    """SIGReg as LeJEPA writes it: waves in a [views, samples, directions, knots] array."""

    def __init__(self, directions: int) -> None:
        super().__init__()
        self.directions = directions
        self.u = torch.linspace(0, 3, 17)
        self.phi = torch.exp(-(self.u**2) / 2)

    def forward(self, z: Tensor) -> Tensor:
        directions = torch.randn(z.shape[-1], self.directions)
        directions = directions / directions.norm(dim=0)
        angle = (z @ directions)[..., None] * self.u
        gap = (angle.cos().mean(1) - self.phi) ** 2 + angle.sin().mean(1) ** 2
        return 2 * torch.trapezoid(gap * self.phi, self.u).mean() * z.shape[1]


def lightly_sigreg(directions: int) -> Callable[[Tensor], Tensor]:
    """Return lightly's SIGReg, averaged over views as ours is."""
    from lightly.loss.lejepa_loss import SIGReg as Theirs  # pyright: ignore

    term = Theirs(num_vectors=directions)
    return lambda z: torch.stack([term(view) for view in z]).mean()


def seconds() -> float:
    """Return CPU seconds of this process and its children."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(use.ru_utime + use.ru_stime for use in used)


def step(loss: Callable[[Tensor], Tensor], x: Tensor) -> None:
    loss(x).backward()
    x.grad = None


def compare(
    title: str, losses: dict[str, Any], base: str, x: Tensor, eager: Collection[str] = ()
) -> None:
    """Print a table of losses, eager and, where they are modules, compiled except `eager`."""
    cases, compilation = {}, {}
    for name, loss in losses.items():
        cases[name] = lambda loss=loss: step(loss, x)
        if isinstance(loss, nn.Module) and name not in eager:
            compiled = torch.compile(loss)
            start = seconds()
            step(compiled, x)
            compilation[name] = seconds() - start
            cases[f"{name}, compiled"] = lambda loss=compiled: step(loss, x)
    print(f"\n{title}, {list(x.shape)}\n\n{table(cases, base)[0]}")
    cold = "; ".join(f"{name} {value:.0f}" for name, value in compilation.items())
    print(f"\ncold compilation, CPU seconds: {cold}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", default="small,middle,large")
    sizes = parser.parse_args().sizes.split(",")
    inductor.force_disable_caches = True  # so that compilation is cold
    torch.manual_seed(0)
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    for size in sizes:
        field = torch.randn(*FIELDS[size], requires_grad=True)
        losses: dict[str, Any] = {
            "the original, 17 nodes": PlainPrior(),
            "plain, 64 nodes": PlainPrior(64),
            "ours, the original's setting": LevyRegularizer.reference(),
            "ours, 64 nodes, the floor left in": LevyRegularizer(LAW, unbiased=False),
            "ours, 64 nodes": LevyRegularizer(LAW),
        }
        eager = {"ours, the original's setting", "ours, 64 nodes, the floor left in"}
        compare(f"The prior, {size}", losses, "the original, 17 nodes, compiled", field, eager)
    for size in sizes:
        z = torch.randn(*PROJECTIONS[size], requires_grad=True)
        directions = 1024 if size == "large" else 256
        losses = {"LeJEPA's formula": PlainSIGReg(directions), "ours": SIGReg(directions)}
        if importlib.util.find_spec("lightly"):
            losses["lightly"] = lightly_sigreg(directions)
        compare(f"SIGReg, {size}, {directions} directions", losses, "LeJEPA's formula, compiled", z)


if __name__ == "__main__":
    main()
