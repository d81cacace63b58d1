"""Learning curves as inline SVG, in a page's font and colors."""

import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from levyjepa.report.page import PALETTE, Drawing

INK, FAINT = "#010203", "#a0a1a2"  # stand for the page's text color and its rules
VARIABLES = {INK: "var(--ink)", FAINT: "var(--faint)"} | {
    color: f"var(--c{i})" for i, color in enumerate(PALETTE)
}
LOGGED = ("train/", "test/")  # what columns that are drawn begin with


def learning_curves(cells: Mapping[str, Sequence[pd.DataFrame]]) -> list[Drawing]:
    """Draw each logged column: every run thin, the mean over a cell's runs bold.

    Args:
        cells: The logged values of the runs of each cell, as `RunFolder.metrics` returns them.
    """
    tables = [table for runs in cells.values() for table in runs if len(table)]
    names = dict.fromkeys(n for t in tables for n in map(str, t) if n.startswith(LOGGED))
    epochs: Any = pd.concat([table["epoch"] for table in tables]).max() if tables else 0
    axis = "step" if epochs < 3 else "epoch"
    drawings = []
    for name in names:
        curves: dict[str, list[Any]] = {
            PALETTE[place % len(PALETTE)]: [
                t.dropna(subset=name).groupby(axis)[name].mean() for t in runs if name in t.columns
            ]
            for place, runs in enumerate(cells.values())
        }
        curves = {c: kept for c, runs in curves.items() if (kept := [r for r in runs if len(r)])}
        if curves:
            title = name.replace("/", ": ").replace("_", " ")
            drawings.append(Drawing(_draw(curves, axis), title[:1].upper() + title[1:]))
    return drawings


def _draw(curves: Mapping[str, list[Any]], axis: str) -> str:
    figure = Figure(figsize=(3.6, 2.3), layout="constrained")
    FigureCanvasAgg(figure)
    ax = figure.subplots()
    ax.patch.set_visible(False)
    ax.spines[["top", "right", "left"]].set_visible(False)
    ax.spines["bottom"].set_color(FAINT)
    ax.grid(axis="y", color=FAINT, lw=0.6, alpha=0.6)
    ax.set_axisbelow(True)
    ax.tick_params(which="both", length=0, labelsize=9, colors=INK)
    ax.tick_params(axis="x", length=3, color=FAINT)
    for color, runs in curves.items():
        for run in runs if len(runs) > 1 else ():
            ax.plot(run.index, run, color=color, lw=0.8, alpha=0.45)
        mean = pd.concat(runs, axis=1, join="inner").mean(axis=1)
        dots = {"marker": "o", "ms": 3} if len(mean) < 3 else {}
        ax.plot(mean.index, mean, color=color, lw=2, solid_capstyle="round", **dots)
    values = np.concatenate([run for runs in curves.values() for run in runs])
    values = values[np.isfinite(values)]
    if len(values) and values.min() > 0 and values.max() > 8 * values.min():
        _logarithmic(ax)
    ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    ax.set_xlabel(axis, color=INK, fontsize=9)
    return _svg(figure)


def _logarithmic(ax: Axes) -> None:
    ax.set_yscale("log")
    low, high = ax.get_ylim()
    decades = np.log10(high / low)
    ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if decades < 2 else (1,), numticks=7))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}".replace("e-0", "e−")))
    ax.yaxis.set_minor_formatter(NullFormatter())


def _svg(figure: Figure) -> str:
    """Return an `<svg>` element that scales, its colors the page's variables."""
    out = io.StringIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "levyjepa"}):
        figure.savefig(out, format="svg", metadata=nothing, transparent=True)
    text = out.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r' width="[\d.]+pt" height="[\d.]+pt"', ' role="img"', text, count=1)
    text = re.sub(r' xmlns(:xlink)?="[^"]*"| id="[a-zA-Z0-9.]+_\d+"', "", text)
    text = re.sub(r"font-family: [^;\"]*;? ?| transform=\"rotate\(-0 [^\"]*\"", "", text)
    text = text.replace("xlink:href", "href")
    for color, variable in VARIABLES.items():
        text = text.replace(color, variable)
    return text
