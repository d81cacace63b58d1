"""Runs gathered into cells (one setting, several seeds) and cells into groups to be compared."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from levyjepa.report.deciding import unit
from levyjepa.report.figures import PALETTE
from levyjepa.report.folder import Run
from levyjepa.training.comparison import Comparison, Measured, cell_name, compare, shown

IGNORED = ("seed", "run_dir", "logger.", "experiment", "trainer.progress", "trainer.devices")
IGNORED += ("trainer.evaluate", "data.workers")
GAMMA = "objective.gamma"
KINDS = ("hub", "parquet", "folder", "unlabelled", "segmentation", "videofolder", "davis", "frames")
PRIOR = ("objective.", "model.patch_projection")
SHARED = ("objective.kappa", "objective.lamb", "objective.num_directions", "objective.knots")
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
    """Cells with the prior beside those without; a group for each setting of everything else.

    In a group each gamma has its colour; where several cells share one, or gamma doesn't vary at
    all, cells take the palette in turn.

    Args:
        runs: In the order in which cells shall stand.
        named: Settings that stand in a cell's name even where they don't differ.
    """
    found = differing(runs)
    keys = [*named, *(key for key in _telling(found) if key not in named)] or [GAMMA]
    varies = GAMMA in found
    shared = [key for key in keys if not of_prior(key)] if varies else []
    gammas = sorted({run.gamma for run in runs} | {0.0})
    first = {key: runs[0].settings.get(key) for key in keys}
    like = {_reader(found)(run) for run in runs if run.gamma == runs[0].gamma}
    base = cell_name({GAMMA: runs[0].gamma}) if varies and len(like) == 1 else "base"
    groups = []
    for values, members in _by(runs, _reader(shared)):
        cells = []
        each = _by(members, _reader([*keys, *found]))
        apart = len({same[0].gamma for _, same in each}) == len(each) and (varies or not found)
        for _, same in each:
            settings = {key: same[0].settings.get(key) for key in keys}
            own = {key: value for key, value in settings.items() if value != first[key]}
            name = cell_name(settings if len(keys) <= max(NAMED, len(named)) else own) or base
            index = gammas.index(same[0].gamma) if apart else len(cells)
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


def of_prior(key: str) -> bool:
    """Whether a setting does nothing at gamma 0."""
    return key.startswith(PRIOR) and key not in SHARED


def data_name(run: Run) -> str:
    """A source that names its images, as cifar10; the last part of the path of one that doesn't."""
    source, path = run.settings.get("data.source", "unknown data"), run.settings.get("data.path")
    return Path(path).name if path and source in KINDS else str(source)


def studies(runs: Sequence[Run]) -> dict[str, list[Run]]:
    """Runs that may be compared: of the same images, judged by the same of them."""
    found: dict[tuple[str, bool], list[Run]] = {}
    for run in runs:
        found.setdefault((data_name(run), bool(run.settings.get("data.holdout"))), []).append(run)
    names = [name for name, _ in found]
    told = {True: ", judged on held-out training {}s", False: ", judged on test {}s"}
    return {
        name + (told[held].format(unit(some[0])) if names.count(name) > 1 else ""): some
        for (name, held), some in found.items()
    }


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


def _reader(keys: Iterable[str]) -> Callable[[Run], tuple]:
    wanted = list(keys)
    return lambda run: tuple(shown(run.settings.get(key)) for key in wanted)
