"""The term in training loops: what it collects, what it forgets, and its gradient."""

import copy
import gc
import pickle
import weakref
from typing import Any

import pytest
import torch
from tests.objectives.backbones import KINDS, backbone, output_of
from torch import nn
from torch.utils.checkpoint import checkpoint

from levyjepa.laws import Brownian, CompoundPoisson, LaplaceJumps
from levyjepa.objectives import LevyRegularizer, LevyTerm, PatchTokens, VideoRegularizer

LAW = Brownian(0.25) + CompoundPoisson(0.3, LaplaceJumps(1.0))


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def build(name: str = "timm", term: dict[str, Any] | None = None, **options: Any) -> Any:
    """Return a model, its inputs and its term, the same ones at every call."""
    case = backbone(name, **options)
    torch.manual_seed(1)
    return case.model, case.inputs, LevyTerm(case.model, LAW, **({"dim": 8} | (term or {})))


def gradients(module: nn.Module) -> dict[str, torch.Tensor]:
    return {name: p.grad.clone() for name, p in module.named_parameters() if p.grad is not None}


def assert_same(got: dict[str, torch.Tensor], want: dict[str, torch.Tensor], **tol: float) -> None:
    assert set(got) == set(want)
    for name, value in want.items():
        torch.testing.assert_close(got[name], value, rtol=1e-4, atol=1e-6, **tol)


@pytest.mark.parametrize("name", KINDS)
def test_the_term_is_the_loss_of_the_projected_tokens(name):
    model, inputs, term = build(name)
    model.eval()
    wrapped = PatchTokens(model)
    wrapped(inputs)
    tokens = nn.functional.layer_norm(wrapped.field, (48,)) @ term.projection.weight.T
    kind = VideoRegularizer if wrapped.field.ndim == 5 else LevyRegularizer
    want = kind(LAW, scale="tokens")(tokens, generator=generator())
    loss = term(generator=generator())
    torch.testing.assert_close(loss, want)
    loss.backward()
    patches = next(m for m in model.modules() if isinstance(m, (nn.Conv2d, nn.Conv3d)))
    assert patches.weight.grad.abs().sum() > 0
    assert term.projection.weight.grad.abs().sum() > 0


def test_the_projection_keeps_the_unit_of_normalized_tokens():
    model, inputs, term = build(term={"dim": 16})
    model(inputs)
    weight = term.projection.weight
    torch.testing.assert_close(weight @ weight.T, torch.eye(16), rtol=0, atol=1e-5)
    assert term.projection.bias is None
    _, _, plain = build(term={"dim": None})
    assert not list(plain.parameters())


def test_options_go_to_the_regularizer():
    _, _, term = build(term={"cells": "one", "pool": "channel"})
    assert (term.regularizer.pool, type(term.regularizer)) == ("channel", LevyRegularizer)
    _, _, term = build("VideoMAE", term={"time_step": 0.5, "weights": {"time": 0.0}})
    assert list(term.regularizer.priors) == ["spacetime", "space"]
    with pytest.raises(TypeError, match="time_step"):
        build(term={"time_step": 0.5})


def test_several_passes_are_one_batch_and_are_then_forgotten():
    model, inputs, term = build("timm, any size")
    model.eval()
    more = torch.randn(4, 3, 24, 40, generator=generator())
    model(torch.cat([inputs, more]))
    want = term(generator=generator())
    model(inputs)
    model(more)
    torch.testing.assert_close(term(generator=generator()), want)
    with pytest.raises(RuntimeError, match="with gradients before each call of the term, got none"):
        term()


def test_passes_of_several_sizes_are_weighted_by_images():
    model, inputs, term = build("timm, any size")
    model.eval()
    small, own = torch.randn(6, 3, 24, 24, generator=generator()), generator()
    model(inputs)
    model(small)
    together = term(generator=generator())
    model(inputs)
    first = term(generator=own)  # both draw from one generator
    model(small)
    torch.testing.assert_close(together, 0.25 * first + 0.75 * term(generator=own))


def test_passes_without_gradients_do_not_count():
    model, inputs, term = build()
    model.eval()
    with torch.no_grad():
        model(inputs)
    with torch.inference_mode():
        model(inputs)
    assert not term.tap.seen
    with pytest.raises(RuntimeError, match=r"passes without gradients, as under `torch.no_grad`"):
        term()
    model(inputs)
    with torch.no_grad():
        model(inputs)
    term().backward()


