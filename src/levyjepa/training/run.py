"""One run: a configuration to a run folder, started, continued or kept."""

import csv
import json
import logging
import pickle
import signal
import threading
import time
import warnings
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from hydra.core.hydra_config import HydraConfig
from lightning.pytorch import Callback, LightningDataModule, Trainer, seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint, RichProgressBar
from lightning.pytorch.utilities import rank_zero_only
from omegaconf import OmegaConf
from torch.utils.data import Subset

from levyjepa import laws
from levyjepa.conf.compose import flat, from_dict, to_dict
from levyjepa.conf.schema import Config
from levyjepa.data import (
    Batch,
    Source,
    Tally,
    TestBatch,
    load_source,
    test_loader,
    train_loader,
)
from levyjepa.evaluation import evaluate, gallery
from levyjepa.models import Network
from levyjepa.training.loggers import build_loggers
from levyjepa.training.module import LOG_EVERY, LevyJEPA

log = logging.getLogger(__name__)

FREE = ("run_dir", "experiment", "logger", "data.workers", "trainer.progress")

_DEFAULTS = flat(to_dict(Config()))


class RunFolderError(ValueError):
    """A run folder that holds something else."""


class CheckpointError(ValueError):
    """A file that is no checkpoint of a run, or doesn't fit its own settings."""


class Interrupted(KeyboardInterrupt):
    """A run was stopped by a signal; its folder holds what is needed to go on."""

    def __init__(self, run_dir: Path) -> None:
        super().__init__(f"Interrupted; the run goes on from {run_dir / 'checkpoints'}.")
        self.run_dir = run_dir


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


@dataclass(frozen=True)
class Trained:
    """A network from a checkpoint, with what is needed to use it."""

    network: Network
    config: Config
    classes: list[str]
    mean: list[float]  # of the source's pixels in [0, 1], for each channel
    std: list[float]


def train(config: Config) -> RunResult:
    """Train and evaluate, into a run folder; go on where a folder of the same settings stopped.

    Args:
        config: Every setting; `run_dir` None makes a folder in `runs/`.

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
    _admit(run_dir, config, write=True)
    with _stop_on_signal(run_dir) as stop:
        trainer, module = _fit(config, source, run_dir, stop)
    if trainer.is_global_zero:
        _evaluate(config, source, module, trainer, run_dir)
    return _result(run_dir, kept=False)


def is_finished(run_dir: Path) -> bool:
    """Whether a run folder is trained and evaluated."""
    return (run_dir / "evaluation.json").is_file()


def load(checkpoint: str | Path) -> Trained:
    """Load the network of a checkpoint, in evaluation mode, with its settings.

    Raises:
        CheckpointError: No checkpoint of a run, or weights that its settings don't fit.
    """
    loaded = _read_checkpoint(Path(checkpoint))
    held = loaded["hyper_parameters"]
    config = from_dict(held["config"])
    network = Network(
        replace(config.model, pretrained=False),
        config.data.image_size,
        len(held["classes"]),
        config.objective.gamma > 0,
    )
    stem = "network."
    weights = {k[len(stem) :]: v for k, v in loaded["state_dict"].items() if k.startswith(stem)}
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(
            f"{checkpoint} holds weights of another architecture than its settings: {reason}"
        ) from error
    return Trained(network.eval(), config, held["classes"], held["mean"], held["std"])


class _Stopped(Exception):
    """Leaves Lightning's loop."""


class _Stop(Callback):
    """Leave the loop between two steps, once asked to, with a checkpoint of that moment."""

    def __init__(self, path: Path) -> None:
        self.path, self.asked = path, False

    def ask(self, number: int, frame: Any) -> None:
        """Handle a signal; the second one doesn't wait."""
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True

    def on_train_batch_end(self, trainer: Trainer, *args: Any) -> None:
        """Write a checkpoint and stop; at an epoch's end its own checkpoint serves."""
        if not trainer.is_last_batch and self._agreed(trainer):
            trainer.save_checkpoint(self.path)
            raise _Stopped

    def on_train_epoch_start(self, trainer: Trainer, module: Any) -> None:
        """Stop between two epochs."""
        if self._agreed(trainer):
            raise _Stopped

    def _agreed(self, trainer: Trainer) -> bool:
        """Whether any rank was asked to; ranks talk about it only now and then."""
        if trainer.world_size == 1:
            return self.asked
        if trainer.global_step % LOG_EVERY:
            return False
        return trainer.strategy.reduce_boolean_decision(self.asked, all=False)


