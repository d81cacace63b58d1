"""Every figure and number of the paper, from the library itself.

    python docs/paper/figures.py

Writes `figures/*.pdf` and `figures/numbers.tex`, whose macros the text cites. Seeded; under a
minute on one thread.
"""

import logging
import math
from collections.abc import Callable
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Polygon
from torch import Tensor

from levyjepa.ecf import Quadrature, empirical_cf, equispaced, gauss_laguerre, null, statistic
from levyjepa.inference import jump_probability, log_density
from levyjepa.lattice import Stencil, box, diamond, increments, line, overlaps, sample_sheet, tiling
from levyjepa.laws import (
    Brownian,
    CompoundPoisson,
    IndependentCoordinates,
    LaplaceJumps,
    Law,
    NormalInverseGaussian,
    VarianceGamma,
)
from levyjepa.objectives import LevyRegularizer, VideoRegularizer

OUT = Path(__file__).parent / "figures"
REFERENCE = Brownian(0.125) + CompoundPoisson(2.0, LaplaceJumps(1.0))  # the original experiments'
SMOOTH, RARE = Brownian(0.5), CompoundPoisson(0.1, LaplaceJumps(0.7))  # few jumps, some hidden
BLUE, ORANGE, GREEN, GRAY = "#2b6ca3", "#d1702a", "#3d8b53", "#8a8a8a"
NUMBERS: dict[str, str] = {}


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def sheet() -> None:
    """Fields of one variance, without and with jumps, and what tells them apart."""
    law = Brownian(0.125) + CompoundPoisson(0.05, LaplaceJumps(0.5))
    smooth = Brownian(law.variance() ** 0.5)
    fields = [sample_sheet(part, box(2), (25, 25), 16, 1, seeded(7)) for part in (smooth, law)]
    moves = [increments(field, box(2)) for field in fields]
    figure, axes = plt.subplots(1, 4, figsize=(6.3, 1.7), layout="constrained")
    titles = ("Gaussian increments", "rare jumps", "the latter's increments")
    panels = [fields[0], fields[1], moves[1].view(1, 24, 24, 16)]
    for axis, panel, title in zip(axes[:3], panels, titles, strict=True):
        values = panel[0, ..., 0]
        limit = values.abs().max().item()
        color = "RdBu_r" if panel is panels[2] else "viridis"
        scale = {"vmin": -limit, "vmax": limit} if panel is panels[2] else {}
        axis.imshow(values, cmap=color, interpolation="nearest", **scale)
        axis.set(title=title, xticks=[], yticks=[])
        axis.spines[:].set_visible(True)
    row, column = (panels[2][0, ..., 0].abs() > 6 * 0.125).nonzero().T
    axes[2].plot(column, row, "o", mfc="none", color="black", ms=5, mew=0.5)
    u = torch.linspace(0, 16, 161)
    for x, color, name in zip(moves, (ORANGE, BLUE), ("Gaussian", "jumps"), strict=True):
        axes[3].plot(u, empirical_cf(x.view(1, -1), u, None)[0][0], color=color, lw=1.1, label=name)
    axes[3].plot(u, law.characteristic_function(u), color="black", lw=1, ls=":", label="the law")
    axes[3].set(title="characteristic functions", xlabel="frequency $u$", ylim=(-0.1, 1.05))
    axes[3].legend(frameon=False, fontsize=6, loc=(0.56, 0.62), handlelength=1)
    save(figure, "sheet")


