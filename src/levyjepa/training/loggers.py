"""Loggers of a run: CSV and TensorBoard always, W&B and trackio on request."""

import warnings
from typing import Any

from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger, WandbLogger
from lightning.pytorch.loggers.logger import Logger
from lightning.pytorch.utilities import rank_zero_only

from levyjepa.training.run_folder import RunFolder
from levyjepa.training.settings import Config


def build_loggers(config: Config, folder: RunFolder, step: int, every: int) -> list[Logger]:
    """Return loggers that continue at `step` and flush every `every` steps."""
    path, project, settings = folder.path, config.logger.project, config.as_dict()
    loggers: list[Logger] = [
        _csv(folder, step, every),
        TensorBoardLogger(path, name="", version="tensorboard"),
    ]
    if config.logger.wandb:
        name = path.name
        loggers.append(
            WandbLogger(name, path, id=name, project=project, config=settings, resume="allow")
        )
    if config.logger.trackio:
        loggers.append(TrackioLogger(project, path.name, settings))
    return loggers


class TrackioLogger(Logger):
    """Log to trackio, whose interface is that of W&B."""

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
        """The run of trackio."""
        if self._experiment is None:
            import trackio  # pyright: ignore[reportMissingImports]

            self._experiment = trackio.init(
                self.project, self.run, config=self.settings, resume="allow", embed=False
            )
        return self._experiment

    @rank_zero_only
    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Do nothing: settings are logged at the start."""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Log numbers at a step."""
        self.experiment.log(metrics, step=step)

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Finish the run."""
        if self._experiment is not None:
            self._experiment.finish()
            self._experiment = None


def _csv(folder: RunFolder, step: int, every: int) -> CSVLogger:
    """Log to `metrics.csv`; rows before `step` stay, later ones are dropped."""
    rows = folder.metrics_before(step)
    logger = CSVLogger(folder.path, name="", version="", flush_logs_every_n_steps=every)
    if rank_zero_only.rank == 0:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it warns that it deletes the old file
            writer: Any = logger.experiment
        writer.metrics = [{key: value for key, value in row.items() if value} for row in rows]
        logger.save()
    return logger
