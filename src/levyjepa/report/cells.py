"""Runs gathered into cells (one setting, several seeds) and cells into groups to be compared."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from levyjepa.report.figures import PALETTE
from levyjepa.report.folder import Run

IGNORED = ("seed", "run_dir", "logger.", "experiment", "trainer.progress", "trainer.devices")
GAMMA = "objective.gamma"


@dataclass(frozen=True)
class Cell:
    """Runs that differ by their seed alone; the first stands for them in pictures."""

    name: str
    colour: str
    runs: list[Run]


@dataclass(frozen=True)
class Group:
    """Cells to be drawn into the same panels; `name` is what they share, if there are others."""

    name: str
    cells: list[Cell]


def cell_name(overrides: dict[str, Any]) -> str:
    """Such as "gamma=1, kappa=0"; the seed is left out."""
    return ", ".join(
        f"{key.rsplit('.', 1)[-1]}={_plain(value)}"
        for key, value in overrides.items()
        if key != "seed"
    )


def differing(runs: list[Run]) -> dict[str, list[Any]]:
    """The settings in which runs differ, but for the seed and where things are written."""
    keys = dict.fromkeys(key for run in runs for key in run.settings)
    table = {key: [run.settings.get(key) for run in runs] for key in keys}
    return {
        key: values
        for key, values in table.items()
        if not key.startswith(IGNORED) and any(value != values[0] for value in values)
    }


def grouped(runs: list[Run]) -> list[Group]:
    """Cells with one colour for each gamma; a group for each setting of everything else.

    Where gamma doesn't vary, all cells are one group and take the palette in turn.
    """
    keys = list(differing(runs))
    varies = GAMMA in keys
    shared = [key for key in keys if key != GAMMA] if varies else []
    gammas = sorted({run.gamma for run in runs} | {0.0})
    groups = []
    for values, members in _by(runs, _reader(shared)):
        cells = []
        for _, same in _by(members, _reader(keys)):
            overrides = {key: same[0].settings.get(key) for key in keys or [GAMMA]}
            index = len(cells) if keys and not varies else gammas.index(same[0].gamma)
            cells.append(Cell(cell_name(overrides), PALETTE[index % len(PALETTE)], _by_seed(same)))
        name = ", ".join(f"{k.rsplit('.', 1)[-1]}={v}" for k, v in zip(shared, values, strict=True))
        groups.append(Group(name, cells))
    return groups


def data_name(run: Run) -> str:
    """The source of a run's images, with its path's last part if it has one."""
    source, path = run.settings.get("data.source", "unknown data"), run.settings.get("data.path")
    return f"{source} ({Path(path).name})" if path else str(source)


def _by(runs: list[Run], key: Callable[[Run], tuple]) -> list[tuple[tuple, list[Run]]]:
    found: dict[tuple, list[Run]] = {}
    for run in runs:
        found.setdefault(key(run), []).append(run)
    return list(found.items())


def _reader(keys: list[str]) -> Callable[[Run], tuple]:
    return lambda run: tuple(_plain(run.settings.get(key)) for key in keys)


def _by_seed(runs: list[Run]) -> list[Run]:
    return sorted(runs, key=lambda run: run.settings.get("seed", 0))


def _plain(value: Any) -> str:
    return f"{value:g}" if isinstance(value, (int, float)) else str(value)
