"""Runs that differ in their settings, paired by seed: means, differences, effect sizes."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from scipy import stats

from levyjepa.conf.compose import flat, to_dict
from levyjepa.conf.schema import Config

SHARES = (
    "accuracy",
    "miou",
    "pixel_accuracy",
    "best_f",
    "average_precision",
    "f1",
    "j_and_f",
    "there",
    "gone",
)
PLAIN = "representation"  # its numbers are no shares
COUNTS = ("images", "width")  # nor metrics
BASELINES = ("random_encoder", "pixels")
TITLES = {
    "linear_probe": "Linear probe",
    "knn": "kNN",
    "online_last": "Online probe, last",
    "online_best": "Online probe, best",
    "digits": "Digits, from tokens",
    "tracking/there": "Objects followed, J&F while there",
    "jumps/tokens/objects/average_precision": "Jumps at objects, average precision",
}
WORDS = {
    "knn": "kNN",
    "miou": "mIoU",
    "best_f": "best F",
    "low_shot": "few labels",
    "f1": "F1",
    "j_and_f": "J&F",
    "there": "J&F while there",
    "gone": "J&F while gone",
    "cuts": "nothing taken across cuts",
}
FIRST = "everything that differs from the first cell"


@dataclass(frozen=True)
class Measured:
    """A run: its cell's name, the settings that make the cell, its seed and its metrics."""

    cell: str
    settings: dict[str, Any]
    seed: Any
    scores: dict[str, float]


@dataclass(frozen=True)
class Row:
    """One setting's mean over seeds and its 95 % t-interval, None with one seed."""

    cell: str
    metric: str
    n: int
    mean: float
    low: float | None
    high: float | None
    published: float | None = None


@dataclass(frozen=True)
class Difference:
    """The mean of `a` minus `b` over the seeds that both have, and its 95 % t-interval.

    `d_z` is the effect size, the mean of the paired differences over their standard deviation;
    None with one pair, or where all pairs differ by the same. `side` names what differs.
    """

    side: str
    a: str
    b: str
    metric: str
    n: int
    mean: float
    low: float | None
    high: float | None
    d_z: float | None


@dataclass(frozen=True)
class Comparison:
    """What several runs say together."""

    table: list[Row]
    differences: list[Difference]


def compare(runs: Sequence[Measured], published: Mapping[str, float] | None = None) -> Comparison:
    """Means over seeds; differences along each side, the others held, to its first value.

    A side is a setting, or several that always change together. Where the cells are no full grid,
    each is compared with the first cell too.

    Args:
        runs: All with the same keys in `settings`; of each cell, every seed once.
        published: The online probe's last accuracy seen elsewhere, by cell.

    Raises:
        ValueError: Two settings share a name.
    """
    cells: dict[str, dict[Any, dict[str, float]]] = {}
    settings: dict[str, dict[str, Any]] = {}
    for run in runs:
        if settings.setdefault(run.cell, run.settings) != run.settings:
            raise ValueError(
                f"`runs` must give each setting a name of its own, got {run.cell} for both "
                f"{settings[run.cell]} and {run.settings}."
            )
        cells.setdefault(run.cell, {})[run.seed] = run.scores
    metrics = list(dict.fromkeys(metric for run in runs for metric in run.scores))
    table = []
    for name, seeds in cells.items():
        for metric in metrics:
            if values := [scores[metric] for scores in seeds.values() if metric in scores]:
                seen = (published or {}).get(name) if metric == "online_last" else None
                n, mean, low, high = interval(values)
                if low is not None and high is not None and is_share(metric):
                    low, high = max(low, 0.0), min(high, 1.0)
                table.append(Row(name, metric, n, mean, low, high, published=seen))
    differences = []
    for side, a, b in _pairs(settings):
        for metric in metrics:
            gaps = [
                scores[metric] - cells[b][seed][metric]
                for seed, scores in cells[a].items()
                if metric in scores and metric in cells[b].get(seed, {})
            ]
            if gaps:
                differences.append(Difference(side, a, b, metric, *interval(gaps), _d_z(gaps)))
    return Comparison(table, differences)


def scores(
    evaluation: Mapping[str, Any],
    online_last: float | None = None,
    online_best: float | None = None,
) -> dict[str, float]:
    """Every metric of an `evaluation.json`, by its path: "knn", "segmentation/miou"."""
    found = {
        "/".join(path[:-1] if path[-1] == "accuracy" else path): float(value)
        for path, value in _leaves(evaluation)
        if path[-1] in SHARES or (PLAIN in path and path[-1] not in COUNTS)
    }
    online = {"online_last": online_last, "online_best": online_best}
    return found | {name: value for name, value in online.items() if value is not None}


