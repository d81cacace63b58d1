"""Extreme and invalid arguments of laws: results are finite, or an error names the argument."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from levyjepa.laws import (
    ALL_LAWS,
    Brownian,
    CompoundPoisson,
    GaussianJumps,
    IndependentCoordinates,
    LaplaceJumps,
    NormalInverseGaussian,
    Stable,
    StudentTJumps,
    VarianceGamma,
    VarianceGammaJumps,
    parse_law,
)

MAKERS = {  # laws from two positive numbers
    "brownian": lambda a, b: Brownian(a),
    "laplace": lambda a, b: CompoundPoisson(a, LaplaceJumps(b)),
    "variance-gamma jumps": lambda a, b: CompoundPoisson(1.0, VarianceGammaJumps(a, b)),
    "student": lambda a, b: CompoundPoisson(a, StudentTJumps(b)),
    "gaussian": lambda a, b: CompoundPoisson(a, GaussianJumps(b)),
    "stable": lambda a, b: Stable(2 / (1 + a), b),
    "normal inverse Gaussian": NormalInverseGaussian,
    "variance-gamma": VarianceGamma,
    "sum": lambda a, b: Brownian(a) + Stable(2 / (1 + b), a),
}


def magnitudes(largest):
    return st.floats(-largest, largest).map(lambda power: 10.0**power)


def quick(n):
    return settings(max_examples=n, deadline=None, derandomize=True, database=None)


makers = st.sampled_from(sorted(MAKERS))
dtypes = st.sampled_from([torch.float64, torch.float32, torch.float16, torch.bfloat16])
frequencies = st.lists(st.one_of(magnitudes(30), st.just(0.0)), min_size=1, max_size=4)


@quick(150)
@given(makers, magnitudes(30), magnitudes(30), magnitudes(30), frequencies, dtypes)
def test_finite_frequencies_give_finite_exponents(name, a, b, volume, u, dtype):
    law = MAKERS[name](a, b)
    u = torch.tensor(u, dtype=torch.float64).clamp(max=torch.finfo(dtype).max).to(dtype)
    u = torch.cat([u, -u])
    psi, cf = law.exponent(u), law.characteristic_function(u, volume)
    assert psi.dtype == cf.dtype == dtype
    assert psi.isfinite().all()
    assert (psi <= 0).all()
    assert ((cf >= 0) & (cf <= 1)).all()


@quick(150)
@given(makers, magnitudes(3), magnitudes(3), frequencies, dtypes.filter(lambda d: d.itemsize >= 4))
def test_finite_frequencies_give_finite_gradients(name, a, b, u, dtype):
    law = MAKERS[name](min(a, 1.9), b).learnable_copy()
    u = torch.tensor(u, dtype=dtype, requires_grad=True)
    for value in (law.exponent(u), law.characteristic_function(u)):
        grads = torch.autograd.grad(value.sum(), [u, *law.parameters()])
        assert all(grad.isfinite().all() for grad in grads)


@quick(150)
@given(makers, magnitudes(30), magnitudes(30), magnitudes(30), dtypes)
def test_samples_are_finite_or_too_many_jumps(name, a, b, volume, dtype):
    law = MAKERS[name](a, b)
    g = torch.Generator().manual_seed(0)
    if isinstance(law, CompoundPoisson) and 10 * float(law.rate) * volume > 1e5:
        volume = 1e12 / float(law.rate)  # an error, before memory is allocated
        with pytest.raises(ValueError, match="at most 1e"):
            law.sample((10,), volume, generator=g)
        return
    x = law.sample((5, 2), volume, dim=3, generator=g, dtype=dtype)
    assert x.shape == (5, 2, 3)
    assert x.dtype == dtype
    assert x.isfinite().all()


KINDS = [
    Brownian,
    LaplaceJumps,
    StudentTJumps,
    GaussianJumps,
    Stable,
    VarianceGammaJumps,
    NormalInverseGaussian,
    VarianceGamma,
    lambda rate: CompoundPoisson(rate, LaplaceJumps(1.0)),
]
good = st.sampled_from(
    [1, 5e-324, 0.5, np.float32(0.5), np.float16(1), np.int64(2), Fraction(1, 3)]
)
bad = st.one_of(
    st.sampled_from(
        [-1.0, 0.0, -0.0, math.nan, math.inf, -math.inf, 10**400, -1, 0, np.float32(-1)]
    ),
    st.sampled_from([True, None, "1", 1j, (1.0,), np.bool_(True), np.ones(2)]),
    st.sampled_from([torch.tensor(1.0), torch.ones(2), torch.ones((), requires_grad=True)]),
)


def count(kind):
    return len(kind.positives()) if isinstance(kind, type) else 1


@quick(100)
@given(st.sampled_from(KINDS), st.data())
def test_parameters_are_any_positive_numbers(kind, data):
    values = data.draw(st.lists(good, min_size=count(kind), max_size=count(kind)))
    law = kind(*values)
    function = law.characteristic_function(torch.tensor([1e-30, 1.0, 1e30], dtype=torch.float64))
    assert not function.isnan().any()


@quick(150)
@given(st.sampled_from(KINDS), st.data())
def test_errors_name_invalid_parameters(kind, data):
    values = data.draw(st.lists(good, min_size=count(kind), max_size=count(kind)))
    values[data.draw(st.integers(0, count(kind) - 1))] = data.draw(bad)
    with pytest.raises((ValueError, TypeError), match=r"^`\w+` must be "):
        kind(*values)


every_law = pytest.mark.parametrize("law", ALL_LAWS, ids=repr)
ONE = torch.ones(2)


@every_law
@pytest.mark.parametrize(
    ("u", "error", "match"),
    [
        (ONE.long(), TypeError, "`u` must be a floating-point tensor, got torch.int64"),
        (ONE.bool(), TypeError, "`u` must be a floating-point tensor, got torch.bool"),
        (ONE * 1j, TypeError, "`u` must be a floating-point tensor, got torch.complex64"),
        (1.0, TypeError, "`u` must be a tensor, got float"),
        (np.ones(2), TypeError, "`u` must be a tensor, got ndarray"),
        (ONE[:0], ValueError, "`u` must not be empty"),
        (ONE * math.nan, ValueError, "`u` must be finite"),
        (ONE * -math.inf, ValueError, "`u` must be finite"),
    ],
)
def test_frequencies_are_finite_floating_point_tensors(law, u, error, match):
    for function in (law.exponent, law.characteristic_function):
        with pytest.raises(error, match=match):
            function(u)


@every_law
def test_a_law_and_its_frequencies_are_on_one_device(law):
    with pytest.raises(ValueError, match="`u` must be on meta, got cpu"):
        law.learnable_copy().to("meta").exponent(ONE)


@every_law
@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({"shape": 3}, TypeError, "`shape` must be a sequence of integers, got 3"),
        ({"shape": "3"}, TypeError, "`shape` must be a sequence of integers, got '3'"),
        ({"shape": (2.0,)}, TypeError, "`shape` must be an integer, got 2.0"),
        ({"shape": (-1,)}, ValueError, "`shape` must be at least 0, got -1"),
        ({"dim": 0}, ValueError, "`dim` must be at least 1, got 0"),
        ({"dim": 1.5}, TypeError, "`dim` must be an integer, got 1.5"),
        ({"volume": -1.0}, ValueError, "`volume` must be positive, got -1.0"),
        ({"volume": math.nan}, ValueError, "`volume` must be positive and finite, got nan"),
        ({"volume": ONE}, TypeError, "`volume` must be a number"),
        ({"generator": 0}, TypeError, "`generator` must be a torch.Generator, got 0"),
        ({"dtype": torch.int32}, TypeError, "`dtype` must be a floating-point dtype"),
        ({"dtype": "float32"}, TypeError, "`dtype` must be a floating-point dtype"),
    ],
    ids=lambda x: str(x) if isinstance(x, dict) else "",
)
def test_errors_name_invalid_arguments_of_sample(law, arguments, error, match):
    for source in (law, IndependentCoordinates(law)):
        with pytest.raises(error, match=match):
            source.sample(**{"shape": (2,), **arguments})


@every_law
def test_no_samples_are_an_empty_tensor(law):
    assert law.sample((0, 3)).shape == (0, 3)
    assert law.sample((0,), dim=2).shape == (0, 2)


def test_invalid_structure_is_an_error():
    with pytest.raises(TypeError, match="`learnable` must be True or False, got 2"):
        Brownian(1.0, 2)  # pyright: ignore
    with pytest.raises(TypeError, match="`laws` must be one law or more"):
        IndependentCoordinates()
    with pytest.raises(TypeError, match="`laws` must be one law or more"):
        IndependentCoordinates(Brownian(1.0), LaplaceJumps(1.0))  # pyright: ignore
    with pytest.raises(TypeError, match="unsupported operand"):
        Brownian(1.0) + 1  # pyright: ignore
    with pytest.raises(TypeError, match="`text` must be a string, got 3"):
        parse_law(3)  # pyright: ignore


@quick(200)
@given(st.one_of(st.text(max_size=30), st.text("Brownian(1.0+-,)*=sigma[]", max_size=30)))
def test_any_text_is_a_law_or_a_value_error(text):
    try:
        parse_law(text)
    except ValueError as error:
        assert "is not a law" in str(error)  # noqa: PT017
