"""Goodness-of-fit tests: uniform p-values under every law, and power against other laws."""

import pytest
import torch
from scipy import stats

from levyjepa.inference import goodness_of_fit
from levyjepa.laws import ALL_LAWS, Brownian, CompoundPoisson, LaplaceJumps

MIXED = Brownian(0.3) + CompoundPoisson(0.5, LaplaceJumps(1.0))


def p_value(law, true, shape, seed, dim=None, volume=1.0, draws=99):
    g = torch.Generator().manual_seed(seed)
    x = true.sample(shape, volume, dim, g, torch.float64)
    return goodness_of_fit(x, law, volume, g, draws).p_value


@pytest.mark.parametrize("dim", [None, 4])
@pytest.mark.parametrize("law", ALL_LAWS, ids=repr)
def test_p_values_are_uniform_under_the_law(law, dim, false_alarm):
    """Kolmogorov-Smirnov test over 60 data sets."""
    p = [p_value(law, law, (40,), seed, dim, 2.0, 49) for seed in range(60)]
    assert stats.kstest(p, stats.uniform.cdf).pvalue > false_alarm.rate


def test_vectors_with_common_jumps(false_alarm):
    """Vectors of 64 channels do not follow the law of 64 independent scalars."""
    g = torch.Generator().manual_seed(0)
    sets = [MIXED.sample((40,), dim=64, generator=g) for _ in range(40)]
    right, wrong = (
        [goodness_of_fit(x.reshape(shape), MIXED, generator=g, draws=49).p_value for x in sets]
        for shape in ((40, 64), (2560,))
    )
    assert stats.kstest(right, stats.uniform.cdf).pvalue > false_alarm.rate
    assert stats.kstest(wrong, stats.uniform.cdf).pvalue < false_alarm.rate


@pytest.mark.parametrize("dim", [None, 4])
def test_gaussian_noise_of_the_same_variance_is_rejected(dim):
    noise = Brownian(float(MIXED.variance()) ** 0.5)
    assert all(p_value(MIXED, noise, (200,), seed, dim) < 0.05 for seed in range(10))


def test_same_seed_same_result():
    x = MIXED.sample((50,), generator=torch.Generator().manual_seed(0))
    one, two = (goodness_of_fit(x, MIXED, generator=torch.Generator().manual_seed(1)) for _ in "ab")
    assert one == two
    assert one.n == 50
    assert one.statistic > 0
    assert 0 < one.p_value <= 1


def test_ties_count_as_exceeding():
    never = CompoundPoisson(1e-9, LaplaceJumps(1.0))  # neither samples nor simulations jump
    assert goodness_of_fit(torch.zeros(7), never, draws=19).p_value == 1


def test_errors_name_invalid_input():
    for shape in ((2, 3, 4), ()):
        with pytest.raises(ValueError, match=r"must be \(n,\) or \(n, C\)"):
            goodness_of_fit(torch.ones(shape), MIXED)
    with pytest.raises(ValueError, match="must be finite"):
        goodness_of_fit(torch.tensor([1.0, torch.inf]), MIXED)
    with pytest.raises(TypeError, match="floating-point"):
        goodness_of_fit(torch.arange(50), MIXED)
    with pytest.raises(ValueError, match="must not be empty"):
        goodness_of_fit(torch.ones(0), MIXED)
    with pytest.raises(TypeError, match="`law` must be a Law"):
        goodness_of_fit(torch.ones(5), None)  # pyright: ignore
    with pytest.raises(ValueError, match="`volume` must be positive"):
        goodness_of_fit(torch.ones(5), MIXED, 0.0)
    with pytest.raises(ValueError, match="`draws` must be at least 1"):
        goodness_of_fit(torch.ones(5), MIXED, draws=0)
    with pytest.raises(TypeError, match="`generator` must be"):
        goodness_of_fit(torch.ones(5), MIXED, generator=3)  # pyright: ignore
