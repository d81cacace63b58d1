"""The numbers of a page: metrics, baselines, paired differences, and the lead they allow."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeGuard

from levyjepa.report.cells import Cell, data_name
from levyjepa.report.folder import Run
from levyjepa.training.comparison import (
    BASELINES,
    TITLES,
    WORDS,
    Comparison,
    Difference,
    is_baseline,
    is_share,
    title,
)

NAMES = {"random_encoder": "Random encoder", "pixels": "Raw pixels"}
HEADS = {
    "": "Labels told from frozen features",
    "mean_token": "Labels told from the mean patch token",
    "low_shot": "With few labels",
    "segmentation": "Segmentation by a linear head on frozen tokens",
    "boundaries": "Boundaries of masks, found without labels",
    "tracking": "Objects followed by their tokens from their first mask",
    "jumps": "Jumps in time, found by the size of a step",
    "representation": "Health of the representation",
    "levy": "Distance of increments from the law, of each stencil",
    "levy_rescaled": "The same, the field brought to the law’s scale first",
}
SPOKEN = {
    "linear_probe": "linear probe accuracy",
    "knn": "kNN accuracy",
    "online_last": "the online probe’s last accuracy",
    "online_best": "the online probe’s best accuracy",
}
BY_MEASURE = ("boundaries", "jumps")  # a table for each of their measures
LEADING = ("linear_probe", "segmentation/miou", "online_last")
NOTHING = "–"


@dataclass(frozen=True)
class Entry:
    """A number as it is printed, and what stands small under it."""

    value: str
    interval: str = ""
    effect: str = ""


@dataclass(frozen=True)
class Row:
    """One line of a table."""

    name: str
    note: str = ""
    colour: str = ""
    kind: str = "cell"  # cell, baseline, side, difference
    entries: list[Entry] = field(default_factory=list)


@dataclass(frozen=True)
class Table:
    """A head, column heads and rows."""

    title: str
    columns: list[str]
    rows: list[Row]


def run_tables(cell: Cell) -> list[Table]:
    """The metrics of one run with the intervals of its test images, and the baselines."""
    run = cell.runs[0]
    note = f"{run.folder.name}, seed {run.seed}"
    tables = []
    for head, metrics in _families([run]):
        entries = [_leaf(run.leaf(metric), metric) for metric in metrics]
        mine = Row(cell.name, note, cell.colour, "cell", entries)
        tables.append(_trim(head, metrics, [mine, *_baselines([run], metrics)]))
    return [table for table in tables if table] + per_class([cell])


def comparison_tables(cells: Sequence[Cell], found: Comparison) -> list[Table]:
    """For each kind of metric: means over seeds, baselines, and differences by side."""
    runs = [run for cell in cells for run in cell.runs]
    colours = {cell.name: cell.colour for cell in cells}
    published = {row.cell: row.published for row in found.table if row.published is not None}
    tables = []
    for head, metrics in _families(runs):
        seen = published if "online_last" in metrics else {}
        rows = []
        for name in dict.fromkeys(row.cell for row in found.table):
            mine = {row.metric: row for row in found.table if row.cell == name}
            own = [_mean(mine.get(metric)) for metric in metrics]
            last = [Entry(percent(seen.get(name)))] if seen else []
            kept = [mine[metric] for metric in metrics if metric in mine]
            rows.append(Row(name, _count(kept, "seed"), colours[name], "cell", own + last))
        nothing = [Entry(NOTHING)] if seen else []
        rows += [replace(r, entries=r.entries + nothing) for r in _baselines(runs, metrics)]
        shared = [row for row in found.differences if row.metric in metrics]
        for side in dict.fromkeys(row.side for row in shared):
            rows.append(Row(f"Differences: {side}", kind="side"))
            along = [row for row in shared if row.side == side]
            for a, b in dict.fromkeys((row.a, row.b) for row in along):
                mine = {row.metric: row for row in along if (row.a, row.b) == (a, b)}
                own = [_difference(mine.get(metric)) for metric in metrics]
                both = a in seen and b in seen
                last = [Entry(points(seen[a] - seen[b]) if both else NOTHING)] if seen else []
                note = _count(list(mine.values()), "pair")
                rows.append(Row(f"{a} minus {b}", note, "", "difference", own + last))
        extra = ["Original’s online probe"] if seen else []
        tables.append(_trim(head, metrics, rows, extra))
    return [table for table in tables if table] + per_class(cells)


def per_class(cells: Sequence[Cell]) -> list[Table]:
    """The segmentation probe's IoU of each class, the mean over a cell's seeds."""
    ious: dict[str, list[dict[str, float | None]]] = {}
    for cell in cells:
        held = [run.evaluation.get("segmentation", {}).get("classes") for run in cell.runs]
        ious[cell.name] = [{name: c["iou"] for name, c in each.items()} for each in held if each]
    names = list(dict.fromkeys(name for runs in ious.values() for each in runs for name in each))
    rows = []
    for cell in cells:
        columns = [
            [value for each in ious[cell.name] if known(value := each.get(n))] for n in names
        ]
        entries = [Entry(percent(sum(v) / len(v)) if v else NOTHING) for v in columns]
        if ious[cell.name]:
            note = f"n = {len(ious[cell.name])} seed{'s' if len(ious[cell.name]) != 1 else ''}"
            rows.append(Row(cell.name, note, cell.colour, "cell", entries))
    return [Table("IoU of each class", names, rows)] if rows else []


def leading(found: Comparison) -> list[Difference]:
    """The differences that a page begins with: one metric, along its first side."""
    for metric in [*LEADING, *(row.metric for row in found.differences)]:
        rows = [row for row in found.differences if row.metric == metric]
        if rows:
            sides = [row.side for row in rows]
            side = "gamma" if "gamma" in sides else sides[0]
            return [row for row in rows if row.side == side][:3]
    return []


def difference_sentence(row: Difference) -> str:
    """What a paired difference lets one say, no more."""
    gap = _amount(row.metric, row.mean)
    against = f"{_plainly(row.a)} against {_plainly(row.b)}"
    low, high = row.low, row.high
    if row.n < 2 or not (known(low) and known(high)):
        return (
            f"{against}: {gap} from one pair of runs, which gives no interval, "
            "so no difference can be claimed."
        )
    bounds = " to ".join(_signed(row.metric, bound) for bound in (low, high))
    interval = f"{row.n} pairs of seeds give a 95 % interval of {bounds}"
    if low <= 0 <= high:
        return f"{against}: {gap}. {interval}, which covers zero: no difference can be claimed."
    effect = f", an effect size d_z of {row.d_z:.1f}".replace("-", "−") if known(row.d_z) else ""
    few = " With so few seeds, take it as a first sign." if row.n < 5 else ""
    return f"{against}: {gap}. {interval}, all on one side of zero{effect}.{few}"


def chance_sentence(found: Comparison) -> str:
    """How many intervals of differences miss zero, beside what chance gives."""
    bounds = [(row.low, row.high) for row in found.differences]
    sides = [low > 0 or high < 0 for low, high in bounds if known(low) and known(high)]
    if len(sides) < 10:
        return ""
    return (
        f"Of {len(sides)} differences with an interval, {sum(sides)} miss zero; where nothing "
        f"differs, one in twenty does by chance, about {round(len(sides) / 20)} here."
    )


def standing_sentence(cell: Cell) -> str:
    """How a cell's frozen features compare with an untrained encoder and with raw pixels."""
    metric = next((m for m in LEADING[:2] if _average(cell.runs, m) is not None), "")
    mine = _average(cell.runs, metric)
    if mine is None:
        return ""
    leaves = [run.leaf(metric) for run in cell.runs if metric in run.scores]
    leaf, one = leaves[0], len(leaves) == 1 and known(leaves[0].get("low"))
    interval = f" (95 % interval {percent(leaf['low'])} to {percent(leaf['high'])})" if one else ""
    over = f" on average over {len(leaves)} runs" if len(leaves) > 1 else ""
    where = data_name(cell.runs[0])
    sentence = (
        f"With {cell.name}, a linear probe on the frozen features gets {percent(mine)} of "
        f"{leaf.get('n', 0):,} test images of {where} right{over}{interval}"
        if metric == "linear_probe"
        else f"With {cell.name}, a linear head on the frozen tokens segments {where} with a mean "
        f"IoU of {percent(mine)}{over}"
    )
    against = []
    for key, name in (("random_encoder", "an untrained encoder’s"), ("pixels", "raw pixels’")):
        base = _average(cell.runs, f"{key}/{metric}")
        if base is not None:
            side = "above" if mine > base else "below" if mine < base else "from"
            gap = f"{100 * abs(mine - base):.1f}"
            against.append(f"{gap} points {side} {name} {percent(base)}")
    return sentence + (f", {' and '.join(against)}." if against else ".")


