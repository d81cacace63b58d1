"""The tables of a page: metrics, baselines, chance and paired differences."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from levyjepa.report.cells import Cell
from levyjepa.report.deciding import deciding, follows, unit
from levyjepa.report.folder import Run, average, chance
from levyjepa.report.numbers import (
    NOTHING,
    Entry,
    difference_entry,
    entry,
    known,
    leaf_entry,
    percent,
    points,
)
from levyjepa.report.terms import CLASSES, HEADS, NOTES, SHORT, SHORT_OF_CLIPS
from levyjepa.training.comparison import BASELINES, WORDS, Comparison, is_baseline, title

NAMES = {"random_encoder": "Random encoder", "pixels": "Raw pixels"}
OF_LABELS = ("linear_probe", "knn", "online_last", "online_best", "digits")
BY_MEASURE = ("boundaries", "jumps")  # a table for each of their measures


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
    """A head, column heads, rows, and what the terms mean."""

    title: str
    columns: list[str]
    rows: list[Row]
    note: str = ""


@dataclass(frozen=True)
class _Family:
    """Metrics that share a table."""

    head: str
    kind: str  # a key of NOTES
    metrics: list[str]

    @property
    def columns(self) -> list[str]:
        return [title(m) if self.kind == SHORT else _column(m) for m in self.metrics]


def run_tables(cell: Cell) -> list[Table]:
    """The metrics of one run with the intervals of its test images, and the baselines."""
    run = cell.runs[0]
    note = f"{run.folder.name}, seed {run.seed}"

    def rows(family: _Family) -> tuple[list[Row], list[str]]:
        entries = [leaf_entry(run.leaf(metric), metric) for metric in family.metrics]
        mine = Row(cell.name, note, cell.colour, "cell", entries)
        return [mine, *_baselines([run], family.metrics)], []

    return _tables([cell], rows)


def comparison_tables(cells: Sequence[Cell], found: Comparison) -> list[Table]:
    """For each kind of metric: means over seeds, baselines, and differences by side."""
    runs = [run for cell in cells for run in cell.runs]
    colours = {cell.name: cell.colour for cell in cells}
    published = {row.cell: row.published for row in found.table if row.published is not None}

    def rows(family: _Family) -> tuple[list[Row], list[str]]:
        metrics = family.metrics
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
                own = [difference_entry(mine.get(metric)) for metric in metrics]
                both = a in seen and b in seen
                last = [Entry(points(seen[a] - seen[b]) if both else NOTHING)] if seen else []
                note = _count(list(mine.values()), "pair")
                rows.append(Row(f"{a} minus {b}", note, "", "difference", own + last))
        return rows, ["Original’s online probe"] if seen else []

    return _tables(cells, rows)


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
    return [Table(CLASSES, names, rows)] if rows else []


def _tables(
    cells: Sequence[Cell], rows: Callable[[_Family], tuple[list[Row], list[str]]]
) -> list[Table]:
    """The table that decides comes first."""
    runs = [run for cell in cells for run in cell.runs]
    tables, said = [], set()
    for family in _families(runs):
        own, extra = rows(family)
        note = SHORT_OF_CLIPS if family.kind == SHORT and follows(runs) else NOTES[family.kind]
        if made := _trim(family, own, extra):
            again = family.kind in said  # measures of the same, each in its table
            tables.append(replace(made, note="" if again else note.format(unit=unit(runs[0]))))
            said.add(family.kind)
    return tables + per_class(cells)


def _families(runs: Sequence[Run]) -> list[_Family]:
    """What each table shows; first of all what decides, if no other table holds all of it."""
    every = [*OF_LABELS, *(metric for run in runs for metric in run.scores)]
    every.sort(key=is_baseline)
    families: dict[tuple[str, str], dict[str, None]] = {}
    for metric in every:
        parts = [part for part in metric.split("/") if part not in BASELINES]
        innermost = next((part for part in reversed(parts) if part in HEADS), "")
        kind = parts[0] if parts[0] in BY_MEASURE else innermost
        head = HEADS[kind]
        if kind in BY_MEASURE:
            head = f"{head}: {WORDS.get(parts[-1], parts[-1].replace('_', ' '))}"
        families.setdefault((head, kind), {})["/".join(parts)] = None
    order = list(HEADS)
    made = [_Family(*key, list(metrics)) for key, metrics in families.items()]
    made.sort(key=lambda family: order.index(family.kind))
    wanted = deciding(runs)
    first = [family for family in made if wanted and set(wanted) <= set(family.metrics)]
    first = first or [_Family(SHORT, SHORT, wanted)]
    return [*first, *(family for family in made if family not in first)]


def _mean(row: Any) -> Entry:
    return entry(row.metric, row.mean, row.low, row.high) if row else Entry(NOTHING)


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
            mean = {"accuracy": average(runs, stem)}
            entries.append(leaf_entry(leaves[0] if same else mean, metric))
        rows.append(Row(name, "", "", "baseline", entries))
    by_chance = [entry(metric, chance(runs, metric)) for metric in metrics]
    return [*rows, Row("Chance", "", "", "baseline", by_chance)]


def _trim(family: _Family, rows: list[Row], extra: Sequence[str] = ()) -> Table | None:
    """Leave out rows other than cells' without a number, and columns without one."""

    def number(entry: Entry) -> bool:
        return entry.value != NOTHING

    kept = [row for row in rows if row.kind in ("cell", "side") or any(map(number, row.entries))]
    lines = [row for row in kept if row.entries and row.name != "Chance"]
    columns = family.columns + list(extra)
    full = [i for i in range(len(columns)) if any(number(row.entries[i]) for row in lines)]
    if not full:
        return None
    cut = [replace(row, entries=[row.entries[i] for i in full if row.entries]) for row in kept]
    rows = [row for row in cut if row.kind != "baseline" or any(map(number, row.entries))]
    return Table(family.head, [columns[i] for i in full], rows)


def _column(metric: str) -> str:
    """A metric's title in a table whose head names its family."""
    parts = metric.split("/")
    own = parts[1:-1] if parts[0] in BY_MEASURE else [p for p in parts if p not in HEADS]
    return title("/".join(own))
