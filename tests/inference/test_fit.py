"""Densities against scipy; fits with nominal coverage; tests with uniform p-values."""

import numpy as np
import pytest
import torch
from scipy import stats

from levyjepa.inference import fit, goodness_of_fit, log_density
from levyjepa.laws import (
    ALL_LAWS,
    Brownian,
    CompoundPoisson,
    GaussianJumps,
    LaplaceJumps,
    NormalInverseGaussian,
    Stable,
    VarianceGamma,
)

MIXED = Brownian(0.3) + CompoundPoisson(0.5, LaplaceJumps(1.0))
NIG = NormalInverseGaussian(1.5, 0.8)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(
    ("law", "pdf", "tolerance"),
    [
        (Brownian(0.7), stats.norm(scale=0.7 * 2**0.5).pdf, 1e-8),
        (NIG, stats.norminvgauss(1.5 * 1.6, 0, scale=1.6).pdf, 1e-6),
        (Stable(1.0, 0.5), stats.cauchy(scale=1.0).pdf, 1e-5),
        (VarianceGamma(1.0, 2.0), stats.gennorm(2).pdf, None),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_density_at_volume_2_equals_scipy(law, pdf, tolerance):
    x = np.linspace(-5, 5, 41)
    got = log_density(torch.from_numpy(x), law, 2.0).exp().numpy()
    if tolerance is None:  # gamma clock of shape 2: Laplace twice, (1 + a|x|) a/4 e^(-a|x|)
        pdf, tolerance = lambda x: 0.5 * (1 + 2 * abs(x)) * np.exp(-2 * abs(x)), 2e-3
    assert np.allclose(got, pdf(x), atol=tolerance)


@pytest.mark.parametrize("law", [*ALL_LAWS, MIXED], ids=repr)
def test_density_integrates_to_one_or_is_refused(law):
    if law.exponent(torch.tensor([1e100], dtype=torch.float64)) > -34:
        with pytest.raises(ValueError, match="atom at 0"):
            log_density(torch.zeros(3), law)
        return
    x = torch.linspace(-200, 200, 400_001, dtype=torch.float64)
    mass = torch.trapezoid(log_density(x, law).exp(), x).item()
    beyond = 2 * 0.7 * 200**-1.4 if isinstance(law, Stable) else 0.0
    assert mass == pytest.approx(1, abs=2e-3 + beyond)


def test_gaussian_fit_is_the_closed_form():
    x = Brownian(0.6).sample((3000,), volume=2.0, generator=generator(), dtype=torch.float64)
    found = fit(x, Brownian(1.0), volume=2.0)
    sigma = x.square().mean().sqrt().item() / 2**0.5
    assert found.parameters["sigma"] == pytest.approx(sigma, rel=1e-5)
    assert found.standard_errors["sigma"] == pytest.approx(sigma / (2 * 3000) ** 0.5, rel=1e-2)
    want = stats.norm(scale=sigma * 2**0.5).logpdf(x.numpy()).sum()
    assert found.log_likelihood == pytest.approx(want, rel=1e-6)
    assert found.law.sigma == pytest.approx(sigma, rel=1e-5)


def test_intervals_cover_the_truth():
    """20 fits, 3 parameters: at 95 % fewer than 50 of 60 hits is a false alarm in 1,000."""
    truth = {"laws.0.sigma": 0.3, "laws.1.rate": 0.5, "laws.1.jumps.alpha": 1.0}
    hits = 0
    for seed in range(20):
        x = MIXED.sample((2000,), generator=generator(seed), dtype=torch.float64)
        found = fit(x, Brownian(0.5) + CompoundPoisson(1.0, LaplaceJumps(2.0)))
        assert found.parameters.keys() == truth.keys()
        hits += sum(
            abs(found.parameters[k] - truth[k]) < 1.96 * found.standard_errors[k] for k in truth
        )
    assert hits >= 50


@pytest.mark.parametrize("law", [NIG, Stable(1.5, 0.7), MIXED], ids=repr)
def test_other_laws_are_recovered(law):
    x = law.sample((4000,), generator=generator(), dtype=torch.float64)
    found = fit(x, law)
    for name, value in found.parameters.items():
        module, _, last = name.rpartition(".")
        true = getattr(law.get_submodule(module), last)
        assert abs(value - true) < 5 * found.standard_errors[name]


def test_least_distance_agrees_with_likelihood():
    x = MIXED.sample((20_000,), generator=generator(), dtype=torch.float64)
    near = fit(x, MIXED, method="ecf")
    assert near.standard_errors == {}
    for name, value in fit(x, MIXED).parameters.items():
        assert near.parameters[name] == pytest.approx(value, rel=0.15)
    alone = CompoundPoisson(1.0, GaussianJumps(1.0))  # has no density
    y = alone.sample((20_000,), generator=generator(), dtype=torch.float64)
    assert fit(y, alone, method="ecf").parameters["rate"] == pytest.approx(1.0, rel=0.1)


def test_held_out_likelihood_chooses_the_true_law():
    train, test = (MIXED.sample((3000,), generator=generator(n)) for n in (0, 1))
    rivals = [MIXED, Brownian(1.0), Stable(1.5, 0.5), NIG]
    scores = [log_density(test, fit(train, law).law).mean().item() for law in rivals]
    assert max(scores) == scores[0]


@pytest.mark.parametrize("dim", [None, 3])
def test_p_values_are_uniform_under_the_law(dim):
    """Kolmogorov-Smirnov over 80 sets: a false alarm in 10,000."""
    p = [
        goodness_of_fit(
            MIXED.sample((60,), dim=dim, generator=generator(seed)),
            MIXED,
            generator=generator(1000 + seed),
            draws=99,
        ).p_value
        for seed in range(80)
    ]
    assert stats.kstest(p, stats.uniform.cdf).pvalue > 1e-4


def test_gaussian_noise_of_the_same_variance_is_told_apart():
    noise = Brownian(float(MIXED.variance()) ** 0.5)
    found = [
        goodness_of_fit(noise.sample((200,), generator=generator(s)), MIXED, generator=generator(s))
        for s in range(10)
    ]
    assert all(result.p_value < 0.05 for result in found)
    assert found[0].n == 200


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="at least 10"):
        fit(torch.randn(5), Brownian(1.0))
    with pytest.raises(ValueError, match="finite and not all 0"):
        fit(torch.full((50,), torch.nan), Brownian(1.0))
    with pytest.raises(ValueError, match="finite and not all 0"):
        fit(torch.zeros(50), Brownian(1.0))
    with pytest.raises(ValueError, match="likelihood or ecf"):
        fit(torch.randn(50), Brownian(1.0), method="moments")
    with pytest.raises(ValueError, match="atom at 0"):
        fit(torch.randn(50), CompoundPoisson(1.0, GaussianJumps(1.0)))
    with pytest.raises(TypeError, match="floating-point"):
        fit(torch.arange(50), Brownian(1.0))
    with pytest.raises(ValueError, match=r"must be \(n,\) or \(n, C\)"):
        goodness_of_fit(torch.randn(2, 3, 4), Brownian(1.0))
