"""One run: a configuration to a run folder, started, continued or kept."""

import csv
import json
import logging
import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer, seed_everything
from lightning.pytorch.utilities import rank_zero_only
from omegaconf import OmegaConf

from levyjepa.conf.compose import flat, to_dict
from levyjepa.conf.schema import Config
from levyjepa.data import Source, load_source, train_loader
from levyjepa.training.checkpoint import read_checkpoint
from levyjepa.training.fit import Interrupted, fit, stop_on_signal
from levyjepa.training.judge import judge
from levyjepa.training.module import LevyJEPA

log = logging.getLogger(__name__)

FREE = ("run_dir", "experiment", "logger", "data.workers", "trainer.progress", "trainer.evaluate")
NAMED = 20  # classes

_DEFAULTS = flat(to_dict(Config()))


class RunFolderError(ValueError):
    """A run folder that holds something else."""


@dataclass(frozen=True)
class RunResult:
    """A finished run, as its folder tells it."""

    run_dir: Path
    kept: bool  # it had been finished before
    last: Path
    best: Path | None  # by the online probe's accuracy on the test split; None without labels
    online_last: float | None  # that accuracy, after the last epoch
    online_best: float | None
    evaluation: dict[str, Any]


def train(config: Config, baselines: dict[str, Any] | None = None) -> RunResult:
    """Train and evaluate, into a run folder; go on where a folder of the same settings stopped.

    Args:
        config: Every setting; `run_dir` None makes a folder in `runs/`.
        baselines: Of runs before in the same process, as `judge` takes them.

    Raises:
        RunFolderError: The folder holds a run of other settings, or something else.
        Diverged: A loss term or the weights stopped being finite.
        Interrupted: A signal (Ctrl-C) asked to stop; a checkpoint is written.
    """
    stamp = time.strftime("%Y%m%d-%H%M%S")
    run_dir = Path(config.run_dir or f"runs/{config.data.source}-{stamp}")
    _admit(run_dir, config)
    if is_finished(run_dir):
        return _result(run_dir, kept=True)
    source = load_source(config.data)
    ranks = config.trainer.devices * config.trainer.num_nodes
    train_loader(source, config.data, config.views, config.seed, 0, ranks)  # or it says why not
    seed_everything(config.seed, workers=True, verbose=False)
    module = LevyJEPA(config, source.classes, source.mean, source.std)
    _admit(run_dir, config, write=True)
    if rank_zero_only.rank == 0:
        log.info(_described(source, "images" if config.data.frames is None else "clips"))
    last = run_dir / "checkpoints" / "last.ckpt"
    step = read_checkpoint(last)["global_step"] if last.is_file() else 0
    with stop_on_signal(run_dir) as stop:
        trainer = fit(module, source, run_dir, step, stop)
    if config.trainer.evaluate and trainer.is_global_zero:
        try:
            _evaluate(config, source, module, trainer, run_dir, baselines)
        except KeyboardInterrupt as error:
            raise Interrupted(run_dir) from error
    return _result(run_dir, kept=False)


def is_finished(run_dir: Path) -> bool:
    """Whether a run folder is trained and evaluated."""
    return (run_dir / "evaluation.json").is_file()


def _evaluate(
    config: Config,
    source: Source,
    module: LevyJEPA,
    trainer: Trainer,
    run_dir: Path,
    baselines: dict[str, Any] | None,
) -> None:
    """Write pictures, then `evaluation.json`, which says that a run is finished."""
    device = trainer.strategy.root_device
    followed = run_dir / "followed"
    judged = judge(
        module.network, module.tested, config, source, device, run_dir, baselines, followed
    )
    part = run_dir / "evaluation.json.part"
    part.write_text(json.dumps(judged.found, indent=2), "utf-8")
    part.rename(run_dir / "evaluation.json")


def _result(run_dir: Path, kept: bool) -> RunResult:
    accuracies = []
    with (run_dir / "metrics.csv").open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if row.get("test/acc"):
                accuracies.append(float(row["test/acc"]))
    best = run_dir / "checkpoints" / "best.ckpt"
    evaluation = run_dir / "evaluation.json"
    return RunResult(
        run_dir=run_dir,
        kept=kept,
        last=run_dir / "checkpoints" / "last.ckpt",
        best=best if best.is_file() else None,
        online_last=accuracies[-1] if accuracies else None,
        online_best=max(accuracies) if accuracies else None,
        evaluation=json.loads(evaluation.read_text("utf-8")) if evaluation.is_file() else {},
    )


def other_setting(path: Path, wanted: dict[str, Any], but: Collection[str] = ()) -> str | None:
    """The first setting of a `config.yaml` that is not as wanted, as "`seed=1`, not 0".

    A setting that a file of an earlier version lacks has its default.

    Args:
        path: The file.
        wanted: Settings, flat.
        but: Keys that may differ, and all below them.
    """
    held = _DEFAULTS | flat(_plain(OmegaConf.load(path)))
    for key in [*wanted, *(held.keys() - wanted.keys())]:
        below = any(key == other or key.startswith(f"{other}.") for other in but)
        if below or key.startswith(FREE) or isinstance(wanted.get(key), dict):
            continue
        if key not in held or key not in wanted or held[key] != wanted[key]:
            return f"`{key}={held.get(key)}`, not {wanted.get(key)}"
    return None


def _described(source: Source, things: str) -> str:
    """How many images or clips there are, and of which classes."""
    train: Any = source.train
    test: Any = source.test or ()
    names = ", ".join(source.classes[:NAMED]) + (", …" if len(source.classes) > NAMED else "")
    classes = f" of {len(source.classes)} classes: {names}" if source.classes else ", no labels"
    return f"{source.name}: {len(train):,} training and {len(test):,} test {things}{classes}"


def _admit(run_dir: Path, config: Config, write: bool = False) -> None:
    """Refuse a folder of other settings; `write` the settings where there is none."""
    path = run_dir / "config.yaml"
    if path.is_file():
        if other := other_setting(path, flat(to_dict(config))):
            why = " a run's length is fixed, as its learning rate falls towards the end;"
            why = why if other.startswith("`trainer.max_epochs=") else ""
            raise RunFolderError(
                f"{run_dir} holds a run with {other};{why} choose another `run_dir`."
            )
    elif run_dir.exists() and (not run_dir.is_dir() or any(run_dir.iterdir())):
        raise RunFolderError(f"{run_dir} exists and is no run folder; choose another `run_dir`.")
    elif write and rank_zero_only.rank == 0:
        run_dir.mkdir(parents=True, exist_ok=True)
        path.write_text(OmegaConf.to_yaml(to_dict(config)), "utf-8")


def _plain(settings: Any) -> Any:
    return OmegaConf.to_container(settings)
