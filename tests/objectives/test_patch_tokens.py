"""Patch tokens of models as people build them, with random weights."""

import copy
import pickle
from typing import Any

import pytest
import torch
from tests.objectives.backbones import KINDS, backbone, output_of
from torch import nn

from levyjepa.objectives import PatchTokens

EVERY = pytest.mark.parametrize("name", KINDS)


def flat(field: torch.Tensor) -> torch.Tensor:
    return field.flatten(1, -2)


@EVERY
def test_the_field_has_the_models_grid_and_its_output_is_unchanged(name):
    case = backbone(name)
    case.model.eval()
    want = output_of(case.model(case.inputs))
    wrapped = PatchTokens(case.model)
    got = output_of(wrapped(case.inputs))
    assert torch.equal(got, want)
    assert wrapped.field.shape == (2, *case.grid, 48)
    assert wrapped.mask is None
    if got.ndim == 3:  # transformers give all tokens
        torch.testing.assert_close(flat(wrapped.field), want[:, case.prefix :])


@EVERY
def test_a_token_is_that_of_its_own_patch(name):
    case = backbone(name)
    case.model.eval()
    wrapped = PatchTokens(case.model, layer=case.blocks[0])
    for _, module in case.model.named_modules():  # without attention, tokens do not mix
        if "attention" in type(module).__name__.lower():
            module.register_forward_hook(_nothing)
    fields = []
    changed = case.inputs.clone()
    changed[..., 8:16, 16:24] += 1  # row 1, column 2
    for inputs in (case.inputs, changed):
        wrapped(inputs)
        fields.append(wrapped.field[0])
    moved = (fields[1] - fields[0]).abs().sum(-1) > 1e-6
    at = moved.nonzero()[:, -2:].unique(dim=0)
    assert at.tolist() == [[1, 2]]


def _nothing(module: nn.Module, args: Any, output: Any) -> Any:
    if isinstance(output, tuple):
        return (torch.zeros_like(output[0]), *output[1:])
    return torch.zeros_like(output)


@EVERY
def test_layers_by_number_and_by_name(name):
    case = backbone(name)
    case.model.eval()
    fields = {}
    for layer in (1, 2, 3, -1, -3, *case.blocks):
        wrapped = PatchTokens(case.model, layer=layer)
        wrapped(case.inputs)
        fields[layer] = wrapped.field
    for number, block in enumerate(case.blocks, 1):
        assert torch.equal(fields[number], fields[block])
    assert torch.equal(fields[-1], fields[3])
    assert torch.equal(fields[-3], fields[1])
    assert not torch.equal(fields[1], fields[2])