class _Corrupt(Callback):
    """Count the images that can't be decoded, and name them at the end."""

    def __init__(self, source: Source) -> None:
        train: Any = source.train
        test: Any = source.test or ()
        self.train, self.test = Tally(len(train)), Tally(len(test))

    def on_train_batch_start(self, trainer: Any, module: Any, batch: Batch, index: int) -> None:
        """Count those of a training batch."""
        self.train.add(batch.corrupt)

    def on_validation_batch_start(
        self, trainer: Any, module: Any, batch: TestBatch, index: int, dataloader_idx: int = 0
    ) -> None:
        """Count those of a test batch."""
        self.test.add(batch.corrupt)

    def on_train_end(self, trainer: Any, module: Any) -> None:
        """Name them."""
        for split, tally in (("training", self.train), ("test", self.test)):
            if tally.names:
                log.warning("Left out %d corrupt %s images: %s.", len(tally.names), split, tally)


@contextmanager
def _stop_on_signal(run_dir: Path) -> Iterator[_Stop]:
    stop = _Stop(run_dir / "checkpoints" / "last.ckpt")
    numbers = (signal.SIGINT, signal.SIGTERM)
    here = threading.current_thread() is threading.main_thread()
    before = {number: signal.signal(number, stop.ask) for number in numbers if here}
    try:
        yield stop
    except (_Stopped, SystemExit) as error:  # Lightning turns a second signal into an exit
        raise Interrupted(run_dir) from error
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if stop.asked:
        raise Interrupted(run_dir)


class Images(LightningDataModule):
    """Loaders that start where a run stopped, each rank with its share."""

    def __init__(self, config: Config, source: Source, step: int) -> None:
        super().__init__()
        self.config, self.source, self.step = config, source, step

    def train_dataloader(self) -> Any:
        """Views of the training images."""
        trainer, config = self.trainer, self.config
        assert trainer is not None
        rest = (config.data, config.views, config.seed, trainer.global_rank, trainer.world_size)
        loader = train_loader(self.source, *rest)
        if not self.step:
            return loader
        return train_loader(self.source, *rest, start=divmod(self.step, len(loader)))

    def val_dataloader(self) -> Any:
        """Test images, no image twice."""
        trainer = self.trainer
        test: Any = self.source.test
        assert trainer is not None
        share = range(trainer.global_rank, len(test), trainer.world_size)
        return test_loader(Subset(test, share), self.config.data)

    def transfer_batch_to_device(
        self, batch: Any, device: torch.device, dataloader_idx: int
    ) -> Any:
        """Move a batch, without waiting for it."""
        return batch.to(device, non_blocking=True)


class _Bar(RichProgressBar):
    """Losses and accuracy beside the bar."""

    def get_metrics(self, trainer: Trainer, pl_module: Any) -> dict[str, Any]:
        """What is logged, without the logger's version."""
        shown = super().get_metrics(trainer, pl_module)
        return {name.removeprefix("train/"): v for name, v in shown.items() if name != "v_num"}


