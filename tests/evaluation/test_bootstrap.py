"""Intervals over clips: those of libraries, and clips rather than what is in them."""

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import average_precision_score

from levyjepa.evaluation.bootstrap import ENDS, of_average_precision, of_ratio, redraw


def test_every_draw_holds_as_many_clips_as_there_are():
    drawn = redraw(7)
    assert drawn.shape == (1000, 7)
    assert (drawn.sum(1) == 7).all()
    assert np.array_equal(drawn, redraw(7))
    assert not np.array_equal(drawn, redraw(7, seed=1))


def test_average_precision_is_that_of_scikit_learn_with_clips_as_weights():
    random = np.random.default_rng(0)
    clip = np.arange(300) // 10
    truth = random.random(300) < 0.2
    size = random.normal(size=300).round(1) + truth  # with equals
    drawn = redraw(30)
    every = [average_precision_score(truth, size, sample_weight=often[clip]) for often in drawn]
    assert of_average_precision(truth, size, clip, drawn) == pytest.approx(np.quantile(every, ENDS))


def test_a_mean_has_about_the_interval_of_scipy_s_bootstrap():
    values = np.random.default_rng(0).normal(size=60)
    found = of_ratio(values, np.ones(60), np.arange(60), redraw(60))
    wanted = stats.bootstrap((values,), np.mean, method="percentile", rng=1).confidence_interval
    width = wanted.high - wanted.low
    # an end of 1,000 draws has a standard error of about 2 % of the width; one of 9,999 of 0.6 %
    assert found == pytest.approx(wanted, abs=0.1 * width)  # fails in fewer than 1 of 10,000 seeds


def test_what_is_in_a_clip_is_no_clip_of_its_own():
    values = np.random.default_rng(0).normal(size=20)
    once = of_ratio(values, np.ones(20), np.arange(20), redraw(20))
    many = of_ratio(values.repeat(50), np.ones(1000), np.arange(20).repeat(50), redraw(20))
    assert many == pytest.approx(once)


def test_of_one_clip_or_without_anything_to_divide_by_there_is_none():
    one = np.ones(3)
    assert of_ratio(one, one, np.zeros(3, int), redraw(1)) is None
    assert of_ratio(one, 0 * one, np.arange(3), redraw(3)) is None
    truth = np.zeros(3, bool)
    assert of_average_precision(truth, one, np.arange(3), redraw(3)) is None
