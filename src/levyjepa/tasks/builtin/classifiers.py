"""Classes read from frozen features: a linear probe of many labels or few, and neighbors."""

import math
import warnings
from collections.abc import Callable, Sequence

import numpy as np
import torch
from scipy import stats
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits
from torch import Tensor
from torch.nn.functional import normalize, one_hot

from levyjepa.tasks.context import Context
from levyjepa.tasks.registry import register_task
from levyjepa.tasks.score import Score

STRENGTHS = tuple(10.0**n for n in range(-4, 4))  # scikit-learn's C
FOLDS = 5
MANY = 1000  # images, of which one fold is enough
LARGE = 2**23  # numbers; for fewer, threads of BLAS mostly wait for one another
FEW = {"1_percent": 0.01, "10_percent": 0.1, "5_per_class": 5}
DRAWS = 3
NEIGHBORS = 20


@register_task("linear_probe", title="Linear probe", needs=("labels",), order=10)
def linear_probe(context: Context) -> list[Score]:
    """Test accuracy of logistic regression on frozen features."""
    note = "Test accuracy of logistic regression on the {}."
    return _scores(
        context, "Linear probe", note, lambda *splits: fit_probe(*splits, seed=context.seed)[0]
    )


@register_task("knn", title="k nearest neighbors", needs=("labels",), order=11)
def knn(context: Context) -> list[Score]:
    """Test accuracy of the vote of the 20 most similar training images."""
    k = min(NEIGHBORS, len(context.train.labels))
    note = f"Test accuracy of a vote of {k} training images, weighted by cosine similarity."

    def correct(x: Tensor, y: Tensor, x_test: Tensor, y_test: Tensor) -> int:
        return int((vote(x, y, x_test, k) == y_test).sum())

    return _scores(context, "k nearest neighbors", note, correct)


@register_task(
    "low_shot", title="Few labels", needs=("labels",), subjects=("trained", "untrained"), order=12
)
def low_shot(context: Context) -> list[Score]:
    """Test accuracy of a linear probe that is fitted to few labeled images."""
    x, y, *test = _splits(context, "embedding")
    n, most, scores = len(test[1]), int(y.bincount().max()), []
    for name, wanted in FEW.items():
        if (wanted if wanted >= 1 else round(wanted * most)) < 2:
            continue  # no class has two labels
        draws = [few(y, wanted, (context.seed, number)) for number in range(DRAWS)]
        shares = [fit_probe(x[rows], y[rows], *test, seed=context.seed)[0] / n for rows in draws]
        mean, error = float(np.mean(shares)), stats.sem(shares)
        half = float(stats.t.ppf(0.975, DRAWS - 1) * error)
        words = f"{100 * wanted:g} % of labels" if wanted < 1 else f"{wanted} labels per class"
        scores.append(
            Score(
                name,
                mean,
                (max(0.0, mean - half), min(1.0, mean + half)),
                n,
                chance=_chance(test[1]),
                title=f"Linear probe, {words}",
                note=f"Mean of {DRAWS} draws of {len(draws[0])} labeled images; the interval is "
                "over draws (Student t).",
                headline=name == "5_per_class",
            )
        )
    return scores


def _scores(context: Context, title: str, note: str, correct: Callable[..., int]) -> list[Score]:
    """Accuracy on embeddings and, but of pixels, on mean patch tokens.

    `correct` takes both splits and says how many test images are right.
    """
    scores = []
    for features, words in (("embedding", "embedding"), ("mean_token", "mean patch token")):
        first = features == "embedding"
        if not first and context.subject.name == "pixels":
            break
        splits = _splits(context, features)
        right, n = correct(*splits), len(splits[3])
        low, high = stats.binomtest(right, n).proportion_ci(0.95, "wilson")
        scores.append(
            Score(
                "accuracy" if first else f"{features}/accuracy",
                right / n,
                (low, high),
                n,
                chance=_chance(splits[3]),
                title=title if first else f"{title}, {words}",
                note=note.format(words),
                headline=first,
            )
        )
    return scores


