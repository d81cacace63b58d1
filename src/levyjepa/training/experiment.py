"""A grid of runs, paired by seed: in turn, side by side, or as SLURM jobs."""

import json
import logging
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from hashlib import sha1
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd

from levyjepa.registry import import_plugin
from levyjepa.settings import ConfigError, flat
from levyjepa.training.comparison import compare, score_table
from levyjepa.training.config import compose, known_keys, sweep
from levyjepa.training.run import FREE, train
from levyjepa.training.run_folder import RunFolder, RunFolderError, runs_below
from levyjepa.training.settings import Config
from levyjepa.training.summary import markdown

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class GridRun:
    """One run of a grid: the settings that make it, its folder, and why it failed if it did."""

    settings: dict[str, Any]
    folder: str
    existed: bool = False
    error: str | None = None


@dataclass(frozen=True)
class Grid:
    """What an experiment will run: the words of each run, and the settings of the sweep."""

    name: str
    root: Path
    keys: list[str]
    words: list[list[str]]
    configs: list[Config]


@dataclass(frozen=True)
class Experiment:
    """The runs of a grid, and what they say together."""

    root: Path
    name: str
    runs: list[GridRun]

    @property
    def finished(self) -> list[RunFolder]:
        """The folders of the runs that did not fail."""
        return [RunFolder(run.folder) for run in self.runs if run.error is None]

    def comparison(self) -> pd.DataFrame:
        """Return means over seeds and paired differences, as `training.comparison.compare` does."""
        return compare(score_table(self.finished))


def run_experiment(
    words: Sequence[str],
    *,
    jobs: int = 1,
    slurm: dict[str, Any] | None = None,
    plugins: Sequence[str] = (),
) -> Experiment:
    """Train every run of a grid that is not finished, and write `experiment.json` and tables.

    Args:
        words: As on the command line; "experiment=demo" names a grid, "seed=0,1,2" sets the values
            of one of its settings.
        jobs: Runs side by side on this machine.
        slurm: Submit each run as a SLURM job with these parameters of submitit, such as
            {"slurm_partition": "gpu", "gpus_per_node": 1}; None runs here.
        plugins: Modules that each run imports first.

    Raises:
        ConfigError: An unknown or impossible setting, no experiment, a value twice.
        RunFolderError: The folder holds runs that differ in more than the grid's settings.
    """
    grid = plan(words)
    _check_root(grid)
    baselines = grid.root / "baselines.json"
    calls = [
        (run_words, str(_folder(grid, run_words)), str(baselines), list(plugins))
        for run_words in grid.words
    ]
    if slurm is not None:
        outcomes = _submit(calls, grid.root, slurm)
    elif jobs > 1:
        from joblib import Parallel, delayed

        outcomes = Parallel(n_jobs=jobs)(delayed(_run)(*call) for call in calls)
    else:
        outcomes = [_run(*call) for call in calls]
    runs = [
        GridRun(_values(grid, config), folder, *outcome)
        for config, (_, folder, *_), outcome in zip(grid.configs, calls, outcomes, strict=True)
    ]
    experiment = Experiment(grid.root, grid.name, runs)
    write(experiment)
    return experiment


def plan(words: Sequence[str]) -> Grid:
    """Compose the settings of every run, so that a wrong one is named before any run starts.

    All settings of a seed come before the next seed: a grid that is stopped holds whole pairs.
    """
    single, several = sweep(words)
    config = compose([w for w in single if w.partition("=")[0] not in several])
    if config.experiment is None:
        raise ConfigError("`levyjepa experiment` needs a grid, such as `experiment=demo`.")
    values = {key: [_word(v) for v in vs] for key, vs in config.experiment.sweep.items()}
    for word in single:
        key, _, text = word.partition("=")
        if key in values:
            values[key] = [text]
    values |= several
    for key, texts in values.items():
        if not texts:
            raise ConfigError(f"`{key}` must have at least one value in the grid, got none.")
    order = known_keys()
    keys = sorted(values, key=lambda k: (k == "seed", order.index(k) if k in order else len(order)))
    fixed = [word for word in single if word.partition("=")[0] not in values]
    first = sorted(keys, key=lambda key: key != "seed")  # the seed varies slowest
    runs, configs = [], []
    for texts in product(*(values[key] for key in first)):
        chosen = dict(zip(first, texts, strict=True))
        run_words = [*fixed, *(f"{key}={chosen[key]}" for key in keys)]
        composed = compose(run_words)
        if composed in configs:
            twin = runs[configs.index(composed)]
            raise ConfigError(
                f"The grid holds the same settings twice: {' '.join(twin[len(fixed) :])} and "
                f"{' '.join(run_words[len(fixed) :])}."
            )
        runs.append(run_words)
        configs.append(composed)
    root = Path(config.run_dir or f"runs/{config.experiment.name}")
    return Grid(config.experiment.name, root, keys, runs, configs)


