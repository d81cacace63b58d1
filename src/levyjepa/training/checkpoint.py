"""A checkpoint of a run: read safely, and made a network again."""

import pickle
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from levyjepa.conf.compose import from_dict
from levyjepa.conf.schema import Config
from levyjepa.lattice import Stencil
from levyjepa.laws import Law
from levyjepa.models import Network
from levyjepa.training.module import build_objective, laws_of


class CheckpointError(ValueError):
    """A file that is no checkpoint of a run, or doesn't fit its own settings."""


@dataclass(frozen=True)
class Trained:
    """A network from a checkpoint, with what is needed to use it."""

    network: Network
    tested: dict[str, tuple[Stencil, Law]]  # as far as laws were learned
    config: Config
    classes: list[str]
    mean: list[float]  # of the source's pixels in [0, 1], for each channel
    std: list[float]

    @property
    def law(self) -> Law:
        """The law of its field's increments; of several, the first stencil's."""
        return next(iter(self.tested.values()))[1]

    def of_images(self) -> "Trained":
        """Itself; CheckpointError where the network takes clips."""
        if self.config.data.frames is not None:
            raise CheckpointError(
                "`checkpoint` must be of a network of images, got one of clips of "
                f"{self.config.data.frames} frames."
            )
        return self


def load(checkpoint: str | Path) -> Trained:
    """Load the network of a checkpoint, in evaluation mode, with its settings.

    Args:
        checkpoint: A file, or a run folder, whose last checkpoint is taken.

    Raises:
        CheckpointError: No checkpoint of a run, or weights that its settings don't fit.
    """
    loaded = read_checkpoint(checkpoint_file(checkpoint))
    held = loaded["hyper_parameters"]
    config = from_dict(held["config"])
    network = Network(
        replace(config.model, pretrained=False),
        config.data.image_size,
        len(held["classes"]),
        config.objective.gamma > 0,
        config.data.frames,
    )
    objective = build_objective(config)
    parts = {"network.": network} | (
        {"objective.": objective} if config.objective.learnable else {}
    )
    try:
        for stem, module in parts.items():
            weights = {k: v for k, v in loaded["state_dict"].items() if k.startswith(stem)}
            module.load_state_dict({k.removeprefix(stem): v for k, v in weights.items()})
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(
            f"{checkpoint} holds weights of another architecture than its settings: {reason}"
        ) from error
    tested = laws_of(objective, config)
    return Trained(network.eval(), tested, config, held["classes"], held["mean"], held["std"])


def checkpoint_file(path: str | Path) -> Path:
    """The last checkpoint of a run folder, and a file as it is; CheckpointError for neither."""
    path = Path(path)
    if path.is_file():
        return path
    last = path / "checkpoints" / "last.ckpt"
    if last.is_file():
        return last
    got = f"got {path}, which is not there."
    if path.is_dir():
        run = (path / "config.yaml").is_file()
        got = f"got {path}, a {'run ' * run}folder without {last.relative_to(path)}."
    raise CheckpointError(f"`checkpoint` must be a run folder, or a file of a checkpoint, {got}")


def read_checkpoint(path: Path) -> dict[str, Any]:
    """All that a checkpoint's file holds; CheckpointError where it is none of a run."""
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError) as error:
        raise CheckpointError(f"{path} is no checkpoint that PyTorch can read safely.") from error
    held = loaded.get("hyper_parameters", {}) if isinstance(loaded, dict) else {}
    if not {"config", "classes", "mean", "std"} <= held.keys() or "state_dict" not in loaded:
        raise CheckpointError(f"{path} is no checkpoint of a levyjepa run.")
    return loaded
