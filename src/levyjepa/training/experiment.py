"""A paired grid of runs through Hydra's multirun, and the table of what came out."""

import csv
import json
import logging
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from hashlib import sha1
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from levyjepa.conf.compose import FOLDER, ConfigError, compose, flat, parse, settled, to_dict
from levyjepa.conf.schema import Config, ExperimentConfig
from levyjepa.training.comparison import (
    Difference,
    Measured,
    Row,
    cell_name,
    compare,
    is_baseline,
    is_share,
    scores,
    title,
)
from levyjepa.training.run import RunFolderError, RunResult, is_finished, other_setting, train

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Cell:
    """One run of the grid."""

    overrides: dict[str, Any]
    run_dir: str
    status: str  # finished, failed
    kept: bool = False  # it had been finished before
    error: str | None = None
    scores: dict[str, float] | None = None  # by metric


@dataclass(frozen=True)
class ExperimentResult:
    """Every cell, and what they say together."""

    directory: Path
    cells: list[Cell]
    table: list[Row]
    differences: list[Difference]


def run_experiment(overrides: list[str]) -> ExperimentResult:
    """Run every cell of a grid that isn't finished, and write the table.

    Args:
        overrides: As on the command line; "experiment=demo" names a grid, "seed=0,1,2" changes
            one of its sides, "hydra/launcher=joblib" runs cells side by side.

    Raises:
        ConfigError: An unknown or impossible setting, no experiment, a side that is empty or
            holds a value twice.
        RunFolderError: The folder holds runs that differ in more than the grid's sides.
    """
    grid = _plan(overrides)
    experiment = grid.config.experiment
    assert experiment is not None
    root = Path(grid.config.run_dir or f"runs/{experiment.name}")
    _admit(root, grid)
    # every setting of a seed before the next seed: what is stopped midway holds whole pairs
    order = sorted(grid.sides, key=lambda key: key != "seed")
    sides = [f"{key}={','.join(grid.sides[key])}" for key in order]
    with initialize_config_dir(str(FOLDER), job_name="levyjepa", version_base="1.3"):
        hydra: Any = GlobalHydra.instance().hydra
        task = partial(_cell, root=root, keys=list(grid.sides), baselines={})
        lines = [*grid.lines, *sides, f"hydra.sweep.dir='{root}'"]
        batches = hydra.multirun("config", task, lines, False)
    cells = [job.return_value for batch in batches for job in batch]
    result = summarise(root, experiment, cells)
    write(result)
    return result


def summarise(directory: Path, experiment: ExperimentConfig, cells: list[Cell]) -> ExperimentResult:
    """Means over seeds, and differences along every side to its first value, paired by seed."""
    runs = [
        Measured(
            cell_name(cell.overrides),
            {key: value for key, value in cell.overrides.items() if key != "seed"},
            cell.overrides.get("seed"),
            cell.scores or {},
        )
        for cell in cells
    ]
    found = compare(runs, experiment.published)
    return ExperimentResult(directory, cells, found.table, found.differences)


def write(result: ExperimentResult) -> None:
    """Write `table.md`, `table.csv` and `experiment.json` into the experiment's folder."""
    directory = result.directory
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "table.md").write_text(markdown(result), "utf-8")
    with (directory / "table.csv").open("w", newline="", encoding="utf-8") as file:
        names = [field.name for field in fields(Row)]
        writer = csv.DictWriter(file, [*names, "minus", "d_z", "side"])
        writer.writeheader()
        writer.writerows(asdict(row) for row in result.table)
        for row in result.differences:
            held = asdict(row)
            writer.writerow({"cell": held.pop("a"), "minus": held.pop("b"), **held})
    found = {"name": directory.name, **asdict(result)}
    del found["directory"]
    (directory / "experiment.json").write_text(json.dumps(found, indent=2), "utf-8")


def markdown(result: ExperimentResult) -> str:
    """The table for people, of the metrics in percent; the page and `table.csv` hold the rest."""
    every = dict.fromkeys(row.metric for row in result.table)
    metrics = [metric for metric in every if is_share(metric) and not is_baseline(metric)]
    published = {row.cell: row.published for row in result.table if row.published is not None}
    heads = ["", "n", *map(title, metrics)] + (["Original"] if published else [])
    lines = [heads, ["---"] * len(heads)]

    def line(name: str, rows: list[Any], show: Callable[[Any], str], last: str) -> list[str]:
        found = {row.metric: row for row in rows}
        n = max((row.n for row in rows), default=0)
        entries = [
            show(row) + (f", n = {row.n}" if row.n < n else "") if (row := found.get(m)) else ""
            for m in metrics
        ]
        return [name, str(n), *entries] + ([last] if published else [])

    for name in dict.fromkeys(row.cell for row in result.table):
        seen = f"{100 * published[name]:.2f} %" if name in published else ""
        rows = [row for row in result.table if row.cell == name]
        lines.append(line(name, rows, _mean, seen))
    for stem in ("random_encoder", "pixels"):
        values = [[r.mean for r in result.table if r.metric == f"{stem}/{m}"] for m in metrics]
        if any(values):
            shown = [f"{100 * float(np.mean(v)):.2f} %" if v else "" for v in values]
            lines.append([stem.replace("_", " "), "", *shown] + ([""] if published else []))
    for a, b in dict.fromkeys((row.a, row.b) for row in result.differences):
        both = a in published and b in published
        seen = f"{100 * (published[a] - published[b]):+.2f}" if both else ""
        rows = [row for row in result.differences if (row.a, row.b) == (a, b)]
        lines.append(line(f"{a} minus {b}", rows, _difference, seen))
    text = "".join(f"| {' | '.join(cells)} |\n" for cells in lines)
    if any(row.d_z is not None for row in result.differences):
        text += "\nd_z: the mean of the paired differences over their standard deviation\n"
    if any(row.n == 1 for row in [*result.table, *result.differences]):
        text += "\nn = 1: no interval\n"
    failed = [cell for cell in result.cells if cell.status != "finished"]
    text += "".join(f"\n{cell.run_dir} failed: {cell.error}\n" for cell in failed)
    return text


