"""Pictures of a diagnosis."""

import io
from collections.abc import Sequence
from itertools import groupby

import numpy as np
import torch
from matplotlib.figure import Figure

from levyjepa.diagnose.measure import PictureData, Row
from levyjepa.tasks.panels import COLOR, GRAY, Tile, legend, plots, tiles
from levyjepa.tasks.score import Picture

PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")  # Okabe and Ito
DRAWS = 200_000  # of a law, for its density


def draw(results: Sequence[tuple[Row, PictureData]], images: np.ndarray | None) -> list[Picture]:
    """Draw increments beside the laws, cells of growing size, and maps of jumps.

    Args:
        results: By layer, then by stencil.
        images: (M, H, W, 3) uint8 that the maps lie on.
    """
    layers = {k: list(group) for k, group in groupby(results, lambda result: result[0]["layer"])}
    pictures = []
    caption = (
        "How often increments of each size occur in images that no law was fitted to, on a "
        "logarithmic scale. Tails above the Gaussian are jumps."
    )
    for layer, group in layers.items():
        name, title = f"increments-{layer.replace(' ', '-')}", f"Increments and laws, {layer}"
        last = layer == results[-1][0]["layer"]
        pictures.append(Picture(name, _png(_densities(group)), title, caption, headline=last))
    caption = (
        "Left: excess kurtosis of larger cells; of independent increments it falls as the dashed "
        "line, as 1 / volume. Right: correlation of the squared norms of neighboring cells, 0 if "
        "they are independent."
    )
    first = [group[0][0] for group in layers.values()]
    title = f"Cells of growing size, {first[0]['stencil']}"
    pictures.append(Picture("cells", _png(_cells(first)), title, caption))
    boxes = [(row, data.maps) for row, data in results if row["stencil"] == "box"]
    maps = [(row, values) for row, values in boxes if values is not None]
    if images is not None and maps:
        caption = (
            "At each corner where four patches meet, a disc shows the probability of a jump, from "
            "0 (small, dark) to 1."
        )
        rows = [[Tile(image) for image in images]]
        for row, values in maps:
            shown = zip(images, values.clip(0, 1), strict=True)
            rows.append([Tile(image, strength=strength) for image, strength in shown])
            where = f" At {row['layer']} "
            if row["jumps"]["share"] > 0.9:
                caption += where + "there is one nearly everywhere, so its map says little."
            if not row["jumps_clear"]:
                caption += where + "a Gaussian explains as much, so its jumps mean nothing."
        figure = tiles(rows, ["image", *(row["layer"] for row, _ in maps)])
        pictures.append(Picture("jumps", _png(figure), "Where tokens jump", caption))
    return pictures


def _densities(group: Sequence[tuple[Row, PictureData]]) -> Figure:
    figure, axes = plots(len(group), height=2.3)
    for ax, (row, data) in zip(axes, group, strict=True):
        reach = float(np.quantile(np.abs(data.sample), 0.9998))
        edges = np.linspace(-reach, reach, 62)
        heights, _ = np.histogram(data.sample, edges)
        density = heights / len(data.sample) / np.diff(edges)
        ax.stairs(density, edges, fill=True, color=GRAY, alpha=0.3, label="tokens")
        for (name, law), color in zip(data.laws.items(), (GRAY, COLOR), strict=True):
            generator = torch.Generator().manual_seed(0)
            drawn, _ = np.histogram(law.sample((DRAWS,), data.volume, generator=generator), edges)
            curve = np.where(drawn > 0, drawn / DRAWS / np.diff(edges), np.nan)
            ax.plot((edges[1:] + edges[:-1]) / 2, curve, color=color, lw=1.5, label=name)
        ax.set_yscale("log")
        ax.set_ylim(density[density > 0].min() / 3, density.max() * 4)
        ax.set_title(f"{row['stencil']}\n{row['chosen']['family']}", fontsize=9)
        ax.set_xlabel("increment")
    style = {"ncols": 3, "fontsize": 8, "labelcolor": GRAY, "frameon": False}
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", **style)
    return figure


def _cells(rows: Sequence[Row]) -> Figure:
    figure, (left, right) = plots(2)
    for number, row in enumerate(rows):
        color = PALETTE[number % len(PALETTE)]
        sides = {int(side): values for side, values in row["sides"].items()}
        for ax, key in ((left, "kurtosis"), (right, "energies")):
            points = [(k, *values[key].values()) for k, values in sides.items() if key in values]
            x, y, error = np.array(points).reshape(-1, 3).T
            style = {"color": color, "marker": "o", "ms": 4, "lw": 1.5, "label": row["layer"]}
            ax.errorbar(x, y, np.nan_to_num(error, posinf=0), **style)
        expected = [sides[1]["kurtosis"]["value"] / side["volume"] for side in sides.values()]
        left.plot(list(sides), expected, color=color, lw=1, ls=(0, (2, 2)))
    for ax, title in ((left, "excess kurtosis"), (right, "correlation of squared norms")):
        ax.axhline(0, color=GRAY, lw=0.8)
        ax.set_title(title, fontsize=9)
        ax.set_xscale("log", base=2)
        ax.set_xlabel("side of a cell, in its stencil's steps")
        ticks = max((row["sides"] for row in rows), key=len)
        ax.set_xticks([int(side) for side in ticks], list(ticks))
    legend(right)
    return figure


def _png(figure: Figure) -> bytes:
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=160)
    return out.getvalue()
