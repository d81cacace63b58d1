"""Where a run's numbers are written: CSV and TensorBoard always, W&B and trackio if wanted."""

import csv
import warnings
from pathlib import Path
from typing import Any

from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger, WandbLogger
from lightning.pytorch.loggers.logger import Logger
from lightning.pytorch.utilities import rank_zero_only

from levyjepa.conf.compose import to_dict
from levyjepa.conf.schema import Config


def build_loggers(config: Config, run_dir: Path, step: int, every: int) -> list[Logger]:
    """Loggers that go on at `step` and flush `every` so many steps."""
    loggers: list[Logger] = [
        _csv(run_dir, step, every),
        TensorBoardLogger(run_dir, name="", version="tensorboard"),
    ]
    project, settings = config.logger.project, to_dict(config)
    if config.logger.wandb:
        name = run_dir.name
        loggers.append(
            WandbLogger(name, run_dir, id=name, project=project, config=settings, resume="allow")
        )
    if config.logger.trackio:
        loggers.append(TrackioLogger(project, run_dir.name, settings))
    return loggers


class TrackioLogger(Logger):
    """Lightning's metrics to trackio, whose interface is that of W&B."""

    def __init__(self, project: str, run: str, settings: dict[str, Any]) -> None:
        super().__init__()
        self.project, self.run, self.settings = project, run, settings
        self._experiment: Any = None

    @property
    def name(self) -> str:
        """The project."""
        return self.project

    @property
    def version(self) -> str:
        """The run."""
        return self.run

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """trackio's own run."""
        if self._experiment is None:
            import trackio  # pyright: ignore[reportMissingImports]

            self._experiment = trackio.init(
                self.project, self.run, config=self.settings, resume="allow", embed=False
            )
        return self._experiment

    @rank_zero_only
    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Nothing more: settings are given at the start."""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Write numbers at a step."""
        self.experiment.log(metrics, step=step)

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Finish the run."""
        if self._experiment is not None:
            self._experiment.finish()
            self._experiment = None


def _csv(run_dir: Path, step: int, every: int) -> CSVLogger:
    """`metrics.csv` at the top of the run folder; rows before `step` stay, later ones go."""
    path, rows = run_dir / "metrics.csv", []
    if path.is_file():
        with path.open(newline="", encoding="utf-8") as file:
            rows = [row for row in csv.DictReader(file) if int(row["step"]) < step]
    logger = CSVLogger(run_dir, name="", version="", flush_logs_every_n_steps=every)
    if rank_zero_only.rank == 0:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that it deletes the old file, whose rows we hold
            writer: Any = logger.experiment
        writer.metrics = [{key: value for key, value in row.items() if value} for row in rows]
        logger.save()
    return logger
