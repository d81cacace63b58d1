"""The linear probe: how well a linear classifier does on frozen features, of many labels or few."""

import math
import warnings
from collections.abc import Sequence

import numpy as np
from scipy import stats
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits
from torch import Tensor

from levyjepa.checks import count, positive
from levyjepa.tasks.accuracy import Labeled, accuracy, chance, labeled_splits
from levyjepa.tasks.context import Context
from levyjepa.tasks.registry import register_task
from levyjepa.tasks.score import Score

STRENGTHS = tuple(10.0**n for n in range(-4, 4))  # scikit-learn's C
FOLDS = 5
MANY = 1000  # images, of which one fold is enough
LARGE = 2**23  # numbers; for fewer, threads of BLAS mostly wait for one another
FEW = {"1_percent": 0.01, "10_percent": 0.1, "5_per_class": 5}
DRAWS = 3


@register_task("linear_probe", title="Linear probe", needs=("labels",), order=10)
def linear_probe(context: Context) -> list[Score]:
    """Test accuracy of logistic regression on frozen features."""
    what = [("accuracy", "embedding", "Linear probe", "the embedding")]
    if context.subject.name != "pixels":
        title = "Linear probe, mean patch token"
        what.append(("mean_token/accuracy", "mean_token", title, "the mean patch token"))
    scores = []
    for name, features, title, words in what:
        train, test = labeled_splits(context, features)
        correct, _ = fit_probe(train, test, context.seed)
        note = f"Test accuracy of logistic regression on {words}."
        scores.append(accuracy(name, correct, test, title, note, headline=name == "accuracy"))
    return scores


@register_task(
    "low_shot",
    title="Few labels",
    needs=("labels",),
    subjects=("trained", "untrained"),
    order=12,
)
def low_shot(context: Context) -> list[Score]:
    """Test accuracy of a linear probe that is fitted to few labeled images."""
    train, test = labeled_splits(context)
    most = int(train.labels.bincount().max())
    scores = []
    for name, wanted in FEW.items():
        if (wanted if wanted >= 1 else round(wanted * most)) < 2:
            continue  # no class has two labels
        draws = [few(train.labels, wanted, (context.seed, n)) for n in range(DRAWS)]
        shares = [
            fit_probe(train.rows(rows), test, context.seed)[0] / len(test.labels) for rows in draws
        ]
        words = f"{100 * wanted:g} % of labels" if wanted < 1 else f"{wanted} labels per class"
        scores.append(
            Score(
                name,
                float(np.mean(shares)),
                _interval(shares),
                len(test.labels),
                chance=chance(test.labels),
                title=f"Linear probe, {words}",
                note=f"Mean of {DRAWS} draws of {len(draws[0])} labeled images; the interval is "
                "over draws (Student t).",
                headline=name == "5_per_class",
            )
        )
    return scores


def fit_probe(train: Labeled, test: Labeled, seed: int = 0) -> tuple[int, float]:
    """Fit multinomial logistic regression to standardized features; test it.

    The regularization C grows from 1e-4 to 1e3 until the score on a stratified fifth of `train`
    falls two standard errors below its best; of fewer than 1,000 images it is the mean score on
    all fifths, or on fewer parts where no class has five images. With the best C, all of `train`
    is fitted. `test` chooses nothing.

    Args:
        train: Features (N, E) and labels.
        test: Features (M, E) and labels.
        seed: Draws the fifths.

    Returns:
        How many test images are right, and the chosen C.

    Raises:
        ValueError: So few images that no class has two, or that no part can be left out.
    """
    x, y = train.features.numpy(), train.labels.numpy()
    folds = min(FOLDS, int(np.bincount(y).max()))
    if folds < 2:
        raise ValueError("`train` must have at least two images of some class.")
    with threadpool_limits(1 if x.size < LARGE else None), warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*least populated class.*")
        warnings.simplefilter("ignore", ConvergenceWarning)  # near the minimum is near enough
        splits = StratifiedKFold(folds, shuffle=True, random_state=seed).split(x, y)
        parts = [_Part(x[fit], y[fit], x[out], y[out]) for fit, out in splits if _varied(y[fit])]
        best = _search(parts[: 1 if len(x) >= MANY else folds])
        final = _Part(x, y, test.features.numpy(), test.labels.numpy())
        return round(final.score(best) * len(test.labels)), best


def few(labels: Tensor, wanted: float, key: Sequence[int]) -> list[int]:
    """Draw images: of each class the share `wanted` below 1, else so many images.

    Args:
        labels: (N,).
        wanted: A share, of which each class gets one image at least; or a number, of which it
            gets all at most.
        key: Integers that the draw is a function of.
    """
    if positive("wanted", wanted) >= 1:
        wanted = count("wanted", wanted)
    random, chosen = np.random.default_rng(key), []
    for label in labels.unique().tolist():
        members = random.permutation((labels == label).nonzero()[:, 0].numpy())
        size = max(1, round(wanted * len(members))) if wanted < 1 else int(wanted)
        chosen += members[:size].tolist()
    return sorted(chosen)


class _Part:
    """Images to fit and images to score, prepared once for every C."""

    def __init__(self, x: np.ndarray, y: np.ndarray, x_out: np.ndarray, y_out: np.ndarray) -> None:
        scaler = StandardScaler().fit(x)
        self.x, self.x_out = scaler.transform(x), scaler.transform(x_out)
        self.y, self.y_out = y, y_out

    def score(self, c: float) -> float:
        """Share of the second images that is right after a fit to the first."""
        model = LogisticRegression(C=c, max_iter=300, tol=1e-3).fit(self.x, self.y)
        return float(model.score(self.x_out, self.y_out))


def _search(parts: Sequence[_Part]) -> float:
    if not parts:
        raise ValueError("`train` must have at least two classes with two images each.")
    n = sum(len(part.y_out) for part in parts)
    best, best_score = STRENGTHS[0], 0.0
    for c in STRENGTHS:
        score = float(np.mean([part.score(c) for part in parts]))
        if score > best_score:
            best, best_score = c, score
        if score < best_score - 2 * math.sqrt(best_score * (1 - best_score) / n):
            break
    return best


def _varied(labels: np.ndarray) -> bool:
    return len(np.unique(labels)) > 1


def _interval(shares: Sequence[float]) -> tuple[float, float]:
    half = stats.t.ppf(0.975, len(shares) - 1) * np.std(shares, ddof=1) / math.sqrt(len(shares))
    mean = float(np.mean(shares))
    return max(0.0, mean - float(half)), min(1.0, mean + float(half))
