"""Run tasks on a trained encoder, on the same encoder untrained and on raw pixels."""

import json
import logging
import os
from base64 import b64decode, b64encode
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
from levyjepa.tasks.context import Context
from levyjepa.tasks.features import FeatureCache, Subject
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
    progress: Callable[[str], object] = lambda text: None,
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
        baselines: A file that caches the results of all subjects but the trained one, and the key
            of this evaluation in it: a text that holds every setting that they depend on.
        progress: Called with what begins.

    Raises:
        ValueError: An unknown task, or one that the data lacks something for.
    """
    chosen = select(source, settings, tasks)
    kept = None if baselines is None else _Baselines(*baselines, [entry.name for entry in chosen])
    cached = None if kept is None else kept.read()
    evaluation = cached or Evaluation()
    run = [s for s in subjects if s.name == "trained" or cached is None]
    cache = FeatureCache(
        run,
        source,
        settings,
        device=torch.device(device),
        seed=seed,
        views=views,
        patch_size=tuple(subjects[0].encoder.patch_size)[-2:],
        progress=progress,
    )
    fixed = {n: (stencil, law.constant_copy().cpu()) for n, (stencil, law) in (laws or {}).items()}
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
                fixed,
                prior and subject.name == "trained",
                cache,
                progress,
                folder,
            )
            _run(entry, context, evaluation)
    _sort(evaluation, [entry.name for entry in chosen], [subject.name for subject in subjects])
    if kept is not None and cached is None:
        kept.write(evaluation)
    return evaluation


def select(
    source: Source, settings: DataSettings, names: Sequence[str] | None = None
) -> list[Entry]:
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
    if source.classes and source.test is None:
        log.warning(
            "%s has labels but no test split, so tasks that need labels are left out; "
            "`data.holdout` makes one.",
            source.name,
        )
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
    except Exception as error:  # whatever a task of a plugin raises
        log.debug("The task %s failed", entry.name, exc_info=True)
        reason = " ".join(str(error).split()) or type(error).__name__
        log.warning("The task %s failed on %s: %s", entry.name, context.subject.name, reason)
        evaluation.failures.append(Failure(entry.name, context.subject.name, reason))
        return
    evaluation.scores += [replace(score, **mark) for score in scores]
    evaluation.pictures += [replace(picture, **mark) for picture in context.pictures]


def _sort(evaluation: Evaluation, tasks: list[str], subjects: list[str]) -> None:
    """By task, then by subject, whether it was computed now or before."""

    def place(item: Score | Picture | Failure) -> tuple[int, int]:
        return tasks.index(item.task), subjects.index(item.subject)

    for items in (evaluation.scores, evaluation.pictures, evaluation.failures):
        items.sort(key=place)


class _Baselines:
    """The results of untrained subjects, in a file that runs of one setting share."""

    def __init__(self, path: Path, key: str, tasks: Sequence[str]) -> None:
        self.path, self.key = path, json.dumps([key, sorted(tasks)])

    def read(self) -> Evaluation | None:
        """Return them if they are there."""
        found = self._all().get(self.key)
        if found is None:
            return None
        return Evaluation(
            [Score.from_dict(values) for values in found["scores"]],
            [Picture(**{**v, "png": b64decode(v["png"])}) for v in found["pictures"]],
            [Failure(**values) for values in found["failures"]],
        )

    def write(self, evaluation: Evaluation) -> None:
        """Add those of an evaluation that has run them."""
        lists = {
            "scores": [asdict(score) for score in evaluation.scores],
            "pictures": [
                {**asdict(p), "png": b64encode(p.png).decode()} for p in evaluation.pictures
            ],
            "failures": [asdict(failure) for failure in evaluation.failures],
        }
        untrained = {
            name: [values for values in items if values["subject"] != "trained"]
            for name, items in lists.items()
        }
        if not any(untrained.values()):
            return
        content = json.dumps({**self._all(), self.key: untrained})
        self.path.parent.mkdir(parents=True, exist_ok=True)
        part = self.path.with_name(f".{self.path.name}.{os.getpid()}.part")
        part.write_text(content, "utf-8")
        part.replace(self.path)

    def _all(self) -> dict[str, Any]:
        try:
            found = json.loads(self.path.read_text("utf-8"))
        except (OSError, ValueError):  # absent or cut short: computed again
            return {}
        return found if isinstance(found, dict) else {}