def densities() -> None:
    """Laws of one variance: their characteristic functions, and their log densities."""
    laws = {
        "Brownian": Brownian(1.0),
        "normal inverse Gaussian": NormalInverseGaussian(1.0, 1.0),
        "variance gamma": VarianceGamma(1.0, 1.0),
        "Brownian and Laplace jumps": Brownian(0.3)
        + CompoundPoisson(0.2, LaplaceJumps(math.sqrt(0.4 / 0.91))),
    }
    u = torch.linspace(0, 6, 301, dtype=torch.float64)
    x = torch.linspace(0, 9, 451, dtype=torch.float64)
    figure, (left, right) = plt.subplots(1, 2, figsize=(6.1, 2.0), layout="constrained")
    for (name, law), color in zip(laws.items(), (GRAY, GREEN, ORANGE, BLUE), strict=True):
        left.plot(u, law.characteristic_function(u), color=color, lw=1.2, label=name)
        right.plot(x, log_density(x, law).exp(), color=color, lw=1.2)
    left.set(xlabel="frequency $u$", ylabel="characteristic function", ylim=(0, 1.02))
    right.set(xlabel="increment", ylabel="density", yscale="log", ylim=(1e-9, 3))
    figure.legend(
        *left.get_legend_handles_labels(), frameon=False, loc="outside upper center", ncols=4
    )
    save(figure, "densities")


def cells() -> None:
    """Stencils, and how their cells cover the lattice."""
    cases = (
        ("box(2): one tiling", box(2), (4, 4), True),
        ("diamond(): every position", diamond(), (4, 4), False),
        ("diamond(): one tiling", diamond(), (4, 4), True),
        ("line(2, axis=1, length=2)", line(2, axis=1, length=2), (4, 4), True),
    )
    figure, axes = plt.subplots(1, 4, figsize=(6.1, 1.75), layout="constrained")
    for axis, (title, stencil, grid, disjoint) in zip(axes, cases, strict=True):
        shape = tuple(n + 1 - e for n, e in zip(grid, stencil.extent, strict=True))
        chosen = tiling(stencil, shape) if disjoint else np.arange(math.prod(shape))
        for n, at in enumerate(zip(*np.unravel_index(chosen, shape), strict=True)):
            draw(axis, np.array(at) + np.array(stencil.offsets), stencil.signs, n, disjoint)
        sites = np.stack(np.meshgrid(*(np.arange(n + 1) for n in grid), indexing="ij"), -1)
        axis.plot(*sites.reshape(-1, 2).T[::-1], ".", color="black", ms=3, zorder=3)
        axis.set(title=title, xticks=[], yticks=[], aspect="equal")
        axis.set(xlim=(-0.4, grid[1] + 0.4), ylim=(grid[0] + 0.4, -0.4))
        axis.axis("off")
    save(figure, "cells")


def draw(axis: Axes, sites: np.ndarray, signs: tuple[int, ...], n: int, disjoint: bool) -> None:
    """One cell, and on the first the signs of its corners."""
    center = sites.mean(0)
    order = np.argsort(np.arctan2(*(sites - center).T))
    color = (BLUE, ORANGE, GREEN)[n % 3] if disjoint else BLUE
    style = {"alpha": 0.3 if disjoint else 0.16, "color": color, "lw": 0.8}
    if len(sites) == 2:
        axis.plot(*sites.T[::-1], "|-", color=color, lw=2.5, ms=9, alpha=0.8)
    else:
        axis.add_patch(Polygon(sites[order][:, ::-1], **style))
    if n == 0 and disjoint:
        for (row, column), sign in zip(0.66 * sites + 0.34 * center, signs, strict=True):
            text = "$+$" if sign > 0 else "$-$"
            up = 0.25 if len(sites) == 2 else 0.0
            axis.text(column, row - up, text, ha="center", va="center", fontsize=9)


