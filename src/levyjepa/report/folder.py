"""What a run folder holds, read as far as it is there."""

import csv
import json
import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch
import yaml

from levyjepa.conf.compose import to_dict
from levyjepa.conf.schema import Config
from levyjepa.training.comparison import scores

CHANCE = {"average_precision": "chance", "f1": "chance_f1", "best_f": "chance_f"}
ENCODER = "network.encoder."


@dataclass(frozen=True)
class Run:
    """One run folder: settings, logged values and evaluation; what is absent is empty."""

    folder: Path
    settings: dict[str, Any]  # config.yaml, flattened: {"objective.gamma": 1.0}
    text: str  # config.yaml as it was written
    logged: dict[str, np.ndarray]  # name: rows of (epoch, step, value)
    evaluation: dict[str, Any]

    @cached_property
    def gallery(self) -> dict[str, np.ndarray]:
        """The arrays of `gallery.npz`, empty if there is none."""
        return _read_arrays(self.folder / "gallery.npz")

    @cached_property
    def masks(self) -> dict[str, np.ndarray]:
        """The arrays of `segmentation.npz`, empty if there is none."""
        return _read_arrays(self.folder / "segmentation.npz")

    @cached_property
    def clips(self) -> dict[str, np.ndarray]:
        """The arrays of `clips.npz`, empty if there is none."""
        return _read_arrays(self.folder / "clips.npz")

    @cached_property
    def scores(self) -> dict[str, float]:
        """Every metric of the evaluation and of the online probe."""
        online = self.curve("test/acc", "epoch")[:, 1]
        return scores(self.evaluation, *((online[-1], online.max()) if len(online) else ()))

    @property
    def seed(self) -> int:
        return int(self.settings.get("seed", 0))

    @property
    def gamma(self) -> float:
        return float(self.settings.get("objective.gamma", 0))

    @property
    def labelled(self) -> bool:
        return "linear_probe" in self.evaluation or "test/acc" in self.logged

    @property
    def epochs(self) -> int:
        """Epochs begun."""
        return 1 + max((int(rows[-1, 0]) for rows in self.logged.values()), default=-1)

    @property
    def steps(self) -> int:
        """Steps logged."""
        return 1 + max((int(rows[:, 1].max()) for rows in self.logged.values()), default=-1)

    @property
    def finished(self) -> bool:
        return bool(self.evaluation)

    def curve(self, name: str, axis: str) -> np.ndarray:
        """(n, 2) rows of `axis` ("epoch" or "step") and the mean value logged there."""
        rows = self.logged.get(name, np.empty((0, 3)))
        at, inverse = np.unique(rows[:, 0 if axis == "epoch" else 1] + 1, return_inverse=True)
        total = np.bincount(inverse, rows[:, 2], len(at))
        return np.stack([at, total / np.bincount(inverse, minlength=len(at))], 1)

    @property
    def steps_per_epoch(self) -> int:
        """Steps of an epoch, as far as they were logged."""
        last = self.logged.get("train/lejepa_loss", np.empty((0, 3)))
        return int(self.steps // (1 + last[-1, 0])) if len(last) else 0

    @cached_property
    def parameters(self) -> int | None:
        """How many numbers the encoder learns, None without a checkpoint that can be read."""
        path = self.folder / "checkpoints" / "last.ckpt"
        try:
            held = torch.load(path, map_location="cpu", mmap=True, weights_only=True)["state_dict"]
        except (OSError, RuntimeError, EOFError, KeyError, UnpicklingError):
            return None
        return sum(each.numel() for name, each in held.items() if name.startswith(ENCODER))

    def leaf(self, metric: str) -> dict[str, Any]:
        """A metric's value under "accuracy", with its interval and n where it has some."""
        found = self._at(metric.split("/"))
        if "accuracy" in found:
            return found
        if metric not in self.scores:
            return {}
        *place, name = metric.split("/")
        ends = self._at(place).get("intervals", {}).get(name, (None, None))
        return {"accuracy": self.scores[metric]} | dict(zip(("low", "high"), ends, strict=True))

    def chance(self, metric: str) -> float | None:
        """What knowing nothing gives of a metric, None where that is not known."""
        *place, name = metric.split("/")
        leaf = self._at(metric.split("/"))
        return leaf.get("chance") if leaf else self._at(place).get(CHANCE.get(name, ""))

    def _at(self, place: Sequence[str]) -> dict[str, Any]:
        found: Any = self.evaluation
        for key in place:
            found = found.get(key) if isinstance(found, dict) else None
        return found if isinstance(found, dict) else {}


def read_run(folder: str | Path) -> Run:
    """Read a run folder; raise FileNotFoundError if it holds no `config.yaml`."""
    folder = Path(folder)
    if not (folder / "config.yaml").is_file():
        raise FileNotFoundError(
            f"`DIR` must be a run folder or hold some, got {folder}, which has none."
        )
    text = (folder / "config.yaml").read_text("utf-8")
    return Run(
        folder,
        _DEFAULTS | dict(_flat(yaml.safe_load(text) or {})),
        text,
        _read_metrics(folder / "metrics.csv"),
        read_json(folder / "evaluation.json"),
    )


def average(runs: Sequence[Run], metric: str) -> float | None:
    """The mean over the runs that have a metric."""
    return _mean(run.scores.get(metric) for run in runs)


def chance(runs: Sequence[Run], metric: str) -> float | None:
    """What knowing nothing would give, the mean over runs."""
    return _mean(run.chance(metric) for run in runs)


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file, empty if there is no such file."""
    return json.loads(path.read_text("utf-8")) if path.is_file() else {}


def _mean(values: Iterable[float | None]) -> float | None:
    some = [value for value in values if value is not None and math.isfinite(value)]
    return sum(some) / len(some) if some else None


def _read_arrays(path: Path) -> dict[str, np.ndarray]:
    if not path.is_file():
        return {}
    with np.load(path, allow_pickle=False) as arrays:
        return dict(arrays)


def _flat(tree: dict[str, Any], stem: str = ""):
    for key, value in tree.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{stem}{key}.")
        else:
            yield f"{stem}{key}", value


def _read_metrics(path: Path) -> dict[str, np.ndarray]:
    if not path.is_file():
        return {}
    rows = defaultdict(list)
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            at = float(row.pop("epoch", None) or 0), float(row.pop("step", None) or 0)
            for name, value in row.items():
                if value:
                    rows[name].append((*at, float(value)))
    return {name: np.array(values) for name, values in rows.items()}


_DEFAULTS = dict(_flat(to_dict(Config())))
