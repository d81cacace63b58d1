"""Small panels as inline SVG, in the page's font and colours."""

import io
import re
from dataclasses import dataclass
from itertools import pairwise
from textwrap import fill

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter
from scipy import stats

INK, FAINT = "#010203", "#a0a1a2"  # stand for the page's text colour and its rules
PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")  # Okabe and Ito
VARIABLES = {INK: "var(--ink)", FAINT: "var(--faint)"} | {
    colour: f"var(--c{i})" for i, colour in enumerate(PALETTE)
}


@dataclass(frozen=True)
class Series:
    """The curves of one cell, one (n, 2) array for each seed."""

    colour: str
    curves: list[np.ndarray]


def learning_curves(series: list[Series], axis: str, percent: bool = False) -> str:
    """Draw every seed thin and the mean bold, on a logarithmic axis if the values span decades."""
    figure, ax = _panel()
    values = [curve[:, 1] for each in series for curve in each.curves]
    for each in series:
        for curve in each.curves:
            marker = "o" if len(curve) < 3 else None
            ax.plot(*curve.T, color=each.colour, lw=0.8, alpha=0.45, marker=marker, ms=3)
        ax.plot(*_mean(each.curves).T, color=each.colour, lw=2, solid_capstyle="round")
    everything = np.concatenate(values)
    everything = everything[np.isfinite(everything)]
    if percent:
        ax.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{100 * y:g} %"))
        ax.yaxis.set_major_locator(MaxNLocator(5))
    elif len(everything) and everything.min() > 0 and everything.max() > 8 * everything.min():
        _logarithmic(ax)
    ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    ax.set_xlabel(axis)
    return _svg(figure)


@dataclass(frozen=True)
class Dots:
    """A cell's shares by seed; lines join those of neighbouring cells of the same group."""

    name: str
    colour: str
    group: int
    values: dict[int, float]


def every_run(cells: list[Dots]) -> str:
    """Draw a dot for each run, a row for each cell, a bar at its mean; lines join a seed's runs."""
    figure = Figure(figsize=(4.6, 0.75 + 0.34 * len(cells)), layout="constrained")
    ax = _axes(figure)
    ax.grid(visible=False, axis="y")
    ax.grid(axis="x", color=FAINT, lw=0.6, alpha=0.6)
    for row, (upper, lower) in enumerate(pairwise(cells)):
        for seed in upper.values.keys() & lower.values.keys():
            if upper.group == lower.group:
                ends = upper.values[seed], lower.values[seed]
                ax.plot(ends, (row, row + 1), color=INK, lw=0.8, alpha=0.35)
    for row, cell in enumerate(cells):
        values = list(cell.values.values())
        ax.plot(values, [row] * len(values), "o", color=cell.colour, ms=5, alpha=0.8, mew=0)
        if len(values) > 1:
            mean = float(np.mean(values))
            ax.plot((mean, mean), (row - 0.3, row + 0.3), color=cell.colour, lw=2.2)
    ax.set_ylim(len(cells) - 0.5, -0.5)
    ax.set_yticks(range(len(cells)), [_two_lines(cell.name) for cell in cells])
    ax.xaxis.set_major_locator(MaxNLocator(4))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{100 * x:.4g} %"))
    return _svg(figure)


def density(law: np.ndarray, before: np.ndarray, after: np.ndarray, colour: str) -> str:
    """Draw the densities of increments and of the law's samples on a logarithmic axis."""
    figure, ax = _panel(width=4.6)
    reach = np.quantile(np.abs(law), 0.9998)
    edges = np.linspace(-reach, reach, 62)
    law_density, _ = np.histogram(law, edges, density=True)
    ax.fill_between(
        edges, np.append(law_density, law_density[-1]), step="post", color=FAINT, alpha=0.55, lw=0
    )
    for sample, style in ((before, _before()), (after, _after(colour))):
        if not len(sample):
            continue
        heights = np.histogram(sample, edges)[0] / len(sample) / np.diff(edges)
        middle = (edges[1:] + edges[:-1]) / 2
        ax.plot(middle, np.where(heights > 0, heights, np.nan), **style)
    _logarithmic(ax)
    positive = law_density[law_density > 0]
    ax.set_ylim(positive.min() / 3, positive.max() * 6)
    ax.set_xlim(-reach, reach)
    ax.set_xlabel("increment")
    return _svg(figure)


def quantiles(law: np.ndarray, before: np.ndarray, after: np.ndarray, colour: str) -> str:
    """Draw quantiles of increments against the law's; the law itself is the diagonal."""
    figure, ax = _panel(width=4.6)
    n = max(len(before), len(after))
    far = stats.norm.ppf(1 - 5 / max(n, 100))
    levels = stats.norm.cdf(np.linspace(-far, far, 81))
    theory = np.quantile(law, levels)
    reach = np.abs(theory).max() * 1.05
    ax.axline((0, 0), slope=1, color=FAINT, lw=1.2)
    for sample, style in ((before, _before()), (after, _after(colour))):
        if len(sample):
            ax.plot(theory, np.quantile(sample, levels), **style)
    ax.set(xlim=(-reach, reach), ylim=(-1.5 * reach, 1.5 * reach), xlabel="quantile of the law")
    ax.xaxis.set_major_locator(MaxNLocator(5))
    ax.yaxis.set_major_locator(MaxNLocator(5))
    return _svg(figure)


def _before() -> dict:
    return {"color": INK, "lw": 1.1, "alpha": 0.75, "ls": (0, (2, 1.6))}


def _after(colour: str) -> dict:
    return {"color": colour, "lw": 2, "solid_capstyle": "round"}


def _mean(curves: list[np.ndarray]) -> np.ndarray:
    """The mean over curves wherever all of them have a value."""
    shared = curves[0][:, 0]
    for curve in curves[1:]:
        shared = np.intersect1d(shared, curve[:, 0])
    columns = [curve[np.isin(curve[:, 0], shared), 1] for curve in curves]
    return np.stack([shared, np.mean(columns, axis=0)], 1)


def _two_lines(name: str) -> str:
    return fill(name, 34, max_lines=2, placeholder=" …")


def _panel(width: float = 3.6) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, 0.25 * width + 1.4), layout="constrained")
    return figure, _axes(figure)


def _axes(figure: Figure) -> Axes:
    FigureCanvasAgg(figure)
    ax = figure.subplots()
    ax.patch.set_visible(False)
    ax.spines[["top", "right", "left"]].set_visible(False)
    ax.spines["bottom"].set_color(FAINT)
    ax.grid(axis="y", color=FAINT, lw=0.6, alpha=0.6)
    ax.set_axisbelow(True)
    ax.tick_params(which="both", length=0, labelsize=9, colors=INK)
    ax.tick_params(axis="x", length=3, color=FAINT)
    ax.xaxis.label.set(color=INK, fontsize=9)
    return ax


def _logarithmic(ax: Axes) -> None:
    ax.set_yscale("log")
    low, high = ax.get_ylim()
    decades = np.log10(high / low)
    ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if decades < 2 else (1,), numticks=7))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}".replace("e-0", "e−")))
    ax.yaxis.set_minor_formatter(NullFormatter())


def _svg(figure: Figure) -> str:
    """The figure as an `<svg>` element that scales, its colours the page's variables."""
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
    for colour, variable in VARIABLES.items():
        text = text.replace(colour, variable)
    return text
