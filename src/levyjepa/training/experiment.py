"""A paired grid of runs through Hydra's multirun, and the table of what came out."""

import csv
import json
import logging
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from scipy import stats

from levyjepa.conf.compose import FOLDER, ConfigError, compose, flat, from_dict, parse, to_dict
from levyjepa.conf.schema import Config, ExperimentConfig
from levyjepa.training.run import RunResult, is_finished, train

log = logging.getLogger(__name__)

COLUMNS = {
    "linear_probe": "Linear probe",
    "knn": "kNN",
    "online_last": "Online probe, last",
    "online_best": "Online probe, best",
}
PUBLISHED = "online_last"  # what the published numbers were


@dataclass(frozen=True)
class Cell:
    """One run of the grid."""

    overrides: dict[str, Any]
    run_dir: str
    status: str  # finished, failed
    kept: bool = False  # it had been finished before
    error: str | None = None
    scores: dict[str, float] | None = None  # accuracies by metric


@dataclass(frozen=True)
class Row:
    """One setting's mean accuracy over seeds and its 95 % t-interval, None with one seed."""

    cell: str
    metric: str
    n: int
    mean: float
    low: float | None
    high: float | None
    published: float | None = None


@dataclass(frozen=True)
class Difference:
    """The mean of `a` minus `b` over the seeds that both have, and its 95 % t-interval."""

    a: str
    b: str
    metric: str
    n: int
    mean: float
    low: float | None
    high: float | None


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
        ConfigError: An unknown or impossible setting, or no experiment.
    """
    parsed = parse(overrides)
    several = {o.key_or_group: o for o in parsed if o.is_sweep_override()}
    lines = [o.input_line or "" for o in parsed if not o.is_sweep_override()]
    config = compose(lines)
    if config.experiment is None:
        raise ConfigError("`levyjepa experiment` needs a grid, such as `experiment=demo`.")
    sweep = {key: [str(v) for v in values] for key, values in config.experiment.sweep.items()}
    for override in parsed:
        key = override.key_or_group
        if key in several:
            sweep[key] = [str(v) for v in override.sweep_string_iterator()]
        elif key in sweep:
            sweep[key] = [override.get_value_string()]
    order = list(flat(to_dict(config)))
    keys = sorted(sweep, key=lambda key: (key == "seed", order.index(key)))
    lines = [o.input_line or "" for o in parsed if o.key_or_group not in sweep]
    for values in product(*(sweep[key] for key in keys)):  # a bad cell before a good one has run
        compose([*lines, *(f"{key}={value}" for key, value in zip(keys, values, strict=True))])
    lines += [f"{key}={','.join(sweep[key])}" for key in keys]
    root = Path(config.run_dir or f"runs/{config.experiment.name}")
    with initialize_config_dir(str(FOLDER), job_name="levyjepa", version_base="1.3"):
        hydra: Any = GlobalHydra.instance().hydra
        task = partial(_cell, root=root, keys=keys)
        batches = hydra.multirun("config", task, [*lines, f"hydra.sweep.dir='{root}'"], False)
    cells = [job.return_value for batch in batches for job in batch]
    result = summarise(root, config.experiment, cells)
    write(result)
    return result


def summarise(directory: Path, experiment: ExperimentConfig, cells: list[Cell]) -> ExperimentResult:
    """Means over seeds, and differences to the first value of the first side, paired by seed."""
    groups: dict[str, dict[Any, Cell]] = {}
    for cell in cells:
        seeds = groups.setdefault(cell_name(cell.overrides), {})
        if cell.scores:
            seeds[cell.overrides.get("seed")] = cell
    metrics = dict.fromkeys(m for cell in cells for m in cell.scores or {})
    table, differences = [], []
    for name, seeds in groups.items():
        for metric in metrics:
            values = [s[metric] for c in seeds.values() if metric in (s := c.scores or {})]
            if values:
                seen = experiment.published.get(name) if metric == PUBLISHED else None
                n, mean, low, high = _interval(values)
                if low is not None and high is not None:  # an accuracy is a share
                    low, high = max(low, 0.0), min(high, 1.0)
                table.append(Row(name, metric, n, mean, low, high, published=seen))
    for a, b in _pairs(cells):
        for metric in metrics:
            values = [
                x[metric] - y[metric]
                for seed in groups[a].keys() & groups[b].keys()
                if metric in (x := groups[a][seed].scores or {})
                and metric in (y := groups[b][seed].scores or {})
            ]
            if values:
                differences.append(Difference(a, b, metric, *_interval(values)))
    return ExperimentResult(directory, cells, table, differences)


def write(result: ExperimentResult) -> None:
    """Write `table.md`, `table.csv` and `experiment.json` into the experiment's folder."""
    directory = result.directory
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "table.md").write_text(markdown(result), "utf-8")
    with (directory / "table.csv").open("w", newline="", encoding="utf-8") as file:
        names = [field.name for field in fields(Row)]
        writer = csv.DictWriter(file, [*names, "minus"])
        writer.writeheader()
        writer.writerows(asdict(row) for row in result.table)
        for row in result.differences:
            held = asdict(row)
            writer.writerow({"cell": held.pop("a"), "minus": held.pop("b"), **held})
    found = {"name": directory.name, **asdict(result)}
    del found["directory"]
    (directory / "experiment.json").write_text(json.dumps(found, indent=2), "utf-8")