def percent(value: float | None) -> str:
    """0.9312 as "93.1 %"."""
    return f"{100 * value:.1f} %" if known(value) else NOTHING


def points(value: float) -> str:
    """0.0042 as "+0.4", a difference in percentage points."""
    return f"{100 * value:+.1f}".replace("-", "−")


def known(value: float | None) -> TypeGuard[float]:
    """Whether there is a number."""
    return value is not None and math.isfinite(value)


def _families(runs: Sequence[Run]) -> list[tuple[str, list[str]]]:
    """Heads of tables, and the metrics that a table shows."""
    every = [*TITLES, *(metric for run in runs for metric in run.scores)]
    every.sort(key=is_baseline)
    families: dict[str, dict[str, None]] = {}
    for metric in every:
        parts = [part for part in metric.split("/") if part not in BASELINES]
        innermost = next((part for part in reversed(parts) if part in HEADS), "")
        kind = parts[0] if parts[0] in BY_MEASURE else innermost
        head = HEADS[kind]
        if kind in BY_MEASURE:
            head = f"{head}: {WORDS.get(parts[-1], parts[-1].replace('_', ' '))}"
        families.setdefault(head, {})["/".join(parts)] = None
    order = list(HEADS.values())
    heads = sorted(families, key=lambda head: order.index(head.split(": ")[0]))
    return [(head, list(families[head])) for head in heads]