def test_clear_forgets_and_remove_detaches():
    model, inputs, term = build()
    model(inputs)
    term.clear()
    with pytest.raises(RuntimeError, match="got none"):
        term()
    term.remove()
    model(inputs)
    assert not term.tap.seen
    hooks = [m for m in model.modules() if m._forward_hooks or m._forward_pre_hooks]
    assert not hooks


def test_a_term_that_is_dropped_or_failed_leaves_no_hooks():
    model, inputs, term = build()
    gone = weakref.ref(term)
    del term
    gc.collect()
    assert gone() is None
    with pytest.raises(TypeError):
        LevyTerm(model, LAW, nonsense=1)
    with pytest.raises(ValueError, match="`dim` must be at least 1"):
        LevyTerm(model, LAW, dim=0)
    assert not [m for m in model.modules() if m._forward_hooks or m._forward_pre_hooks]
    model(inputs)


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("layer", [None, 1, 2, 3])
@pytest.mark.parametrize("name", ["timm", "Dinov2", "VJEPA2"])
def test_checkpointing_changes_nothing(name, layer, reentrant):
    losses, grads = [], []
    for on in (False, True):
        model, inputs, term = build(name, term={"layer": layer})
        model.train()
        for module in model.modules():  # deterministic, for the comparison
            if isinstance(module, nn.Dropout):
                module.p = 0.0
        if on and name == "timm":
            model.set_grad_checkpointing()
            blocks = model.blocks
            if reentrant:
                for block in blocks:
                    _reenter(block)
                model.set_grad_checkpointing(False)
        elif on:
            model.gradient_checkpointing_enable({"use_reentrant": reentrant})
        loss = output_of(model(inputs)).square().mean() + term(generator=generator())
        loss.backward()
        assert not term.tap.seen
        losses.append(loss.detach())
        grads.append(gradients(model) | gradients(term))
    torch.testing.assert_close(losses[1], losses[0])
    assert_same(grads[1], grads[0])


def _reenter(block: nn.Module) -> None:
    """Checkpoint calls of a block, with its hooks, by the reentrant implementation."""
    call = type(block).__call__

    class Checkpointed(type(block)):
        def __call__(self, *args):
            return checkpoint(lambda *a: call(self, *a), *args, use_reentrant=True)

    block.__class__ = Checkpointed


def test_a_reentrant_checkpoint_around_the_whole_model_is_an_error():
    model, inputs, term = build()
    checkpoint(model, inputs.requires_grad_(), use_reentrant=True)
    with pytest.raises(RuntimeError, match="a reentrant checkpoint around the layer"):
        term()
    checkpoint(model, inputs, use_reentrant=False).sum()
    term().backward()
    assert not term.tap.seen


@pytest.mark.parametrize("layer", [None, 1])
@pytest.mark.parametrize("name", ["timm", "timm, registers", "ViT", "VideoMAE"])
def test_a_compiled_model_gives_the_same(name, layer):
    torch._dynamo.reset()
    losses, grads = [], []
    for compiled in (False, True):
        model, inputs, term = build(name, term={"layer": layer})
        model.eval()
        run = torch.compile(model, backend="aot_eager") if compiled else model
        with torch.no_grad():
            run(inputs)
        for _ in range(2):
            model.zero_grad()
            term.zero_grad()
            run(inputs)
            output = output_of(run(inputs.flip(0)))
            assert len(term.tap.seen) == 2
            loss = output.square().mean() + term(generator=generator())
            loss.backward()
        losses.append(loss.detach())
        grads.append(gradients(model) | gradients(term))
    torch.testing.assert_close(losses[1], losses[0])
    unused = set(grads[1]) - set(grads[0])  # such as a pooler, whose output was compiled too
    assert not any(grads[1].pop(name).any() for name in unused)
    assert_same(grads[1], grads[0])


def test_a_compiled_vit_has_no_graph_break():
    torch._dynamo.reset()
    model, inputs, term = build(patch_drop_rate=0.2)
    run = torch.compile(model.train(), backend="aot_eager", fullgraph=True)
    run(inputs)
    assert term.tap.seen[0].order.shape == (2, 12)
    term().backward()


def test_a_vit_is_compiled_once_for_any_number_of_passes():
    torch._dynamo.reset()
    model, inputs, term = build()
    graphs = []
    run = torch.compile(model, backend=lambda graph, _: graphs.append(graph) or graph.forward)
    for _ in range(2):
        for _ in range(10):
            run(inputs)
        assert len(term.tap.seen) == 10
        term().backward()
    assert len(graphs) == 1


