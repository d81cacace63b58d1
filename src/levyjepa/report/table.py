"""The numbers of a page: accuracies, baselines, paired differences, and the lead they allow."""

import math
from dataclasses import dataclass, field, replace
from typing import Any, TypeGuard

from levyjepa.report.cells import Cell, data_name
from levyjepa.report.folder import Run

METRICS = {
    "linear_probe": "Linear probe",
    "knn": "kNN",
    "online_last": "Online probe, last",
    "online_best": "Online probe, best",
}
BASELINES = {"random_encoder": "Random encoder", "pixels": "Raw pixels"}


@dataclass(frozen=True)
class Entry:
    """A number as it is printed, and its interval under it."""

    value: str
    interval: str = ""


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    name: str
    note: str = ""
    colour: str = ""
    kind: str = "cell"  # cell, baseline, difference
    entries: list[Entry] = field(default_factory=list)


@dataclass(frozen=True)
class Table:
    """Column heads and rows."""

    columns: list[str]
    rows: list[Row]


def run_table(cells: list[Cell]) -> Table | None:
    """One row for each run, and the baselines; None where nothing was measured."""
    runs = [run for cell in cells for run in cell.runs]
    rows = []
    for cell in cells:
        for run in cell.runs:
            note = f"{run.folder.name}, seed {run.settings.get('seed', 0)}"
            rows.append(Row(cell.name, note, cell.colour, "cell", [_leaf(run, m) for m in METRICS]))
    return _trim(list(METRICS.values()), [*rows, *_baselines(runs, list(METRICS))])


def experiment_table(cells: list[Cell], found: dict[str, Any]) -> Table | None:
    """The rows of `experiment.json`, with the baselines of the runs between them."""
    given = [row for row in found.get("table", []) if row["metric"].split("/")[0] not in BASELINES]
    if not given:
        return run_table(cells)
    differences = found.get("differences", [])
    metrics = [m for m in METRICS if any(row["metric"] == m for row in given)]
    metrics += dict.fromkeys(row["metric"] for row in given if row["metric"] not in metrics)
    published = {r["cell"]: r["published"] for r in given if r.get("published") is not None}
    columns = [METRICS.get(m, m.replace("_", " ")) for m in metrics]
    columns += ["Original’s online probe"] if published else []
    colours = {cell.name: cell.colour for cell in cells}

    def entries(rows: list[dict], signed: bool) -> list[Entry]:
        by_metric = {row["metric"]: row for row in rows}
        return [_interval(by_metric.get(m, {}), "mean", signed) for m in metrics]

    rows = []
    for name in dict.fromkeys(row["cell"] for row in given):
        mine = [row for row in given if row["cell"] == name]
        last = [Entry(percent(published.get(name)))] if published else []
        colour = colours.get(name, "")
        rows.append(Row(name, _seeds(mine), colour, "cell", entries(mine, False) + last))
    for pair in dict.fromkeys((row["a"], row["b"]) for row in differences):
        mine = [row for row in differences if (row["a"], row["b"]) == pair]
        last = []
        if published:
            a, b = (published.get(name) for name in pair)
            last = [Entry(points(a - b) if a is not None and b is not None else "–")]
        name = f"{pair[0]} minus {pair[1]}"
        rows.append(Row(name, _seeds(mine, "pair"), "", "difference", entries(mine, True) + last))
    runs = [run for cell in cells for run in cell.runs]
    nothing = [Entry("–")] if published else []
    rows += [replace(row, entries=row.entries + nothing) for row in _baselines(runs, metrics)]
    return _trim(columns, rows)


def difference_sentence(row: dict[str, Any]) -> str:
    """What a paired difference lets one say, no more."""
    metric = METRICS.get(row["metric"]) or str(row["metric"])
    metric = metric if metric.startswith("kNN") else metric[:1].lower() + metric[1:]
    n, mean, low, high = row["n"], row["mean"], row.get("low"), row.get("high")
    gap = f"{points(mean)} percentage points of {metric} accuracy"
    against = f"{_plainly(row['a'])} against {_plainly(row['b'])}"
    if n < 2 or not (known(low) and known(high)):
        return (
            f"{against}: {gap} from one pair of runs, which gives no interval, "
            "so no difference can be claimed."
        )
    interval = f"{n} pairs of seeds give a 95 % interval of {points(low)} to {points(high)}"
    if low <= 0 <= high:
        return f"{against}: {gap}. {interval}, which covers zero: no difference can be claimed."
    few = " With so few seeds, take it as a first sign." if n < 5 else ""
    return f"{against}: {gap}. {interval}, all on one side of zero.{few}"


