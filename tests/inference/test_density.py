"""Densities against scipy and closed forms, from the peak to the tails."""

import numpy as np
import pytest
import torch
from scipy import stats

from levyjepa.inference import log_density
from levyjepa.laws import (
    ALL_LAWS,
    Brownian,
    CompoundPoisson,
    LaplaceJumps,
    NormalInverseGaussian,
    Stable,
    StudentTJumps,
    VarianceGamma,
)

MIXED = Brownian(0.3) + CompoundPoisson(0.5, LaplaceJumps(1.0))
LAWS = [*ALL_LAWS, MIXED, Brownian(1.0) + CompoundPoisson(0.2, StudentTJumps(2.5))]


def has_atom(law):
    return isinstance(law, CompoundPoisson)


def log_laplace_twice(x):  # a gamma clock of shape 2: (1 + 2|x|) / 2 e^(-2|x|)
    return np.log((1 + 2 * np.abs(x)) / 2) - 2 * np.abs(x)


@pytest.mark.parametrize(
    ("law", "log_pdf", "near", "far"),
    [
        (Brownian(0.7), stats.norm(scale=0.7 * 2**0.5).logpdf, 1e-6, 5),
        (NormalInverseGaussian(1.5, 0.8), stats.norminvgauss(2.4, 0, scale=1.6).logpdf, 1e-6, 15),
        (Stable(1.0, 0.5), stats.cauchy(scale=1.0).logpdf, 1e-5, 100),
        (VarianceGamma(1.0, 2.0), log_laplace_twice, 1e-4, 5),
    ],
    ids=lambda value: repr(value)[:40] if " at 0x" not in repr(value) else "",
)
def test_known_densities_at_volume_2(law, log_pdf, near, far):
    x = np.linspace(-5, 5, 41)
    assert np.allclose(log_density(torch.from_numpy(x), law, 2.0).numpy(), log_pdf(x), atol=near)
    got = log_density(torch.tensor([far], dtype=torch.float64), law, 2.0).item()
    assert got == pytest.approx(log_pdf(far), abs=2e-3)


def test_extrapolated_tails():
    """A power law is extrapolated as one: Cauchy is within a factor 2 up to a million scales."""
    x = torch.logspace(0, 6, 25, dtype=torch.float64)
    assert np.allclose(log_density(x, Stable(1.0)), stats.cauchy.logpdf(x), atol=0.7)
    for law in (Brownian(1.0), MIXED, NormalInverseGaussian(1.0, 1.0)):
        values = log_density(torch.tensor([0.0, 1.0, 10.0, 1e3, 1e30]), law)
        assert values.isfinite().all()
        assert (values.diff() < 0).all()


@pytest.mark.parametrize("law", LAWS, ids=repr)
def test_integrates_to_one_or_is_an_error(law):
    if has_atom(law):
        with pytest.raises(ValueError, match="atom at 0"):
            log_density(torch.zeros(3), law)
        return
    x = torch.cat([torch.linspace(0, 1, 20_001), torch.logspace(0, 9, 20_001)[1:]]).double()
    mass = 2 * torch.trapezoid(log_density(x, law).exp(), x).item()
    assert mass == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("scale", [1e-20, 1e20])
def test_any_scale(scale):
    x = torch.tensor([0.0, 0.3, 2.0], dtype=torch.float64)
    law = Brownian(0.3 * scale) + CompoundPoisson(0.5, LaplaceJumps(1 / scale))
    got = log_density(x * scale, law) + np.log(scale)
    assert torch.allclose(got, log_density(x, MIXED), atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_extreme_samples_give_finite_values_and_gradients(dtype):
    x = torch.tensor([0, 1e-30, 0.3, 50, 1e4, 1e30], dtype=torch.float64)
    x = x.clamp(max=torch.finfo(dtype).max).to(dtype).requires_grad_()
    for law in (MIXED, Stable(1.4), VarianceGamma(1.1, 0.8)):
        values = log_density(x, law)
        (gradient,) = torch.autograd.grad(values.sum(), x)
        assert values.dtype == dtype
        assert values.isfinite().all()
        assert gradient.isfinite().all()


@pytest.mark.parametrize("law", [law for law in LAWS if not has_atom(law)], ids=repr)
def test_gradients_equal_finite_differences(law):
    x = torch.tensor([0.4, 1.5], dtype=torch.float64, requires_grad=True)
    trained = law.learnable_copy().double()
    inputs, h = [x, *trained.parameters()], 1e-5
    gradients = torch.autograd.grad(log_density(x, trained).sum(), inputs)
    for value, gradient in zip(inputs, gradients, strict=True):
        ends = []
        for step in (h, -2 * h):
            value.data += step
            ends.append(log_density(x, trained).sum().item())
        value.data += h
        assert gradient.sum().item() == pytest.approx((ends[0] - ends[1]) / (2 * h), abs=2e-4)


def test_errors_name_invalid_input():
    with pytest.raises(TypeError, match="floating-point"):
        log_density(torch.arange(3), MIXED)
    with pytest.raises(ValueError, match="must be finite"):
        log_density(torch.tensor([1.0, torch.nan]), MIXED)
    with pytest.raises(ValueError, match="`volume` must be positive"):
        log_density(torch.ones(3), MIXED, 0.0)
    with pytest.raises(TypeError, match="`law` must be a Law"):
        log_density(torch.ones(3), "Brownian(1)")  # pyright: ignore
    with pytest.raises(ValueError, match="lighter tails"):
        log_density(torch.ones(3), Stable(0.5))