def quadrature() -> None:
    """How far a rule's gradient and value are from the exact integral's."""
    exact = equispaced(REFERENCE, 4096)
    rules = {
        "17 Gauss-Laguerre": (gauss_laguerre(REFERENCE), GRAY, "o"),
        "64 equispaced": (equispaced(REFERENCE, 64), BLUE, "s"),
        "96 equispaced": (equispaced(REFERENCE, 96), ORANGE, "^"),
    }
    z = torch.randn(8, 1800, generator=seeded(0), dtype=torch.float64)
    spreads = [0.125, 0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0]
    own = REFERENCE.sample((8, 1800), generator=seeded(1), dtype=torch.float64)
    figure, (left, right) = plt.subplots(1, 2, figsize=(6.1, 2.15), layout="constrained")
    for name, (rule, color, mark) in rules.items():
        pairs = [compare(z * s, rule, exact) for s in spreads]
        cosine, error = zip(*pairs, strict=True)
        left.plot(spreads, cosine, mark + "-", color=color, label=name, ms=3, lw=1)
        right.plot(spreads, error, mark + "-", color=color, ms=3, lw=1)
        kind = {"1": "Laguerre", "6": "Sixty", "9": "Ninety"}[name[0]]
        note_cosine(f"Cos{kind}Null", compare(own, rule, exact)[0])
        for at, word in ((1.5, "OneHalf"), (4.0, "Four"), (8.0, "Eight")):
            note_cosine(f"Cos{kind}{word}", cosine[spreads.index(at)])
    left.set(xscale="log", xlabel="standard deviation of the increments")
    left.set(ylabel="gradient's cosine")
    left.legend(frameon=False, loc="lower left")
    right.set(xscale="log", yscale="log", xlabel="standard deviation of the increments")
    right.set(ylabel="relative error of $D$")
    step = equispaced(REFERENCE, 64).step or 0.0
    for axis in (left, right):
        axis.axvline(math.pi / step, color=BLUE, ls=":", lw=0.8)
    note("RangeReference", exact.nodes[-1].item(), 1)
    note("AliasSixty", math.pi / step, 1)
    for size, word in ((2.0, "Two"), (8.0, "Eight"), (32.0, "ThirtyTwo")):
        found = equispaced(REFERENCE, tolerance=1e-3, size=size)
        note(f"Nodes{word}", len(found.nodes), 0)
    save(figure, "quadrature")


def compare(x: Tensor, rule: Quadrature, exact: Quadrature) -> tuple[float, float]:
    """The gradient's cosine and the value's relative error, means over the rows of `x`."""
    values, gradients = [], []
    for each in (rule, exact):
        x = x.detach().requires_grad_()
        value = statistic(x, REFERENCE, 1.0, each)
        gradients.append(torch.autograd.grad(value.sum(), x)[0])
        values.append(value.detach())
    cosine = torch.nn.functional.cosine_similarity(*gradients, dim=1)
    return cosine.mean().item(), (values[0] / values[1] - 1).abs().mean().item()


