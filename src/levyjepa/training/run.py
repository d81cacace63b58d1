"""One run: a configuration to a run folder, started, continued or kept."""

import csv
import json
import logging
import pickle
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Trainer, seed_everything
from lightning.pytorch.utilities import rank_zero_only
from omegaconf import OmegaConf
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from levyjepa.conf.compose import flat, from_dict, to_dict
from levyjepa.conf.schema import Config
from levyjepa.data import Source, load_source, train_loader
from levyjepa.evaluation import Overlays, evaluate, gallery
from levyjepa.evaluation.filmstrip import filmstrips
from levyjepa.lattice import Stencil
from levyjepa.laws import Law
from levyjepa.models import Network
from levyjepa.training.comparison import BASELINES
from levyjepa.training.fit import Interrupted, fit, stop_on_signal
from levyjepa.training.module import LevyJEPA, build_objective, laws_of

log = logging.getLogger(__name__)

FREE = ("run_dir", "experiment", "logger", "data.workers", "trainer.progress", "trainer.evaluate")
NAMED = 20  # classes
LOSS = ("prior", "gamma", "kappa", "lamb", "num_directions", "knots")  # no baseline's business

_DEFAULTS = flat(to_dict(Config()))


class RunFolderError(ValueError):
    """A run folder that holds something else."""


class CheckpointError(ValueError):
    """A file that is no checkpoint of a run, or doesn't fit its own settings."""


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


@dataclass(frozen=True)
class Judged:
    """What was found of a network, as `evaluation.json` holds it, and the files written of it."""

    found: dict[str, Any]
    written: list[Path]


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
    step = _read_checkpoint(last)["global_step"] if last.is_file() else 0
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


def load(checkpoint: str | Path) -> Trained:
    """Load the network of a checkpoint, in evaluation mode, with its settings.

    Args:
        checkpoint: A file, or a run folder, whose last checkpoint is taken.

    Raises:
        CheckpointError: No checkpoint of a run, or weights that its settings don't fit.
    """
    loaded = _read_checkpoint(checkpoint_file(checkpoint))
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


@contextmanager
def stages(shown: bool, doing: str = "Evaluating") -> Iterator[Callable[[str], None]]:
    """A function that shows what begins, beside the time that has passed."""
    columns = SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn()
    if not shown:
        yield lambda what: None
        return
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(f"{doing}…")
        yield lambda what: progress.update(task, description=f"{doing}: {what}")


def judge(
    network: Network,
    tested: dict[str, tuple[Stencil, Law]],
    config: Config,
    source: Source,
    device: str | torch.device,
    folder: Path | None = None,
    baselines: dict[str, Any] | None = None,
    followed: Path | None = None,
) -> Judged:
    """Evaluate a network, and write what the report shows of it into a run's folder.

    Args:
        network: What was trained.
        tested: Whose increments of its field are compared with which law, by name.
        config: Of the run, with the data that is judged.
        source: That data.
        device: Where networks compute.
        folder: Takes `gallery.npz`, of clips `clips.npz`, and `segmentation.npz` where there are
            masks.
        baselines: What was found of the untrained network and of pixels, by all that it depends
            on; read, or filled, so that runs that share them find them once.
        followed: Takes the masks of objects followed through sequences, if there are any.
    """
    where: Any = {"device": device, "seed": config.seed}
    written: list[Path] = []
    prior = config.objective.gamma > 0
    law = next(iter(tested.values()))[1]
    kept = {} if baselines is None else baselines
    shared = _shared(config)

    def show(name: str, shown: Overlays) -> None:
        if folder is not None and name == "network":
            shown.save(folder / "segmentation.npz")
            written.append(folder / "segmentation.npz")

    with stages(config.trainer.progress) as progress:
        if folder is not None and config.data.frames is None:
            progress("pictures for the report")
            shown = gallery(network, source, config.data, law, rescale=not prior, **where)
            shown.save(folder / "gallery.npz")
            written.append(folder / "gallery.npz")
        elif folder is not None:
            progress("clips for the report")
            filmstrips(network, source, config.data, device).save(folder / "clips.npz")
            written.append(folder / "clips.npz")
        found = evaluate(
            network,
            source,
            config.data,
            law=law,
            tested=tested,
            prior=prior and config.objective.prior == "levy",
            views=config.views,
            progress=progress,
            show=show,
            baselines=kept.get(shared) if shared else None,
            followed=followed,
            **where,
        )
    if followed is not None and source.sequences:
        written.append(followed)
    if shared:
        kept[shared] = {name: found[name] for name in BASELINES if name in found}
    return Judged({"labelled": bool(source.classes)} | found, written)


def _shared(config: Config) -> str:
    """All that the baselines of a run depend on, as text; none where a law is learned."""
    if config.objective.learnable:
        return ""
    settings = to_dict(config)
    settings["objective"] = {k: v for k, v in settings["objective"].items() if k not in LOSS}
    return json.dumps([settings[key] for key in ("data", "views", "model", "objective", "seed")])


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


def _read_checkpoint(path: Path) -> dict[str, Any]:
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError) as error:
        raise CheckpointError(f"{path} is no checkpoint that PyTorch can read safely.") from error
    held = loaded.get("hyper_parameters", {}) if isinstance(loaded, dict) else {}
    if not {"config", "classes", "mean", "std"} <= held.keys() or "state_dict" not in loaded:
        raise CheckpointError(f"{path} is no checkpoint of a levyjepa run.")
    return loaded
