"""The Lévy prior on a GPU: errors, time, kernels launched and memory, forward and backward.

    python benchmarks/gpu.py

Beside it stands the original's formula, 17 Gauss-Laguerre nodes in an array of waves, eager and
compiled. Fields are [384, 16, 16, 128], the original's batch, and [16, 16, 16, 32]. Every line is
JSON; a stage that fails says so, and the others go on. Compiled cases come last.
"""

import itertools
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from levyjepa.ecf import Quadrature, empirical, empirical_cf, equispaced, gauss_laguerre
from levyjepa.lattice import increments
from levyjepa.laws import Brownian, CompoundPoisson, LaplaceJumps
from levyjepa.objectives import LevyRegularizer
from levyjepa.objectives.directions import random_rotation

LAW = Brownian(0.125) + CompoundPoisson(2.0, LaplaceJumps(1.0))
SHAPES = {"large": (384, 16, 16, 128), "small": (16, 16, 16, 32)}
SIZES = ((5, 1037), (2, 20_011), (300, 1))  # of samples, where errors are looked for
DEVICE = "cuda"

Loss = Callable[[Tensor], Tensor]


def plain(prior: LevyRegularizer) -> Loss:
    """The same loss as the formula reads: waves in a [samples, increments, nodes] array."""
    comparisons: list[Any] = list(prior.terms)

    def loss(field: Tensor) -> Tensor:
        channels, terms = field.shape[-1], []
        field = field @ random_rotation(channels, field.dtype, field.device, None)
        for first, term in enumerate(comparisons):
            x = increments(field[..., first :: len(comparisons)], term.stencil).flatten(1)
            nodes, weights, target = term.tables.on(x.device, x.dtype)
            angle = x[..., None] * nodes
            gap = (angle.cos().mean(1) - target) ** 2 + angle.sin().mean(1) ** 2
            terms.append(2 * (gap * weights).sum(-1).mean())
        return torch.stack(terms).mean()

    return loss


@contextmanager
def no_kernels() -> Iterator[None]:
    """What PyTorch's own operators make of it."""
    empirical._TRITON = False
    try:
        yield
    finally:
        empirical._TRITON = True


def step(loss: Loss, field: Tensor) -> None:
    loss(field).backward()
    field.grad = None


def errors() -> None:
    """The worst of sums and gradients in float32, against the formula in float64."""
    rules = {f"{n} nodes": equispaced(LAW, n) for n in (17, 64, 96)}
    rules["17 Gauss-Laguerre nodes"] = gauss_laguerre(LAW, 17)
    for name, rule in rules.items():
        worst: dict[str, float] = {}
        for (rows, n), weighted in itertools.product(SIZES, (False, True)):
            x, w = 2 * torch.randn(rows, n, device=DEVICE), None
            if weighted:
                w = (torch.rand(rows, n, device=DEVICE) < 0.5).double() + 1e-3
                w /= w.sum(-1, keepdim=True)
            given = torch.randn(2, rows, len(rule.nodes), device=DEVICE)
            exact = of_formula(x.double(), rule, w, given.double())
            found, again = (of_library(x, rule, w, given) for _ in range(2))
            with no_kernels():
                beside = of_library(x, rule, w, given)
            for kind, (cf, slope) in {"": found, ", no kernels": beside, ", again": again}.items():
                before = exact if kind != ", again" else found
                error = (cf - before[0]).abs().max(), (slope - before[1]).norm() / slope.norm()
                for part, value in zip(("sums", "slopes"), error, strict=True):
                    worst[part + kind] = max(worst.get(part + kind, 0.0), value.item())
        say(f"errors, {name}", **worst)


def of_formula(
    x: Tensor, rule: Quadrature, w: Tensor | None, given: Tensor
) -> tuple[Tensor, Tensor]:
    x = x.requires_grad_()
    angle, share = x[..., None] * rule.nodes.to(x), 1 / x.shape[1] if w is None else w[..., None]
    cf = torch.stack([(angle.cos() * share).sum(1), (angle.sin() * share).sum(1)])
    return cf.detach(), torch.autograd.grad(cf, x, given)[0]


