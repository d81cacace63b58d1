"""Runs gathered into cells (one setting, several seeds) and cells into groups to be compared."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from levyjepa.report.figures import PALETTE
from levyjepa.report.folder import Run
from levyjepa.training.comparison import Comparison, Measured, cell_name, compare, shown

IGNORED = ("seed", "run_dir", "logger.", "experiment", "trainer.progress", "trainer.devices")
IGNORED += ("trainer.evaluate", "data.workers")
GAMMA = "objective.gamma"
NAMED = 3  # settings that stand in a cell's name; of more, those that differ from the first cell


@dataclass(frozen=True)
class Cell:
    """Runs that differ by their seed alone; the first stands for them in pictures."""

    name: str
    colour: str
    runs: list[Run]
    settings: dict[str, Any]  # those that tell it from other cells


@dataclass(frozen=True)
class Group:
    """Cells to be drawn into the same panels; `name` is what they share, if there are others."""

    name: str
    cells: list[Cell]


def differing(runs: Sequence[Run]) -> dict[str, list[Any]]:
    """The settings in which runs differ, but for the seed and where things are written."""
    keys = dict.fromkeys(key for run in runs for key in run.settings)
    table = {key: [run.settings.get(key) for run in runs] for key in keys}
    return {
        key: values
        for key, values in table.items()
        if not key.startswith(IGNORED) and any(value != values[0] for value in values)
    }


def grouped(runs: Sequence[Run], named: Sequence[str] = ()) -> list[Group]:
    """Cells with one colour for each gamma; a group for each setting of everything else.

    Where gamma doesn't vary, all cells are one group and take the palette in turn.

    Args:
        runs: In the order in which cells shall stand.
        named: Settings that stand in a cell's name even where they don't differ.
    """
    found = differing(runs)
    keys = [*named, *(key for key in _telling(found) if key not in named)] or [GAMMA]
    varies = GAMMA in found
    shared = [key for key in keys if key != GAMMA] if varies else []
    gammas = sorted({run.gamma for run in runs} | {0.0})
    first = {key: runs[0].settings.get(key) for key in keys}
    groups = []
    for values, members in _by(runs, _reader(shared)):
        cells = []
        for _, same in _by(members, _reader([*keys, *found])):
            settings = {key: same[0].settings.get(key) for key in keys}
            own = {key: value for key, value in settings.items() if value != first[key]}
            name = cell_name(settings if len(keys) <= max(NAMED, len(named)) else own) or "base"
            index = len(cells) if found and not varies else gammas.index(same[0].gamma)
            ordered = sorted(same, key=lambda run: run.seed)
            cells.append(Cell(name, PALETTE[index % len(PALETTE)], ordered, settings))
        texts = dict(zip(shared, values, strict=True))
        own = {key: text for key, text in texts.items() if text != shown(first[key])}
        name = cell_name(texts if len(texts) <= NAMED else own) or "base" * bool(texts)
        groups.append(Group(name, cells))
    return groups


def compared(groups: Sequence[Group], published: dict[str, float] | None = None) -> Comparison:
    """What the cells say together, paired by seed."""
    runs = [
        Measured(cell.name, cell.settings, run.seed, run.scores)
        for group in groups
        for cell in group.cells
        for run in cell.runs
    ]
    return compare(runs, published)


def distinct(runs: Sequence[Run]) -> tuple[list[Run], list[str]]:
    """Runs of which none repeats another's settings and seed, and a sentence for each that does."""
    keys, seen, kept, repeated = list(differing(runs)), {}, [], []
    for run in runs:
        place = (run.seed, *_reader(keys)(run))
        if place in seen:
            other = seen[place].folder
            repeated.append(f"{run.folder} has the settings and seed of {other} and is left out.")
        else:
            seen[place] = run
            kept.append(run)
    return kept, repeated


def data_name(run: Run) -> str:
    """The source of a run's images, with its path's last part if it has one."""
    source, path = run.settings.get("data.source", "unknown data"), run.settings.get("data.path")
    return f"{source} ({Path(path).name})" if path else str(source)


def _telling(found: dict[str, list[Any]]) -> list[str]:
    """Of settings that always change together, gamma and the shortest, at most two."""
    sides: dict[tuple[int, ...], list[str]] = {}
    for key, values in found.items():
        texts = list(map(shown, values))
        order = list(dict.fromkeys(texts))
        sides.setdefault(tuple(map(order.index, texts)), []).append(key)

    def length(key: str) -> int:
        return 0 if key == GAMMA else max(map(len, map(shown, found[key])))

    kept = {key for together in sides.values() for key in sorted(together, key=length)[:2]}
    return [key for key in found if key in kept]


def _by(runs: Sequence[Run], key: Callable[[Run], tuple]) -> list[tuple[tuple, list[Run]]]:
    found: dict[tuple, list[Run]] = {}
    for run in runs:
        found.setdefault(key(run), []).append(run)
    return list(found.items())


def _reader(keys: Sequence[str]) -> Callable[[Run], tuple]:
    return lambda run: tuple(shown(run.settings.get(key)) for key in keys)
