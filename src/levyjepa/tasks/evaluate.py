"""Run tasks on a trained encoder, on the same encoder untrained and on raw pixels."""

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from levyjepa.data.settings import DataSettings, ViewsSettings
from levyjepa.data.source import Source
from levyjepa.lattice import Stencil
from levyjepa.laws import Law
from levyjepa.registry import Entry
from levyjepa.tasks.context import Context, FeatureCache, Subject
from levyjepa.tasks.registry import TASKS
from levyjepa.tasks.score import Picture, Score, check_scores

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Failure:
    """A task that could not be run on a subject, and why."""

    task: str
    subject: str
    reason: str


@dataclass
class Evaluation:
    """Scores, pictures and tasks that failed."""

    scores: list[Score] = field(default_factory=list)
    pictures: list[Picture] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)

    def get(self, key: str, subject: str = "trained") -> Score | None:
        """Return a score by its key, "segmentation/miou"; None if there is none."""
        found = (s for s in self.scores if s.key == key and s.subject == subject)
        return next(found, None)

    def headlines(self) -> list[Score]:
        """Return the main score of each task, of the trained encoder."""
        return [score for score in self.scores if score.headline and score.subject == "trained"]


def evaluate(
    subjects: Sequence[Subject],
    source: Source,
    settings: DataSettings,
    *,
    tasks: Sequence[str] | None = None,
    device: str | torch.device = "cpu",
    seed: int = 0,
    laws: Mapping[str, tuple[Stencil, Law]] | None = None,
    prior: bool = False,
    views: ViewsSettings | None = None,
    folder: Path | None = None,
    baselines: tuple[Path, str] | None = None,
    progress: Callable[[str], None] = lambda text: None,
) -> Evaluation:
    """Run tasks on subjects; a task that fails is named and the others go on.

    Args:
        subjects: What to evaluate, the trained encoder first.
        source: The data.
        settings: How it is loaded.
        tasks: Names; None for all that the data has what they need for.
        device: Where encoders run.
        seed: Draws samples, splits of a split and views.
        laws: Stencils that the prior looks at and the laws of their increments, by name.
        prior: Whether the field was trained to follow them.
        views: Views whose alignment is measured; None leaves that out.
        folder: Where large results go.
        baselines: A file that caches the scores of untrained subjects, and the key of this
            evaluation in it: a text that holds every setting that they depend on.
        progress: Called with what begins.

    Raises:
        ValueError: An unknown task, or one that the data lacks something for.
    """
    chosen = select(source, settings, tasks)
    cached = _cached(baselines)
    run = [s for s in subjects if s.name == "trained" or cached is None]
    first = subjects[0].encoder
    cache = FeatureCache(
        run,
        source,
        settings,
        device=torch.device(device),
        seed=seed,
        views=views,
        patch_size=tuple(first.patch_size)[-2:],
        progress=progress,
    )
    evaluation = Evaluation(scores=list(cached or []))
    known = {n: (stencil, law.constant_copy().cpu()) for n, (stencil, law) in (laws or {}).items()}
    for entry in chosen:
        for subject in run:
            if subject.name not in entry.options["subjects"]:
                continue
            progress(f"{entry.options['title']}, {subject.name}")
            context = Context(
                subject,
                source,
                settings,
                torch.device(device),
                seed,
                known,
                prior and subject.name == "trained",
                cache,
                progress,
                folder,
            )
            _run(entry, context, evaluation)
    order = [entry.name for entry in chosen]
    evaluation.scores.sort(key=lambda score: order.index(score.task) if score.task in order else -1)
    if cached is None:
        _keep(baselines, evaluation)
    return evaluation


def select(source: Source, settings: DataSettings, names: Sequence[str] | None = None) -> list[Entry]:
    """Return the tasks that data allows, in their order.

    Raises:
        ValueError: One that is named does not exist, or needs what the data lacks.
    """
    entries = TASKS.entries().values() if names is None else [TASKS.get(name) for name in names]
    has = {
        "labels": bool(source.classes) and source.test is not None,
        "masks": source.truth == "masks",
        "scenes": source.truth == "scenes",
        "sequences": bool(source.sequences),
        "images": settings.frames is None,
        "clips": settings.frames is not None,
    }
    chosen = []
    for entry in entries:
        lacking = [need for need in entry.options["needs"] if not has[need]]
        if lacking and names is not None:
            raise ValueError(
                f"The task {entry.name!r} needs {' and '.join(lacking)}, which {source.name} "
                "does not have."
            )
        if not lacking:
            chosen.append(entry)
    return sorted(chosen, key=lambda entry: entry.options["order"])


def _run(entry: Entry, context: Context, evaluation: Evaluation) -> None:
    mark: dict[str, Any] = {"task": entry.name, "subject": context.subject.name}
    try:
        scores = check_scores(entry.name, entry.build(context) or ())
    except (ArithmeticError, LookupError, TypeError, ValueError, RuntimeError, OSError) as error:
        log.debug("The task %s failed", entry.name, exc_info=True)
        reason = " ".join(str(error).split()) or type(error).__name__
        log.warning("The task %s failed on %s: %s", entry.name, context.subject.name, reason)
        evaluation.failures.append(Failure(entry.name, context.subject.name, reason))
        return
    evaluation.scores += [replace(score, **mark) for score in scores]
    evaluation.pictures += [replace(picture, **mark) for picture in context.pictures]


def _cached(baselines: tuple[Path, str] | None) -> list[Score] | None:
    if baselines is None or not baselines[0].is_file():
        return None
    try:
        found = json.loads(baselines[0].read_text("utf-8")).get(baselines[1])
    except (ValueError, AttributeError):  # cut short: computed again
        return None
    return None if found is None else [Score.from_dict(values) for values in found]


def _keep(baselines: tuple[Path, str] | None, evaluation: Evaluation) -> None:
    if baselines is None:
        return
    path, key = baselines
    try:
        held = json.loads(path.read_text("utf-8")) if path.is_file() else {}
    except ValueError:
        held = {}
    held[key] = [asdict(s) for s in evaluation.scores if s.subject != "trained"]
    part = path.with_name(f"{path.name}.part")
    part.write_text(json.dumps(held), "utf-8")
    part.replace(path)