def _fit(config: Config, source: Source, run_dir: Path, stop: _Stop) -> tuple[Trainer, LevyJEPA]:
    last = run_dir / "checkpoints" / "last.ckpt"
    step = _read_checkpoint(last)["global_step"] if last.is_file() else 0
    settings = config.trainer
    gpu = settings.accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()
    precision: Any = settings.precision
    if precision == "auto":
        precision = "bf16-mixed" if gpu else "32-true"
    strategy = settings.strategy
    many = settings.devices * settings.num_nodes > 1
    if strategy == "auto" and many and HydraConfig.initialized():
        strategy = "ddp_spawn"  # a launcher's job can't be started again as a command
    checkpoint: dict[str, Any] = {
        "dirpath": last.parent,
        "enable_version_counter": False,
        "save_on_train_epoch_end": True,
    }
    share = config.data.batch_size * settings.devices * settings.num_nodes
    images: Any = source.train
    steps = settings.max_steps if settings.max_steps > 0 else LOG_EVERY
    every = max(1, min(LOG_EVERY, len(images) // share, steps))
    callbacks: list[Callback] = [stop, _Corrupt(source)]
    if source.classes:
        best = ModelCheckpoint(**checkpoint, filename="best", monitor="test/acc", mode="max")
        callbacks.append(best)
    if settings.progress:
        callbacks.append(_Bar(refresh_rate=LOG_EVERY))
    callbacks.append(ModelCheckpoint(**checkpoint, filename="last"))
    seed_everything(config.seed, workers=True, verbose=False)
    module = LevyJEPA(config, source.classes, source.mean, source.std)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*not resumable.*")  # it starts at the right batch
        warnings.filterwarnings("ignore", ".*does not have many workers.*")
        warnings.filterwarnings("ignore", ".*exists and is not empty.*")
        warnings.filterwarnings(
            "ignore", ".*could not find the monitored key.*"
        )  # part of an epoch
        trainer = Trainer(
            accelerator=settings.accelerator,
            devices=settings.devices,
            num_nodes=settings.num_nodes,
            strategy=strategy,
            precision=precision,
            max_epochs=settings.max_epochs,
            max_steps=settings.max_steps,
            gradient_clip_val=settings.gradient_clip,
            sync_batchnorm=gpu and many,
            logger=build_loggers(config, run_dir, step, every),
            callbacks=callbacks,
            log_every_n_steps=every,
            num_sanity_val_steps=0,
            limit_val_batches=1.0 if source.classes else 0,  # without labels, nothing to count
            use_distributed_sampler=False,
            enable_model_summary=False,
            enable_progress_bar=settings.progress,
            default_root_dir=run_dir,
        )
        trainer.fit(
            module,
            datamodule=Images(config, source, step),
            ckpt_path=str(last) if step else None,
        )
    return trainer, module


def _evaluate(
    config: Config, source: Source, module: LevyJEPA, trainer: Trainer, run_dir: Path
) -> None:
    """Write `gallery.npz`, then `evaluation.json`, which says that a run is finished."""
    device, network = trainer.strategy.root_device, module.network
    law = module.law
    where: Any = {"device": device, "seed": config.seed}
    shown = gallery(network, source, config.data, law, rescale=not module.prior, **where)
    shown.save(run_dir / "gallery.npz")
    found: dict[str, Any] = {"labelled": bool(source.classes)}
    found |= evaluate(
        network,
        source,
        config.data,
        law=law,
        stencils=config.objective.stencils,
        prior=module.prior,
        views=config.views,
        **where,
    )
    part = run_dir / "evaluation.json.part"
    part.write_text(json.dumps(found, indent=2), "utf-8")
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


def _admit(run_dir: Path, config: Config, write: bool = False) -> None:
    """Refuse a folder of other settings; `write` the settings where there is none."""
    path = run_dir / "config.yaml"
    if path.is_file():
        if other := other_setting(path, flat(to_dict(config))):
            raise RunFolderError(f"{run_dir} holds a run with {other}; choose another `run_dir`.")
    elif run_dir.exists() and (not run_dir.is_dir() or any(run_dir.iterdir())):
        raise RunFolderError(f"{run_dir} exists and is no run folder; choose another `run_dir`.")
    elif write and rank_zero_only.rank == 0:
        run_dir.mkdir(parents=True, exist_ok=True)
        path.write_text(OmegaConf.to_yaml(to_dict(config)), "utf-8")


def _plain(settings: Any) -> Any:
    return OmegaConf.to_container(settings)


def _read_checkpoint(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise CheckpointError(f"`checkpoint` must be a file, got {path}.")
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError) as error:
        raise CheckpointError(f"{path} is no checkpoint that PyTorch can read safely.") from error
    held = loaded.get("hyper_parameters", {}) if isinstance(loaded, dict) else {}
    if not {"config", "classes", "mean", "std"} <= held.keys() or "state_dict" not in loaded:
        raise CheckpointError(f"{path} is no checkpoint of a levyjepa run.")
    return loaded
