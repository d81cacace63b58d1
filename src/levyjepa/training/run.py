"""One run: from settings to a run folder, started, continued or already finished."""

import json
import logging
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, seed_everything
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

from levyjepa.data.loader import train_loader
from levyjepa.data.source import Source, open_source, prepared
from levyjepa.models.pixels import PixelEncoder
from levyjepa.settings import ConfigError, flat
from levyjepa.tasks.context import Subject
from levyjepa.tasks.evaluation import Evaluation, evaluate
from levyjepa.tasks.score import Score
from levyjepa.training.config import compose
from levyjepa.training.loading import (
    Trained,
    device_of,
    load,
    model_name,
    read_checkpoint,
    require_data,
    run_file,
    start_of,
)
from levyjepa.training.module import LevyJEPA
from levyjepa.training.progress import show_stages
from levyjepa.training.run_folder import RunFolder, RunFolderError
from levyjepa.training.settings import Config
from levyjepa.training.summary import terminal
from levyjepa.training.trainer import Interrupted, fit, stop_on_signal

log = logging.getLogger(__name__)

# Settings that may differ when a run continues.
FREE = (
    "run_dir",
    "experiment",
    "logger",
    "data.workers",
    "trainer.progress",
    "trainer.evaluate",
    "trainer.strategy",
)
# Settings that do not change what untrained encoders and pixels score.
OF_TRAINING = ("prior", "gamma", "kappa", "lamb", "num_directions", "knots")
MOST_CLASSES = 20  # that a log line names


@dataclass(frozen=True)
class Run:
    """A trained run.

    `existed` says that the folder was finished before, so nothing was trained.
    """

    folder: RunFolder
    existed: bool = False

    @cached_property
    def evaluation(self) -> Evaluation:
        """Scores, pictures and tasks that failed; empty without an evaluation."""
        return self.folder.evaluation()

    @property
    def scores(self) -> list[Score]:
        """Every score, of the trained encoder, of the untrained one and of raw pixels."""
        return self.evaluation.scores

    def summary(self) -> str:
        """Return a table of the scores as text."""
        return terminal(self.evaluation)

    @cached_property
    def encoder(self) -> Trained:
        """The trained encoder with its preprocessing."""
        return load(self.folder.path)


def train(
    settings: Sequence[str] | Config = (),
    *,
    source: Source | None = None,
    encoder: Any = None,
    callbacks: Sequence[Callback] = (),
    loggers: Sequence[Logger] = (),
    baselines: Path | None = None,
) -> Run:
    """Train and evaluate into a run folder; continue where a folder of the same settings stopped.

    For the other arguments, the result and the errors see `levyjepa.train`, which calls this and
    draws the page.

    Args:
        baselines: A file that caches the scores of untrained encoders and pixels between runs.
    """
    config = settings if isinstance(settings, Config) else compose(list(settings))
    if encoder is not None and config.model.weights:
        raise ConfigError("`model.weights` has no effect on a module that is passed as `encoder`.")
    config, origin = start_of(config)
    folder = RunFolder(config.run_dir) if config.run_dir else None
    if folder is not None:
        _check_folder(folder, config)
        if folder.finished:
            return Run(folder, existed=True)
    data = open_source(config.data) if source is None else prepared(source, config.data)
    if origin is not None and encoder is None:  # weights go with the pixels they were made for
        data = replace(data, mean=origin.mean, std=origin.std)
    assert data.mean is not None
    assert data.std is not None
    ranks = config.trainer.devices * config.trainer.num_nodes
    train_loader(data, config.data, config.views, config.seed, 0, ranks)  # or it says why not
    seed_everything(config.seed, workers=True, verbose=False)
    module = LevyJEPA(config, data.classes, data.mean, data.std, encoder)
    folder = folder or RunFolder(_new_folder(config))
    if not is_first_rank():
        _fit(module, data, folder, callbacks, loggers)
        return Run(folder)
    with folder.lock():
        _check_folder(folder, config)
        if not folder.exists:
            folder.write_config(config)
        log.info(_description(data, "clips" if config.clips else "images"))
        if origin is not None:
            log.info("Starts from %s", origin.text)
        device = _fit(module, data, folder, callbacks, loggers)
        if config.trainer.evaluate:
            _evaluate(module, data, folder, device, baselines)
    return Run(folder)