def write(experiment: Experiment) -> None:
    """Write `experiment.json`, `table.csv` and `table.md` into the experiment's folder."""
    root, files = experiment.root, RunFolder(experiment.root)
    content = {"name": experiment.name, "runs": [asdict(run) for run in experiment.runs]}
    files.write_text(root / "experiment.json", json.dumps(content, indent=1))
    if experiment.finished:
        comparison = experiment.comparison()
        files.write_text(root / "table.csv", comparison.to_csv(index=False))
        files.write_text(root / "table.md", markdown(comparison))


def _run(
    words: list[str], folder: str, baselines: str, plugins: list[str]
) -> tuple[bool, str | None]:
    """Train one run; a failure is a result, so that the others go on."""
    try:
        for plugin in plugins:
            import_plugin(plugin)
        config = compose(words).model_copy(update={"run_dir": folder})
        ranks = config.trainer.devices * config.trainer.num_nodes
        if ranks > 1 and config.trainer.strategy == "auto":  # a job can't be started again by name
            trainer = config.trainer.model_copy(update={"strategy": "ddp_spawn"})
            config = config.model_copy(update={"trainer": trainer})
        existed = RunFolder(folder).finished
        log.info("%s%s", folder, ": finished before" if existed else "")
        run = train(config, baselines=Path(baselines))
    except Exception as error:
        log.debug("%s failed", folder, exc_info=True)
        return False, " ".join(f"{type(error).__name__}: {error}".split())
    return run.existed, None


def _submit(calls: list[Any], root: Path, parameters: dict[str, Any]) -> list[Any]:
    try:
        import submitit  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise ImportError("SLURM jobs need submitit: pip install submitit.") from None
    cluster = parameters.get("cluster")  # "local" tries the jobs on this machine
    executor = submitit.AutoExecutor(folder=root / "slurm", cluster=cluster)
    executor.update_parameters(**{k: v for k, v in parameters.items() if k != "cluster"})
    jobs = [executor.submit(_run, *call) for call in calls]
    log.info("Submitted %d jobs: %s", len(jobs), ", ".join(str(job.job_id) for job in jobs))
    return [_result(job) for job in jobs]


def _result(job: Any) -> tuple[bool, str | None]:
    try:
        return job.result()
    except Exception as error:  # the job died
        return False, " ".join(f"{type(error).__name__}: {error}".split())


def _values(grid: Grid, config: Config) -> dict[str, Any]:
    settings = flat(config.as_dict())
    return {key: settings.get(key) for key in grid.keys}


def _check_root(grid: Grid) -> None:
    """Refuse a folder that holds runs which differ in more than the grid's settings."""
    first = flat(grid.configs[0].as_dict())
    varying = {
        key
        for config in grid.configs
        for key, value in flat(config.as_dict()).items()
        if value != first.get(key)
    }
    for run in runs_below(grid.root):
        if different := run.other_setting(first, but=(*FREE, *varying, *grid.keys)):
            raise RunFolderError(
                f"{grid.root} holds runs of another experiment: {run.path.name} has "
                f"`{different[0]}={different[1]}`; choose another `run_dir`."
            )


def _folder(grid: Grid, words: list[str]) -> Path:
    chosen = dict(word.split("=", 1) for word in words)
    parts = [f"{key.rsplit('.', 1)[-1]}-{_short(chosen[key])}" for key in grid.keys]
    name = re.sub(r"[^\w.+-]+", "-", "_".join(parts))
    if len(name) > 200:
        name = f"{name[:190]}-{sha1(name.encode()).hexdigest()[:8]}"
    return grid.root / name


def _short(text: str) -> str:
    try:
        return f"{float(text):g}"
    except ValueError:
        return text


def _word(value: Any) -> str:
    """A value of a preset's grid as a word has it."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
