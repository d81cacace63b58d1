"""The linear probe: how well a linear classifier does on frozen features, of many labels or few."""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from levyjepa.checks import count, positive
from levyjepa.evaluation.accuracy import Accuracy
from levyjepa.evaluation.features import Features, check_splits

STRENGTHS = tuple(10.0**n for n in range(-4, 4))  # scikit-learn's C
MANY = 1000  # images of which one fifth says enough


def linear_probe(train: Features, test: Features, seed: int = 0) -> Accuracy:
    """Fit multinomial logistic regression on standardised features; return its test accuracy.

    The regularisation C grows from 1e-4 to 1e3 until the score on a stratified fifth of `train`
    falls two standard errors below its best, or, of fewer than 1,000 images, the mean score on its
    fifths; with the best, all of `train` is fitted. `test` chooses nothing.

    Args:
        train: Features (N, E) and labels to fit.
        test: Features (M, E) and labels to judge.
        seed: Draws the fifths.

    Raises:
        ValueError: An empty or unlabelled split, a single class, no class with five images.
    """
    check_splits(train, test)
    if np.bincount(train.labels).max() < 5:
        raise ValueError("`train` must hold at least five images of some class.")
    return _probe(train, test, 5, seed)


@dataclass(frozen=True)
class LowShot:
    """Linear probes of few labels, one for each draw of which images have one."""

    labels: int  # images that have one, in each draw
    draws: tuple[Accuracy, ...]

    @property
    def accuracy(self) -> float:
        """The mean over draws."""
        return float(np.mean([draw.value for draw in self.draws]))

    @property
    def deviation(self) -> float | None:
        """The standard deviation over draws; None of a single one."""
        values = [draw.value for draw in self.draws]
        return float(np.std(values, ddof=1)) if len(values) > 1 else None


def low_shot(
    train: Features,
    test: Features,
    labels: float | int,
    draws: int = 5,
    seed: int = 0,
) -> LowShot:
    """Fit linear probes to a few labelled images, drawn several times; judge each by `test`.

    Each is a `linear_probe`, its C chosen on halves, thirds or quarters instead of fifths where no
    class has five images.

    Args:
        train: Features (N, E) and labels to draw from.
        test: Features (M, E) and labels to judge.
        labels: Below 1 the share of each class that is drawn, else the images of each class;
            at least one of each, at most all.
        draws: How often; the same images for the same seed, whatever the features.
        seed: Draws them.

    Raises:
        ValueError: An empty or unlabelled split, a single class, or so few labels that no class
            has two.
    """
    check_splits(train, test)
    chosen = [few(train.labels, labels, (seed, n)) for n in range(count("draws", draws))]
    folds = min(5, int(np.bincount(train.labels[chosen[0]]).max()))
    if folds < 2:
        raise ValueError(f"`labels` must leave two images of some class, got {labels}.")
    probes = [
        _probe(Features(train.embedding[rows], train.labels[rows]), test, folds, seed)
        for rows in chosen
    ]
    return LowShot(len(chosen[0]), tuple(probes))


def few(labels: Tensor, wanted: float | int, key: Sequence[int]) -> list[int]:
    """Draw images: of each class the share `wanted` below 1, else so many images."""
    if positive("labels", wanted) >= 1:
        count("labels", wanted)
    random, chosen = np.random.default_rng(key), []
    for label in labels.unique().tolist():
        members = random.permutation((labels == label).nonzero()[:, 0].numpy())
        chosen += members[: max(1, round(wanted * len(members))) if wanted < 1 else wanted].tolist()
    return sorted(chosen)


def _probe(train: Features, test: Features, folds: int, seed: int) -> Accuracy:
    x, y = train.embedding.numpy(), train.labels.numpy()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*least populated class.*")
        splits = list(StratifiedKFold(folds, shuffle=True, random_state=seed).split(x, y))
    splits = splits[: 1 if len(x) >= MANY else folds]
    judged = sum(len(held_out) for _, held_out in splits)
    best, best_score = STRENGTHS[0], 0.0
    for c in STRENGTHS:
        score = float(
            np.mean(
                [
                    _fitted(c, x[fit], y[fit]).score(x[held_out], y[held_out])
                    for fit, held_out in splits
                ]
            )
        )
        if score > best_score:
            best, best_score = c, score
        if score < best_score - 2 * math.sqrt(best_score * (1 - best_score) / judged):
            break
    hits = _fitted(best, x, y).predict(test.embedding.numpy()) == test.labels.numpy()
    return Accuracy(int(hits.sum()), len(hits), {"C": best})


def _fitted(c: float, x: np.ndarray, y: np.ndarray) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # near the minimum is near enough
        return _classifier(c).fit(x, y)


def _classifier(c: float) -> Pipeline:
    return make_pipeline(StandardScaler(), LogisticRegression(C=c, max_iter=300, tol=1e-3))
