"""Run tasks on a trained encoder, on the same encoder untrained and on raw pixels."""

import json
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from pydantic import ConfigDict, TypeAdapter

from levyjepa.data.settings import DataSettings, ViewsSettings
from levyjepa.data.source import Source
from levyjepa.lattice import Stencil
from levyjepa.laws import Law
from levyjepa.registry import Entry
from levyjepa.tasks.context import Context
from levyjepa.tasks.features import FeatureCache, Subject
from levyjepa.tasks.registry import TASKS
from levyjepa.tasks.score import Picture, Score

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

    def of(self, tasks: Sequence[str] | None) -> "Evaluation":
        """Return what belongs to some tasks; None: everything."""
        if tasks is None:
            return self
        return Evaluation(
            [score for score in self.scores if score.task in tasks],
            [picture for picture in self.pictures if picture.task in tasks],
            [failure for failure in self.failures if failure.task in tasks],
        )

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
        ValueError: An unknown task, one that the data lacks something for, or data whose mean and
            std are not measured.
    """
    chosen = select(source, settings, tasks)
    names = [entry.name for entry in chosen]
    file, key = baselines or (None, "")
    key = json.dumps([key, sorted(names)])
    known = {} if file is None else _read(file)
    evaluation = known.get(key, Evaluation())
    run = [subject for subject in subjects if subject.name == "trained" or key not in known]
    where = torch.device(device)
    cache = FeatureCache(run, source, settings, where, seed, views, progress)
    fixed = {n: (stencil, law.constant_copy().cpu()) for n, (stencil, law) in (laws or {}).items()}
    for entry in chosen:
        for subject in run:
            if subject.name in entry.options["subjects"]:
                progress(f"{entry.options['title']}, {subject.name}")
                follows = prior and subject.name == "trained"
                about = (source, settings, where, seed, fixed, follows, cache, progress, folder)
                _run(entry, Context(subject, *about), evaluation)
    order = [subject.name for subject in subjects]
    results = evaluation.scores, evaluation.pictures, evaluation.failures
    for items in results:
        items.sort(key=lambda item: (names.index(item.task), order.index(item.subject)))
    if file is not None and key not in known:
        others: Any = [[i for i in items if i.subject != "trained"] for items in results]
        if any(others):
            _write(file, _read(file) | {key: Evaluation(*others)})
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
    subject = context.subject.name
    mark: dict[str, Any] = {"task": entry.name, "subject": subject}
    try:
        scores = list(entry.build(context) or ())
        for score in scores:
            if not isinstance(score, Score):
                raise TypeError(f"The task {entry.name!r} must return scores, got {score!r}.")
        names = [score.name for score in scores]
        if twice := {name for name in names if names.count(name) > 1}:
            twice = ", ".join(sorted(twice))
            raise ValueError(f"{entry.name!r} must return each score once, got {twice} twice.")
    except Exception as error:  # whatever a task of a plugin raises
        log.debug("The task %s failed", entry.name, exc_info=True)
        reason = " ".join(str(error).split()) or type(error).__name__
        log.warning("The task %s failed on %s: %s", entry.name, subject, reason)
        evaluation.failures.append(Failure(entry.name, subject, reason))
        return
    evaluation.scores += [replace(score, **mark) for score in scores]
    evaluation.pictures += [replace(picture, **mark) for picture in context.pictures]


BASELINES = TypeAdapter(
    dict[str, Evaluation], config=ConfigDict(ser_json_bytes="base64", val_json_bytes="base64")
)


def _read(file: Path) -> dict[str, Evaluation]:
    """Evaluations by key; none where the file is absent or cut short."""
    try:
        return BASELINES.validate_json(file.read_bytes())
    except (OSError, ValueError):
        return {}


def _write(file: Path, evaluations: dict[str, Evaluation]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(f".{file.name}.{os.getpid()}.part")
    part.write_bytes(BASELINES.dump_json(evaluations))
    part.replace(file)
