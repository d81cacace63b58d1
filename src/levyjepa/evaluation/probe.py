"""The linear probe: how well a linear classifier does on frozen features."""

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from levyjepa.evaluation.accuracy import Accuracy
from levyjepa.evaluation.features import Features, check_splits

STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)  # scikit-learn's C


def linear_probe(train: Features, test: Features, seed: int = 0) -> Accuracy:
    """Fit multinomial logistic regression on standardised features; return its test accuracy.

    The regularisation C grows until the score on a stratified fifth of `train` falls; with the
    best, all of `train` is fitted. `test` chooses nothing.

    Args:
        train: Features (N, E) and labels to fit.
        test: Features (M, E) and labels to judge.
        seed: Draws the fifth.

    Raises:
        ValueError: An empty or unlabelled split, a single class, no class with five images.
    """
    check_splits(train, test)
    x, y = train.embedding.numpy(), train.labels.numpy()
    if np.bincount(y).max() < 5:
        raise ValueError("`train` must hold at least five images of some class.")
    fit, held_out = next(StratifiedKFold(5, shuffle=True, random_state=seed).split(x, y))
    best, best_score = STRENGTHS[0], 0.0
    for c in STRENGTHS:
        score = _classifier(c).fit(x[fit], y[fit]).score(x[held_out], y[held_out])
        if score < best_score:
            break
        if score > best_score:
            best, best_score = c, score
    hits = _classifier(best).fit(x, y).predict(test.embedding.numpy()) == test.labels.numpy()
    return Accuracy(int(hits.sum()), len(hits), {"C": best})


def _classifier(c: float) -> Pipeline:
    return make_pipeline(StandardScaler(), LogisticRegression(C=c, max_iter=300, tol=1e-3))