def title(metric: str) -> str:
    """A metric's name for people: "Segmentation, mIoU"."""
    if metric in TITLES:
        return TITLES[metric]
    words = ", ".join(WORDS.get(part, part.replace("_", " ")) for part in metric.split("/"))
    words = words.replace(" percent", " %")
    return words if words[:2].lower() != words[:2] else words[:1].upper() + words[1:]


def is_baseline(metric: str) -> bool:
    """Whether a metric is of an untrained encoder or of raw pixels."""
    return any(part in BASELINES for part in metric.split("/"))


def is_share(metric: str) -> bool:
    """Whether a metric lies in [0, 1], to be shown in percent."""
    return PLAIN not in metric.split("/")


def cell_name(settings: Mapping[str, Any]) -> str:
    """A setting without its seed: "gamma=1, space.weight=0"."""
    return ", ".join(
        f"{name}={shown(settings[key])}" for key, name in _short(settings).items() if key != "seed"
    )


def _short(keys: Iterable[str]) -> dict[str, str]:
    """The fewest last parts of each dotted key that no other setting, unless deeper, ends in."""
    keys = list(keys)
    known = {tuple(key.split(".")) for key in (*_schema(), *keys)}

    def short(key: str) -> str:
        parts = tuple(key.split("."))
        others = [other for other in known if other != parts and len(other) <= len(parts)]
        ends = (parts[-some:] for some in range(1, len(parts) + 1))
        return ".".join(next(end for end in ends if not any(o[-len(end) :] == end for o in others)))

    return {key: short(key) for key in keys}


@cache
def _schema() -> tuple[str, ...]:
    return tuple(flat(to_dict(Config())))


def shown(value: Any) -> str:
    """A setting's value in few characters."""
    if isinstance(value, bool) or value is None:
        return str(value).lower()
    if isinstance(value, (int, float)):
        short = f"{value:g}"
        return short if float(short) == value else str(value)
    if isinstance(value, Mapping):
        return " ".join(f"{key} {shown(each)}" for key, each in value.items() if each is not None)
    if isinstance(value, (list, tuple)):
        return " + ".join(map(shown, value))
    return str(value)


def _leaves(tree: Mapping[str, Any], stem: tuple[str, ...] = ()) -> Iterator[tuple]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, (*stem, key)) if key != "classes" else ()
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            yield (*stem, key), value


def _pairs(cells: dict[str, dict[str, Any]]) -> list[tuple[str, str, str]]:
    """(side, cell, the cell that has this side's first value and is otherwise the same)."""
    keys = [key for key in next(iter(cells.values()), {}) if key != "seed"]
    if not keys:
        return []
    sides: dict[tuple[int, ...], list[str]] = {}  # which value each cell has: the keys that say so
    for key in keys:
        values = [shown(settings[key]) for settings in cells.values()]
        order = list(dict.fromkeys(values))
        sides.setdefault(tuple(map(order.index, values)), []).append(key)
    places = dict(zip(zip(*sides, strict=True), cells, strict=True))
    pairs = []
    for number, together in enumerate(sides.values()):
        for place, cell in places.items():
            base = places.get((*place[:number], 0, *place[number + 1 :]))
            if base is not None and base != cell:
                pairs.append((" and ".join(_short(together).values()), cell, base))
    if len(cells) < math.prod(1 + max(side) for side in sides):
        first = next(iter(cells))
        met = {cell for _, cell, base in pairs if base == first}
        pairs += [(FIRST, cell, first) for cell in cells if cell != first and cell not in met]
    return pairs


def interval(values: Sequence[float]) -> tuple[int, float, float | None, float | None]:
    """n, the mean, and the ends of its 95 % t-interval, None with one value."""
    n, mean = len(values), float(np.mean(values))
    if n == 1:
        return n, mean, None, None
    half = float(stats.t.ppf(0.975, n - 1) * stats.sem(values))
    return n, mean, mean - half, mean + half


def _d_z(gaps: list[float]) -> float | None:
    spread = float(np.std(gaps, ddof=1)) if len(gaps) > 1 else 0.0
    return float(np.mean(gaps)) / spread if spread > 1e-12 else None
