"""Scaled laws, and laws that are trained at a fixed scale."""

import copy

import pytest
import torch
from torch.func import functional_call

from levyjepa.inference import jump_probability
from levyjepa.laws import (
    ALL_LAWS,
    Brownian,
    CompoundPoisson,
    LaplaceJumps,
    Pinned,
    Scaled,
    ScaledJumps,
    StudentTJumps,
    parse_law,
)
from levyjepa.laws.scale import rescaled

U = torch.tensor([0.01, 0.3, 1.0, 4.0], dtype=torch.float64)
UNBOUNDED = [
    law for law in ALL_LAWS if law.exponent(torch.tensor(1e100, dtype=torch.float64)) < -1.001
]
every_law = pytest.mark.parametrize("law", ALL_LAWS, ids=repr)
unbounded = pytest.mark.parametrize("law", UNBOUNDED, ids=repr)


@every_law
def test_scaled_increments_are_scaled(law):
    for scaled in (Scaled(0.3, law), rescaled(law, 0.3)):
        assert torch.allclose(scaled.exponent(U), law.exponent(0.3 * U), rtol=1e-12)
        x = scaled.sample((50,), 2.0, generator=torch.Generator().manual_seed(0))
        y = law.sample((50,), 2.0, generator=torch.Generator().manual_seed(0))
        assert torch.allclose(x, 0.3 * y, rtol=1e-5)


def test_moments_are_scaled():
    law = Brownian(0.5) + CompoundPoisson(2.0, LaplaceJumps(1.0))
    for scaled in (Scaled(3.0, law), rescaled(law, 3.0), Pinned(law, at=Pinned(law).at / 3.0)):
        with torch.no_grad():
            assert float(scaled.variance()) == pytest.approx(9 * law.variance(), rel=1e-6)
            assert float(scaled.kurtosis()) == pytest.approx(law.kurtosis(), rel=1e-6)


def test_a_scaled_law_prints_an_expression_that_recreates_it():
    law = Brownian(0.5) + CompoundPoisson(2.0, ScaledJumps(0.4, StudentTJumps(3.0)))
    assert eval(repr(law)).exponent(U).equal(law.exponent(U))
    assert repr(parse_law(repr(law))) == repr(law)
    assert len(list(law.learnable_copy().parameters())) == 4


@unbounded
def test_a_pinned_law_starts_unchanged_and_keeps_its_scale(law):
    pinned = Pinned(law)
    assert torch.allclose(pinned.exponent(U), law.exponent(U), rtol=1e-5)
    for change in (-1.0, 0.7):
        for name, parameter in pinned.named_parameters():
            with torch.no_grad():
                parameter.add_(0.5 if "rate" in name else change)
        exponent = pinned.exponent(torch.tensor([pinned.at], dtype=torch.float64))
        assert exponent.item() == pytest.approx(-1, rel=1e-9)
        constant = pinned.constant_copy()
        assert torch.allclose(constant.exponent(U), pinned.exponent(U), rtol=1e-9)
        assert not list(constant.parameters())


@unbounded
def test_gradients_are_those_of_the_implicit_function(law):
    pinned = Pinned(law).double()
    names = [name for name, _ in pinned.named_parameters()]

    def psi(*values):
        module = copy.deepcopy(pinned)
        module.forward = module.psi
        return functional_call(module, dict(zip(names, values, strict=True)), (U,))

    values = tuple(p.detach().clone().requires_grad_() for p in pinned.parameters())
    assert torch.autograd.gradcheck(psi, values, atol=1e-6)


def test_jump_probability_of_a_pinned_law():
    law = Brownian(0.3) + CompoundPoisson(1.0, LaplaceJumps(0.5))
    x = torch.tensor([0.1, 0.8, 2.0], dtype=torch.float64)
    assert torch.allclose(jump_probability(x, Pinned(law)), jump_probability(x, law), atol=1e-5)


def test_errors_name_invalid_input():
    with pytest.raises(ValueError, match="`scale` must be positive, got -1"):
        Scaled(-1.0, Brownian(1.0))
    with pytest.raises(TypeError, match="`law` must be a Law"):
        Scaled(1.0, LaplaceJumps(1.0))  # pyright: ignore
    with pytest.raises(TypeError, match="`jumps` must be a law of jumps"):
        ScaledJumps(1.0, Brownian(1.0))  # pyright: ignore
    with pytest.raises(TypeError, match="`law` must be a Law"):
        Pinned("Brownian(1.0)")  # pyright: ignore
    with pytest.raises(ValueError, match="`at` must be positive"):
        Pinned(Brownian(1.0), at=0.0)
    with pytest.raises(
        ValueError, match="`law` must have an exponent that falls below -1, got CompoundPoisson"
    ):
        Pinned(CompoundPoisson(0.9, LaplaceJumps(1.0)))
