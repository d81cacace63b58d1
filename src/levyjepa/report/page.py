"""One self-contained page from run folders."""

from pathlib import Path
from typing import Any

import jinja2

from levyjepa.report import figures, pictures, table
from levyjepa.report.cells import Cell, Group, cell_name, data_name, differing, grouped
from levyjepa.report.drawing import draw
from levyjepa.report.folder import Run, read_json, read_run


def run_report(run_dir: str | Path) -> Path:
    """Write `report.html` into a run folder and return its path.

    Raises:
        FileNotFoundError: the folder holds no `config.yaml`.
    """
    run = read_run(run_dir)
    groups = grouped([run])
    cell = groups[0].cells[0]
    prior = f"with the Lévy prior ({cell.name})" if run.gamma else "without the prior (gamma=0)"
    lead = table.standing_sentence(cell) or (
        f"LeJEPA {prior} on {data_name(run)}, trained for {_epochs(run)}."
    )
    title = f"LeJEPA {prior} on {data_name(run)}"
    return _write(run.folder / "report.html", title, [lead], groups, table.run_table([cell]))


def experiment_report(directory: str | Path) -> Path:
    """Write `report.html` into an experiment folder and return its path.

    Raises:
        FileNotFoundError: none of its sub-folders is a run folder.
    """
    directory = Path(directory)
    runs = _runs_below(directory)
    if not runs:
        raise FileNotFoundError(f"An experiment folder holds run folders, got {directory}.")
    found = read_json(directory / "experiment.json")
    groups = grouped(runs)
    cells = [cell for group in groups for cell in group.cells]
    compared = [row for row in found.get("differences", []) if row["metric"] == "linear_probe"]
    lead = [table.difference_sentence(row) for row in compared or found.get("differences", [])[:1]]
    lead += [sentence for cell in cells[-1:] if (sentence := table.standing_sentence(cell))]
    lead = lead or [f"{len(cells)} settings on {data_name(runs[0])}; none is evaluated yet."]
    title = f"{found.get('name', directory.name)}: {_against(cells)} on {data_name(runs[0])}"
    numbers = table.experiment_table(cells, found)
    warnings = [
        f"{cell_name(cell['overrides'])}, seed {cell['overrides'].get('seed', 0)}: "
        f"{cell['status']}. {cell.get('error') or ''}"
        for cell in found.get("cells", [])
        if cell.get("status", "finished") != "finished"
    ]
    return _write(directory / "report.html", title, lead, groups, numbers, warnings, found)


def compare_report(dirs: list[str | Path], out: str | Path) -> Path:
    """Write one page about several run or experiment folders to `out` and return its path.

    Raises:
        ValueError: no folder is given.
        FileNotFoundError: a folder neither is a run folder nor holds one.
    """
    if not dirs:
        raise ValueError("`dirs` must name at least one run folder, got none.")
    runs = []
    for each in map(Path, dirs):
        inside = [] if (each / "config.yaml").is_file() else _runs_below(each)
        runs += inside or [read_run(each)]
    groups = grouped(runs)
    cells = [cell for group in groups for cell in group.cells]
    lead = [sentence for cell in cells if (sentence := table.standing_sentence(cell))]
    lead = lead or [f"{len(runs)} runs on {data_name(runs[0])}; none is evaluated yet."]
    title = f"{len(runs)} runs compared"
    return _write(Path(out), title, lead, groups, table.run_table(cells))


def _write(
    path: Path,
    title: str,
    lead: list[str],
    groups: list[Group],
    numbers: table.Table | None,
    warnings: list[str] | None = None,
    found: dict[str, Any] | None = None,
) -> Path:
    runs = [run for group in groups for cell in group.cells for run in cell.runs]
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters["shade"] = lambda colour: figures.VARIABLES.get(colour, colour)
    template = environment.from_string(Path(__file__).with_name("page.html").read_text("utf-8"))
    path.write_text(
        template.render(
            title=title,
            lead=lead,
            warnings=[*(warnings or []), *(note for run in runs if (note := _unfinished(run)))],
            labelled=any(run.labelled for run in runs),
            evaluated=any("linear_probe" in run.evaluation for run in runs),
            numbers=numbers,
            averaged=bool(found and found.get("table")),
            drawings=[draw(group) for group in groups],
            palette=list(enumerate(figures.PALETTE)),
            ramp=", ".join(pictures.ramp()),
            law=runs[0].settings.get("objective.law", ""),
            differing=differing(runs),
            runs=runs,
        ),
        "utf-8",
    )
    return path


def _against(cells: list[Cell]) -> str:
    names = [cell.name for cell in cells]
    return " against ".join(names) if len(names) <= 2 else f"{len(names)} settings"


def _epochs(run: Run) -> str:
    return f"{run.epochs} epoch{'s' if run.epochs != 1 else ''}"


def _unfinished(run: Run) -> str:
    planned = run.settings.get("trainer.max_epochs", 0)
    if run.finished:
        return ""
    done = f"{_epochs(run)} of {planned}" if planned else _epochs(run)
    return f"{run.folder.name} is unfinished: {done} logged, and nothing evaluated."


def _runs_below(directory: Path) -> list[Run]:
    return [read_run(path.parent) for path in sorted(directory.glob("*/config.yaml"))]
