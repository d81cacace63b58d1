"""Intervals agree with libraries, and the unit that is drawn is the clip."""

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import average_precision_score

from levyjepa.tasks.intervals import (
    ENDS,
    average_precision_interval,
    ratio_interval,
    resample,
)


def test_each_draw_has_as_many_clips_as_there_are():
    draws = resample(7)
    assert draws.shape == (1000, 7)
    assert (draws.sum(1) == 7).all()
    assert np.array_equal(draws, resample(7))
    assert not np.array_equal(draws, resample(7, seed=1))


def test_average_precision_is_that_of_scikit_learn_with_clips_as_weights():
    random = np.random.default_rng(0)
    clip = np.arange(300) // 10
    truth = random.random(300) < 0.2
    value = random.normal(size=300).round(1) + truth  # with ties
    draws = resample(30)[:100]
    every = [average_precision_score(truth, value, sample_weight=often[clip]) for often in draws]
    interval = average_precision_interval(truth, value, clip, draws)
    assert interval == pytest.approx(np.quantile(every, ENDS))


def test_a_mean_has_about_the_interval_of_scipy_s_bootstrap():
    values = np.random.default_rng(0).normal(size=60)
    interval = ratio_interval(values, np.ones(60), np.arange(60), resample(60))
    wanted = stats.bootstrap((values,), np.mean, method="percentile", rng=1).confidence_interval
    width = wanted.high - wanted.low
    # an end of 1,000 draws has a standard error of about 2 % of the width; one of 9,999 of 0.6 %
    assert interval == pytest.approx(wanted, abs=0.1 * width)  # fails in < 1 of 10,000 seeds


def test_items_within_a_clip_do_not_count_as_clips():
    values = np.random.default_rng(0).normal(size=20)
    once = ratio_interval(values, np.ones(20), np.arange(20), resample(20))
    many = ratio_interval(values.repeat(50), np.ones(1000), np.arange(20).repeat(50), resample(20))
    assert many == pytest.approx(once)


def test_one_clip_or_nothing_to_divide_by_has_no_interval():
    one = np.ones(3)
    assert ratio_interval(one, one, np.zeros(3, int), resample(1)) is None
    assert ratio_interval(one, 0 * one, np.arange(3), resample(3)) is None
    assert average_precision_interval(np.zeros(3, bool), one, np.arange(3), resample(3)) is None
