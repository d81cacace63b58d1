"""Classifiers of frozen features, against scikit-learn and by hand."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from levyjepa.tasks import evaluate
from levyjepa.tasks.accuracy import Labeled, check_splits
from levyjepa.tasks.builtin import linear_probe
from levyjepa.tasks.builtin.knn import vote
from levyjepa.tasks.builtin.linear_probe import few, fit_probe


def at_angles(*degrees: float) -> torch.Tensor:
    radians = torch.tensor(degrees).deg2rad()
    return torch.stack([radians.cos(), radians.sin()], 1)


@pytest.fixture(scope="module")
def digits() -> tuple[Labeled, Labeled]:
    """1,797 real handwritten digits of 8 x 8 pixels, a third of them held out."""
    x, y = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(y))
    x, y = torch.tensor(x[order]).float(), torch.tensor(y[order])
    return Labeled(x[:1200], y[:1200]), Labeled(x[1200:], y[1200:])


@pytest.mark.parametrize(
    ("k", "temperature", "winner"),
    [
        (1, 0.07, 0),
        (3, 0.07, 0),  # exp(cos 10 / .07) : exp(cos 30 / .07) + exp(cos 40 / .07) = 1 : .227
        (3, 10.0, 1),  # 1 : 1.95
        (4, 10.0, 1),
    ],
)
def test_a_vote_worked_by_hand(k, temperature, winner):
    train = Labeled(5 * at_angles(0, 40, 50, 180), torch.tensor([0, 1, 1, 0]))
    test = Labeled(at_angles(10), torch.tensor([0]))
    assert vote(train, test, k, temperature).tolist() == [winner]


@pytest.mark.parametrize(("k", "temperature"), [(1, 0.07), (5, 0.07), (20, 0.02), (200, 0.3)])
def test_knn_agrees_with_scikit_learn(digits, k, temperature):
    train, test = digits
    weight: Any = lambda distance: np.exp((1 - distance) / temperature)  # noqa: E731
    other = KNeighborsClassifier(k, metric="cosine", weights=weight).fit(
        train.features.double(), train.labels
    )
    expected = other.predict(test.features.double())
    assert vote(train, test, k, temperature).tolist() == expected.tolist()


def test_a_probe_separates_what_is_separable():
    g = torch.Generator().manual_seed(0)
    labels = torch.arange(200) % 4
    x = 6 * torch.nn.functional.one_hot(labels, 4) + torch.randn(200, 4, generator=g)
    scale = torch.tensor([1, 100, 0.01, 1])  # standardized away
    correct, _ = fit_probe(
        Labeled(x[:100] * scale, labels[:100]), Labeled(x[100:] * scale, labels[100:])
    )
    assert correct >= 98


def test_digits_are_read_and_shuffled_labels_leave_chance(digits):
    train, test = digits
    draw = torch.Generator().manual_seed(0)
    shuffled = Labeled(train.features, train.labels[torch.randperm(1200, generator=draw)])
    for right, low in (
        (lambda t: fit_probe(t, test)[0], 0.95),
        (lambda t: int((vote(t, test) == test.labels).sum()), 0.97),
    ):
        assert right(train) / len(test.labels) > low
        assert 0.05 < right(shuffled) / len(test.labels) < 0.15


def test_the_probe_is_scikit_learn_s_at_the_chosen_c(digits):
    train, test = digits
    correct, c = fit_probe(train, test)
    model = make_pipeline(StandardScaler(), LogisticRegression(C=c, max_iter=300, tol=1e-3))
    model.fit(train.features.numpy(), train.labels.numpy())
    assert correct == (model.predict(test.features.numpy()) == test.labels.numpy()).sum()


def test_the_test_split_chooses_nothing(digits):
    train, test = digits[0].rows(list(range(300))), digits[1]
    chosen = fit_probe(train, test, seed=1)
    assert fit_probe(train, test, seed=1) == chosen
    other = Labeled(test.features.flip(0)[:50] * 3, test.labels[:50])
    assert fit_probe(train, other, seed=1)[1] == chosen[1]


def test_few_images_of_every_class_are_drawn():
    labels = torch.tensor([7] * 50 + [3] * 150 + [5] * 2)
    for wanted, sizes in ((0.1, [15, 1, 5]), (0.01, [2, 1, 1]), (4, [4, 2, 4])):
        chosen = few(labels, wanted, (0, 1))
        assert len(set(chosen)) == len(chosen)
        assert labels[chosen].unique(return_counts=True)[1].tolist() == sizes
        assert few(labels, wanted, (0, 1)) == chosen
        assert few(labels, wanted, (0, 2)) != chosen


def test_low_shot_averages_draws_of_few_labels(squares, settings, subjects):
    found = evaluate(subjects, squares(train=100), settings, tasks=["low_shot"])
    assert {s.name for s in found.scores} == {"10_percent", "5_per_class"}  # 1 % leaves one label
    score = found.get("low_shot/5_per_class")
    assert score is not None
    assert score.n == 24
    assert "10 labeled images" in score.note
    assert score.interval is not None
    assert score.interval[0] <= score.value <= score.interval[1]
    assert 0.5 < score.value <= 1


GOOD = Labeled(torch.randn(10, 3, generator=torch.Generator().manual_seed(0)), torch.arange(10) % 2)
EMPTY = Labeled(torch.empty(0, 3), torch.empty(0, dtype=torch.int64))


@pytest.mark.parametrize(
    ("train", "test", "message"),
    [
        (EMPTY, GOOD, "`train` must have at least one image"),
        (GOOD, EMPTY, "`test` must have at least one image"),
        (GOOD, Labeled(GOOD.features, GOOD.labels - 1), "`test` must be labeled, got 5 images"),
        (Labeled(GOOD.features, GOOD.labels * 0 + 3), GOOD, "two classes, got only 3"),
        (Labeled(GOOD.features * math.nan, GOOD.labels), GOOD, "`train` must be finite"),
    ],
)
def test_bad_splits_are_named(train, test, message):
    with pytest.raises(ValueError, match=message):
        check_splits(train, test)


def test_bad_settings_are_named():
    with pytest.raises(ValueError, match="at most the 10 training images, got 11"):
        vote(GOOD, GOOD, k=11)
    with pytest.raises(ValueError, match="`temperature` must be positive"):
        vote(GOOD, GOOD, k=1, temperature=0.0)
    with pytest.raises(ValueError, match="two images of some class"):
        fit_probe(GOOD.rows([0, 1]), GOOD)
    with pytest.raises(TypeError, match=r"`wanted` must be an integer, got 2\.5"):
        few(GOOD.labels, 2.5, (0,))


def test_a_class_of_one_image_is_no_error():
    labels = torch.tensor([0] * 6 + [1])
    correct, _ = fit_probe(Labeled(torch.randn(7, 3), labels), GOOD)
    assert 0 <= correct <= 10


@pytest.mark.parametrize(
    ("dip", "chosen"),
    [(0.29, 1.0), (0.20, 1e-3)],  # of 400 held-out images at .30 a standard error is .023
)
def test_a_dip_within_noise_does_not_stop_the_search(monkeypatch, dip, chosen):
    scores = {1e-4: 0.25, 1e-3: 0.30, 1e-2: dip, 1e-1: dip, 1.0: 0.40}
    monkeypatch.setattr(linear_probe._Part, "score", lambda part, c: scores.get(c, 0.0))
    train = Labeled(torch.randn(2000, 2), torch.arange(2000) % 2)
    assert fit_probe(train, train)[1] == chosen