def calibration() -> None:
    """The statistic of sheets of the law, raw and calibrated, over grids."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(6.1, 2.15), layout="constrained")
    sizes, sheets = (6, 8, 12, 16, 24, 32), 500
    cases = (
        ("box, 1 channel", box(2), 1, BLUE, "s"),
        ("box, 8 channels", box(2), 8, GREEN, "o"),
        ("diamond, 1 channel", diamond(), 1, ORANGE, "^"),
    )
    worst = 0.0
    for n, (name, stencil, channels, color, mark) in enumerate(cases):
        means, closed, middles, spreads = [], [], [], []
        for size in sizes:
            field = sample_sheet(
                REFERENCE, stencil, (size, size), channels, sheets, seeded(size), torch.float64
            )
            raw, mean, std = scored(field, REFERENCE, stencil)
            score = (raw - mean) / std
            means.append(raw.mean().item())
            closed.append(mean)
            middles.append(score.mean().item())
            spreads.append(score.std().item())
            worst = max(worst, abs(middles[-1]) / (spreads[-1] / math.sqrt(sheets)))
        left.plot(sizes, means, mark, color=color, ms=3.5, label=name)
        left.plot(sizes, closed, "-", color=color, lw=0.8)
        moved = np.array(sizes) * 1.03 ** (n - 1)
        right.errorbar(moved, middles, spreads, fmt=mark, color=color, ms=3.5, lw=0.8, capsize=2)
        note(f"NullStd{'ABC'[n]}", float(np.mean(spreads)), 2)
    for axis in (left, right):
        axis.set(xscale="log", xlabel="grid's side", xticks=sizes, xticklabels=sizes)
        axis.minorticks_off()
    left.set(yscale="log", ylabel="mean of $D$")
    left.legend(frameon=False, loc="lower left")
    right.axhspan(-1, 1, color="0.9", zorder=0)
    right.set(ylabel="score", ylim=(-2, 2))
    note("NullWorst", worst, 1)
    # The grid of the original experiments: 16 x 16 tokens of 16 channels, 8 for each stencil.
    rule = gauss_laguerre(REFERENCE)
    sheets_floor, alone_floor = 0.0, 0.0
    for stencil in (box(2), diamond()):
        shape = tuple(16 - e for e in stencil.extent)
        shared, alone = overlaps(stencil, shape), {1.0: math.prod(shape) * 8}
        sheets_floor += null(REFERENCE, stencil.volume, rule, shared, 8).mean.item() / 2
        alone_floor += null(REFERENCE, stencil.volume, rule, alone).mean.item() / 2
    note("NoiseFloor", sheets_floor, 5)
    note("NoiseFloorAlone", alone_floor, 5)
    save(figure, "calibration")


def scored(field: Tensor, law: Law, stencil: Stencil) -> tuple[Tensor, float, float]:
    """The statistic of each sheet, and its null mean and deviation."""
    rule = equispaced(law, 64, stencil.volume)
    samples = increments(field, stencil).flatten(1)
    shape = tuple(n - e for n, e in zip(field.shape[1:-1], stencil.extent, strict=True))
    found = null(law, stencil.volume, rule, overlaps(stencil, shape), field.shape[-1])
    return (
        statistic(samples, law, stencil.volume, rule),
        found.mean.item(),
        found.std.item(),
    )


def sides() -> None:
    """One side tests a histogram, several test independence."""
    law, sheets, n = REFERENCE, 500, 32
    x = law.sample((sheets, n, n), generator=seeded(5), dtype=torch.float64)
    row, column = torch.meshgrid(torch.arange(n), torch.arange(n), indexing="ij")
    blocks = x[:, ::2, ::2].sign().repeat_interleave(2, 1).repeat_interleave(2, 2)
    cases = {
        "independent": (x, BLUE, "s"),
        "signs alternate": (x.abs() * (-1.0) ** (row + column), ORANGE, "^"),
        "signs shared by $2\\times2$ cells": (x.abs() * blocks, GREEN, "o"),
    }
    figure, axis = plt.subplots(figsize=(3.6, 2.1), layout="constrained")
    for k, (name, (cellwise, color, mark)) in enumerate(cases.items()):
        field = torch.nn.functional.pad(cellwise.cumsum(1).cumsum(2), (1, 0, 1, 0))[..., None]
        middles, spreads = [], []
        for side in (1, 2, 4):
            raw, mean, std = scored(field, law, box(2, side=side))
            score = (raw - mean) / std
            middles.append(score.mean().item())
            spreads.append(score.std().item())
            note(f"Side{'ABC'[k]}{'_OT_F'[side]}", middles[-1], 1)
        at = np.arange(3) + 0.12 * (k - 1)
        axis.errorbar(at, middles, spreads, fmt=mark, color=color, ms=4, capsize=2, label=name)
    axis.axhspan(-1, 1, color="0.9", zorder=0)
    axis.set(xticks=range(3), xticklabels=[1, 2, 4], xlabel="side of the box", ylabel="score")
    axis.legend(frameon=False, loc="upper left")
    axis.set(ylim=(-2, 19))
    save(figure, "sides")


def axes_found() -> None:
    """The objective over rotations of the plane: independent coordinates against isotropic ones."""
    law = Brownian(0.125) + CompoundPoisson(0.5, LaplaceJumps(1.0))
    apart = IndependentCoordinates(law, law)
    rule, n, trials = equispaced(law, 64), 2000, 40
    angles = torch.linspace(-30, 120, 61, dtype=torch.float64)
    near = torch.linspace(-8, 8, 65, dtype=torch.float64)
    floor = null(law, 1.0, rule, {1.0: n}).mean.item()
    kinds = {
        "independent": (lambda s: apart.sample((n,), generator=s), BLUE),
        "isotropic": (lambda s: law.sample((n,), dim=2, generator=s), ORANGE),
    }
    figure, axis = plt.subplots(figsize=(3.6, 2.1), layout="constrained")
    for name, (draw_from, color) in kinds.items():
        curves, best = [], []
        for trial in range(trials):
            x = draw_from(seeded(trial)).double()
            curves.append(objective(x, angles, law, rule) / floor)
            best.append(near[objective(x, near, law, rule).argmin()].item())
        stack = torch.stack(curves)
        axis.plot(angles, stack.mean(0), color=color, label=name, lw=1.3)
        low, high = stack.quantile(0.1, 0), stack.quantile(0.9, 0)
        axis.fill_between(angles, low, high, color=color, alpha=0.2, lw=0)
        if name != "isotropic":
            note("AngleSpread", float(np.sqrt(np.mean(np.square(best)))), 1)
            note("AngleRise", stack.mean(0).max().item(), 0)
    axis.axhline(1, color="black", ls=":", lw=0.8)
    axis.set(yscale="log", xlabel="rotation (degrees)", ylabel="$D$ / its null mean")
    axis.set(xticks=[-30, 0, 30, 60, 90, 120])
    axis.legend(frameon=False, loc=(0.36, 0.45))
    save(figure, "axes")


def objective(x: Tensor, angles: Tensor, law: Law, rule: Quadrature) -> Tensor:
    """The mean statistic of both coordinates, at each angle."""
    turned = torch.stack([turn(x, angle) for angle in angles])
    return statistic(turned.flatten(0, 1), law, 1.0, rule).view(-1, 2).mean(1)


def turn(x: Tensor, degrees: Tensor) -> Tensor:
    """(2, n): the coordinates of `x` (n, 2) in axes turned by an angle."""
    c, s = torch.deg2rad(degrees).cos(), torch.deg2rad(degrees).sin()
    return torch.stack([c * x[:, 0] + s * x[:, 1], c * x[:, 1] - s * x[:, 0]])


def recurrence() -> None:
    """The error of cos(k h x) in float32: the library's powers, and the Chebyshev recurrence."""
    rule = equispaced(REFERENCE, 64)
    step = rule.step or 0.0
    x = 0.05 * torch.randn(4096, 1, generator=seeded(0))
    exact = (x.double() * rule.nodes).cos()
    base = (x * step).cos()
    chain = [torch.ones_like(base), base]
    for _ in range(1, 64):
        chain.append(2 * base * chain[-1] - chain[-2])
    ways: dict[str, tuple[Tensor, str]] = {
        "Chebyshev recurrence": (torch.cat(chain[1:], 1), ORANGE),
        "powers, as in the library": (empirical_cf(x, rule.nodes, step)[0], BLUE),
    }
    figure, axis = plt.subplots(figsize=(3.6, 2.1), layout="constrained")
    k = np.arange(1, 65)
    for name, (found, color) in ways.items():
        error = (found.double() - exact).abs().amax(0)
        axis.plot(k, error, color=color, label=name, lw=1.3)
        note_power("Error" + name[:5].capitalize(), error.max().item())
    unit = torch.finfo(torch.float32).eps / 2
    axis.plot(k, unit * k**2, ":", color="black", lw=0.8, label="$k^2\\epsilon$, $k\\epsilon$")
    axis.plot(k, unit * k, ":", color="black", lw=0.8)
    axis.set(yscale="log", xlabel="$k$", ylabel="largest error of $\\cos(khx)$", ylim=(2e-8, 1e-3))
    axis.legend(frameon=False, loc="upper left")
    save(figure, "recurrence")


