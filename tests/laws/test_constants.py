"""Parameters are set once, state dicts hold constants, and laws do without a device."""

import copy
import pickle

import pytest
import torch
from torch import nn

from levyjepa.laws import (
    ALL_LAWS,
    Brownian,
    CompoundPoisson,
    GaussianJumps,
    LaplaceJumps,
    Pinned,
    Stable,
    parse_law,
)

every_law = pytest.mark.parametrize("law", ALL_LAWS, ids=repr)
U = torch.tensor([0.1, 1.0, 7.0], dtype=torch.float64)


def parametrics(law):
    return [module for module in law.modules() if hasattr(module, "positives")]


@every_law
def test_parameters_are_set_once(law):
    for made in (copy.deepcopy(law), law.learnable_copy()):
        before = repr(made)
        for module in parametrics(made):
            for name in module.positives():
                for value in (1.5, nn.Parameter(torch.ones(1))):
                    with pytest.raises(AttributeError, match=f"`{name}` cannot .* a new law"):
                        setattr(module, name, value)
        assert repr(made) == before
    law = CompoundPoisson(1.0, LaplaceJumps(1.0))
    with pytest.raises(AttributeError, match="`jumps` cannot be changed"):
        law.jumps = GaussianJumps(1.0)
    with pytest.raises(AttributeError, match="`at` cannot be changed"):
        Pinned(Brownian(1.0)).at = 2.0


@every_law
def test_a_tensor_as_parameter_is_an_error_that_says_what_to_write(law):
    for module in parametrics(law):
        names = module.positives()
        parts = [part for _, part in module.named_children()]
        for value in (torch.tensor(1.0), nn.Parameter(torch.tensor(1.0))):
            if names:
                with pytest.raises(TypeError, match=f"^`{names[0]}` must .* learnable=True"):
                    type(module)(*[value] * len(names), *parts)


@every_law
def test_a_state_dict_of_other_constants_is_an_error_that_names_both(law):
    state = law.state_dict()
    assert all(value.dtype == torch.float64 for value in state.values())
    for same in (law, copy.deepcopy(law), pickle.loads(pickle.dumps(law)), parse_law(repr(law))):
        assert "matched" in str(same.load_state_dict(state))
        assert "matched" in str(same.load_state_dict({}))  # of an earlier version
    for other in ALL_LAWS:
        if repr(other) != repr(law):
            with pytest.raises((ValueError, RuntimeError)):
                other.load_state_dict(state)
    with pytest.raises(ValueError, match=r"Brownian\(sigma=0.5\), got constants: 0.8"):
        nn.ModuleList([Brownian(0.5)]).load_state_dict(nn.ModuleList([Brownian(0.8)]).state_dict())
    with pytest.raises(ValueError, match=r"LaplaceJumps\(alpha=1.0\), got .* another law: 1"):
        CompoundPoisson(1.0, LaplaceJumps(1.0)).load_state_dict(
            CompoundPoisson(1.0, GaussianJumps(1.0)).state_dict()
        )


@every_law
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_rounded_constants_load(law, dtype):
    law.load_state_dict(copy.deepcopy(law).to(dtype).state_dict())
    law.load_state_dict({name: value.to(dtype) for name, value in law.state_dict().items()})


@every_law
def test_learnable_parameters_are_no_scalars_and_scalar_checkpoints_load(law):
    learnable, other = law.learnable_copy(), law.learnable_copy()
    assert {tuple(parameter.shape) for parameter in learnable.parameters()} == {(1,)}
    assert learnable.exponent(U[0]).shape == ()
    old = {name: value.detach()[0] + 0.1 for name, value in learnable.named_parameters()}
    assert "matched" in str(other.load_state_dict(old))
    for name, parameter in other.named_parameters():
        assert torch.equal(parameter, old[name][None])


@every_law
def test_laws_on_the_meta_device(law):
    with torch.device("meta"):
        made = parse_law(repr(law))
        assert torch.equal(made.exponent(U), law.exponent(U))
        assert made.sample((3,), dim=2).device.type == "cpu"
        assert made.exponent(torch.ones(2)).is_meta
        assert "matched" in str(made.load_state_dict(law.state_dict()))
        learnable = made.learnable_copy()
        assert all(parameter.is_meta for parameter in learnable.parameters())
        assert learnable.exponent(torch.ones(2)).is_meta
        assert "meta" in repr(learnable)
    learnable = learnable.to_empty(device="cpu")
    learnable.load_state_dict(law.learnable_copy().state_dict())
    assert torch.allclose(learnable.exponent(U), law.exponent(U), rtol=1e-5)


def test_a_pinned_law_on_the_meta_device():
    with torch.device("meta"):
        pinned = Pinned(Stable(1.5, 2.0))
        assert pinned.at == pytest.approx(0.5)
        assert pinned.exponent(torch.ones(2)).is_meta