@dataclass(frozen=True)
class _Grid:
    config: Config  # without the sides' values
    lines: list[str]  # overrides of every cell
    sides: dict[str, list[str]]  # values as an override writes them; the seed's come last
    cells: list[dict[str, Any]]  # flat settings of each


def _plan(overrides: list[str]) -> _Grid:
    """Compose every cell of a grid, so that a bad one is found before a good one has run."""
    parsed = parse(overrides)
    lines = [o.input_line or "" for o in parsed if not o.is_sweep_override()]
    config = compose(lines)
    if config.experiment is None:
        raise ConfigError("`levyjepa experiment` needs a grid, such as `experiment=demo`.")
    sweep = {key: list(map(_written, held)) for key, held in config.experiment.sweep.items()}
    for override in parsed:
        key = override.key_or_group
        if override.is_sweep_override():
            sweep[key] = [str(value) for value in override.sweep_string_iterator()]
        elif key in sweep:
            sweep[key] = [override.get_value_string()]
    order = list(flat(to_dict(config)))
    place = {key: order.index(key) if key in order else len(order) for key in sweep}
    sides = {key: sweep[key] for key in sorted(sweep, key=lambda k: (k == "seed", place[k]))}
    for key, values in sides.items():
        if not values:
            raise ConfigError(f"`{key}` must have at least one value in the grid, got none.")
    lines = [o.input_line or "" for o in parsed if o.key_or_group not in sides]
    cells: list[dict[str, Any]] = []
    for values in product(*sides.values()):
        line = [f"{key}={value}" for key, value in zip(sides, values, strict=True)]
        cell = flat(to_dict(compose([*lines, *line])))
        if cell in cells:
            twin = list(product(*sides.values()))[cells.index(cell)]
            other = ", ".join(f"{key}={value}" for key, value in zip(sides, twin, strict=True))
            raise ConfigError(
                "A grid must hold every cell once; the same settings are in "
                f"{other} and in {', '.join(line)}."
            )
        cells.append(cell)
    return _Grid(config, lines, sides, cells)


def _admit(root: Path, grid: _Grid) -> None:
    """Refuse a folder that holds runs which differ in more than the grid's sides."""
    first = grid.cells[0]
    keys = {key for cell in grid.cells for key in cell if cell.get(key) != first.get(key)}
    keys |= grid.sides.keys()
    for path in sorted(root.glob("*/config.yaml")):
        if key := other_setting(path, first, but=keys):
            raise RunFolderError(
                f"{root} holds cells of another experiment: {path.parent.name} has {key}; "
                "choose another `run_dir`."
            )


def _written(value: Any) -> str:
    """A value of a preset's grid as an override writes it."""
    if isinstance(value, str) and re.fullmatch(r"[\w./-]+", value):
        return value
    return json.dumps(value, ensure_ascii=False)


def _cell(settings: DictConfig, root: Path, keys: list[str], baselines: dict[str, Any]) -> Cell:
    """Hydra's job: one run; a failure is a result, so that the other cells go on."""
    parsed = parse(list(HydraConfig.get().overrides.task))
    given = {override.key_or_group: override.value() for override in parsed}
    overrides = {key: given[key] for key in keys}
    run_dir = root / _folder(overrides)
    here = {"overrides": overrides, "run_dir": str(run_dir)}
    try:
        config = settled(settings, parsed)
        log.info("%s%s", run_dir, ": finished before" if is_finished(run_dir) else "")
        result = train(replace(config, run_dir=str(run_dir)), baselines)
    except Exception as error:
        log.debug("%s failed", run_dir, exc_info=True)
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        return Cell(**here, status="failed", error=reason)
    return Cell(**here, status="finished", kept=result.kept, scores=_scores(result))


def _folder(overrides: dict[str, Any]) -> str:
    parts = [
        f"{key.rsplit('.', 1)[-1]}-{value:g}"
        if isinstance(value, (int, float))
        else f"{key.rsplit('.', 1)[-1]}-{value}"
        for key, value in overrides.items()
    ]
    name = re.sub(r"[^\w.+-]+", "-", "_".join(parts))
    return name if len(name) <= 200 else f"{name[:190]}-{sha1(name.encode()).hexdigest()[:8]}"


def _scores(result: RunResult) -> dict[str, float]:
    return scores(result.evaluation, result.online_last, result.online_best)


def _mean(row: Row) -> str:
    return _with_interval(row, "{:.2f} %" if is_share(row.metric) else "{:.3g}")


def _difference(row: Difference) -> str:
    text = _with_interval(row, "{:+.2f}" if is_share(row.metric) else "{:+.3g}")
    return text if row.d_z is None else f"{text}, d_z {row.d_z:+.2f}"


def _with_interval(row: Row | Difference, form: str) -> str:
    scale = 100 if is_share(row.metric) else 1
    mean, low, high = (
        None if value is None else form.format(scale * value)
        for value in (row.mean, row.low, row.high)
    )
    return str(mean) if low is None else f"{mean} ({low} to {high})"
