"""What a run folder holds, read as far as it is there."""

import csv
import json
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml


@dataclass(frozen=True)
class Run:
    """One run folder: settings, logged values, evaluation and gallery; what is absent is empty."""

    folder: Path
    settings: dict[str, Any]  # config.yaml, flattened: {"objective.gamma": 1.0}
    text: str  # config.yaml as it was written
    logged: dict[str, np.ndarray]  # name: rows of (epoch, step, value)
    evaluation: dict[str, Any]
    gallery: dict[str, np.ndarray]

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
    def finished(self) -> bool:
        return bool(self.evaluation)

    def curve(self, name: str, axis: str) -> np.ndarray:
        """(n, 2) rows of `axis` ("epoch" or "step") and the mean value logged there."""
        rows = self.logged.get(name, np.empty((0, 3)))
        at, inverse = np.unique(rows[:, 0 if axis == "epoch" else 1] + 1, return_inverse=True)
        total = np.bincount(inverse, rows[:, 2], len(at))
        return np.stack([at, total / np.bincount(inverse, minlength=len(at))], 1)

    def score(self, metric: str) -> dict[str, Any]:
        """The leaf `metric` of the evaluation, as "random_encoder/knn", or of the online probe."""
        if metric.startswith("online"):
            values = self.curve("test/acc", "epoch")[:, 1]
            if not len(values):
                return {}
            return {"accuracy": values.max() if metric == "online_best" else values[-1]}
        leaf: Any = self.evaluation
        for key in metric.split("/"):
            leaf = leaf.get(key) or {}
        return leaf


def read_run(folder: str | Path) -> Run:
    """Read a run folder; raise FileNotFoundError if it holds no `config.yaml`."""
    folder = Path(folder)
    if not (folder / "config.yaml").is_file():
        raise FileNotFoundError(f"A run folder holds config.yaml, got {folder}, which has none.")
    text = (folder / "config.yaml").read_text("utf-8")
    return Run(
        folder,
        dict(_flat(yaml.safe_load(text) or {})),
        text,
        _read_metrics(folder / "metrics.csv"),
        read_json(folder / "evaluation.json"),
        _read_gallery(folder / "gallery.npz"),
    )


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file, empty if there is no such file."""
    return json.loads(path.read_text("utf-8")) if path.is_file() else {}


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


def _read_gallery(path: Path) -> dict[str, np.ndarray]:
    if not path.is_file():
        return {}
    with np.load(path, allow_pickle=False) as arrays:
        return dict(arrays)
