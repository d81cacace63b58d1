"""Jump probabilities: equal to quadrature, and calibrated in simulations."""

import math

import numpy as np
import pytest
import torch
from scipy import integrate, special, stats

from levyjepa.inference import jump_probability
from levyjepa.laws import (
    ALL_LAWS,
    Brownian,
    CompoundPoisson,
    GaussianJumps,
    LaplaceJumps,
    NormalInverseGaussian,
    Stable,
    StudentTJumps,
    VarianceGamma,
    VarianceGammaJumps,
)

LAW = Brownian(0.125) + CompoundPoisson(2.0, LaplaceJumps(1.0))
MERTON = Brownian(1.0) + CompoundPoisson(0.5, GaussianJumps(2.0))
HEAVY = Brownian(1.0) + CompoundPoisson(0.2, StudentTJumps(2.5))


@pytest.mark.parametrize("dim", [1, 6])
def test_gaussian_jumps_have_a_closed_form(dim):
    """Given n jumps an increment is normal: Merton's series."""
    x = torch.linspace(0, 12, 40, dtype=torch.float64)[:, None].expand(-1, dim) / dim**0.5
    r2 = x.square().sum(-1).numpy()

    def term(n):
        return (
            stats.poisson.pmf(n, 0.5)
            * stats.norm.pdf(r2**0.5, scale=(1 + 4 * n) ** 0.5)
            * (2 * math.pi * (1 + 4 * n)) ** (-(dim - 1) / 2)
        )

    total = sum(term(n) for n in range(30))
    want = 1 - term(0) / total
    got = jump_probability(x, MERTON, isotropic=True).numpy()
    assert np.allclose(got, want, atol=3e-3)
    if dim == 1:
        assert np.allclose(jump_probability(x[:, 0], MERTON).numpy(), want, atol=1e-9)


@pytest.mark.parametrize("dim", [1, 6, 16])
@pytest.mark.parametrize("volume", [1e-4, 0.01, 1.0, 10.0])
@pytest.mark.parametrize(
    ("jumps", "k", "beta"),
    [(LaplaceJumps(1.0), 1.0, 0.5), (VarianceGammaJumps(0.4, 2.0), 0.4, 2.0)],
    ids=repr,
)
def test_vectors_are_a_mixture_over_the_number_of_jumps(jumps, k, beta, volume, dim):
    """n jumps have the clock Gamma(k n, beta), integrated by the trapezoid rule in log time."""
    variance, expected = 0.125**2 * volume, 2 * volume
    log_time = np.linspace(-80, 9, 6001)
    time, n = np.exp(log_time), np.arange(1, 200)[:, None]
    weight = n * np.log(expected) - expected - special.gammaln(n + 1)
    clock = k * n * np.log(beta * time) - beta * time - special.gammaln(k * n)
    clock = special.logsumexp(weight + clock, axis=0) + np.log(log_time[1] - log_time[0])

    def log_normal(r2, variance):
        return -0.5 * (r2 / variance + dim * np.log(2 * np.pi * variance))

    r2 = np.linspace(0, 60 + 15 * dim, 121) * variance
    jump = special.logsumexp(clock + log_normal(r2[:, None], variance + time), axis=1)
    want = special.expit(jump - log_normal(r2, variance) + expected)
    x = torch.from_numpy(r2**0.5)[:, None] * torch.eye(dim, dtype=torch.float64)[0]
    law = Brownian(0.125) + CompoundPoisson(2.0, jumps)
    got = jump_probability(x, law, volume, isotropic=True).numpy()
    assert want.max() > 0.99
    assert np.allclose(got, want, atol=1e-5)


@pytest.mark.parametrize("volume", [1e-5, 0.01])
def test_vectors_of_gaussian_jumps_at_small_volumes(volume):
    n, x = np.arange(12), torch.linspace(0, 16, 81, dtype=torch.float64) * volume**0.5
    x = x[:, None] * torch.eye(6, dtype=torch.float64)[0]
    variance = volume + 4 * n
    log = n * np.log(volume / 2) - special.gammaln(n + 1) - 3 * np.log(variance)
    log = log - x.square().sum(1, keepdim=True).numpy() / 2 / variance
    want = 1 - np.exp(log[:, 0] - special.logsumexp(log, axis=1))
    got = jump_probability(x, MERTON, volume, isotropic=True).numpy()
    assert want.max() > 0.99
    assert np.allclose(got, want, atol=2e-3)


