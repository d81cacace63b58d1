"""Fits: recovered parameters, coverage of intervals, standard errors."""

import copy

import pytest
import torch
from scipy import stats

from levyjepa.inference import fit, log_density
from levyjepa.laws import (
    Brownian,
    CompoundPoisson,
    GaussianJumps,
    LaplaceJumps,
    NormalInverseGaussian,
    Stable,
    StudentTJumps,
    VarianceGamma,
)

MIXED = Brownian(0.3) + CompoundPoisson(0.5, LaplaceJumps(1.0))
NIG = NormalInverseGaussian(1.5, 0.8)


def sample(law, n, seed=0, volume=1.0):
    generator = torch.Generator().manual_seed(seed)
    return law.sample((n,), volume, generator=generator, dtype=torch.float64)


def true(law, name):
    path, _, last = name.rpartition(".")
    return getattr(law.get_submodule(path), last)


def test_gaussian_fit_is_the_closed_form():
    x = sample(Brownian(0.6), 3000, volume=2.0)
    result = fit(x, Brownian(1.0), volume=2.0)
    sigma = x.square().mean().sqrt().item() / 2**0.5
    assert result.parameters["sigma"] == pytest.approx(sigma, rel=1e-5)
    assert result.standard_errors["sigma"] == pytest.approx(sigma / (2 * 3000) ** 0.5, rel=1e-2)
    want = stats.norm(scale=sigma * 2**0.5).logpdf(x.numpy()).sum()
    assert result.log_likelihood == pytest.approx(want, rel=1e-6)
    assert result.n == 3000


def test_a_fit_has_the_attributes_of_its_law():
    result = fit(sample(MIXED, 500), MIXED)
    assert copy.deepcopy(result).law.laws[0].sigma == result.laws[0].sigma
    assert not list(result.law.parameters())
    assert result.variance() == result.law.variance()
    assert MIXED.laws[0].sigma == 0.3
    with pytest.raises(AttributeError):
        result.color  # noqa: B018


def test_intervals_cover_the_truth(false_alarm):
    """Over 40 fits, 95 % intervals of 3 parameters cover the truth in 95 % of the cases.

    Errors divided by standard errors are normal. This makes 6 comparisons.
    """
    rate = false_alarm.rate / 6
    z = []
    for seed in range(40):
        result = fit(sample(MIXED, 2000, seed), Brownian(0.5) + CompoundPoisson(1, LaplaceJumps(2)))
        errors = result.standard_errors
        z.append([(v - true(MIXED, k)) / errors[k] for k, v in result.parameters.items()])
    for errors in torch.tensor(z).T:
        assert (errors.abs() < 1.96).sum() >= stats.binom.ppf(rate, 40, 0.95)
        assert stats.kstest(errors.numpy(), stats.norm.cdf).pvalue > rate


@pytest.mark.parametrize(
    ("law", "start"),
    [
        (NIG, NormalInverseGaussian(20.0, 20.0)),
        (Stable(1.5, 0.7), Stable(1.0, 30.0)),
        (Stable(0.8, 1.0), Stable(1.5, 1.0)),
        (VarianceGamma(1.1, 0.8), VarianceGamma(3.0, 0.1)),
        (
            Brownian(1.0) + CompoundPoisson(0.5, GaussianJumps(3.0)),
            Brownian(1e-3) + CompoundPoisson(1.0, GaussianJumps(5e-3)),
        ),
        (
            Brownian(1e5) + CompoundPoisson(0.5, LaplaceJumps(1e-6)),
            Brownian(1.0) + CompoundPoisson(1.0, LaplaceJumps(1.0)),
        ),
        (Brownian(0.3) + VarianceGamma(0.5, 0.5), Brownian(1.0) + VarianceGamma(1.0, 1.0)),
    ],
    ids=repr,
)
def test_recovers_laws_from_a_distant_start(law, start, false_alarm):
    result = fit(sample(law, 4000), start)
    for name, value in result.parameters.items():
        assert 0 < result.standard_errors[name] < value
        band = false_alarm.sigmas(len(result.parameters)) * result.standard_errors[name]
        assert abs(value - true(law, name)) < band


def test_student_t_jumps_are_recovered():
    law = Brownian(0.3) + CompoundPoisson(0.7, StudentTJumps(8.0))
    result = fit(sample(law, 1000), law)
    for name in ("laws.0.sigma", "laws.1.rate"):
        error = result.standard_errors[name]
        assert abs(result.parameters[name] - true(law, name)) < 4 * error


