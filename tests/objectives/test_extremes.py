"""Extreme and invalid arguments of the loss terms: finite results, or errors that say why."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from levyjepa.lattice import box, diamond, line
from levyjepa.laws import Brownian, CompoundPoisson, IndependentCoordinates, LaplaceJumps
from levyjepa.objectives import LeJEPA, LevyRegularizer, SIGReg, invariance

LAW = Brownian(0.125) + CompoundPoisson(2.0, LaplaceJumps(1.0))


def generator():
    return torch.Generator().manual_seed(0)


def quick(n):
    return settings(max_examples=n, deadline=None, derandomize=True, database=None)


TERMS = {
    "default": LevyRegularizer(LAW),
    "calibrated": LevyRegularizer(LAW, calibrated=True, pool="batch"),
    "every tiling": LevyRegularizer(LAW, cells="every", pool="channel"),
    "directions": LevyRegularizer(LAW, directions=7, calibrated=True, pool="channel"),
    "learned": LevyRegularizer(LAW, learnable=True, calibrated=True),
    "independent": LevyRegularizer(IndependentCoordinates(LAW, Brownian(1.0)), (box(2),)),
    "a wide law": LevyRegularizer(Brownian(1e30)),
    "a narrow law": LevyRegularizer(Brownian(1e-30)),
}
dtypes = st.sampled_from([torch.float64, torch.float32, torch.float16, torch.bfloat16])
powers = st.floats(-30, 30)


def random(shape, power, dtype):
    scale = min(10.0**power, torch.finfo(dtype).max / 100)
    x = torch.randn(shape, generator=generator()).double()
    x.flatten()[0] = 0.0
    return (x * scale).to(dtype).requires_grad_()


@quick(200)
@given(st.sampled_from(sorted(TERMS)), powers, dtypes)
def test_finite_fields_give_finite_losses_and_gradients(name, power, dtype):
    term, field = TERMS[name], random((2, 5, 4, 4), power, dtype)
    loss = term(field, generator=generator())
    assert loss.isfinite()
    assert loss.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    for grad in torch.autograd.grad(loss, [field, *term.parameters()], allow_unused=True):
        assert grad is None or grad.isfinite().all()


@quick(100)
@given(powers, dtypes)
def test_finite_projections_give_finite_losses_and_gradients(power, dtype):
    z = random((2, 6, 4), power if dtype == torch.float64 else min(power, 15), dtype)
    for term in (SIGReg(9), invariance, LeJEPA(gamma=0.0)):
        loss = term(z)
        loss = loss if isinstance(loss, torch.Tensor) else loss.total
        assert loss.isfinite()
        (grad,) = torch.autograd.grad(loss, z)
        assert grad.isfinite().all()


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_has_a_loss_that_is_not(bad):
    """It is not an error: training checks its losses and reports the step."""
    field, z = torch.randn(2, 5, 4, 4), torch.randn(2, 6, 4)
    field[1, 2, 2, 1] = z[1, 2, 3] = bad
    for name, term in TERMS.items():
        assert not term(field).isfinite(), name
    assert not SIGReg(9)(z).isfinite()
    assert not invariance(z).isfinite()


anything = st.one_of(
    st.sampled_from([-1, 0, 1, 2.5, -1.0, math.nan, math.inf, 10**40, True, None, "2", 1j, ()]),
    st.sampled_from(["batch", "every", (box(2), line()), box(2), (1, 2), LAW, LaplaceJumps(1.0)]),
    st.sampled_from([torch.ones(2), np.ones(2), torch.ones((), requires_grad=True)]),
)
OPTIONS = ["law", "stencils", "quadrature", "cells", "pool", "directions"]


@quick(300)
@given(st.sampled_from(OPTIONS), anything)
def test_any_option_makes_a_prior_or_a_clear_error(option, value):
    if option == "quadrature" and callable(value):
        return  # which may raise any error
    try:
        term = LevyRegularizer(**{"law": LAW, option: value})
        term(torch.randn(2, 5, 4, 4))
    except (ValueError, TypeError) as error:
        assert str(error)  # noqa: PT017


@quick(200)
@given(st.sampled_from(["num_directions", "knots", "max_frequency"]), anything)
def test_any_option_makes_a_sigreg_or_a_clear_error(option, value):
    if isinstance(value, int) and value > 1e9 and option != "max_frequency":
        return  # to save memory
    try:
        SIGReg(**{option: value})(torch.randn(2, 6, 4))
    except (ValueError, TypeError) as error:
        assert str(error)  # noqa: PT017


@quick(300)
@given(st.sampled_from(["levy", "sigreg", "gamma", "lamb", "kappa"]), anything)
def test_any_option_makes_a_loss_or_a_clear_error(option, value):
    try:
        term = LeJEPA(**{"levy": LevyRegularizer(LAW), "gamma": 1.0, option: value})
        term(torch.randn(2, 6, 4), torch.randn(2, 5, 4, 4))
    except (ValueError, TypeError) as error:
        assert str(error)  # noqa: PT017


FIELD, Z = torch.ones(2, 5, 4, 4), torch.ones(2, 6, 4)
inputs = st.one_of(
    anything,
    st.sampled_from([FIELD, Z, FIELD.long(), FIELD > 0, FIELD * 1j, FIELD.half(), FIELD[:0]]),
    st.sampled_from([Z.long(), Z[..., :0], Z[0], Z.bfloat16(), Z.numpy(), [FIELD, FIELD], [Z], []]),
    st.sampled_from([torch.eye(4), torch.eye(4, requires_grad=True), FIELD[..., 0] > 0]),
)


@quick(300)
@given(inputs, st.none() | inputs, st.none() | inputs)
def test_any_input_gives_a_loss_or_a_clear_error(first, second, third):
    for call in (
        lambda: TERMS["default"](first, rotation=second, mask=third),
        lambda: SIGReg(9)(first, directions=second),
        lambda: invariance(first, num_global=second),
        lambda: LeJEPA(TERMS["default"])(first, second, third),
        lambda: LeJEPA(TERMS["default"])(Z, first),
    ):
        try:
            call()
        except (ValueError, TypeError) as error:
            assert str(error)  # noqa: PT017


@pytest.mark.parametrize(
    ("field", "error", "match"),
    [
        (FIELD.long(), TypeError, "`field` must be a floating-point tensor, got torch.int64"),
        (FIELD.numpy(), TypeError, "`field` must be a tensor, got ndarray"),
        (FIELD[:0], ValueError, "`field` must not be empty"),
        (FIELD[0], ValueError, r"`field` must be \(B, \*, \*, C\)"),
    ],
)
def test_a_field_is_a_floating_point_tensor(field, error, match):
    for term in (TERMS["default"], LevyRegularizer(LAW, (diamond(),), calibrated=True)):
        with pytest.raises(error, match=match):
            term(field)