@pytest.mark.parametrize("law", [LAW, HEAVY], ids=repr)
def test_density_by_fft_equals_the_inversion_integral(law):
    rate, sigma = float(law.laws[1].rate), float(law.laws[0].sigma)

    def jumps(u, x):
        phi = law.characteristic_function(torch.tensor([u], dtype=torch.float64)).item()
        return (phi - math.exp(-rate - (sigma * u) ** 2 / 2)) * math.cos(u * x) / math.pi

    for x in (0.0, 0.3, 1.0, 4.0):
        g = integrate.quad(jumps, 0, 12 / sigma, (x,), limit=2000)[0]
        no_jump = math.exp(-rate) * stats.norm.pdf(x, scale=sigma)
        got = jump_probability(torch.tensor([x], dtype=torch.float64), law).item()
        assert got == pytest.approx(g / (g + no_jump), abs=1e-6)


@pytest.mark.parametrize("dim", [1, 8])
@pytest.mark.parametrize("law", [LAW, MERTON, HEAVY], ids=repr)
def test_calibrated(law, dim, false_alarm):
    """In each of 10 bins, the share of cells with a jump equals the mean probability."""
    g, n = torch.Generator().manual_seed(0), 100_000
    smooth, jumps = law.laws
    time = jumps.clock(torch.ones(n, dtype=torch.float64), g)
    x = (time + float(smooth.sigma) ** 2).sqrt()[:, None] * torch.randn(
        n, dim, generator=g, dtype=torch.float64
    )
    p = jump_probability(x, law, isotropic=True).numpy()
    jumped = (time > 0).numpy()
    for low in np.arange(0, 1, 0.1):
        inside = (p >= low) & (p < low + 0.1 + 1e-9)
        if inside.sum() > 100:
            sigma = max((p[inside] * (1 - p[inside])).mean() / inside.sum(), 1e-8) ** 0.5
            assert (
                abs(jumped[inside].mean() - p[inside].mean())
                < false_alarm.sigmas(10) * sigma + 3e-3
            )


def test_a_vector_identifies_jumps_better_than_one_channel():
    g, n = torch.Generator().manual_seed(0), 20_000
    time = LAW.laws[1].clock(torch.ones(n, dtype=torch.float64), g)
    x = (time + 0.125**2).sqrt()[:, None] * torch.randn(n, 16, generator=g, dtype=torch.float64)
    jumped = (time > 0).double()
    one = (jump_probability(x[:, 0], LAW) - jumped).square().mean()
    all_together = (jump_probability(x, LAW, isotropic=True) - jumped).square().mean()
    assert all_together < one / 10


def test_gradient():
    x = torch.tensor([0.1, 0.25, 0.5], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: jump_probability(x, LAW), x, rtol=2e-2, atol=1e-5)


def test_limits():
    x = torch.tensor([0.0, 0.5, 1e30])
    assert jump_probability(x, Brownian(1.0)).tolist() == [0, 0, 0]
    assert jump_probability(x, CompoundPoisson(1.0, GaussianJumps(1.0))).tolist() == [0, 1, 1]
    for law in ALL_LAWS:
        if isinstance(law, (Stable, NormalInverseGaussian, VarianceGamma)):
            with pytest.raises(ValueError, match="must be a sum of Brownian and compound Poisson"):
                jump_probability(x, law)  # infinitely many jumps in any cell
            continue
        p = jump_probability(x, law)
        assert p.shape == x.shape
        assert p.dtype == x.dtype
        assert ((p >= 0) & (p <= 1)).all()
    assert jump_probability(x, LAW)[2] == 1


def test_errors_name_invalid_input():
    with pytest.raises(TypeError, match="`samples` must be a floating-point tensor"):
        jump_probability(torch.arange(3), LAW)
    with pytest.raises(ValueError, match="`volume` must be positive"):
        jump_probability(torch.ones(3), LAW, volume=0.0)
