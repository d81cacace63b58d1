"""Lightning's part of a run: the trainer, its callbacks and the loaders."""

import logging
import signal
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from hydra.core.hydra_config import HydraConfig
from lightning.pytorch import Callback, LightningDataModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint, RichProgressBar
from torch.utils.data import Subset

from levyjepa.conf.schema import Config
from levyjepa.data import Batch, Source, Tally, TestBatch, test_loader, train_loader
from levyjepa.training.loggers import build_loggers
from levyjepa.training.module import LOG_EVERY, LevyJEPA

log = logging.getLogger(__name__)


class Interrupted(KeyboardInterrupt):
    """A run was stopped by a signal; its folder holds what is needed to go on."""

    def __init__(self, run_dir: Path) -> None:
        super().__init__(f"Interrupted; the run goes on from {run_dir / 'checkpoints'}.")
        self.run_dir = run_dir


class _Stopped(Exception):
    """Leaves Lightning's loop."""


class Stop(Callback):
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
def stop_on_signal(run_dir: Path) -> Iterator[Stop]:
    """Let Ctrl-C or SIGTERM end a fit after its step, as Interrupted."""
    stop = Stop(run_dir / "checkpoints" / "last.ckpt")
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


def fit(module: LevyJEPA, source: Source, run_dir: Path, step: int, stop: Stop) -> Trainer:
    """Fit a module to its end, from a run folder's last checkpoint if that is past step 0.

    Args:
        module: With its configuration.
        source: The images.
        run_dir: Where checkpoints and logs go.
        step: Of `checkpoints/last.ckpt`; 0 without one.
        stop: From `stop_on_signal`.
    """
    config = module.config
    last = run_dir / "checkpoints" / "last.ckpt"
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
    return trainer