@pytest.mark.parametrize("method", ["likelihood", "ecf"])
def test_units_do_not_matter(method):
    x = sample(MIXED, 1000)
    small, large = (fit(x * scale, MIXED, method=method).parameters for scale in (1e-10, 1e10))
    assert small["laws.1.rate"] == pytest.approx(large["laws.1.rate"], rel=1e-3)
    assert small["laws.0.sigma"] * 1e20 == pytest.approx(large["laws.0.sigma"], rel=1e-3)


def test_unidentified_parameters_have_large_standard_errors():
    """Gaussian samples are fitted by many jumps that are too small to identify."""
    result = fit(sample(Brownian(0.5), 500), MIXED)
    errors = result.standard_errors
    assert errors["laws.1.rate"] > result.parameters["laws.1.rate"] / 2
    assert result.variance() == pytest.approx(0.25, rel=0.2)


def test_least_distance_agrees_with_likelihood():
    x = sample(MIXED, 20_000)
    by_distance = fit(x, MIXED, method="ecf")
    assert by_distance.standard_errors == {}
    assert by_distance.log_likelihood is None
    for name, value in fit(x, MIXED).parameters.items():
        assert by_distance.parameters[name] == pytest.approx(value, rel=0.15)


@pytest.mark.parametrize(
    ("law", "start"),
    [
        (
            CompoundPoisson(1.0, GaussianJumps(1.0)),
            CompoundPoisson(0.2, GaussianJumps(30.0)),
        ),
        (Stable(0.4, 1.0), Stable(1.0, 1.0)),
    ],
    ids=repr,
)
def test_least_distance_needs_no_density(law, start):
    for name, value in fit(sample(law, 20_000), start, method="ecf").parameters.items():
        assert value == pytest.approx(true(law, name), rel=0.1)


def test_held_out_likelihood_selects_the_true_law():
    train, test = sample(MIXED, 3000, 0), sample(MIXED, 3000, 1)
    laws = [MIXED, Brownian(1.0), Stable(1.5, 0.5), NIG]
    scores = [log_density(test, fit(train, law).law).mean().item() for law in laws]
    assert max(scores) == scores[0]


@pytest.mark.parametrize("method", ["likelihood", "ecf"])
def test_samples_that_no_law_gives_are_a_warning(method, recwarn):
    x = sample(MIXED, 500)
    fit(x, MIXED, method=method)
    fit(sample(Stable(1.0), 500), Stable(1.0), method=method)
    rare = CompoundPoisson(0.3, GaussianJumps(1.0))
    fit(sample(rare, 500), rare, method="ecf")
    assert not recwarn
    with pytest.warns(UserWarning, match="centered at 0, as .* mean is 1, with .* error of 0.04"):
        fit(x - x.mean() + 1, MIXED, method=method)
    with pytest.warns(UserWarning, match="hold 3 exact zeros, which Brownian"):
        fit(x.index_fill(0, torch.tensor([0, 5, 9]), 0.0), MIXED, method=method)


def test_errors_name_invalid_input():
    with pytest.raises(ValueError, match="at least 10"):
        fit(torch.randn(5), Brownian(1.0))
    with pytest.raises(ValueError, match="must be finite"):
        fit(torch.full((50,), torch.nan), Brownian(1.0))
    with pytest.raises(ValueError, match="must not all be 0"):
        fit(torch.zeros(50), Brownian(1.0))
    with pytest.raises(ValueError, match="must not be empty"):
        fit(torch.zeros(0), Brownian(1.0))
    with pytest.raises(ValueError, match="'likelihood' or 'ecf'"):
        fit(torch.randn(50), Brownian(1.0), method="moments")
    with pytest.raises(ValueError, match="atom at 0"):
        fit(torch.randn(50), CompoundPoisson(1.0, GaussianJumps(1.0)))
    with pytest.raises(TypeError, match="floating-point"):
        fit(torch.arange(50), Brownian(1.0))
    with pytest.raises(TypeError, match="`law` must be a Law"):
        fit(torch.randn(50), "Brownian(1)")  # pyright: ignore
    with pytest.raises(ValueError, match="`volume` must be positive"):
        fit(torch.randn(50), Brownian(1.0), volume=-1.0)