def markdown(result: ExperimentResult) -> str:
    """The table for people."""
    metrics = [m for m in COLUMNS if any(row.metric == m for row in result.table)]
    published = {row.cell: row.published for row in result.table if row.published is not None}
    heads = ["", "n", *(COLUMNS[m] for m in metrics)] + (["Original"] if published else [])
    lines = [heads, ["---"] * len(heads)]

    def line(name: str, rows: list[Any], show: Callable[[float], str], last: str) -> list[str]:
        found = {row.metric: row for row in rows}
        n = max((row.n for row in rows), default=0)
        cells = [_shown(found.get(m), show) for m in metrics]
        return [name, str(n), *cells] + ([last] if published else [])

    for name in dict.fromkeys(row.cell for row in result.table):
        seen = f"{100 * published[name]:.2f} %" if name in published else ""
        rows = [row for row in result.table if row.cell == name]
        lines.append(line(name, rows, lambda x: f"{100 * x:.2f} %", seen))
    for stem in ("random_encoder", "pixels"):
        values = [[r.mean for r in result.table if r.metric == f"{stem}/{m}"] for m in metrics]
        if any(values):
            shown = [f"{100 * float(np.mean(v)):.2f} %" if v else "" for v in values]
            lines.append([stem.replace("_", " "), "", *shown] + ([""] if published else []))
    for a, b in dict.fromkeys((row.a, row.b) for row in result.differences):
        both = a in published and b in published
        seen = f"{100 * (published[a] - published[b]):+.2f}" if both else ""
        rows = [row for row in result.differences if (row.a, row.b) == (a, b)]
        lines.append(line(f"{a} minus {b}", rows, lambda x: f"{100 * x:+.2f}", seen))
    text = "".join(f"| {' | '.join(cells)} |\n" for cells in lines)
    if any(row.n == 1 for row in [*result.table, *result.differences]):
        text += "\nn = 1: no interval\n"
    failed = [cell for cell in result.cells if cell.status != "finished"]
    text += "".join(f"\n{cell.run_dir} failed: {cell.error}\n" for cell in failed)
    return text


def cell_name(overrides: dict[str, Any]) -> str:
    """A setting without its seed: "gamma=1, kappa=0"."""
    return ", ".join(
        f"{key.rsplit('.', 1)[-1]}={_short(value)}"
        for key, value in overrides.items()
        if key != "seed"
    )


def _cell(settings: DictConfig, root: Path, keys: list[str]) -> Cell:
    """Hydra's job: one run; a failure is a result, so that the other cells go on."""
    given = {o.key_or_group: o.value() for o in parse(list(HydraConfig.get().overrides.task))}
    overrides = {key: given[key] for key in keys}
    parts = [f"{key.rsplit('.', 1)[-1]}-{_short(value)}" for key, value in overrides.items()]
    run_dir = root / re.sub(r"[^\w.+-]+", "-", "_".join(parts))[:200]
    here = {"overrides": overrides, "run_dir": str(run_dir)}
    try:
        config: Config = from_dict(OmegaConf.to_container(settings, resolve=True))
        log.info("%s%s", run_dir, ": finished before" if is_finished(run_dir) else "")
        result = train(replace(config, run_dir=str(run_dir)))
    except Exception as error:
        log.debug("%s failed", run_dir, exc_info=True)
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        return Cell(**here, status="failed", error=reason)
    return Cell(**here, status="finished", kept=result.kept, scores=_scores(result))


def _scores(result: RunResult) -> dict[str, float]:
    scores: dict[str, float] = {
        key.removesuffix(".accuracy").replace(".", "/"): value
        for key, value in flat(result.evaluation).items()
        if key.endswith(".accuracy") and isinstance(value, (int, float))
    }
    online = {"online_last": result.online_last, "online_best": result.online_best}
    return scores | {key: value for key, value in online.items() if value is not None}


def _pairs(cells: list[Cell]) -> list[tuple[str, str]]:
    """Names of settings that differ in the first side alone, later value and first value."""
    first: dict[tuple, str] = {}
    pairs = {}
    for cell in cells:
        sides = [(key, value) for key, value in cell.overrides.items() if key != "seed"]
        name = cell_name(cell.overrides)
        base = first.setdefault(tuple(map(str, sides[1:])), name)
        if base != name:
            pairs[name, base] = None
    return list(pairs)


def _interval(values: list[float]) -> tuple[int, float, float | None, float | None]:
    n, mean = len(values), float(np.mean(values))
    if n == 1:
        return n, mean, None, None
    half = float(stats.t.ppf(0.975, n - 1) * stats.sem(values))
    return n, mean, mean - half, mean + half


def _shown(row: Row | Difference | None, show: Callable[[float], str]) -> str:
    if row is None:
        return ""
    if row.low is None or row.high is None:
        return show(row.mean)
    return f"{show(row.mean)} ({show(row.low)} to {show(row.high)})"


def _short(value: Any) -> str:
    return f"{value:g}" if isinstance(value, (int, float)) else str(value)
