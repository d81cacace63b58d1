"""Extreme and invalid arguments of inference: results are finite, or an error says why not."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from levyjepa.inference import fit, goodness_of_fit, jump_probability, log_density
from levyjepa.laws import (
    Brownian,
    CompoundPoisson,
    GaussianJumps,
    IndependentCoordinates,
    LaplaceJumps,
    NormalInverseGaussian,
    Stable,
    StudentTJumps,
    VarianceGamma,
)

LAW = Brownian(0.3) + CompoundPoisson(0.5, LaplaceJumps(1.0))
MAKERS = {  # laws from two positive numbers
    "brownian": lambda a, b: Brownian(a),
    "jumps": lambda a, b: CompoundPoisson(a, GaussianJumps(b)),
    "student": lambda a, b: CompoundPoisson(a, StudentTJumps(b)),
    "both": lambda a, b: Brownian(a) + CompoundPoisson(b, LaplaceJumps(1 / a)),
    "stable": lambda a, b: Stable(2 / (1 + a), b),
    "normal inverse Gaussian": NormalInverseGaussian,
    "variance-gamma": VarianceGamma,
}
REFUSALS = r"^(`law` must (have|be)|Samples must have at most|`alpha` must be (at most|below))"


def magnitudes(largest):
    return st.floats(-largest, largest).map(lambda power: 10.0**power)


def quick(n):
    return settings(max_examples=n, deadline=None, derandomize=True, database=None)


kinds, dtypes = (
    st.sampled_from(sorted(MAKERS)),
    st.sampled_from([torch.float64, torch.float32, torch.float16, torch.bfloat16]),
)


def samples(size, dtype):
    x = size * torch.tensor([0.0, 1.0, -2.0, 0.3], dtype=torch.float64)
    limits = torch.finfo(dtype)
    return x.clamp(limits.min, limits.max).to(dtype).requires_grad_()


def call(function, *arguments):
    """Return what the function returns, or None if it raises an expected error."""
    try:
        return function(*arguments)
    except ValueError as error:
        with pytest.raises(ValueError, match=REFUSALS):
            raise error
        return None


@quick(60)
@given(kinds, magnitudes(30), magnitudes(30), magnitudes(30), magnitudes(30), dtypes)
def test_finite_samples_have_finite_densities(kind, a, b, volume, size, dtype):
    x = samples(size, dtype)
    result = call(log_density, x, MAKERS[kind](a, b), volume)
    if result is not None:
        assert result.dtype == dtype
        assert result.isfinite().all()
        assert torch.autograd.grad(result.sum(), x)[0].isfinite().all()


@quick(60)
@given(magnitudes(30), magnitudes(30), magnitudes(30), magnitudes(30), dtypes, st.booleans())
def test_jumps_have_probabilities(a, b, volume, size, dtype, isotropic):
    law, x = MAKERS["both"](a, min(b, 10 / volume)), samples(size, dtype)
    result = jump_probability(x, law, volume, isotropic)
    assert result.dtype == dtype
    assert ((result >= 0) & (result <= 1)).all()
    assert torch.autograd.grad(result.sum(), x)[0].isfinite().all()


def test_probability_of_very_rare_jumps():
    """One jump in 1e12 cells of variance 1, against 20 deviations, normal log densities by hand."""
    law = Brownian(1.0) + CompoundPoisson(1e-12, GaussianJumps(20.0))
    x = torch.tensor([[2.0, 0.0], [20.0, 0.0]], dtype=torch.float64)
    no_jump = -x.square().sum(-1) / 2
    jump = -x.square().sum(-1) / 2 / 401 - math.log(401) + math.log(1e-12)
    want = torch.sigmoid(jump - no_jump)
    assert torch.allclose(jump_probability(x, law, isotropic=True), want, rtol=1e-2)


@quick(30)
@given(kinds, magnitudes(30), magnitudes(30), magnitudes(30), magnitudes(30), dtypes)
def test_any_law_can_be_tested(kind, a, b, volume, size, dtype):
    result = call(goodness_of_fit, samples(size, dtype), MAKERS[kind](a, b), volume, None, 9)
    if result is not None:
        assert 0 <= result.statistic < math.inf
        assert 0.1 <= result.p_value <= 1


@pytest.mark.filterwarnings("ignore:`samples`")  # constant, or with zeros
@quick(10)
@given(kinds, magnitudes(3), magnitudes(3), magnitudes(3), magnitudes(30), st.booleans())
def test_fits_are_finite(kind, a, b, volume, size, constant):
    x = torch.ones(40) if constant else torch.randn(40, generator=torch.Generator().manual_seed(0))
    x = (size * x.double()).requires_grad_()
    for law, method in ((Brownian(a), "likelihood"), (MAKERS[kind](a, b), "ecf")):
        result = call(fit, x, law, volume, method)
        if result is not None:
            assert all(0 < value < math.inf for value in result.parameters.values())
            assert all(error >= 0 for error in result.standard_errors.values())
            assert result.log_likelihood is None or math.isfinite(result.log_likelihood)


ONE = torch.ones(20)
numbers = st.one_of(
    st.sampled_from([-1.0, 0.0, math.nan, math.inf, -math.inf, 10**400, -1]),
    st.sampled_from([None, True, "1", 1j, (1.0,), torch.tensor(1.0), np.ones(2)]),
)


@quick(120)
@given(st.sampled_from([log_density, fit, goodness_of_fit, jump_probability]), st.data())
def test_errors_name_the_invalid_argument(function, data):
    """One argument of one function is invalid."""
    bad = {
        "samples": st.one_of(
            st.sampled_from([ONE.long(), ONE.bool(), ONE * 1j, [1.0], None, 1.0, np.ones(20)]),
            st.sampled_from([ONE[:0], ONE * math.nan, ONE.cumsum(0) / 0, ONE.half() * math.inf]),
        ),
        "law": st.sampled_from(
            [None, "Brownian(1)", LaplaceJumps(1.0), Brownian, IndependentCoordinates(LAW)]
        ),
        "volume": numbers,
    }
    name = data.draw(st.sampled_from(sorted(bad)))
    arguments = {"samples": ONE, "law": LAW, "volume": 1.0}
    with pytest.raises((ValueError, TypeError), match=f"^`{name}` must "):
        function(**{**arguments, name: data.draw(bad[name])})


def test_a_scalar_is_no_vector():
    with pytest.raises(ValueError, match=r"`samples` must be \(..., D\) vectors"):
        jump_probability(torch.tensor(1.0), LAW, isotropic=True)
