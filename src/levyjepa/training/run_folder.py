"""A run folder: the only place that knows the names of its files."""

import csv
import io
import json
import logging
import os
import re
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from filelock import FileLock, Timeout

from levyjepa.settings import flat
from levyjepa.tasks.evaluation import Evaluation, Failure
from levyjepa.tasks.score import Picture, Score
from levyjepa.training.config import from_dict
from levyjepa.training.settings import Config

log = logging.getLogger(__name__)

FORMAT = 2  # of evaluation.json


class RunFolderError(ValueError):
    """A folder that can't be used: it holds something else, or another process has it."""


class RunFolder:
    """The files of one run.

    Every file is written beside its target and then replaces it, so a file is whole or absent.

    Args:
        path: The folder; it need not exist yet.

    >>> RunFolder("runs/first").last_checkpoint.as_posix()
    'runs/first/checkpoints/last.ckpt'
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def __repr__(self) -> str:
        return f"RunFolder({str(self.path)!r})"

    @property
    def config_file(self) -> Path:
        """All settings, as YAML."""
        return self.path / "config.yaml"

    @property
    def metrics_file(self) -> Path:
        """Logged values, as CSV: a row for each step or epoch."""
        return self.path / "metrics.csv"

    @property
    def checkpoints(self) -> Path:
        """The folder of checkpoints."""
        return self.path / "checkpoints"

    @property
    def last_checkpoint(self) -> Path:
        """The checkpoint of the last epoch, or of the step at which the run was stopped."""
        return self.checkpoints / "last.ckpt"

    @property
    def best_checkpoint(self) -> Path:
        """The checkpoint of the epoch in which the online probe was best on the test split."""
        return self.checkpoints / "best.ckpt"

    @property
    def evaluation_file(self) -> Path:
        """Scores of every task; it is there once a run is finished."""
        return self._evaluation("")

    @property
    def results(self) -> Path:
        """Large results of tasks, such as tracked masks."""
        return self.path / "results"

    @property
    def report(self) -> Path:
        """The page."""
        return self.path / "report.html"

    @property
    def exists(self) -> bool:
        """Whether the folder holds a run."""
        return self.config_file.is_file()

    @property
    def finished(self) -> bool:
        """Whether the run is trained and evaluated."""
        return self.evaluation_file.is_file()

    @cached_property
    def config(self) -> Config:
        """The settings.

        Raises:
            RunFolderError: The file is missing or can't be read.
        """
        return from_dict(self._settings())

    @cached_property
    def settings(self) -> dict[str, Any]:
        """The settings under dotted keys, such as "objective.gamma"."""
        return flat(self.config.as_dict())

    def metrics(self) -> pd.DataFrame:
        """Return the logged values, a row a line; a last line that is cut short is left out."""
        if not self.metrics_file.is_file():
            return pd.DataFrame({"epoch": [], "step": []})
        text = self.metrics_file.read_text("utf-8", errors="replace")
        if not text.endswith("\n"):
            text = text[: text.rfind("\n") + 1]
        if not text.strip():
            return pd.DataFrame({"epoch": [], "step": []})
        return pd.read_csv(io.StringIO(text))

    def metrics_before(self, step: int) -> list[dict[str, str]]:
        """Return the rows logged before a step, as a logger that goes on there needs them."""
        if not self.metrics_file.is_file():
            return []
        with self.metrics_file.open(newline="", encoding="utf-8", errors="replace") as file:
            rows = [row for row in csv.DictReader(file) if None not in row.values()]
        whole = [row for row in rows if re.fullmatch(r"\d+", row.get("step") or "")]
        return [row for row in whole if int(row["step"]) < step]

    def evaluation(self, name: str = "") -> Evaluation:
        """Return the scores and pictures; empty where the run is not evaluated yet.

        Args:
            name: Of other data than the run's own, as of `write_evaluation`.

        Raises:
            RunFolderError: The file is of an older version, or can't be read.
        """
        file = self._evaluation(name)
        if not file.is_file():
            return Evaluation()
        content = self._json(file)
        if content.get("format") != FORMAT:
            raise RunFolderError(
                f"{file} was written by an older version; "
                f"`levyjepa evaluate {self.path}` writes it anew."
            )
        return Evaluation(
            [Score.from_dict(values) for values in content["scores"]],
            list(self._pictures(content.get("pictures", []))),
            [Failure(**values) for values in content.get("failures", [])],
        )

    def write_config(self, config: Config) -> None:
        """Write `config.yaml`."""
        text = yaml.safe_dump(config.as_dict(), sort_keys=False, allow_unicode=True)
        self.write_text(self.config_file, text)

    def merged(self, evaluation: Evaluation, name: str = "") -> Evaluation:
        """Return an evaluation with the scores of other tasks that its file holds already."""
        if not self._evaluation(name).is_file():
            return evaluation
        old, tasks = self.evaluation(name), {s.task for s in evaluation.scores}
        tasks |= {failure.task for failure in evaluation.failures}
        return Evaluation(
            [s for s in old.scores if s.task not in tasks] + evaluation.scores,
            [p for p in old.pictures if p.task not in tasks] + evaluation.pictures,
            [f for f in old.failures if f.task not in tasks] + evaluation.failures,
        )

    def write_evaluation(self, evaluation: Evaluation, name: str = "") -> Path:
        """Write the pictures, then `evaluation.json`, which says that the run is finished.

        Args:
            evaluation: To write.
            name: Of other data: `evaluation-NAME.json`, which says nothing about the run.
        """
        pictures, target = [], self._evaluation(name)
        for picture in evaluation.pictures:
            file = f"{name}{name and '/'}{picture.task}-{picture.name}-{picture.subject}.png"
            file = re.sub(r"[^\w./-]+", "-", file)
            self.write_bytes(self.path / "pictures" / file, picture.png)
            values = {key: value for key, value in vars(picture).items() if key != "png"}
            pictures.append(values | {"file": file})
        content = {
            "format": FORMAT,
            "scores": [score.as_dict() for score in evaluation.scores],
            "pictures": pictures,
            "failures": [asdict(failure) for failure in evaluation.failures],
        }
        self.write_text(target, json.dumps(content, indent=1))
        return target

    def write_text(self, target: Path, text: str) -> None:
        """Write a file of the folder beside its target, then replace the target."""
        self.write_bytes(target, text.encode())

    def write_bytes(self, target: Path, content: bytes) -> None:
        """As `write_text`, of bytes."""
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(f".{target.name}.{os.getpid()}.part")
        try:
            with part.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the folder while this process writes; another process meets an error.

        The operating system frees the lock of a process that died.

        Raises:
            RunFolderError: Another process has it; its host and process id are named.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(self.path / ".lock", timeout=0, is_singleton=False):
                me = {"pid": os.getpid(), "host": socket.gethostname()}
                job = os.environ.get("SLURM_JOB_ID")
                self.write_text(self._owner, json.dumps(me | ({"job": job} if job else {})))
                try:
                    yield
                finally:
                    self._owner.unlink(missing_ok=True)
        except Timeout as error:
            owner = self.owner or "another process"
            raise RunFolderError(f"{self.path} is in use by {owner}.") from error

    @property
    def owner(self) -> str:
        """The process that locked the folder and has not unlocked it; empty if there is none.

        It may have died since.
        """
        try:
            owner = json.loads(self._owner.read_text("utf-8"))
            return f"process {owner['pid']} on {owner['host']}"
        except FileNotFoundError:
            return ""
        except (OSError, ValueError, KeyError):
            return "another process"

    def other_setting(
        self, settings: Mapping[str, Any], but: Sequence[str] = ()
    ) -> tuple[str, Any, Any] | None:
        """Return the first setting that differs: its key, this run's value and the other.

        Args:
            settings: Under dotted keys.
            but: Keys, or stems of keys, that may differ.
        """
        for key in [*settings, *(self.settings.keys() - settings.keys())]:
            if any(key == other or key.startswith(f"{other}.") for other in but):
                continue
            mine, other = self.settings.get(key), settings.get(key)
            if mine != other:
                return key, mine, other
        return None

    @property
    def _owner(self) -> Path:
        return self.path / ".owner.json"

    def _evaluation(self, name: str) -> Path:
        stem = re.sub(r"[^\w.+-]+", "-", name)
        return self.path / (f"evaluation-{stem}.json" if stem else "evaluation.json")

    def _settings(self) -> dict[str, Any]:
        try:
            settings = yaml.safe_load(self.config_file.read_text("utf-8"))
        except FileNotFoundError:
            raise RunFolderError(
                f"{self.path} is not a run folder: it has no config.yaml."
            ) from None
        except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
            raise RunFolderError(f"{self.config_file} can't be read: {error}") from error
        if not isinstance(settings, dict) or not settings:
            raise RunFolderError(f"{self.config_file} holds no settings.")
        return settings

    def _pictures(self, listed: Sequence[Mapping[str, Any]]) -> Iterator[Picture]:
        for values in listed:
            file = self.path / "pictures" / str(values["file"])
            if file.is_file():
                yield Picture(
                    **{k: v for k, v in values.items() if k != "file"}, png=file.read_bytes()
                )
            else:
                log.warning("%s is missing.", file)

    def _json(self, path: Path) -> dict[str, Any]:
        try:
            return json.loads(path.read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise RunFolderError(f"{path} can't be read: {error}") from error


def find_runs(path: str | Path) -> list[RunFolder]:
    """Return the run folders at or below a path.

    Raises:
        RunFolderError: There is none.
    """
    if not Path(path).is_dir():
        raise RunFolderError(f"There is no folder {path}.")
    runs = runs_below(path)
    if not runs:
        raise RunFolderError(f"{path} holds no run folder.")
    return runs


def runs_below(path: str | Path) -> list[RunFolder]:
    """Return the run folders at or below a path, in the order of names, numbers as numbers."""
    root = Path(path)

    def walk(folder: Path) -> Iterator[RunFolder]:
        if (run := RunFolder(folder)).exists:
            yield run
        elif folder.is_dir():
            for child in folder.iterdir():
                yield from walk(child)

    def order(run: RunFolder) -> list[Any]:
        parts = re.split(r"(\d+(?:\.\d+)?)", run.path.relative_to(root).as_posix())
        return [float(part) if i % 2 else part for i, part in enumerate(parts)]

    return sorted(walk(root), key=order)