def standing_sentence(cell: Cell) -> str:
    """How a cell's frozen features compare with an untrained encoder and with raw pixels."""
    metric = "linear_probe"
    mine = _mean(cell.runs, metric)
    if mine is None:
        return ""
    leaves = [leaf for run in cell.runs if (leaf := run.score(metric))]
    leaf, one = leaves[0], len(leaves) == 1 and known(leaves[0].get("low"))
    interval = f" (95 % interval {percent(leaf['low'])} to {percent(leaf['high'])})" if one else ""
    over = f" on average over {len(leaves)} runs" if len(leaves) > 1 else ""
    sentence = (
        f"With {cell.name}, a linear probe on the frozen features gets {percent(mine)} of "
        f"{leaf.get('n', 0):,} test images of {data_name(cell.runs[0])} right{over}{interval}"
    )
    against = []
    for key, name in (("random_encoder", "an untrained encoder’s"), ("pixels", "raw pixels’")):
        base = _mean(cell.runs, f"{key}/{metric}")
        if base is not None:
            side = "above" if mine > base else "below" if mine < base else "from"
            gap = f"{100 * abs(mine - base):.1f}"
            against.append(f"{gap} points {side} {name} {percent(base)}")
    return sentence + (f", {' and '.join(against)}." if against else ".")


def percent(value: float | None) -> str:
    """0.9312 as "93.1 %"."""
    return f"{100 * value:.1f} %" if value is not None and known(value) else "–"


def points(value: float) -> str:
    """0.0042 as "+0.4", a difference in percentage points."""
    return f"{100 * value:+.1f}".replace("-", "−")


def known(value: float | None) -> TypeGuard[float]:
    """Whether there is a number."""
    return value is not None and math.isfinite(value)


def _plainly(name: str) -> str:
    """A cell's name, with gamma in words."""
    settings = dict(part.split("=", 1) for part in name.split(", ") if "=" in part)
    if "gamma" not in settings:
        return name
    words = "LeJEPA alone" if settings["gamma"] in ("0", "0.0") else "LeJEPA with the Lévy prior"
    return f"{words} ({name})"


def _leaf(run: Run, metric: str) -> Entry:
    return _interval(run.score(metric), "accuracy", False)


def _interval(row: dict[str, Any], key: str, signed: bool) -> Entry:
    if not known(row.get(key)):
        return Entry("–")
    value = points(row[key]) if signed else percent(row[key])
    if not (known(row.get("low")) and known(row.get("high"))):
        return Entry(value)
    show = points if signed else lambda x: f"{100 * x:.1f}"
    return Entry(value, f"{show(row['low'])} to {show(row['high'])}")


def _seeds(rows: list[dict], word: str = "seed") -> str:
    n = max((row.get("n") or 0 for row in rows), default=0)
    return f"{n} {word}{'s' if n != 1 else ''}" if n else ""


def _baselines(runs: list[Run], metrics: list[str]) -> list[Row]:
    rows = []
    for key, name in BASELINES.items():
        entries = []
        for metric in metrics:
            leaves = [leaf for run in runs if (leaf := run.score(f"{key}/{metric}"))]
            same = leaves and all(leaf == leaves[0] for leaf in leaves)
            mean = _mean(runs, f"{key}/{metric}")
            entries.append(_interval(leaves[0] if same else {"accuracy": mean}, "accuracy", False))
        rows.append(Row(name, "", "", "baseline", entries))
    return rows


def _mean(runs: list[Run], metric: str) -> float | None:
    values = [run.score(metric).get("accuracy") for run in runs]
    values = [value for value in values if known(value)]
    return sum(values) / len(values) if values else None


def _trim(columns: list[str], rows: list[Row]) -> Table | None:
    """Leave out baselines without a number, and columns without one."""
    kept = [row for row in rows if row.kind == "cell" or any(e.value != "–" for e in row.entries)]
    full = [i for i in range(len(columns)) if any(row.entries[i].value != "–" for row in kept)]
    if not full:
        return None
    rows = [replace(row, entries=[row.entries[i] for i in full]) for row in kept]
    return Table([columns[i] for i in full], rows)
