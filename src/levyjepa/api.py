"""Training as people call it: one call trains, evaluates and draws the page."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from levyjepa.data.source import Source
from levyjepa.report import run_report
from levyjepa.training import run
from levyjepa.training.settings import Config

if TYPE_CHECKING:
    from lightning.pytorch import Callback
    from lightning.pytorch.loggers import Logger


def train(
    settings: Sequence[str] | Config = (),
    *,
    source: Source | None = None,
    encoder: Any = None,
    callbacks: "Sequence[Callback]" = (),
    loggers: "Sequence[Logger]" = (),
) -> run.Run:
    """Train and evaluate into a run folder and draw its page; continue what was interrupted.

    Args:
        settings: Words as on the command line, `["data=mnist5k", "objective.gamma=0"]`, or a
            `Config`. Without `run_dir` the folder is `runs/DATA-TIME`.
        source: Data in place of what `data` names; the settings of `data` still say image size,
            batch size and so on.
        encoder: A module in place of the encoder that `model` names, see `levyjepa.models.Encoder`.
        callbacks: Further callbacks of Lightning.
        loggers: Further loggers of Lightning.

    Returns:
        The run: its folder, scores and encoder; `summary()` is its table of scores.

    Raises:
        ConfigError: An unknown setting, a wrong type or a value out of range.
        RunFolderError: The folder holds a run of other settings, or something else, or another
            process works there.
        Diverged: A loss term or the weights stopped being finite.
        Interrupted: A signal asked to stop; a checkpoint is written.
    """
    result = run.train(
        settings, source=source, encoder=encoder, callbacks=callbacks, loggers=loggers
    )
    if run.is_first_rank():
        run_report(result.folder.path)
    return result