def test_statistics_are_in_float32_under_autocast():
    model, inputs, term = build()
    seen = []
    term.regularizer.register_forward_pre_hook(lambda module, args: seen.append(args[0].dtype))
    with torch.autocast("cpu", torch.bfloat16):
        model(inputs)
        loss = term()
    assert seen == [torch.float32]
    assert loss.dtype == torch.float32
    loss.backward()
    model, inputs, term = build()
    model.levy = term
    model.to(torch.bfloat16)(inputs.bfloat16())
    loss = model.levy()
    assert loss.dtype == torch.float32
    loss.backward()
    model, inputs, term = build()
    model.levy = term
    model.double()(inputs.double())
    assert model.levy().dtype == torch.float64


COPIES = pytest.mark.parametrize(
    "copied", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))], ids=["deepcopy", "pickle"]
)


@COPIES
def test_a_copied_model_has_a_term_of_its_own(copied):
    model, inputs, term = build()
    model.levy = term
    model(inputs)
    twin = copied(model)
    assert len(term.tap.seen) == 1
    assert not twin.levy.tap.seen
    twin(inputs)
    assert len(term.tap.seen) == 1
    twin.levy().backward()
    assert twin.levy.projection.weight.grad is not None
    assert term.projection.weight.grad is None
    term().backward()
    twin.levy.remove()
    twin(inputs)
    assert not twin.levy.tap.seen


@COPIES
def test_a_copied_model_without_a_term_keeps_no_tokens(copied):
    model, inputs, term = build()
    twin = copied(model)
    taps = {
        id(hook.__self__): hook.__self__
        for m in twin.modules()
        for hook in m._forward_hooks.values()
    }
    twin(inputs)
    assert taps
    assert not any(tap.seen for tap in taps.values())
    assert not term.tap.seen
    model(inputs)
    term().backward()


def test_an_assigned_term_belongs_to_the_model_once():
    model, inputs, term = build()
    before = set(model.state_dict())
    model.levy = term
    assert set(model.state_dict()) - before >= {"levy.projection.weight"}
    assert all(name.startswith("levy.") for name in set(model.state_dict()) - before)
    assert any(p is term.projection.weight for p in model.parameters())
    other, _, more = build()
    other.levy = more
    other.load_state_dict(model.state_dict())
    assert not any(module is model for module in term.modules())
    model.train(False)
    model(inputs)
    term()


def test_masks():
    model, inputs, term = build(term={"dim": None})
    model.eval()
    wrapped = PatchTokens(model)
    wrapped(inputs)
    mask = torch.rand(2, 4, 4, generator=generator()) > 0.1
    field = nn.functional.layer_norm(wrapped.field, (48,))
    want = LevyRegularizer(LAW, scale="tokens")(field, generator=generator(), mask=mask)
    torch.testing.assert_close(term(mask=mask, generator=generator()), want)
    wrapped(inputs)
    with pytest.raises(ValueError, match=r"`mask` must be \(2, 4, 4\)"):
        term(mask=mask[:, :3])
    wrapped(inputs)
    with pytest.raises(ValueError, match="`mask` must be one for each of 1 forward passes, got 2"):
        term(mask=[mask, mask])


def test_masked_encoders():
    model, inputs, term = build(term={"dim": None}, patch_drop_rate=0.2)
    wrapped = PatchTokens(model.train())
    wrapped(inputs)
    field = nn.functional.layer_norm(wrapped.field, (48,))
    want = LevyRegularizer(LAW, scale="tokens")(field, generator=generator(), mask=wrapped.mask)
    torch.testing.assert_close(term(generator=generator()), want)


def test_the_width_is_asked_for():
    class Plain(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.ModuleList([nn.Linear(8, 8)])

        def forward(self, tokens):
            return self.layers[0](tokens)

    model = Plain()
    with pytest.raises(ValueError, match=r"`width` must be given.*Plain does not say it"):
        LevyTerm(model, LAW)
    term = LevyTerm(model, LAW, width=8, dim=4)
    model(torch.randn(2, 9, 8))
    assert term().shape == ()
    term = LevyTerm(model, LAW, width=6, dim=4)
    model(torch.randn(2, 9, 8))
    with pytest.raises(ValueError, match=r"`width` must be 8, the number of channels.*got 6"):
        term()


def test_a_wrapped_model_is_refused_whose_projection_would_differ_on_ranks():
    wrapped = nn.parallel.DistributedDataParallel.__new__(nn.parallel.DistributedDataParallel)
    with pytest.raises(TypeError, match="before wrapping, so that its projection is synchronized"):
        LevyTerm(wrapped, LAW)
