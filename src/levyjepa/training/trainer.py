"""Lightning's part of a run: the trainer, its callbacks and the loaders."""

import logging
import signal
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from lightning.pytorch import Callback, LightningDataModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint, RichProgressBar
from lightning.pytorch.loggers import Logger

from levyjepa.data.images import Tally
from levyjepa.data.loader import TestBatch, test_loader, train_loader
from levyjepa.data.source import Rows, Source
from levyjepa.data.views import Batch
from levyjepa.training.loading import device_of
from levyjepa.training.loggers import build_loggers
from levyjepa.training.module import LOG_EVERY, LevyJEPA
from levyjepa.training.run_folder import RunFolder
from levyjepa.training.settings import Config

log = logging.getLogger(__name__)


class Interrupted(KeyboardInterrupt):
    """A signal stopped a run; its folder holds what is needed to continue."""

    def __init__(self, folder: RunFolder) -> None:
        super().__init__(f"Interrupted; the run continues from {folder.checkpoints}.")
        self.run_dir = folder.path


class _Stopped(Exception):
    """Leaves Lightning's loop."""


class StopOnRequest(Callback):
    """Leaves the loop between two steps once a signal asks for it, with a checkpoint."""

    def __init__(self, folder: RunFolder) -> None:
        self.folder, self.requested = folder, False

    def request(self, number: int, frame: Any) -> None:
        """Handle a signal; the second one interrupts at once."""
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True

    def on_train_batch_end(self, trainer: Trainer, *args: Any) -> None:
        """Write a checkpoint and stop; at the end of an epoch its own checkpoint serves."""
        if not trainer.is_last_batch and self._agreed(trainer):
            trainer.save_checkpoint(self.folder.last_checkpoint)
            raise _Stopped

    def on_train_epoch_start(self, trainer: Trainer, module: Any) -> None:
        """Stop between two epochs."""
        if self._agreed(trainer):
            raise _Stopped

    def _agreed(self, trainer: Trainer) -> bool:
        """Whether a signal reached any rank; ranks exchange this only now and then."""
        if trainer.world_size == 1:
            return self.requested
        if trainer.global_step % LOG_EVERY:
            return False
        return trainer.strategy.reduce_boolean_decision(self.requested, all=False)


class _CountCorrupt(Callback):
    """Counts images that can't be decoded, and names them at the end."""

    def __init__(self, source: Source) -> None:
        self.train, self.test = Tally(len(source.train)), Tally(len(source.test or ()))

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
def stop_on_signal(folder: RunFolder) -> Iterator[StopOnRequest]:
    """Let Ctrl-C or SIGTERM end a fit after its step, as Interrupted."""
    stop = StopOnRequest(folder)
    numbers = (signal.SIGINT, signal.SIGTERM)
    main = threading.current_thread() is threading.main_thread()
    before = {number: signal.signal(number, stop.request) for number in numbers if main}
    try:
        yield stop
    except (_Stopped, SystemExit) as error:  # Lightning turns a second signal into an exit
        raise Interrupted(folder) from error
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if stop.requested:
        raise Interrupted(folder)


class Loaders(LightningDataModule):
    """Loaders that start where a run stopped, each rank with its share."""

    def __init__(self, config: Config, source: Source, step: int) -> None:
        super().__init__()
        self.config, self.source, self.step = config, source, step

    def train_dataloader(self) -> Any:
        """Return batches of views of the training split."""
        trainer, config = self.trainer, self.config
        assert trainer is not None
        rest = (config.data, config.views, config.seed, trainer.global_rank, trainer.world_size)
        loader = train_loader(self.source, *rest)
        if not self.step:
            return loader
        return train_loader(self.source, *rest, start=divmod(self.step, len(loader)))

    def val_dataloader(self) -> Any:
        """Return batches of the test split, every image once over all ranks."""
        trainer, test = self.trainer, self.source.test
        assert trainer is not None
        share = range(trainer.global_rank, len(test), trainer.world_size)
        return test_loader(Rows(test, share), self.config.data)

    def transfer_batch_to_device(
        self, batch: Any, device: torch.device, dataloader_idx: int
    ) -> Any:
        """Move a batch, without waiting for it."""
        return batch.to(device, non_blocking=True)