def of_library(
    x: Tensor, rule: Quadrature, w: Tensor | None, given: Tensor
) -> tuple[Tensor, Tensor]:
    x = x.detach().requires_grad_()
    cf = torch.stack(empirical_cf(x, rule.nodes.to(x.device), rule.step, w))
    return cf.detach(), torch.autograd.grad(cf, x, given)[0]


def no_waiting() -> None:
    """Raise where the host waits for the device."""
    prior, field = LevyRegularizer(LAW).to(DEVICE), make_field("small")
    mask = torch.rand(field.shape[:-1], device=DEVICE) < 0.9
    for name, loss in {"": prior, ", masked": lambda f: prior(f, mask=mask)}.items():
        step(loss, field)
        torch.cuda.set_sync_debug_mode("error")
        try:
            step(loss, field)
        finally:
            torch.cuda.set_sync_debug_mode("default")
        say(f"no waiting{name}", ok=True)


def make_field(size: str) -> Tensor:
    return torch.randn(SHAPES[size], device=DEVICE, requires_grad=True)


def measure(name: str, size: str, loss: Loss) -> None:
    """Milliseconds a step, the best of three rounds of ten; kernels launched; peak extra memory."""
    field = make_field(size)
    torch.cuda.synchronize()
    begin = time.perf_counter()
    step(loss, field)
    torch.cuda.synchronize()
    first = time.perf_counter() - begin
    step(loss, field)
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    step(loss, field)
    memory = (torch.cuda.max_memory_allocated() - before) / 2**20
    best = min(timed(loss, field, 10) for _ in range(3))
    launched = kernels(loss, field)
    counts = Counter(name[:90] for name, _ in launched)
    own = [(name, us) for name, us in launched if name in ("_sums", "_slopes")]
    often = counts.most_common(20) if name.startswith("kernels, 64") else None
    say(
        f"{name}, {size}",
        ms=round(best, 3),
        kernels=len(launched),
        device_ms=round(sum(us for _, us in launched) / 1e3, 3),
        peak_MB=round(memory),
        first_s=round(first, 2),
        own_us=own,
        often=often,
    )


def timed(loss: Loss, field: Tensor, rounds: int) -> float:
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    for _ in range(rounds):
        step(loss, field)
    end.record()
    torch.cuda.synchronize()
    return start.elapsed_time(end) / rounds


def kernels(loss: Loss, field: Tensor) -> list[tuple[str, float]]:
    """What one step launches, and the microseconds of each."""
    activity = torch.profiler.ProfilerActivity
    with torch.profiler.profile(activities=[activity.CPU, activity.CUDA]) as profile:
        step(loss, field)
        torch.cuda.synchronize()
    events = profile.events() or []
    return [(e.name, e.device_time) for e in events if e.device_type.name == "CUDA"]


def say(stage: str, **found: object) -> None:
    print(json.dumps({"stage": stage, **found}), flush=True)


def guarded(run: Callable[..., None], *args: object) -> None:
    try:
        run(*args)
    except Exception as error:
        stage = ", ".join([run.__name__, *(arg for arg in args if isinstance(arg, str))])
        say(stage, error=f"{type(error).__name__}: {error}"[:500])


def main() -> None:
    torch.manual_seed(0)
    say("device", name=torch.cuda.get_device_name(), torch=torch.__version__)
    guarded(errors)
    guarded(no_waiting)
    original, ours = LevyRegularizer.reference().to(DEVICE), LevyRegularizer(LAW).to(DEVICE)
    cases: dict[str, Loss] = {
        "formula, 17 Gauss-Laguerre nodes": plain(original),
        "kernels, 17 Gauss-Laguerre nodes": original,
        "kernels, 64 nodes": ours,
    }
    for size in SHAPES:
        for name, loss in cases.items():
            guarded(measure, name, size, loss)
        with no_kernels():
            guarded(measure, "no kernels, 64 nodes", size, ours)
    del cases["kernels, 17 Gauss-Laguerre nodes"]
    for (name, loss), size in itertools.product(cases.items(), SHAPES):
        torch.compiler.reset()
        guarded(measure, f"{name}, compiled", size, torch.compile(loss))


if __name__ == "__main__":
    main()
