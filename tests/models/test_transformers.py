"""Models of transformers: tokens on their grid, weights and the errors of sizes."""

import builtins
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

pytest.importorskip("transformers", reason="needs pip install 'levyjepa[transformers]'")

from huggingface_hub import constants
from transformers import (
    CLIPConfig,
    CLIPModel,
    Dinov2WithRegistersConfig,
    Dinov2WithRegistersModel,
    VideoMAEConfig,
    VideoMAEForPreTraining,
    VideoMAEModel,
    ViTConfig,
    ViTModel,
    VJEPA2Config,
    VJEPA2ForVideoClassification,
    VJEPA2Model,
)

from levyjepa.models import ModelSettings, Network, build_encoder, check_encoder
from levyjepa.models.encoders.transformers_vit import transformers_encoder
from levyjepa.training import load

SHAPE: dict[str, Any] = {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
SMALL = {"videomae": SHAPE | {"intermediate_size": 96}, "vjepa2": SHAPE | {"mlp_ratio": 2}}
EVERY = pytest.mark.parametrize("name", SMALL)


@pytest.fixture(autouse=True)
def _offline(monkeypatch) -> None:
    """Names that are no folder are not looked up, which would be tried again and again."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


def small(name: str, seed: int = 0, **settings: Any) -> Any:
    torch.manual_seed(seed)
    given = {"frames": 6, "image_size": (32, 48), "patch_size": 16} | SMALL[name] | settings
    return transformers_encoder(name=name, **given).eval()


def clips(frames: int = 6, height: int = 32, width: int = 48, count: int = 2) -> torch.Tensor:
    return torch.randn(count, frames, 3, height, width, generator=torch.Generator().manual_seed(0))


@EVERY
@pytest.mark.parametrize("pooling", ["attention", "mean"])
def test_a_token_for_each_tubelet_and_an_embedding(name: str, pooling: str) -> None:
    encoder = small(name, pooling=pooling, embedding_dim=20)
    encoding = encoder(clips())
    check_encoder(encoder, (32, 48), 6)
    assert encoder.grid((6, 32, 48)) == (3, 2, 3)
    assert (encoder.width, encoder.embedding_dim) == (48, 20)
    assert encoding.tokens.shape == (2, 3, 2, 3, 48)
    assert encoding.embedding.shape == (2, 20)
    assert encoding.tokens.mean(-1).abs().max() < 1e-5  # normalized
    if pooling == "mean":
        want = encoder.embed(encoding.tokens.mean((1, 2, 3)))
        torch.testing.assert_close(encoding.embedding, want)


@EVERY
@pytest.mark.parametrize("tubelet", [1, 3])
def test_a_token_comes_from_its_own_tubelet(name: str, tubelet: int) -> None:
    encoder = small(name, num_hidden_layers=0, tubelet_size=tubelet)
    images = clips(count=1)
    changed = images.clone()
    changed[0, 3, :, 16:, 32:] += 1.0
    moved = (encoder(changed).tokens - encoder(images).tokens).abs().sum(-1)[0]
    assert moved.nonzero().tolist() == [[3 // tubelet, 1, 2]]


@EVERY
def test_layers_mix_tokens_and_the_own_tubelet_moves_most(name: str) -> None:
    encoder, images = small(name), clips(count=1)
    changed = images.clone()
    changed[0, 4:, :, :16, 16:32] += 1.0
    moved = (encoder(changed).tokens - encoder(images).tokens).abs().sum(-1)[0]
    assert (moved > 0).all()
    assert moved.argmax() == (2 * 2 + 0) * 3 + 1


@EVERY
@pytest.mark.parametrize("pooling", ["attention", "mean"])
def test_gradients_reach_every_parameter(name: str, pooling: str) -> None:
    encoder = small(name, pooling=pooling, drop_path=0.1).train()
    encoding = encoder(clips())
    (encoding.embedding.square().sum() + encoding.tokens[..., 0].sum()).backward()
    assert [
        key for key, p in encoder.named_parameters() if p.grad is None or not p.grad.any()
    ] == []


@EVERY
def test_a_seed_makes_the_encoder_and_its_paths(name: str) -> None:
    first, again, other = (small(name, seed, drop_path=0.5) for seed in (3, 3, 4))
    images = clips(count=8)
    assert torch.equal(first(images).tokens, again(images).tokens)
    assert not torch.equal(first(images).tokens, other(images).tokens)
    torch.manual_seed(5)
    dropped = first.train()(images).tokens
    torch.manual_seed(5)
    assert torch.equal(dropped, again.train()(images).tokens)
    assert not torch.equal(dropped, first.eval()(images).tokens)
    still = small(name, 3).train()(images).tokens
    torch.testing.assert_close(still, first.eval()(images).tokens)


def test_drop_path_drops_whole_clips_in_the_last_block() -> None:
    """At a rate near 1 the last block passes every clip on unchanged."""
    for name in SMALL:
        whole, one = (small(name, num_hidden_layers=n, drop_path=0.999) for n in (2, 1))
        one.load_state_dict(whole.state_dict(), strict=False)
        images = clips()
        torch.manual_seed(0)
        torch.testing.assert_close(whole.train()(images).tokens, one.eval()(images).tokens)


def written(name: str, folder: Path, **settings: Any) -> nn.Module:
    torch.manual_seed(0)
    if name == "videomae":
        sizes = {"num_frames": 6, "image_size": [32, 48], "patch_size": 16}
        model = VideoMAEModel(VideoMAEConfig(**SMALL[name] | sizes | settings))
    else:
        sizes = {"crop_size": 48, "frames_per_clip": 6, "patch_size": 16}
        predictor = {"pred_hidden_size": 24, "pred_num_attention_heads": 2}
        predictor["pred_num_hidden_layers"] = 1
        model = VJEPA2Model(VJEPA2Config(**SMALL[name] | sizes | predictor | settings))
    model.save_pretrained(folder)
    return model.eval()


@pytest.mark.parametrize(
    ("name", "settings"),
    [("videomae", {}), ("videomae", {"use_mean_pooling": False}), ("vjepa2", {})],
    ids=str,
)
def test_weights_of_a_folder_give_its_own_tokens(name, settings, tmp_path) -> None:
    """Those that transformers give, in row-major order of frames, rows and columns."""
    model = written(name, tmp_path, **settings)
    size = (32, 48) if name == "videomae" else 48
    encoder = transformers_encoder(size, 6, str(tmp_path), pretrained=True).eval()
    images = clips() if name == "videomae" else clips(6, 48, 48)
    extra = {"skip_predictor": True} if name == "vjepa2" else {}
    want = model(images, **extra).last_hidden_state
    tokens = encoder(images).tokens
    torch.testing.assert_close(tokens, want.unflatten(1, encoder.grid((6, *images.shape[-2:]))))


def test_the_encoder_within_a_larger_model(tmp_path) -> None:
    config = VideoMAEConfig(**SMALL["videomae"], num_frames=4, image_size=32, patch_size=16)
    config.decoder_hidden_size, config.decoder_num_attention_heads = 24, 2
    VideoMAEForPreTraining(config).save_pretrained(tmp_path / "a")
    encoder = transformers_encoder(32, 4, str(tmp_path / "a"), pretrained=True)
    assert encoder(clips(4, 32, 32)).tokens.shape == (2, 2, 2, 2, 48)
    config = VJEPA2Config(**SMALL["vjepa2"], crop_size=32, num_pooler_layers=1)
    config.pred_hidden_size, config.pred_num_attention_heads = 24, 2
    whole = VJEPA2ForVideoClassification(config).eval().half()
    whole.save_pretrained(tmp_path / "b")
    encoder = transformers_encoder(32, 4, str(tmp_path / "b"), pretrained=True).eval()
    images = clips(4, 32, 32)
    want = whole.float().vjepa2(images, skip_predictor=True).last_hidden_state
    torch.testing.assert_close(encoder(images).tokens.flatten(1, 3), want)
    assert not any("predictor" in key for key in encoder.state_dict())


def test_without_pretrained_a_folder_gives_the_shape_alone(tmp_path) -> None:
    model = written("videomae", tmp_path)
    torch.manual_seed(1)
    encoder = transformers_encoder(64, 8, str(tmp_path), tubelet_size=4)
    assert encoder.grid((8, 64, 64)) == (2, 4, 4)
    weight = dict(model.named_parameters())["encoder.layer.0.output.dense.weight"]
    assert not torch.equal(encoder.model.encoder.layer[0].output.dense.weight, weight)


def test_rotary_positions_take_other_clips() -> None:
    """Tokens of a smaller or shorter clip are those of an encoder built for it."""
    encoder = small("vjepa2", image_size=64)
    for frames, height, width in ((6, 64, 64), (2, 64, 64), (12, 48, 32), (4, 16, 64)):
        built = small("vjepa2", frames=frames, image_size=(height, width))
        built.load_state_dict(encoder.state_dict())
        images = clips(frames, height, width)
        want = built(images)
        assert want.tokens.shape[1:4] == (frames // 2, height // 16, width // 16)
        torch.testing.assert_close(encoder(images).tokens, want.tokens)
        torch.testing.assert_close(encoder(images).embedding, want.embedding)
    square = small("vjepa2", image_size=32)  # as transformers itself reads the positions
    square.load_state_dict(encoder.state_dict())
    images = clips(4, 32, 32)
    want = square.model(images).last_hidden_state.unflatten(1, (2, 2, 2))
    torch.testing.assert_close(encoder(images).tokens, want)
    with pytest.raises(ValueError, match=r"at most 64 pixels wide and high, got \(32, 80\)"):
        encoder(clips(4, 32, 80))


def test_fixed_positions_take_clips_of_one_size() -> None:
    encoder = small("videomae")
    with pytest.raises(ValueError, match=r"`clips` must be of \(6, 32, 48\).*got \(4, 32, 48\)"):
        encoder(clips(4))
    assert [key for key in encoder.state_dict() if "position" in key] == []
    assert "model.embeddings.position_embeddings" in dict(encoder.named_buffers())


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("no/such/model", {}, "`name` must be a folder .* got 'no/such/model'"),
        ("videomae", {"pretrained": True}, "`pretrained` needs a folder or a hub id"),
        (
            "videomae",
            {"depth": 2, "embed_dim": 3},
            "VideoMAEConfig other than .*, got depth, embed",
        ),
        ("vjepa2", {"crop_size": 32}, "of VJEPA2Config other than .*crop_size.*, got crop_size"),
        ("videomae", {"hidden_size": 50}, "can't make videomae.*: .*multiple of the number of att"),
        ("vjepa2", {"hidden_size": "48"}, "can't make vjepa2"),
        ("vjepa2", {"hidden_act": "glue"}, "can't make vjepa2.*: .*glue"),
        ("vjepa2", {"tubelet_size": 0}, "can't make vjepa2.*'tubelet_size': 0"),
        (
            "videomae",
            {"tubelet_size": 4},
            r"a multiple of the patch size \(4, 16, 16\), got \(6, 32,",
        ),
        (
            "vjepa2",
            {"image_size": 40},
            r"a multiple of the patch size \(2, 16, 16\), got \(6, 40, 40\)",
        ),
        ("vjepa2", {"image_size": (32, 32, 3)}, "`image_size` must be one number or"),
        ("vjepa2", {"frames": 0}, "`frames` must be at least 1, got 0"),
        ("vjepa2", {"pooling": "cls"}, "`pooling` must be attention or mean"),
    ],
)
def test_bad_settings_are_named(name, settings, message) -> None:
    base = {"frames": 6, "image_size": 32, "patch_size": 16} | SMALL.get(name, {})
    with pytest.raises(ValueError, match=message):
        transformers_encoder(name=name, **(base | settings))


def test_folders_that_do_not_fit_are_named(tmp_path) -> None:
    with pytest.raises(ValueError, match=r"`name` must be a folder .*config.json"):
        transformers_encoder(32, 4, str(tmp_path))
    folder = str(tmp_path / "clip")
    written("videomae", tmp_path / "clip")
    with pytest.raises(ValueError, match=r"must be \(6, 32, 48\), the fixed positions of .*clip"):
        transformers_encoder(32, 4, folder, pretrained=True)
    with pytest.raises(ValueError, match=r"can't make .*its weights lack layernorm"):
        transformers_encoder((32, 48), 6, folder, pretrained=True, use_mean_pooling=False)
    with pytest.raises(ValueError, match=r"can't make .*clip"):
        transformers_encoder((32, 48), 6, folder, pretrained=True, hidden_size=96)
    (tmp_path / "clip" / "model.safetensors").unlink()
    with pytest.raises(ValueError, match=r"can't make .*clip.*model.safetensors"):
        transformers_encoder((32, 48), 6, folder, pretrained=True)


def test_bad_clips_are_named() -> None:
    encoder = small("vjepa2")
    with pytest.raises(ValueError, match=r"`clips` must be \(B, T, 3, H, W\).*\(2, 3, 32, 48\)"):
        encoder(torch.randn(2, 3, 32, 48))
    with pytest.raises(ValueError, match=r"`clips` must be \(B, T, 3, H, W\).*\(2, 3, 6, 32, 48\)"):
        encoder(torch.randn(2, 3, 6, 32, 48))
    with pytest.raises(TypeError, match="uint8"):
        encoder(torch.zeros(1, 6, 3, 32, 48, dtype=torch.uint8))
    with pytest.raises(
        ValueError, match=r"a multiple of the patch size \(2, 16, 16\), got \(5, 32, 48"
    ):
        encoder(clips(5))


def test_a_missing_library_says_how_to_get_it(monkeypatch) -> None:
    real = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.startswith("transformers"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=r"pip install 'levyjepa\[transformers\]'"):
        transformers_encoder(32, 4, "videomae")


def image_model(kind: str, folder: Path) -> nn.Module:
    """A tiny image model of 8-pixel patches, made for 32 pixels, with random weights."""
    torch.manual_seed(0)
    shape = SHAPE | {"intermediate_size": 96, "image_size": 32, "patch_size": 8}
    if kind == "clip":
        text = {"hidden_size": 16, "intermediate_size": 16, "vocab_size": 50}
        text |= {"num_hidden_layers": 1, "num_attention_heads": 2}
        model = CLIPModel(CLIPConfig(vision_config=shape, text_config=text))
    elif kind == "dinov2":
        model = Dinov2WithRegistersModel(Dinov2WithRegistersConfig(**shape))
    else:
        model = ViTModel(ViTConfig(**shape))
    model.save_pretrained(folder)
    return model.eval()


IMAGE = {"vit": 1, "dinov2": 5, "clip": 1}  # tokens that are no patch


@pytest.mark.parametrize("kind", IMAGE)
def test_an_image_model_gives_its_own_tokens_layer_by_layer(kind: str, tmp_path: Path) -> None:
    model = image_model(kind, tmp_path)
    model = getattr(model, "vision_model", model)
    frozen = load(tmp_path)
    encoder: Any = frozen.encoder
    assert frozen.origin is not None
    assert (frozen.config.data.image_size, frozen.mean, frozen.origin.random) == (
        32,
        (0.5,) * 3,
        False,
    )
    assert (encoder.prefix_tokens, encoder.depth, encoder.patch_size) == (IMAGE[kind], 2, (8, 8))
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        seen = model(pixel_values=images, output_hidden_states=True)
        first, last = encoder.layers(images, [1, 2])
        tokens = encoder(images).tokens
    states = seen.hidden_states[1], seen.last_hidden_state
    for found, state in zip((first, last), states, strict=True):
        torch.testing.assert_close(found, state[:, IMAGE[kind] :].unflatten(1, (4, 4)))
    torch.testing.assert_close(tokens, last)
    assert encoder(torch.randn(1, 3, 48, 32)).tokens.shape == (1, 6, 4, 48)


@pytest.mark.parametrize("kind", ["vit", "dinov2"])
def test_an_image_model_is_trained_on_images_or_frame_by_frame(kind: str, tmp_path: Path) -> None:
    image_model(kind, tmp_path)
    settings = ModelSettings.parse({"name": str(tmp_path), "projection_hidden": 16})
    for frames, images in ((None, torch.randn(2, 3, 16, 32)), (3, torch.randn(2, 3, 3, 16, 32))):
        network = Network(build_encoder(settings, (16, 32), frames), settings, 0, True)
        check_encoder(network.encoder, (16, 32), frames)
        output = network(images)
        assert output.field is not None
        (output.projection.square().sum() + output.field.square().sum()).backward()
        idle = [k for k, p in network.named_parameters() if p.requires_grad and p.grad is None]
        assert idle == []
        again = network.untrained(1), network.untrained(1)
        for one, other in zip(*(each.parameters() for each in again), strict=True):
            assert torch.equal(one, other)


def test_published_weights_are_trained_in_training_mode(tmp_path: Path) -> None:
    """Transformers gives them in evaluation mode, in which nothing is dropped."""
    image_model("vit", tmp_path)
    settings = ModelSettings.parse({"name": str(tmp_path), "pretrained": True})
    assert all(module.training for module in build_encoder(settings, 32).modules())


def test_frozen_models_that_cannot_be_loaded_are_named(tmp_path: Path) -> None:
    for name, message in (
        ("vit_tinny_patch16_224", "near it: vit_tiny_patch16_224"),
        ("resnet18", "must be a ViT"),
        ("no/such", "must be a folder .* got 'no/such'"),
        (str(tmp_path), "has neither checkpoints/last.ckpt nor config.json"),
        (str(tmp_path / "no.pt"), "no.pt, which does not exist"),
    ):
        with pytest.raises(ValueError, match=message):
            load(name, ["data.image_size=32"])
    with pytest.raises(ValueError, match=r"multiple of the patch size \(16, 16\)"):
        load("vit_tiny_patch16_224", ["data.image_size=60"])
    clip = tmp_path / "clip"
    written("videomae", clip)
    with pytest.raises(ValueError, match="encodes clips"):
        load(clip)


def test_a_frozen_timm_model_is_a_function_of_its_seed() -> None:
    first, again, other = (load("vit_tiny_patch16_224", [f"seed={s}"]) for s in (3, 3, 4))
    assert first.origin is not None
    assert first.origin.random
    assert not any(p.requires_grad for p in first.encoder.parameters())
    assert first.mean == (0.5, 0.5, 0.5)
    key = "vit.blocks.0.attn.qkv.weight"
    assert torch.equal(first.encoder.state_dict()[key], again.encoder.state_dict()[key])
    assert not torch.equal(first.encoder.state_dict()[key], other.encoder.state_dict()[key])


def test_weights_that_cannot_be_fetched_are_a_connection_error(monkeypatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")

    def refuse(*args: Any, **kwargs: Any) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr("timm.create_model", refuse)
    with pytest.raises(ConnectionError, match="weights of vit_tiny_patch16_224 can"):
        load("vit_tiny_patch16_224", pretrained=True)
