"""What a run folder holds, read as far as it is there."""

import csv
import json
from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from levyjepa.conf.compose import to_dict
from levyjepa.conf.schema import Config
from levyjepa.training.comparison import scores


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

    def leaf(self, metric: str) -> dict[str, Any]:
        """A metric's value under "accuracy", with its interval and n where it has some."""
        found: Any = self.evaluation
        for key in metric.split("/"):
            found = found.get(key) if isinstance(found, dict) else None
        if isinstance(found, dict) and "accuracy" in found:
            return found
        return {"accuracy": self.scores[metric]} if metric in self.scores else {}


def read_run(folder: str | Path) -> Run:
    """Read a run folder; raise FileNotFoundError if it holds no `config.yaml`."""
    folder = Path(folder)
    if not (folder / "config.yaml").is_file():
        raise FileNotFoundError(f"A run folder holds config.yaml, got {folder}, which has none.")
    text = (folder / "config.yaml").read_text("utf-8")
    return Run(
        folder,
        _DEFAULTS | dict(_flat(yaml.safe_load(text) or {})),
        text,
        _read_metrics(folder / "metrics.csv"),
        read_json(folder / "evaluation.json"),
    )


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file, empty if there is no such file."""
    return json.loads(path.read_text("utf-8")) if path.is_file() else {}


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
