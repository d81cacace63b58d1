import math
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.neighbors import KNeighborsClassifier

from levyjepa.evaluation import Accuracy, Features, LowShot, knn, linear_probe, low_shot, probe
from levyjepa.evaluation.probe import few


def at_angles(*degrees: float) -> torch.Tensor:
    radians = torch.tensor(degrees).deg2rad()
    return torch.stack([radians.cos(), radians.sin()], 1)


@pytest.fixture(scope="module")
def digits() -> tuple[Features, Features]:
    """1,797 real handwritten digits of 8 x 8 pixels, a third of them held out."""
    x, y = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(y))
    x, y = torch.tensor(x[order]).float(), torch.tensor(y[order])
    return Features(x[:1200], y[:1200]), Features(x[1200:], y[1200:])


def test_wilson_interval_by_hand():
    z, p, n = 1.959964, 0.8, 10
    middle = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    assert Accuracy(8, 10).value == 0.8
    assert Accuracy(8, 10).interval == pytest.approx((middle - half, middle + half), abs=1e-6)
    assert Accuracy(10, 10).interval[1] == pytest.approx(1)


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
    train = Features(5 * at_angles(0, 40, 50, 180), torch.tensor([0, 1, 1, 0]))
    for label in (0, 1):
        test = Features(at_angles(10), torch.tensor([label]))
        assert knn(train, test, k, temperature).correct == int(label == winner)


@pytest.mark.parametrize(("k", "temperature"), [(1, 0.07), (5, 0.07), (20, 0.02), (200, 0.3)])
def test_knn_agrees_with_scikit_learn(digits, k, temperature):
    train, test = digits
    vote: Any = lambda distance: np.exp((1 - distance) / temperature)  # noqa: E731
    other = KNeighborsClassifier(k, metric="cosine", weights=vote).fit(
        train.embedding.double(), train.labels
    )
    expected = (other.predict(test.embedding.double()) == test.labels.numpy()).sum()
    assert knn(train, test, k, temperature).correct == expected


def test_a_probe_separates_what_is_separable():
    g = torch.Generator().manual_seed(0)
    labels = torch.arange(200) % 4
    x = 6 * torch.nn.functional.one_hot(labels, 4) + torch.randn(200, 4, generator=g)
    scale = torch.tensor([1, 100, 0.01, 1])  # standardised away
    accuracy = linear_probe(
        Features(x[:100] * scale, labels[:100]), Features(x[100:] * scale, labels[100:])
    )
    assert accuracy.n == 100
    assert accuracy.correct >= 98


def test_digits_are_read_and_shuffled_labels_leave_chance(digits):
    train, test = digits
    draw = torch.Generator().manual_seed(0)
    shuffled = Features(train.embedding, train.labels[torch.randperm(1200, generator=draw)])
    for judge in (linear_probe, knn):
        assert judge(train, test).value > 0.9
        low, high = judge(shuffled, test).interval
        assert low < 0.15
        assert high > 0.05


def test_the_test_split_chooses_nothing(digits):
    train, test = Features(digits[0].embedding[:300], digits[0].labels[:300]), digits[1]
    chosen = linear_probe(train, test, seed=1)
    assert linear_probe(train, test, seed=1) == chosen
    other = Features(test.embedding.flip(0)[:50] * 3, test.labels[:50])
    assert linear_probe(train, other, seed=1).detail == chosen.detail


def test_few_images_of_every_class_are_drawn():
    labels = torch.tensor([7] * 50 + [3] * 150 + [5] * 2)
    for wanted, sizes in ((0.1, [15, 1, 5]), (0.01, [2, 1, 1]), (4, [4, 2, 4])):
        chosen = few(labels, wanted, (0, 1))
        assert len(set(chosen)) == len(chosen)
        assert labels[chosen].unique(return_counts=True)[1].tolist() == sizes
        assert few(labels, wanted, (0, 1)) == chosen
        assert few(labels, wanted, (0, 2)) != chosen


def test_with_all_labels_a_few_are_a_linear_probe(digits):
    train = Features(digits[0].embedding[:200], digits[0].labels[:200])
    found = low_shot(train, digits[1], 200, draws=2, seed=1)
    assert found.labels == 200
    assert found.draws == (linear_probe(train, digits[1], seed=1),) * 2
    assert found.accuracy == linear_probe(train, digits[1], seed=1).value
    assert found.deviation == 0