class _Bar(RichProgressBar):
    """Losses and accuracy beside the bar."""

    def get_metrics(self, trainer: Trainer, pl_module: Any) -> dict[str, Any]:
        """Return what is logged, without the logger's version."""
        shown = super().get_metrics(trainer, pl_module)
        return {name.removeprefix("train/"): v for name, v in shown.items() if name != "v_num"}


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Lightning's information to itself, unless this package logs for debugging."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    before = [logger.level for logger in loggers]
    if logging.getLogger("levyjepa").getEffectiveLevel() > logging.DEBUG:
        for logger in loggers:
            logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)


def fit(
    module: LevyJEPA,
    source: Source,
    folder: RunFolder,
    step: int,
    stop: StopOnRequest,
    callbacks: Sequence[Callback] = (),
    loggers: Sequence[Logger] = (),
) -> Trainer:
    """Fit a module to its end, from the last checkpoint if that is past step 0.

    Args:
        module: With its settings.
        source: The data.
        folder: Where checkpoints and logs go.
        step: Of the last checkpoint; 0 without one.
        stop: From `stop_on_signal`.
        callbacks, loggers: Further ones.
    """
    config, settings = module.config, module.config.trainer
    gpu = device_of(settings.accelerator) == "cuda"
    precision: Any = settings.precision
    if precision == "auto":
        precision = "bf16-mixed" if gpu else "32-true"
    ranks = settings.devices * settings.num_nodes
    batches = len(source.train) // (config.data.batch_size * ranks)
    most = settings.max_steps if settings.max_steps > 0 else LOG_EVERY
    every = max(1, min(LOG_EVERY, batches, most))
    checkpoint: dict[str, Any] = {
        "dirpath": folder.checkpoints,
        "enable_version_counter": False,
        "save_on_train_epoch_end": True,
    }
    chain: list[Callback] = [stop, _CountCorrupt(source), *callbacks]
    if source.classes:
        best = folder.best_checkpoint.stem
        chain.append(ModelCheckpoint(**checkpoint, filename=best, monitor="test/acc", mode="max"))
    if settings.progress:
        chain.append(_Bar(refresh_rate=LOG_EVERY))
    chain.append(ModelCheckpoint(**checkpoint, filename=folder.last_checkpoint.stem))
    with warnings.catch_warnings(), _quiet():
        for text in (
            "not resumable",  # the loader starts at the right batch
            "does not have many workers",
            "exists and is not empty",
            "could not find the monitored key",  # at part of an epoch
            "is deprecated",  # Lightning's own calls
        ):
            warnings.filterwarnings("ignore", f".*{text}.*")
        trainer = Trainer(
            accelerator=settings.accelerator,
            devices=settings.devices,
            num_nodes=settings.num_nodes,
            strategy=settings.strategy,
            precision=precision,
            max_epochs=settings.max_epochs,
            max_steps=settings.max_steps,
            gradient_clip_val=settings.gradient_clip,
            sync_batchnorm=gpu and ranks > 1,
            logger=[*build_loggers(config, folder, step, every), *loggers],
            callbacks=chain,
            log_every_n_steps=every,
            num_sanity_val_steps=0,
            limit_val_batches=1.0 if source.classes else 0,
            use_distributed_sampler=False,
            enable_model_summary=False,
            enable_progress_bar=settings.progress,
            default_root_dir=folder.path,
        )
        trainer.fit(
            module,
            datamodule=Loaders(config, source, step),
            ckpt_path=str(folder.last_checkpoint) if step else None,
        )
    return trainer