def jumps() -> None:
    """The posterior is calibrated, and a vector says more than a channel."""
    n, sizes = 200_000, (1, 2, 4, 8, 16)
    figure, (left, right) = plt.subplots(1, 2, figsize=(6.1, 2.15), layout="constrained")
    chance = -math.expm1(-RARE.rate)
    known = []
    for dim in sizes:
        jumped, x = with_truth(n, dim, seeded(dim))
        p = jump_probability(x, SMOOTH + RARE, isotropic=True).double()
        known.append(1 - entropy(p) / entropy(torch.tensor([chance], dtype=p.dtype)))
        caught = float((p[jumped] > 0.5).double().mean())
        if dim in (1, 4, 16):
            note(f"Caught{ {1: 'One', 4: 'Four', 16: 'Sixteen'}[dim] }", 100 * caught, 0)
            bins = torch.bucketize(p, torch.linspace(0, 1, 11, dtype=p.dtype)[1:-1])
            points = [(p[bins == b], jumped[bins == b].double()) for b in range(10)]
            points = [(a.mean(), b.mean(), len(b)) for a, b in points if len(b) > 50]
            mean, share, count = (np.array(part) for part in zip(*points, strict=True))
            color, mark = {1: (GRAY, "o"), 4: (GREEN, "^"), 16: (BLUE, "s")}[dim]
            bar = 2 * np.sqrt(share * (1 - share) / count)
            label = "1 channel" if dim == 1 else f"{dim} channels"
            left.errorbar(mean, share, bar, fmt=mark, color=color, ms=3.5, lw=0.8, label=label)
            gap = (np.abs(mean - share) * count).sum() / count.sum()
            note(f"Gap{ {1: 'One', 4: 'Four', 16: 'Sixteen'}[dim] }", float(gap), 4)
    left.plot([0, 1], [0, 1], color="black", ls=":", lw=0.8)
    left.set(xlabel="stated probability of a jump", ylabel="share of cells that jump")
    left.legend(frameon=False, loc="upper left")
    right.plot(sizes, known, "s-", color=BLUE, ms=3.5, lw=1)
    right.set(xscale="log", xticks=sizes, xticklabels=sizes, ylim=(0, 1), xlabel="channels")
    right.minorticks_off()
    right.set(ylabel="share of the entropy resolved")
    note("KnownOne", 100 * known[0], 0)
    note("KnownSixteen", 100 * known[-1], 0)
    note("ReferenceJumps", 100 * -math.expm1(-2), 0)
    save(figure, "jumps")