def is_first_rank() -> bool:
    """Whether this process is the one that writes, of several that train together."""
    return rank_zero_only.rank == 0


def evaluate_run(
    path: str | Path,
    words: Sequence[str] = (),
    *,
    tasks: Sequence[str] | None = None,
    source: Source | None = None,
    encoder: Any = None,
    pretrained: bool = False,
) -> tuple[Evaluation, Path]:
    """Evaluate a run or any other model, on its own data or on other data.

    The scores of a finished run's own data replace those in `evaluation.json`; with `tasks`, only
    those of these tasks. Other data goes to `evaluation-NAME.json`. A model other than a run gets a
    folder, `run_dir` or `runs/MODEL`, whose own data is the first that it is evaluated on.

    Args:
        path: As `model` of `load`.
        words: Settings of `data`, such as "data=camvid data.path=FOLDER"; as of `load`.
        tasks: Names of tasks; None for all that the data allows.
        source: Data in place of what settings name.
        encoder, pretrained: As of `load`.

    Returns:
        The evaluation and the file that holds it.

    Raises:
        ValueError: No data for a model other than a run.
        RunFolderError: Its folder holds something else.
    """
    file = run_file(path)
    if file is None and source is None:
        require_data(path, words)
    trained = load(path, words, encoder=encoder, pretrained=pretrained)
    config = trained.config
    if file is None:
        folder, last = RunFolder(config.run_dir or f"runs/{model_name(path)}"), True
        _check_folder(folder, config, (*FREE, "data", "views", "trainer", "objective"))
    elif config.run_dir:
        raise RunFolderError("Scores of a run go into its own folder; leave out `run_dir`.")
    else:
        folder = RunFolder(file.parent.parent)
        folder = folder if folder.exists else RunFolder(file.parent)
        last = file == folder.last_checkpoint
    data = open_source(config.data) if source is None else prepared(source, config.data)
    new = file is None and not folder.exists
    own = folder.finished and source is None and _same_data(config, folder.config)
    name = data.name if file is None or last else f"{file.stem}-{data.name}"
    if new or (own and last):
        name = ""
    device = device_of(config.trainer.accelerator)
    evaluation = _evaluate_trained(trained, config, data, device, folder.results, tasks=tasks)
    if name == "":
        evaluation.scores += online_scores(folder, len(data.test or ()))
    if tasks is not None:
        evaluation = folder.merged(evaluation, name)
    with folder.lock():
        if new:
            folder.write_config(config)
        target = folder.write_evaluation(evaluation, name)
    return evaluation, target


def online_scores(folder: RunFolder, n: int) -> list[Score]:
    """Return the online probe's accuracy on the test split, of the last epoch and of the best."""
    metrics = folder.metrics()
    if "test/acc" not in metrics:
        return []
    values = metrics["test/acc"].dropna().to_numpy(float)
    if not len(values):
        return []
    note = "Accuracy on the test split of the linear probe that is trained along with the encoder"
    common: dict[str, Any] = {"n": n or None, "task": "online_probe"}
    return [
        Score("last", float(values[-1]), title="Last epoch", note=f"{note}.", **common),
        Score(
            "best",
            float(values.max()),
            title="Best epoch",
            note=f"{note}, in its best epoch: chosen on the test split, so too high.",
            **common,
        ),
    ]


def _fit(
    module: LevyJEPA,
    source: Source,
    folder: RunFolder,
    callbacks: Sequence[Callback],
    loggers: Sequence[Logger],
) -> torch.device:
    last = folder.last_checkpoint
    step = read_checkpoint(last)["global_step"] if last.is_file() else 0
    with stop_on_signal(folder) as stop:
        trainer = fit(module, source, folder, step, stop, callbacks, loggers)
    device = trainer.strategy.root_device
    if torch.distributed.is_initialized():  # evaluation is rank 0's, without collectives
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()
    return device