def test_more_labels_say_more_and_few_say_something(digits):
    one, many = low_shot(*digits, 2), low_shot(*digits, 0.1)
    assert (one.labels, len(one.draws)) == (20, 5)
    assert abs(many.labels - 120) <= 5
    assert 0.3 < one.accuracy < many.accuracy < 0.97


def test_draws_are_averaged():
    found = LowShot(10, (Accuracy(1, 4), Accuracy(3, 4)))
    assert found.accuracy == 0.5
    assert found.deviation == pytest.approx(0.25 * 2**0.5)
    assert LowShot(10, (Accuracy(1, 4),)).deviation is None


GOOD = Features(
    torch.randn(10, 3, generator=torch.Generator().manual_seed(0)), torch.arange(10) % 2
)
EMPTY = Features(torch.empty(0, 3), torch.empty(0, dtype=torch.int64))


@pytest.mark.parametrize("judge", [linear_probe, partial(knn, k=3), partial(low_shot, labels=3)])
@pytest.mark.parametrize(
    ("train", "test", "message"),
    [
        (EMPTY, GOOD, "`train` must hold at least one image"),
        (GOOD, EMPTY, "`test` must hold at least one image"),
        (GOOD, Features(GOOD.embedding, GOOD.labels - 1), "`test` must be labelled"),
        (Features(GOOD.embedding, GOOD.labels * 0 + 3), GOOD, "two classes, got only 3"),
        (Features(GOOD.embedding * math.nan, GOOD.labels), GOOD, "`train` must be finite"),
        (GOOD, Features(GOOD.embedding[:, :2], GOOD.labels), "2 and 3 features"),
        (Features(GOOD.embedding, GOOD.labels[:9]), GOOD, "got 9 for 10"),
    ],
)
def test_bad_splits_are_named(judge, train, test, message):
    with pytest.raises(ValueError, match=message):
        judge(train, test)


def test_bad_settings_are_named():
    with pytest.raises(ValueError, match="at most the 10 training images, got 11"):
        knn(GOOD, GOOD, k=11)
    with pytest.raises(ValueError, match="`k` must be at least 1, got 0"):
        knn(GOOD, GOOD, k=0)
    with pytest.raises(ValueError, match="`temperature` must be positive"):
        knn(GOOD, GOOD, k=1, temperature=0.0)
    with pytest.raises(ValueError, match="five images of some class"):
        linear_probe(Features(GOOD.embedding[:4], GOOD.labels[:4]), GOOD)
    with pytest.raises(ValueError, match="two images of some class, got 1"):
        low_shot(GOOD, GOOD, 1)
    with pytest.raises(ValueError, match="`labels` must be positive"):
        low_shot(GOOD, GOOD, 0)
    with pytest.raises(TypeError, match=r"`labels` must be an integer, got 2\.5"):
        low_shot(GOOD, GOOD, 2.5)


class Scripted:
    """A classifier of known score for each C."""

    def __init__(self, scores: dict[float, float], c: float) -> None:
        self.scores, self.c = scores, c

    def fit(self, x: np.ndarray, y: np.ndarray) -> "Scripted":
        return self

    def score(self, x: np.ndarray, y: np.ndarray) -> float:
        return self.scores.get(self.c, 0.0)

    def predict(self, x: np.ndarray) -> np.ndarray:
        return np.zeros(len(x))


@pytest.mark.parametrize(
    ("dip", "chosen"),
    [(0.29, 1.0), (0.20, 1e-3)],  # of 400 held-out images at .30 a standard error is .023
)
def test_a_dip_within_noise_does_not_stop_the_search(monkeypatch, dip, chosen):
    scores = {1e-4: 0.25, 1e-3: 0.30, 1e-2: dip, 1.0: 0.40}
    monkeypatch.setattr(probe, "_classifier", partial(Scripted, scores | {0.1: dip}))
    train = Features(torch.randn(2000, 2), torch.arange(2000) % 2)
    assert linear_probe(train, train).detail == {"C": chosen}