def _splits(context: Context, features: str) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Features and labels of the training images, then of the test images."""
    parts = []
    for name, split in (("train", context.train), ("test", context.test)):
        x, y = getattr(split, features), split.labels
        if (y < 0).any():
            missing = int((y < 0).sum())
            raise ValueError(f"`{name}` must be labeled, got {missing} images without a label.")
        if not x.isfinite().all():
            raise ValueError(f"`{name}` must be finite, got NaN or infinite features.")
        parts += [x, y]
    if len(parts[1].unique()) < 2:
        raise ValueError(f"`train` must have at least two classes, got only {parts[1][0]}.")
    return tuple(parts)


def _chance(labels: Tensor) -> float:
    """The share of the commonest class."""
    return int(labels.bincount().max()) / len(labels)


def vote(x: Tensor, y: Tensor, x_test: Tensor, k: int, temperature: float = 0.07) -> Tensor:
    """Return labels (M,) by the vote of the `k` most similar training images.

    They are weighted by exp(cosine / temperature).
    """
    voters, labels, votes = normalize(x), one_hot(y).to(x), []
    for rows in x_test.split(256):
        cosine, nearest = (normalize(rows) @ voters.T).topk(k)
        weights = ((cosine - cosine[:, :1]) / temperature).exp()  # the scale cancels in the vote
        votes.append(torch.einsum("mk,mkc->mc", weights, labels[nearest]).argmax(1))
    return torch.cat(votes)


def fit_probe(
    x: Tensor, y: Tensor, x_test: Tensor, y_test: Tensor, seed: int = 0
) -> tuple[int, float]:
    """Fit multinomial logistic regression to standardized features; test it.

    The regularization C grows from 1e-4 to 1e3 until the score on a stratified fifth of the
    training images falls two standard errors below its best; of fewer than 1,000 images it is the
    mean score on all fifths, or on fewer parts where no class has five images. With the best C, all
    training images are fitted. The test images choose nothing.

    Returns:
        How many test images are right, and the chosen C.

    Raises:
        ValueError: So few images that no class has two, or that no part can be left out.
    """
    folds = min(FOLDS, int(y.bincount().max()))
    if folds < 2:
        raise ValueError("`train` must have at least two images of some class.")
    with threadpool_limits(1 if x.numel() < LARGE else None), warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*least populated class.*")
        warnings.simplefilter("ignore", ConvergenceWarning)  # near the minimum is near enough
        splits = StratifiedKFold(folds, shuffle=True, random_state=seed).split(x, y)
        parts = [(fit, out) for fit, out in splits if len(y[fit].unique()) > 1]
        if not parts:
            raise ValueError("`train` must have at least two classes with two images each.")
        parts = parts[: 1 if len(x) >= MANY else folds]
        n = sum(len(out) for _, out in parts)
        best, best_score = STRENGTHS[0], 0.0
        for c in STRENGTHS:
            score = float(cross_val_score(_model(c), x.numpy(), y.numpy(), cv=parts).mean())
            if score > best_score:
                best, best_score = c, score
            if score < best_score - 2 * math.sqrt(best_score * (1 - best_score) / n):
                break
        predicted = _model(best).fit(x.numpy(), y.numpy()).predict(x_test.numpy())
    return int((predicted == y_test.numpy()).sum()), best


def _model(c: float) -> Pipeline:
    return make_pipeline(StandardScaler(), LogisticRegression(C=c, max_iter=300, tol=1e-3))


def few(labels: Tensor, wanted: float, key: Sequence[int]) -> list[int]:
    """Draw images: of each class the share `wanted` below 1, one at least; else so many, or all.

    They are a function of the integers `key`.
    """
    random, chosen = np.random.default_rng(key), []
    for label in labels.unique().tolist():
        members = random.permutation((labels == label).nonzero()[:, 0].numpy())
        size = max(1, round(wanted * len(members))) if wanted < 1 else int(wanted)
        chosen += members[:size].tolist()
    return sorted(chosen)
