"""Whatever the statistic is given: finite numbers, or an error that says what it wants."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from levyjepa.ecf import (
    Quadrature,
    equispaced,
    exponential_weight,
    frequency_range,
    gauss_laguerre,
    gaussian_weight,
    null,
    statistic,
)
from levyjepa.laws import (
    Brownian,
    CompoundPoisson,
    IndependentCoordinates,
    LaplaceJumps,
    NormalInverseGaussian,
    Stable,
    VarianceGamma,
)

LAW = Brownian(0.125) + CompoundPoisson(2.0, LaplaceJumps(1.0))
MAKERS = {  # each from two positive numbers
    "brownian": lambda a, b: Brownian(a),
    "jumps": lambda a, b: CompoundPoisson(a, LaplaceJumps(b)),
    "both": lambda a, b: Brownian(a) + CompoundPoisson(b, LaplaceJumps(a)),
    "stable": lambda a, b: Stable(2 / (1 + a), b),
    "normal inverse Gaussian": NormalInverseGaussian,
    "variance-gamma": VarianceGamma,
}
RULES = {
    "equispaced": lambda law, volume: equispaced(law, 8, volume),
    "gaussian weight": lambda law, volume: equispaced(law, 5, volume, gaussian_weight),
    "laguerre": lambda law, volume: gauss_laguerre(law, 7, volume),
    "left out": lambda law, volume: None,
}
magnitudes = st.floats(-30, 30).map(lambda power: 10.0**power)
dtypes = st.sampled_from([torch.float64, torch.float32, torch.float16, torch.bfloat16])
ONE = torch.ones(2, dtype=torch.float64)


def quick(n):
    return settings(max_examples=n, deadline=None, derandomize=True, database=None)


def samples(size, dtype):
    x = size * torch.tensor([[0.0, 1.0, -2.0, 0.3], [0.0, 0.0, 0.0, 1.0]], dtype=torch.float64)
    limits = torch.finfo(dtype)
    return x.clamp(limits.min, limits.max).to(dtype).requires_grad_()


@quick(150)
@given(
    st.sampled_from(sorted(MAKERS)),
    st.sampled_from(sorted(RULES)),
    magnitudes,
    magnitudes,
    magnitudes,
    magnitudes,
    dtypes,
)
def test_finite_samples_give_finite_statistics_and_gradients(kind, rule, a, b, volume, size, dtype):
    law, x = MAKERS[kind](a, b), samples(size, dtype)
    quadrature = RULES[rule](law, volume)
    found = statistic(x, law, volume, quadrature)
    assert found.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert found.isfinite().all()
    assert (found >= 0).all()
    (grad,) = torch.autograd.grad(found.sum(), x)
    assert grad.dtype == dtype
    assert grad.isfinite().all()
    if quadrature is not None:
        expected = null(law, volume, quadrature, {1.0: 4, 0.5: 6}, channels=3)
        assert expected.mean.isfinite()
        assert 0 <= expected.std < math.inf


@quick(60)
@given(magnitudes, magnitudes, st.lists(magnitudes, min_size=4, max_size=4))
def test_weights_of_any_size_are_shares(a, size, weights):
    w = torch.tensor([weights, weights[::-1]], dtype=torch.float64)
    x = samples(1.0, torch.float64).detach()
    want = statistic(x, Brownian(a), weights=w / w.sum(-1, keepdim=True))
    assert torch.allclose(statistic(x, Brownian(a), weights=size * w), want, rtol=1e-9)


def test_what_is_no_number_leaves_none_in_its_row():
    x = samples(1.0, torch.float32).detach()
    for bad in (math.nan, math.inf, -math.inf):
        x[0, 0] = bad
        found = statistic(x, LAW)
        assert found[0].isnan()
        assert found[1].isfinite()


def test_constants_that_require_a_gradient_are_constants():
    learnable = LAW.learnable_copy()
    rule = Quadrature(ONE.cumsum(0).requires_grad_(), ONE.clone().requires_grad_())
    weights = torch.ones(2, 4, requires_grad=True)
    statistic(samples(1.0, torch.float32), learnable, 1.0, rule, weights).sum().backward()
    assert weights.grad is None
    assert not rule.nodes.requires_grad
    for made in (equispaced(learnable), gauss_laguerre(learnable)):
        assert not made.nodes.requires_grad
        assert not made.weights.requires_grad
    assert all(parameter.grad is not None for parameter in learnable.parameters())


numbers = st.one_of(
    st.sampled_from([-1.0, 0.0, math.nan, math.inf, -math.inf, 10**400, -1]),
    st.sampled_from([None, True, "1", 1j, (1.0,), torch.tensor(1.0), np.ones(2)]),
)
not_laws = st.sampled_from([None, "Brownian(1)", 1.0, LaplaceJumps(1.0), Brownian])
counts = st.sampled_from([0, -1, 1.5, math.nan, "3", None, True, torch.tensor(3)])


@quick(120)
@given(st.data())
def test_other_arguments_are_refused_by_name(data):
    """One argument of one door is bad."""
    x, rule = samples(1.0, torch.float32), equispaced(LAW, 4)
    doors = {
        "statistic": (statistic, {"samples": x, "law": LAW, "volume": 1.0, "quadrature": rule}),
        "null": (null, {"law": LAW, "volume": 1.0, "quadrature": rule, "overlaps": {1.0: 3}}),
        "equispaced": (equispaced, {"law": LAW, "nodes": 4, "volume": 1.0, "tolerance": 0.1}),
        "gauss_laguerre": (gauss_laguerre, {"law": LAW, "nodes": 4, "volume": 1.0}),
        "frequency_range": (frequency_range, {"law": LAW, "volume": 1.0}),
    }
    tensors = [ONE, ONE[:0, None], ONE.long(), [1.0], None, ONE[None] * 1j, torch.tensor(1.0)]
    bad = {
        "samples": st.sampled_from(tensors),
        "law": st.one_of(not_laws, st.just(IndependentCoordinates(LAW))),
        "volume": numbers,
        "quadrature": st.sampled_from([3, "equispaced", (rule.nodes, rule.weights), ONE]),
        "overlaps": st.sampled_from([None, {}, {0.5: 3}, {1.0: 0}, {1.0: 2.5}, {2.0: 1, 1.0: 1}]),
        "nodes": counts,
        "tolerance": numbers.filter(lambda value: value is not None),
    }
    door, arguments = doors[data.draw(st.sampled_from(sorted(doors)))]
    name = data.draw(st.sampled_from(sorted(arguments)))
    with pytest.raises((ValueError, TypeError), match=f"^`{name}` must "):
        door(**{**arguments, name: data.draw(bad[name])})


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ((ONE.cumsum(0), ONE, -1.0), ValueError, "`step` must be positive"),
        ((ONE.cumsum(0), ONE, "1"), TypeError, "`step` must be a number"),
        ((ONE, ONE), ValueError, "`nodes` must be positive and increasing"),
        ((ONE.long(), ONE), TypeError, "`nodes` must be a floating-point tensor"),
        (([1.0, 2.0], ONE), TypeError, r"`nodes` must be a tensor \(K,\), got list"),
        ((ONE[None], ONE[None]), ValueError, r"`nodes` must be \(K,\)"),
        ((ONE[:0], ONE[:0]), ValueError, "`nodes` must not be empty"),
        ((ONE.cumsum(0), ONE * math.inf), ValueError, "`weights` must be finite"),
    ],
)
def test_quadratures_are_checked(arguments, error, match):
    with pytest.raises(error, match=match):
        Quadrature(*arguments)


@pytest.mark.parametrize(
    ("weights", "error"),
    [
        ([[1.0] * 4] * 2, TypeError),
        (torch.ones(2, 4) * 1j, TypeError),
        (torch.ones(4), ValueError),
        (torch.zeros(2, 4), ValueError),
        (-torch.ones(2, 4), ValueError),
        (torch.full((2, 4), math.nan), ValueError),
        (torch.full((2, 4), math.inf), ValueError),
    ],
)
def test_weights_are_checked(weights, error):
    with pytest.raises(error, match="`weights` must "):
        statistic(samples(1.0, torch.float32), LAW, weights=weights)


def test_nodes_and_weight_functions_are_checked():
    with pytest.raises(ValueError, match="`nodes` must be at most 180, got 181"):
        gauss_laguerre(LAW, 181)
    with pytest.raises(TypeError, match="`weight` must be a function"):
        equispaced(LAW, weight=1.0)  # pyright: ignore
    with pytest.raises(ValueError, match="`weights` must be finite"):
        equispaced(LAW, weight=lambda share: share / 0)
    for weight in (exponential_weight, gaussian_weight):
        with pytest.raises(TypeError, match="`share` must be a tensor, got float"):
            weight(0.5)  # pyright: ignore