def test_the_heads_of_transformers_are_wrapped_too():
    transformers = pytest.importorskip("transformers", reason="needs transformers")
    small: dict[str, Any] = {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    image = {"image_size": 32, "patch_size": 8}
    wrapped = PatchTokens(
        transformers.ViTForImageClassification(transformers.ViTConfig(**small, **image))
    )
    assert wrapped(torch.randn(2, 3, 32, 32)).logits.shape == (2, 2)
    assert wrapped.field.shape == (2, 4, 4, 48)
    vision = transformers.CLIPVisionConfig(**small, **image)
    wrapped = PatchTokens(transformers.CLIPVisionModel(vision))
    output = wrapped(torch.randn(2, 3, 32, 32))
    assert torch.equal(flat(wrapped.field), output.last_hidden_state[:, 1:])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", ["timm", "timm, registers", "timm, eva"])
def test_patch_dropout_is_read(name, dtype):
    case = backbone(name, patch_drop_rate=0.5)
    model, inputs = case.model.train().to(dtype), case.inputs.to(dtype)
    torch.manual_seed(3)
    want = model(inputs)
    wrapped = PatchTokens(model)
    torch.manual_seed(3)
    assert torch.equal(wrapped(inputs), want)
    mask = wrapped.mask
    assert mask is not None
    assert mask.sum((1, 2)).tolist() == [8, 8]
    assert not wrapped.field[~mask].any()
    # Without blocks, a token depends on its own patch alone.
    model.blocks = nn.ModuleList([nn.Identity()])
    if not hasattr(model, "rope"):
        model.blocks = nn.Sequential(nn.Identity())
        wrapped = PatchTokens(model)
        wrapped(inputs)
        mask, field = wrapped.mask, wrapped.field
        assert mask is not None
        model.eval()
        wrapped(inputs)
        assert wrapped.mask is None
        torch.testing.assert_close(field[mask], wrapped.field[mask])


def test_masked_models_of_transformers_are_read():
    transformers = pytest.importorskip("transformers", reason="needs transformers")
    small: dict[str, Any] = {
        "hidden_size": 48,
        "num_hidden_layers": 0,
        "num_attention_heads": 4,
        "image_size": 32,
        "patch_size": 8,
    }
    torch.manual_seed(0)
    model = transformers.ViTMAEModel(transformers.ViTMAEConfig(**small, mask_ratio=0.75)).eval()
    images = torch.randn(2, 3, 32, 32)
    wrapped = PatchTokens(model)
    output = wrapped(images)
    field, mask = wrapped.field, wrapped.mask
    assert mask is not None
    assert torch.equal(mask.flatten(1), output.mask == 0)
    model.config.mask_ratio = 0.0
    model.embeddings.config.mask_ratio = 0.0
    full = wrapped(images)
    order = full.ids_restore[..., None].expand(-1, -1, 48)
    whole = full.last_hidden_state[:, 1:].gather(1, order).unflatten(1, (4, 4))
    torch.testing.assert_close(field[mask], whole[mask])

    config = transformers.VideoMAEConfig(**small, num_frames=4, use_mean_pooling=False)
    model = transformers.VideoMAEModel(config).eval()
    clips = torch.randn(2, 4, 3, 32, 32)
    hidden = torch.stack([torch.randperm(32) < 20 for _ in range(2)])
    wrapped = PatchTokens(model)
    wrapped(clips)
    whole = wrapped.field
    wrapped(clips, bool_masked_pos=hidden)
    assert wrapped.mask is not None
    assert torch.equal(wrapped.mask.flatten(1), ~hidden)
    torch.testing.assert_close(wrapped.field[wrapped.mask], whole[wrapped.mask])


class Masked(nn.Module):
    """A masked encoder of one's own, with two prefix tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 12, 8, 8)
        self.layers = nn.ModuleList([nn.Linear(12, 12)])

    def encode(self, images: torch.Tensor, visible: torch.Tensor | None = None) -> torch.Tensor:
        x = self.patches(images).flatten(2).mT
        if visible is not None:
            x = x.gather(1, visible[..., None].expand(-1, -1, 12))
        return self.layers[0](torch.cat([x[:, :2] * 0, x], 1))

    forward = encode


def test_places_of_kept_patches_are_given_at_the_call():
    model, images = Masked(), torch.randn(2, 3, 32, 24)
    wrapped = PatchTokens(model, prefix=2)
    wrapped(images)
    whole, visible = wrapped.field, torch.tensor([[3, 1, 11], [0, 2, 4]])
    with pytest.raises(ValueError, match="say by `keep` which ones are left"):
        wrapped(images, visible)
    wrapped(images, visible, keep=visible)
    assert wrapped.mask is not None
    assert wrapped.mask.sum() == 6
    torch.testing.assert_close(wrapped.field[wrapped.mask], whole[wrapped.mask])
    model.encode(images, visible)
    assert wrapped.read(visible).shape == (2, 4, 3, 12)


def test_a_convolutional_network_is_named():
    timm = pytest.importorskip("timm", reason="needs timm")
    net = timm.create_model("resnet18", num_classes=2)
    with pytest.raises(ValueError, match=r"must have transformer blocks.*got ResNet.*movedim"):
        PatchTokens(net)
    wrapped = PatchTokens(net, layer="layer4")
    with pytest.raises(ValueError, match=r"tokens \(B, N, C\), got shape \(1, 512, 2, 2\).*moved"):
        wrapped(torch.randn(1, 3, 64, 64))
    next_net = timm.create_model("convnext_atto", num_classes=2)
    with pytest.raises(ValueError, match=r"got shape .* from the last layer of ConvNeXt.*movedim"):
        PatchTokens(next_net)(torch.randn(1, 3, 64, 64))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"layer": 4}, ValueError, "from 1 to 3 or from -3 to -1, got 4"),
        ({"layer": 0}, ValueError, "from 1 to 3 or from -3 to -1, got 0"),
        ({"layer": "blocks.7"}, ValueError, r"got 'blocks.7'. Near it: blocks.2"),
        ({"layer": "attn"}, ValueError, r"Near it: blocks.0.attn"),
        ({"layer": 1.5}, TypeError, "`layer` must be an integer, a name or None, got 1.5"),
        ({"grid": 4}, TypeError, "`grid` must be a sequence of integers, got 4"),
        ({"prefix": -1}, ValueError, "`prefix` must be at least 0"),
    ],
)
def test_wrong_arguments_are_refused(options, error, message):
    with pytest.raises(error, match=message):
        PatchTokens(backbone("timm").model, **options)


def test_tokens_that_fit_no_grid_are_refused():
    case = backbone("timm, registers")
    with pytest.raises(
        ValueError,
        match="must give 1 prefix tokens and 16 patches, a 4 x 4 grid, "
        "got 21 tokens from the last layer of VisionTransformer: with prefix=5",
    ):
        PatchTokens(case.model, prefix=1)(case.inputs)
    with pytest.raises(ValueError, match=r"a 2 x 5 grid, got 21 tokens .*: with prefix=11"):
        PatchTokens(case.model, grid=(2, 5))(case.inputs)
    with pytest.raises(ValueError, match=r"tokens \(B, N, C\), got shape \(2, 5\)"):
        PatchTokens(case.model, layer="head")(case.inputs)
    with pytest.raises(RuntimeError, match="`field` must be read after a call"):
        _ = PatchTokens(case.model).field
    with pytest.raises(TypeError, match="`model` must be a module, got 3"):
        PatchTokens(3)  # pyright: ignore


def test_a_model_without_a_patch_embedding_has_a_square_grid():
    class Plain(nn.Module):
        def __init__(self):
            super().__init__()
            self.cls_token = nn.Parameter(torch.zeros(1, 1, 8))
            self.layers = nn.ModuleList([nn.Linear(8, 8)])

        def forward(self, tokens):
            return self.layers[0](
                torch.cat([self.cls_token.expand(len(tokens), -1, -1), tokens], 1)
            )

    wrapped = PatchTokens(Plain())
    wrapped(torch.randn(2, 9, 8))
    assert wrapped.field.shape == (2, 3, 3, 8)
    with pytest.raises(ValueError, match="must fill a square grid, got 13 tokens and prefix=1"):
        wrapped(torch.randn(2, 12, 8))
    wrapped = PatchTokens(Plain(), grid=(3, 4))
    wrapped(torch.randn(2, 12, 8))
    assert wrapped.field.shape == (2, 3, 4, 8)


def test_a_stem_of_several_convolutions_has_the_grid_of_the_last():
    class Stem(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.GELU(), nn.Conv2d(8, 8, 3, 2, 1))
            self.blocks = nn.ModuleList([nn.Linear(8, 8)])

        def forward(self, images):
            return self.blocks[0](self.stem(images).flatten(2).mT)

    wrapped = PatchTokens(Stem())
    wrapped(torch.randn(2, 3, 8, 32))  # 2 x 8 tokens, no square
    assert wrapped.field.shape == (2, 2, 8, 8)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_a_copy_reads_its_own_model(copied):
    case = backbone("timm, any size")
    wrapped = PatchTokens(case.model.eval())
    wrapped(case.inputs)
    before, twin = wrapped.field, copied(wrapped)
    twin(case.inputs[:1, :, :16])
    assert twin.field.shape == (1, 2, 5, 48)
    assert wrapped.field is before


def test_a_recomputed_pass_does_not_count():
    case = backbone("timm")
    case.model.set_grad_checkpointing()
    wrapped = PatchTokens(case.model.train(), layer=1)
    output = wrapped(case.inputs)
    field = wrapped.field
    (output.square().mean() + field.square().mean()).backward()
    assert not wrapped.tap.seen
    assert wrapped.field is field