def _plainly(name: str) -> str:
    """A cell's name, with gamma in words."""
    settings = dict(part.split("=", 1) for part in name.split(", ") if "=" in part)
    if "gamma" not in settings:
        return name
    words = "LeJEPA alone" if settings["gamma"] in ("0", "0.0") else "LeJEPA with the Lévy prior"
    return f"{words} ({name})"


def _amount(metric: str, value: float) -> str:
    name = title(metric).replace(", ", " ")
    name = SPOKEN.get(metric) or name[:1].lower() + name[1:]
    unit = "percentage points of" if is_share(metric) else "in"
    return f"{_signed(metric, value)} {unit} {name}"


def _signed(metric: str, value: float) -> str:
    return points(value) if is_share(metric) else f"{value:+.3g}".replace("-", "−")


def _plain(metric: str, value: float) -> str:
    return percent(value) if is_share(metric) else f"{value:.3g}".replace("-", "−")


def _leaf(leaf: dict[str, Any], metric: str) -> Entry:
    return _entry(metric, leaf.get("accuracy"), leaf.get("low"), leaf.get("high"))


def _mean(row: Any) -> Entry:
    return _entry(row.metric, row.mean, row.low, row.high) if row else Entry(NOTHING)


def _difference(row: Difference | None) -> Entry:
    if row is None:
        return Entry(NOTHING)
    value, *bounds = (
        _signed(row.metric, each) if known(each) else "" for each in (row.mean, row.low, row.high)
    )
    effect = f"d_z {row.d_z:+.1f}".replace("-", "−") if known(row.d_z) else ""
    return Entry(value, f"{bounds[0]} to {bounds[1]}" if bounds[0] else "", effect)


def _entry(metric: str, value: float | None, low: float | None, high: float | None) -> Entry:
    if not known(value):
        return Entry(NOTHING)
    if not (known(low) and known(high)):
        return Entry(_plain(metric, value))
    low_text, high_text = (_plain(metric, each).removesuffix(" %") for each in (low, high))
    return Entry(_plain(metric, value), f"{low_text} to {high_text}")


def _count(rows: Sequence[Any], word: str) -> str:
    """ "3 seeds", or "2 to 3 seeds" where metrics have different numbers."""
    if not rows:
        return ""
    low, high = min(row.n for row in rows), max(row.n for row in rows)
    least = f"{low} to " if low < high else ""
    return f"n = {least}{high} {word}{'s' if high != 1 else ''}"


def _baselines(runs: Sequence[Run], metrics: Sequence[str]) -> list[Row]:
    rows = []
    for key, name in NAMES.items():
        entries = []
        for metric in metrics:
            stem = f"{key}/{metric}"
            leaves = [run.leaf(stem) for run in runs if stem in run.scores]
            same = leaves and all(leaf == leaves[0] for leaf in leaves)
            mean = {"accuracy": _average(runs, stem)}
            entries.append(_leaf(leaves[0] if same else mean, metric))
        rows.append(Row(name, "", "", "baseline", entries))
    return rows


def _average(runs: Sequence[Run], metric: str) -> float | None:
    values = [run.scores[metric] for run in runs if metric in run.scores]
    values = [value for value in values if known(value)]
    return sum(values) / len(values) if values else None


def _trim(
    head: str, metrics: Sequence[str], rows: list[Row], extra: Sequence[str] = ()
) -> Table | None:
    """Leave out rows other than cells' without a number, and columns without one."""

    def number(entry: Entry) -> bool:
        return entry.value != NOTHING

    kept = [row for row in rows if row.kind in ("cell", "side") or any(map(number, row.entries))]
    lines = [row for row in kept if row.entries]
    columns = [_column(metric) for metric in metrics] + list(extra)
    full = [i for i in range(len(columns)) if any(number(row.entries[i]) for row in lines)]
    if not full:
        return None
    rows = [
        replace(row, entries=[row.entries[i] for i in full] if row.entries else []) for row in kept
    ]
    return Table(head, [columns[i] for i in full], rows)


def _column(metric: str) -> str:
    """A metric's title in a table whose head names its family."""
    parts = metric.split("/")
    own = parts[1:-1] if parts[0] in BY_MEASURE else [p for p in parts if p not in HEADS]
    return title("/".join(own))