def _evaluate(
    module: LevyJEPA,
    source: Source,
    folder: RunFolder,
    device: torch.device,
    baselines: Path | None,
) -> None:
    config = module.config
    trained = Trained(
        module.network,
        config,
        source.classes,
        source.mean or (),
        source.std or (),
        module.laws,
    )
    try:
        evaluation = _evaluate_trained(trained, config, source, device, folder.results, baselines)
    except KeyboardInterrupt as error:
        raise Interrupted(folder) from error
    evaluation.scores += online_scores(folder, len(source.test or ()))
    folder.write_evaluation(evaluation)


def _evaluate_trained(
    trained: Trained,
    config: Config,
    source: Source,
    device: torch.device | str,
    results: Path,
    baselines: Path | None = None,
    tasks: Sequence[str] | None = None,
) -> Evaluation:
    """Run tasks on the trained network, on the same untrained and on pixels."""
    network, objective = trained.network, config.objective
    untrained = network.untrained(config.seed)
    pixels = PixelEncoder(
        trained.encoder.patch_size, trained.mean, trained.std, frames=config.data.frames
    )
    subjects = [
        trained.subject,
        trained.subject_of(untrained, "untrained"),
        Subject("pixels", pixels),
    ]
    source = replace(source, mean=trained.mean, std=trained.std)  # normalize as in training
    with show_stages(config.trainer.progress) as progress:
        return evaluate(
            subjects,
            source,
            config.data,
            tasks=tasks,
            device=device,
            seed=config.seed,
            laws=trained.laws,
            prior=objective.gamma > 0 and objective.prior == "levy",
            views=config.views,
            folder=results,
            baselines=None
            if baselines is None or objective.learnable
            else (baselines, _key(config)),
            progress=progress,
        )


def _key(config: Config) -> str:
    """All that the scores of untrained encoders and pixels depend on."""
    settings = config.as_dict()
    objective = {k: v for k, v in settings["objective"].items() if k not in OF_TRAINING}
    parts = [settings[key] for key in ("data", "views", "model", "seed")]
    return json.dumps([*parts, objective])


def _check_folder(folder: RunFolder, config: Config, free: Sequence[str] = FREE) -> None:
    """Refuse a folder of other settings, or of something else."""
    if folder.exists:
        if different := folder.other_setting(flat(config.as_dict()), but=free):
            key, mine, other = different
            why = ""
            if key in ("trainer.max_epochs", "trainer.max_steps"):
                why = " The length of a run is fixed: its learning rate falls toward the end."
            raise RunFolderError(
                f"{folder.path} holds a run with `{key}={mine}`, not {other}.{why} "
                "Choose another `run_dir`."
            )
        return
    path = folder.path
    if path.exists() and (not path.is_dir() or any(p.name[0] != "." for p in path.iterdir())):
        raise RunFolderError(f"{path} exists and is not a run folder; choose another `run_dir`.")


def _new_folder(config: Config) -> Path:
    """A folder in `runs/` that no other run has; the same for every rank of this one."""
    if "LOCAL_RANK" in os.environ and "LEVYJEPA_RUN_DIR" in os.environ:
        return Path(os.environ["LEVYJEPA_RUN_DIR"])
    stem = f"runs/{config.data.source}-{time.strftime('%Y%m%d-%H%M%S')}"
    number = 1
    while True:
        path = Path(stem if number == 1 else f"{stem}-{number}")
        try:
            path.mkdir(parents=True)
            break
        except FileExistsError:
            number += 1
    if config.trainer.devices * config.trainer.num_nodes > 1:
        os.environ["LEVYJEPA_RUN_DIR"] = str(path)
    return path


def _same_data(one: Config, other: Config) -> bool:
    """Whether two settings name the same data and seed, wherever the data's folder is."""
    a, b = (
        {**config.data.as_dict(), "path": Path(config.data.path or "").name, "workers": 0}
        for config in (one, other)
    )
    return a == b and one.seed == other.seed


def _description(source: Source, things: str) -> str:
    """How many images or clips there are, and of which classes."""
    names = ", ".join(source.classes[:MOST_CLASSES]) + ", …" * (len(source.classes) > MOST_CLASSES)
    classes = f"{len(source.classes)} classes: {names}" if source.classes else "no labels"
    train, test = len(source.train), len(source.test or ())
    return f"{source.name}: {train:,} training and {test:,} test {things}; {classes}"
