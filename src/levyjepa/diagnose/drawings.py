"""Pictures of a diagnosis."""

import io
from collections.abc import Sequence
from itertools import groupby

import numpy as np
import torch
from matplotlib.figure import Figure

from levyjepa.diagnose.families import GAUSSIAN
from levyjepa.diagnose.measure import Finding
from levyjepa.laws import Law
from levyjepa.tasks.panels import COLOR, GRAY, Tile, legend, plots, tiles
from levyjepa.tasks.score import Picture

PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")  # Okabe and Ito


def draw(findings: Sequence[Finding], images: np.ndarray | None) -> list[Picture]:
    """Draw increments beside the laws, cells of growing size, and maps of jumps.

    Args:
        findings: By layer, then by stencil.
        images: (M, H, W, 3) uint8 that the maps lie on.
    """
    pictures = []
    layers = [list(group) for _, group in groupby(findings, lambda f: f.layer)]
    for number, group in enumerate(layers):
        last = number == len(layers) - 1
        title = f"Increments and laws, {group[0].layer}"
        caption = (
            "How often increments of each size occur in images that no law was fitted to, on a "
            "logarithmic scale. Tails above the Gaussian are jumps."
        )
        name = f"increments-{group[0].layer.replace(' ', '-')}"
        pictures.append(Picture(name, _png(_densities(group)), title, caption, headline=last))
    first = [group[0] for group in layers]
    caption = (
        "Left: excess kurtosis of larger cells; of independent increments it falls as the dashed "
        "line, as 1 / volume. Right: correlation of the squared norms of neighboring cells, 0 if "
        "they are independent."
    )
    title = f"Cells of growing size, {first[0].stencil}"
    pictures.append(Picture("cells", _png(_cells(first)), title, caption))
    maps = [f for f in findings if f.stencil == "box" and f.jumps is not None]
    if images is not None and maps:
        caption = (
            "At each corner where four patches meet, a disc shows the probability of a jump, from "
            "0 (small, dark) to 1."
        )
        for f in maps:
            if f.jumps is not None and f.jumps.share > 0.9:
                caption += f" At {f.layer} there is one nearly everywhere, so its map says little."
            if not f.jumps_clear:
                caption += f" At {f.layer} a Gaussian explains as much, so its jumps mean nothing."
        pictures.append(Picture("jumps", _png(_maps(images, maps)), "Where tokens jump", caption))
    return pictures


def _densities(group: Sequence[Finding]) -> Figure:
    figure, axes = plots(len(group), height=2.3)
    for ax, f in zip(axes, group, strict=True):
        plain = f.choice.of(GAUSSIAN)
        laws = {"Gaussian": (plain.law, GRAY)} if plain else {}
        laws["chosen law"] = (f.choice.chosen.law, COLOR)
        reach = float(np.quantile(np.abs(f.sample), 0.9998))
        edges = np.linspace(-reach, reach, 62)
        middle = (edges[1:] + edges[:-1]) / 2
        heights, _ = np.histogram(f.sample, edges)
        density = heights / len(f.sample) / np.diff(edges)
        ax.stairs(density, edges, fill=True, color=GRAY, alpha=0.3, label="tokens")
        for name, (law, color) in laws.items():
            drawn, _ = np.histogram(_samples(law, f.volume), edges)
            curve = np.where(drawn > 0, drawn / 200_000 / np.diff(edges), np.nan)
            ax.plot(middle, curve, color=color, lw=1.5, label=name)
        ax.set_yscale("log")
        ax.set_ylim(density[density > 0].min() / 3, density.max() * 4)
        ax.set_title(f"{f.stencil}\n{f.choice.chosen.family}", fontsize=9)
        ax.set_xlabel("increment")
    handles, names = axes[0].get_legend_handles_labels()
    figure.legend(
        handles,
        names,
        loc="outside lower center",
        ncols=3,
        fontsize=8,
        labelcolor=GRAY,
        frameon=False,
    )
    return figure


def _samples(law: Law, volume: float) -> np.ndarray:
    generator = torch.Generator().manual_seed(0)
    return law.sample((200_000,), volume, generator=generator).numpy()


def _cells(findings: Sequence[Finding]) -> Figure:
    figure, (left, right) = plots(2)
    for number, f in enumerate(findings):
        color = PALETTE[number % len(PALETTE)]
        sides = np.array([side.side for side in f.sides])
        for ax, points in (
            (left, [side.kurtosis for side in f.sides]),
            (right, [side.energies for side in f.sides]),
        ):
            known = [i for i, point in enumerate(points) if point is not None]
            values = [p.value for p in points if p is not None]
            errors = [p.error if np.isfinite(p.error) else 0 for p in points if p is not None]
            style = {"color": color, "marker": "o", "ms": 4, "lw": 1.5, "label": f.layer}
            ax.errorbar(sides[known], values, errors, **style)
        volumes = np.array([side.volume for side in f.sides])
        left.plot(sides, f.sides[0].kurtosis.value / volumes, color=color, lw=1, ls=(0, (2, 2)))
    for ax, title in ((left, "excess kurtosis"), (right, "correlation of squared norms")):
        ax.axhline(0, color=GRAY, lw=0.8)
        ax.set_title(title, fontsize=9)
        ax.set_xscale("log", base=2)
        ax.set_xlabel("side of a cell, in its stencil's steps")
        sides = sorted({side.side for f in findings for side in f.sides})
        ax.set_xticks(sides, [str(side) for side in sides])
    legend(right)
    return figure


def _maps(images: np.ndarray, maps: Sequence[Finding]) -> Figure:
    rows = [[Tile(image) for image in images]]
    for f in maps:
        assert f.jumps is not None
        shown = zip(images, f.jumps.maps.clip(0, 1), strict=True)
        rows.append([Tile(image, strength=strength) for image, strength in shown])
    return tiles(rows, ["image", *(f.layer for f in maps)])


def _png(figure: Figure) -> bytes:
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=160)
    return out.getvalue()
