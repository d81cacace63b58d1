"""One self-contained page from run folders."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from levyjepa.report import lead, table
from levyjepa.report.cells import (
    Cell,
    Group,
    compared,
    data_name,
    differing,
    distinct,
    grouped,
    studies,
)
from levyjepa.report.deciding import follows, unit
from levyjepa.report.drawing import Drawing, Panel, draw, every_run, expected_jumps
from levyjepa.report.folder import Run, read_json, read_run
from levyjepa.report.template import render
from levyjepa.report.tried import VERDICTS, Tried, overall, story, tried
from levyjepa.training.comparison import Comparison, cell_name

LOG_EVERY = 10  # steps, at most
PICTURED = 6  # cells whose pictures a page holds


def run_report(run_dir: str | Path) -> Path:
    """Write `report.html` into a run folder and return its path.

    Raises:
        FileNotFoundError: the folder is missing, or holds no `config.yaml`.
    """
    run = read_run(_existing(run_dir))
    groups = grouped([run])
    cell = groups[0].cells[0]
    prior = f"with the Lévy prior ({cell.name})" if run.gamma else "without the prior (gamma=0)"
    title = f"LeJEPA {prior} on {data_name(run)}"
    told = lead.standing_sentences(cell) or [f"{title}, trained for {_length(run)}."]
    return _write(run.folder / "report.html", title, told, [_study("", groups)], [run])


def experiment_report(directory: str | Path) -> Path:
    """Write `report.html` into an experiment folder, or any folder of runs; return its path.

    Raises:
        FileNotFoundError: the folder is missing, or no run folder lies below it.
    """
    directory = _existing(directory)
    runs = _runs_below(directory)
    if not runs:
        raise FileNotFoundError(
            f"`DIR` must be a run folder or hold some, got {directory}, which has none."
        )
    found = read_json(directory / "experiment.json")
    swept = [key for cell in found.get("cells", [])[:1] for key in cell["overrides"]]
    named = [key for key in swept if key != "seed" and key in runs[0].settings]
    warnings = [
        f"{cell_name(cell['overrides'])}, seed {cell['overrides'].get('seed', 0)}: "
        f"{cell['status']}. {cell.get('error') or ''}"
        for cell in found.get("cells", [])
        if cell.get("status", "finished") != "finished"
    ]
    below = (*swept, *(f"{key}." for key in swept))
    other = [key for key in differing(runs) if swept and not key.startswith(below)]
    if other:
        warnings.append(f"These runs differ beyond the experiment’s grid: in {', '.join(other)}.")
    seen = {
        row["cell"]: row["published"]
        for row in found.get("table", [])
        if row.get("published") is not None
    }
    name = found.get("name", directory.name)
    return _compare(directory / "report.html", f"{name}: ", runs, named, seen, warnings)


def compare_report(dirs: Sequence[str | Path], out: str | Path) -> Path:
    """Write one page about several run or experiment folders to `out` and return its path.

    Runs that differ in settings are cells, paired where they share seeds.

    Raises:
        ValueError: no folder is given.
        FileNotFoundError: a folder is missing, or neither is a run folder nor holds one.
    """
    if not dirs:
        raise ValueError("`dirs` must name at least one run folder, got none.")
    runs: list[Run] = []
    for each in map(_existing, dirs):
        inside = [] if (each / "config.yaml").is_file() else _runs_below(each)
        runs += inside or [read_run(each)]
    return _compare(Path(out), f"{len(runs)} runs compared: ", runs)


@dataclass(frozen=True)
class Study:
    """What a page shows of runs that may be compared."""

    name: str
    story: str
    tried: Tried | None
    trained: str
    unit: str  # image, clip
    labelled: bool
    averaged: bool  # over seeds
    tables: list[table.Table]
    chance: str
    base: str  # the settings of the cell that is called so
    every: list[Panel]
    drawings: list[Drawing]
    pictured: str
    seeds: str
    laws: list[str]
    expected: str


def _compare(
    path: Path,
    title: str,
    runs: list[Run],
    named: Sequence[str] = (),
    published: dict[str, float] | None = None,
    warnings: Sequence[str] = (),
) -> Path:
    runs, repeated = distinct(runs)
    if not named:  # in the order of folders' names; what runs are compared with comes first
        runs.sort(key=lambda run: run.gamma > 0)
    made, told, names = [], [], []
    for name, some in studies(runs).items():
        groups = grouped(some, named)
        cells = [cell for group in groups for cell in group.cells]
        found = compared(groups, published)
        made.append(_study(name, groups, found))
        names += [cell.name for cell in cells]
        told += _lead(cells, found)
    if len(made) > 1:
        made.sort(key=lambda study: -study.tried.pairs if study.tried else 0)
        told = [overall(attempts)] if (attempts := [s.tried for s in made if s.tried]) else []
    where = " and ".join(dict.fromkeys(map(data_name, runs)))
    some = any(run.finished for run in runs)
    told = told or [f"{len(names)} settings on {where}{'' if some else '; none is evaluated yet'}."]
    seeds = [run.seed for run in runs]
    alone = len(names) > 1 and len(set(seeds)) == len(seeds)
    notes = ["No two settings share a seed, so nothing is paired."] if alone else []
    against = " against ".join(names) if len(names) <= 2 else f"{len(names)} settings"
    return _write(
        path, f"{title}{against} on {where}", told, made, runs, [*warnings, *repeated, *notes]
    )


def _lead(cells: list[Cell], found: Comparison) -> list[str]:
    runs = [run for cell in cells for run in cell.runs]
    rows = lead.leading(found, runs)
    told = [lead.difference_sentence(row) for row in rows]
    if follows(runs):
        beside = [lead.beside_sentence(row.metric, cells) for row in rows]
        return [" ".join(filter(None, both)) for both in zip(told, beside, strict=True)]
    return told + (lead.standing_sentences(cells[-1]) if len(cells) < 3 else [])


def _study(name: str, groups: list[Group], found: Comparison | None = None) -> Study:
    cells = [cell for group in groups for cell in group.cells]
    runs = [run for cell in cells for run in cell.runs]
    alone = len(runs) == 1
    attempts = tried(cells) if found else None
    pictured = _pictured(groups)
    left = len(cells) - sum(len(group.cells) for group in pictured)
    drawings = [draw(group) for group in pictured]
    laws = list(dict.fromkeys(run.settings["objective.law"] for run in runs))
    return Study(
        name,
        story(attempts) if attempts else _untold(runs),
        attempts,
        labelled=any(run.labelled for run in runs),
        averaged=not alone,
        tables=(
            table.run_tables(cells[0])
            if alone or not found
            else table.comparison_tables(cells, found)
        ),
        chance=lead.chance_sentence(found) if found else "",
        trained=lead.trained_sentence(runs),
        unit=unit(runs[0]),
        base=_base(cells),
        every=[] if alone else every_run(groups),
        drawings=drawings,
        pictured=f"Pictures are of the first {len(cells) - left} settings." if left else "",
        seeds=_seeds(drawings),
        laws=laws,
        expected=expected_jumps(laws[0]) if len(laws) == 1 else "",
    )


def _write(
    path: Path,
    title: str,
    told: list[str],
    made: list[Study],
    runs: list[Run],
    warnings: Sequence[str] = (),
) -> Path:
    page = render(
        "page.html",
        title=title,
        lead=told,
        warnings=[*warnings, *_warnings(runs)],
        studies=made,
        verdicts=VERDICTS,
        differing=differing(runs),
        runs=runs,
    )
    path.write_text(page, "utf-8")
    return path


def _untold(runs: list[Run]) -> str:
    done = sum(run.finished for run in runs)
    return f"{done} of {len(runs)} runs evaluated, none of them paired with another."


def _pictured(groups: list[Group]) -> list[Group]:
    kept, room = [], PICTURED
    for group in groups:
        if cells := group.cells[:room]:
            kept.append(Group(group.name, cells))
        room -= len(cells)
    return kept


def _seeds(drawings: list[Drawing]) -> str:
    """Which runs stand for settings that have several."""
    seeds = {name: seed for each in drawings for name, seed in each.seeds.items()}
    if len(set(seeds.values())) == 1:
        return f"Shown is the run of seed {min(seeds.values())} of each setting."
    told = "; ".join(f"{name}: seed {seed}" for name, seed in seeds.items())
    return f"Shown is one run of each setting ({told})." if told else ""


def _length(run: Run) -> str:
    """How long a run is, in steps where `trainer.max_steps` stopped it."""
    most = run.settings["trainer.max_steps"]
    if most > 0 and run.finished and run.steps + LOG_EVERY > most:
        return f"{most} step{'s' if most != 1 else ''}"
    return f"{run.epochs} epoch{'s' if run.epochs != 1 else ''}"


def _warnings(runs: Sequence[Run]) -> list[str]:
    """What is wrong with runs, once for all of which the same is."""
    found: dict[str, list[str]] = {}
    for run in runs:
        if note := _warning(run):
            found.setdefault(note, []).append("/".join(run.folder.parts[-2:]))
    return [
        f"{Path(names[0]).name} {note}."
        if len(runs) == 1
        else f"{names[0]} {note}."
        if len(names) == 1
        else f"{len(names)} runs, each of which {note}: {', '.join(names)}."
        for note, names in found.items()
    ]


def _warning(run: Run) -> str:
    if run.evaluation.get("representation", {}).get("collapsed"):
        return "has collapsed: its embeddings lie on a point or a line"
    if run.finished:
        return ""
    planned = run.settings["trainer.max_epochs"]
    if run.epochs >= planned:
        return "is trained and not evaluated"
    return f"is unfinished: {_length(run)} of {planned} logged, and nothing evaluated"


def _base(cells: list[Cell]) -> str:
    """The settings of the cell whose name doesn't say them."""
    return next((cell_name(cell.settings) for cell in cells if cell.name == "base"), "")


def _existing(directory: str | Path) -> Path:
    directory = Path(directory)
    if not directory.is_dir():
        raise FileNotFoundError(f"`DIR` must be a folder, but there is none at {directory}.")
    return directory


def _runs_below(directory: Path) -> list[Run]:
    """Every run below a folder: in the order of `experiment.json`, then of names and numbers."""
    given = read_json(directory / "experiment.json").get("cells", [])
    order = {Path(cell["run_dir"]).name: place for place, cell in enumerate(given)}

    def place(path: Path) -> tuple:
        parts = [re.split(r"(\d+(?:\.\d+)?)", part) for part in path.relative_to(directory).parts]
        numbers = [[float(p) if i % 2 else p for i, p in enumerate(part)] for part in parts]
        return order.get(path.name, len(order)), numbers

    return [read_run(path) for path in sorted(_folders(directory), key=place)]


def _folders(directory: Path) -> Iterator[Path]:
    """Run folders, and nothing that lies in one."""
    for path in filter(Path.is_dir, directory.iterdir()):
        if (path / "config.yaml").is_file():
            yield path
        else:
            yield from _folders(path)