def with_truth(n: int, dim: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Which of n cells hold a jump, and their increments (n, dim)."""
    sudden = RARE.sample((n,), 1.0, dim, generator, torch.float64)
    return sudden[:, 0] != 0, sudden + SMOOTH.sample((n,), 1.0, dim, generator, torch.float64)


def entropy(p: Tensor) -> float:
    return float(-(torch.xlogy(p, p) + torch.xlogy(1 - p, 1 - p)).mean())


def blindness() -> None:
    """What each stencil sees of an edge."""
    n = 12
    row, column = torch.meshgrid(torch.arange(n), torch.arange(n), indexing="ij")
    edges = {"Straight": column >= n // 2, "Diagonal": row + column >= n}
    for name, edge in edges.items():
        field = edge.double()[None, ..., None]
        for kind, stencil in (("Box", box(2)), ("Diamond", diamond()), ("Line", line(2, axis=1))):
            found = increments(field, stencil)
            note(f"Seen{kind}{name}", 100 * float((found != 0).double().mean()), 0)


def pooled() -> None:
    """What hides from the mean over all channels: one direction wider, the others narrower."""
    law, n, draws = Brownian(1.0), 2000, 100
    g, rule = seeded(0), equispaced(Brownian(1.0), 64)
    x = torch.randn(8 * n * draws, 3, dtype=torch.float64, generator=g)
    cosine = x[:, 0] / x.norm(dim=1)  # directions of density 1 + (3 cosine^2 - 1) / 2
    kept = 2 * torch.rand(len(x), dtype=torch.float64, generator=g) < (3 * cosine**2 + 1) / 2
    vectors = x[kept][: n * draws].view(draws, n, 3)
    fields = torch.nn.functional.pad(vectors.cumsum(1), (0, 0, 1, 0))
    for name, pool, channels in (("Pooled", "image", 3), ("Apart", "channel", 1)):
        prior = LevyRegularizer(law, (line(),), pool=pool)
        found = [prior(field[None], generator=g).item() for field in fields]
        floor = null(law, 1.0, rule, {1.0: n}, channels).mean.item()
        note(f"Blind{name}", float(np.mean(found)) / floor, 1)


def clips() -> None:
    """Count the cells of the moving sum in increments of every kind: their volumes must add up."""
    time_steps = (2.0, 1.0, 0.5, 0.1)
    for time_step in time_steps:
        last = round(2 / time_step)
        field = torch.zeros(1, 2 * last + 5, 9, 9, 1)  # one cell's contribution to the field
        field[0, 3 : 3 + last, 4:6, 4:6] = 1
        prior = VideoRegularizer(REFERENCE, time_step=time_step)
        kinds = [kind.terms for kind in prior.priors.values()]
        stencils = [term.stencil for terms in kinds for term in terms]  # pyright: ignore
        for stencil in stencils:
            weights = increments(field, stencil).abs()
            volume = float(weights.sum()) * time_step / 8
            if weights.max() > 1 or not math.isclose(volume, stencil.volume):
                raise ValueError(f"{stencil} at time step {time_step} has volume {volume}.")
    *first, last = (f"{time_step:g}" for time_step in time_steps)
    NUMBERS["ClipPaces"] = f"{', '.join(first)} and {last}"


def note(name: str, value: float, digits: int) -> None:
    """Keep a number for the text, as the macro \\name."""
    NUMBERS[name] = f"{round(value, digits) + 0.0:.{digits}f}"


def note_cosine(name: str, value: float) -> None:
    """Likewise, never rounded up to 1."""
    digits = 4 if value > 0.98 else 2
    note(name, math.floor(value * 10**digits) / 10**digits, digits)


def note_power(name: str, value: float) -> None:
    mantissa, exponent = f"{value:.1e}".split("e")
    NUMBERS[name] = rf"{mantissa}\cdot 10^{{{int(exponent)}}}"


def save(figure: Figure, name: str) -> None:
    figure.savefig(OUT / f"{name}.pdf", metadata={"CreationDate": None})
    plt.close(figure)


def main() -> None:
    torch.set_num_threads(1)
    matplotlib.use("pdf")
    logging.getLogger("fontTools").setLevel(logging.ERROR)
    plt.rcParams.update({
        "font.family": "serif",
        "font.serif": ["cmr10", "DejaVu Serif"],
        "mathtext.fontset": "cm",
        "axes.formatter.use_mathtext": True,
        "axes.unicode_minus": False,
        "font.size": 8,
        "axes.titlesize": 8,
        "legend.fontsize": 7,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "pdf.fonttype": 42,
    })  # fmt: skip
    OUT.mkdir(exist_ok=True)
    parts: tuple[Callable[[], None], ...] = (
        sheet, densities, cells, sides, blindness, quadrature, calibration, axes_found,
        recurrence, jumps, pooled, clips,
    )  # fmt: skip
    for part in parts:
        part()
    lines = [rf"\newcommand{{\{name}}}{{{value}}}" for name, value in sorted(NUMBERS.items())]
    (OUT / "numbers.tex").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
