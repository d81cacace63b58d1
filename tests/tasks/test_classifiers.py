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
from levyjepa.tasks.builtin import classifiers
from levyjepa.tasks.builtin.classifiers import few, fit_probe, vote


def at_angles(*degrees: float) -> torch.Tensor:
    radians = torch.tensor(degrees).deg2rad()
    return torch.stack([radians.cos(), radians.sin()], 1)


@pytest.fixture(scope="module")
def digits() -> tuple[torch.Tensor, ...]:
    """Real handwritten digits of 8 x 8 pixels with labels, to train on and to test on."""
    x, y = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(y))
    x, y = torch.tensor(x[order]).float(), torch.tensor(y[order])
    return x[:600], y[:600], x[600:1000], y[600:1000]


def test_a_vote_worked_by_hand():
    x, y = 5 * at_angles(0, 40, 50, 180), torch.tensor([0, 1, 1, 0])
    # exp(cos 10 / .07) : exp(cos 30 / .07) + exp(cos 40 / .07) = 1 : .227; of 10.0, 1 : 1.95
    for k, temperature, winner in ((1, 0.07, 0), (3, 0.07, 0), (3, 10.0, 1), (4, 10.0, 1)):
        assert vote(x, y, at_angles(10), k, temperature).tolist() == [winner]


@pytest.mark.parametrize(("k", "temperature"), [(1, 0.07), (20, 0.02), (200, 0.3)])
def test_knn_agrees_with_scikit_learn(digits, k, temperature):
    x, y, x_test, _ = digits
    weight: Any = lambda distance: np.exp((1 - distance) / temperature)  # noqa: E731
    other = KNeighborsClassifier(k, metric="cosine", weights=weight).fit(x.double(), y)
    expected = other.predict(x_test.double())
    assert vote(x, y, x_test, k, temperature).tolist() == expected.tolist()


def test_a_probe_separates_what_is_separable():
    g = torch.Generator().manual_seed(0)
    y = torch.arange(200) % 4
    x = 6 * torch.nn.functional.one_hot(y, 4) + torch.randn(200, 4, generator=g)
    x *= torch.tensor([1, 100, 0.01, 1])  # standardized away
    assert fit_probe(x[:100], y[:100], x[100:], y[100:])[0] >= 98


def test_digits_are_read_and_shuffled_labels_leave_chance(digits):
    x, y, *test = digits
    shuffled = y[torch.randperm(len(y), generator=torch.Generator().manual_seed(0))]
    for right in (
        lambda y: fit_probe(x, y, *test)[0],
        lambda y: int((vote(x, y, test[0], 20) == test[1]).sum()),
    ):
        assert right(y) / len(test[1]) > 0.93
        assert 0.03 < right(shuffled) / len(test[1]) < 0.17


def test_the_probe_is_scikit_learn_s_at_the_chosen_c_and_the_test_split_chooses_nothing(digits):
    x, y, x_test, y_test = digits
    correct, c = fit_probe(x, y, x_test, y_test, seed=1)
    model = make_pipeline(StandardScaler(), LogisticRegression(C=c, max_iter=300, tol=1e-3))
    model.fit(x.numpy(), y.numpy())
    assert correct == (model.predict(x_test.numpy()) == y_test.numpy()).sum()
    assert fit_probe(x, y, x_test.flip(0)[:50] * 3, y_test[:50], seed=1)[1] == c


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


def test_wilson_s_interval_by_hand(squares, settings, subjects):
    score = evaluate(subjects, squares(), settings, tasks=["knn"]).get("knn/accuracy")
    assert score is not None
    assert score.interval is not None
    z, p, n = 1.959964, score.value, 24
    middle = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    assert score.interval == pytest.approx((middle - half, middle + half), abs=1e-6)


@pytest.mark.parametrize(
    ("labels", "weight", "message"),
    [
        (lambda labels: labels * 0 - 1, 1.0, "`train` must be labeled, got 40 images"),
        (lambda labels: labels * 0, 1.0, "two classes, got only 0"),
        (lambda labels: labels, math.nan, "`train` must be finite"),
    ],
)
def test_bad_splits_are_named(squares, settings, subjects, labels, weight, message):
    source = squares()
    source.train.labels = labels(source.train.labels)
    with torch.no_grad():
        subjects[0].encoder.embed.weight *= weight
    found = evaluate(subjects[:1], source, settings, tasks=["knn"])
    assert message in found.failures[0].reason


def test_too_few_images_are_named_and_a_class_of_one_is_no_error():
    x, y = (
        torch.randn(7, 3, generator=torch.Generator().manual_seed(0)),
        torch.tensor([0] * 6 + [1]),
    )
    with pytest.raises(ValueError, match="two images of some class"):
        fit_probe(x[-2:], y[-2:], x, y)
    assert 0 <= fit_probe(x, y, x, y)[0] <= 7


@pytest.mark.parametrize(
    ("dip", "chosen"),
    [(0.29, 1.0), (0.20, 1e-3)],  # of 400 held-out images at .30 a standard error is .023
)
def test_a_dip_within_noise_does_not_stop_the_search(monkeypatch, dip, chosen):
    scores = {1e-4: 0.25, 1e-3: 0.30, 1e-2: dip, 1e-1: dip, 1.0: 0.40}
    score = lambda model, *_, **__: np.array([scores.get(model[-1].C, 0.0)])  # noqa: E731
    monkeypatch.setattr(classifiers, "cross_val_score", score)
    x, y = torch.randn(2000, 2), torch.arange(2000) % 2
    assert fit_probe(x, y, x, y)[1] == chosen
