"""Video ViTs of transformers: tokens on their lattice, weights and the errors of sizes."""

import builtins
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

pytest.importorskip("transformers", reason="needs pip install 'levyjepa[transformers]'")

from transformers import (
    VideoMAEConfig,
    VideoMAEForPreTraining,
    VideoMAEModel,
    ViTConfig,
    ViTModel,
    VJEPA2Config,
    VJEPA2ForVideoClassification,
    VJEPA2Model,
)

from levyjepa.models.tubelet import TubeletEncoder

SHAPE: dict[str, Any] = {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
SMALL = {"videomae": SHAPE | {"intermediate_size": 96}, "vjepa2": SHAPE | {"mlp_ratio": 2}}
EVERY = pytest.mark.parametrize("name", SMALL)


def small(name: str, seed: int = 0, **settings: Any) -> TubeletEncoder:
    torch.manual_seed(seed)
    given = {"frames": 6, "image_size": (32, 48), "patch_size": 16} | SMALL[name] | settings
    return TubeletEncoder(name, **given).eval()


def clips(frames: int = 6, height: int = 32, width: int = 48, count: int = 2) -> torch.Tensor:
    return torch.randn(count, frames, 3, height, width, generator=torch.Generator().manual_seed(0))


@EVERY
@pytest.mark.parametrize("pooling", ["attention", "mean"])
def test_a_token_for_each_tubelet_and_an_embedding(name: str, pooling: str) -> None:
    encoder = small(name, pooling=pooling, embedding_dim=20)
    encoding = encoder(clips())
    assert encoder.grid == (3, 2, 3)
    assert (encoder.width, encoder.embedding_dim) == (48, 20)
    assert encoding.field.shape == (2, 3, 2, 3, 48)
    assert encoding.embedding.shape == (2, 20)
    assert encoding.field.mean(-1).abs().max() < 1e-5  # normalised
    if pooling == "mean":
        want = encoder.embed(encoding.field.mean((1, 2, 3)))
        torch.testing.assert_close(encoding.embedding, want)


@EVERY
@pytest.mark.parametrize("tubelet", [1, 2, 3])
def test_a_token_comes_from_its_own_tubelet(name: str, tubelet: int) -> None:
    encoder = small(name, num_hidden_layers=0, tubelet_size=tubelet)
    images = clips(count=1)
    changed = images.clone()
    changed[0, 3, :, 16:, 32:] += 1.0
    moved = (encoder(changed).field - encoder(images).field).abs().sum(-1)[0]
    assert moved.nonzero().tolist() == [[3 // tubelet, 1, 2]]


@EVERY
def test_layers_mix_tokens_and_the_own_tubelet_moves_most(name: str) -> None:
    encoder, images = small(name), clips(count=1)
    changed = images.clone()
    changed[0, 4:, :, :16, 16:32] += 1.0
    moved = (encoder(changed).field - encoder(images).field).abs().sum(-1)[0]
    assert (moved > 0).all()
    assert moved.argmax() == (2 * 2 + 0) * 3 + 1


@EVERY
@pytest.mark.parametrize("pooling", ["attention", "mean"])
def test_gradients_reach_every_parameter(name: str, pooling: str) -> None:
    encoder = small(name, pooling=pooling, drop_path=0.1).train()
    encoding = encoder(clips())
    (encoding.embedding.square().sum() + encoding.field[..., 0].sum()).backward()
    assert [
        key for key, p in encoder.named_parameters() if p.grad is None or not p.grad.any()
    ] == []


@EVERY
def test_a_seed_makes_the_encoder_and_its_paths(name: str) -> None:
    first, again, other = (small(name, seed, drop_path=0.5) for seed in (3, 3, 4))
    images = clips(count=8)
    assert torch.equal(first(images).field, again(images).field)
    assert not torch.equal(first(images).field, other(images).field)
    torch.manual_seed(5)
    dropped = first.train()(images).field
    torch.manual_seed(5)
    assert torch.equal(dropped, again.train()(images).field)
    assert not torch.equal(dropped, first.eval()(images).field)
    still = small(name, 3).train()(images).field
    torch.testing.assert_close(still, first.eval()(images).field)


def test_drop_path_drops_whole_clips_in_the_last_block() -> None:
    """At a rate near 1 the last block passes every clip on unchanged."""
    for name in SMALL:
        whole, one = (small(name, num_hidden_layers=n, drop_path=0.999) for n in (2, 1))
        one.load_state_dict(whole.state_dict(), strict=False)
        images = clips()
        torch.manual_seed(0)
        torch.testing.assert_close(whole.train()(images).field, one.eval()(images).field)


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
    encoder = TubeletEncoder(str(tmp_path), 6, size, pretrained=True).eval()
    images = clips() if name == "videomae" else clips(6, 48, 48)
    extra = {"skip_predictor": True} if name == "vjepa2" else {}
    want = model(images, **extra).last_hidden_state
    field = encoder(images).field
    torch.testing.assert_close(field, want.unflatten(1, encoder.grid))


def test_the_encoder_within_a_larger_model(tmp_path) -> None:
    config = VideoMAEConfig(**SMALL["videomae"], num_frames=4, image_size=32, patch_size=16)
    config.decoder_hidden_size, config.decoder_num_attention_heads = 24, 2
    VideoMAEForPreTraining(config).save_pretrained(tmp_path / "a")
    encoder = TubeletEncoder(str(tmp_path / "a"), 4, 32, pretrained=True)
    assert encoder(clips(4, 32, 32)).field.shape == (2, 2, 2, 2, 48)
    config = VJEPA2Config(**SMALL["vjepa2"], crop_size=32, num_pooler_layers=1)
    config.pred_hidden_size, config.pred_num_attention_heads = 24, 2
    whole = VJEPA2ForVideoClassification(config).eval().half()
    whole.save_pretrained(tmp_path / "b")
    encoder = TubeletEncoder(str(tmp_path / "b"), 4, 32, pretrained=True).eval()
    images = clips(4, 32, 32)
    want = whole.float().vjepa2(images, skip_predictor=True).last_hidden_state
    torch.testing.assert_close(encoder(images).field.flatten(1, 3), want)
    assert not any("predictor" in key for key in encoder.state_dict())


def test_without_pretrained_a_folder_gives_the_shape_alone(tmp_path) -> None:
    model = written("videomae", tmp_path)
    torch.manual_seed(1)
    encoder = TubeletEncoder(str(tmp_path), 8, 64, tubelet_size=4)
    assert encoder.grid == (2, 4, 4)
    weight = dict(model.named_parameters())["encoder.layer.0.output.dense.weight"]
    assert not torch.equal(encoder.model.encoder.layer[0].output.dense.weight, weight)


def test_rotary_places_take_other_clips() -> None:
    """Tokens of a smaller or shorter clip are those of an encoder built for it."""
    encoder = small("vjepa2", image_size=64)
    for frames, height, width in ((6, 64, 64), (2, 64, 64), (12, 48, 32), (4, 16, 64)):
        built = small("vjepa2", frames=frames, image_size=(height, width))
        built.load_state_dict(encoder.state_dict())
        images = clips(frames, height, width)
        want = built(images)
        assert want.field.shape[1:4] == (frames // 2, height // 16, width // 16)
        torch.testing.assert_close(encoder(images).field, want.field)
        torch.testing.assert_close(encoder(images).embedding, want.embedding)
    square = small("vjepa2", image_size=32)  # as transformers itself reads the places
    square.load_state_dict(encoder.state_dict())
    images = clips(4, 32, 32)
    want = square.model(images).last_hidden_state.unflatten(1, (2, 2, 2))
    torch.testing.assert_close(encoder(images).field, want)
    with pytest.raises(ValueError, match=r"at most 64 pixels wide and high, got \(32, 80\)"):
        encoder(clips(4, 32, 80))


def test_fixed_places_take_clips_of_one_size() -> None:
    encoder = small("videomae")
    with pytest.raises(ValueError, match=r"`clips` must be of \(6, 32, 48\).*got \(4, 32, 48\)"):
        encoder(clips(4))
    assert [key for key in encoder.state_dict() if "position" in key] == []
    assert "model.embeddings.position_embeddings" in dict(encoder.named_buffers())


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("vidomae", {}, "or a hub id, OWNER/MODEL, got 'vidomae'. Near it: videomae"),
        ("vit_smal_patch8_224", {}, "Near it: vit_small_patch8_224"),
        ("no/such/model", {}, "`name` must be a folder .* got 'no/such/model'"),
        ("videomae", {"pretrained": True}, "`pretrained` needs a folder or a hub id"),
        (
            "videomae",
            {"depth": 2, "embed_dim": 3},
            "VideoMAEConfig other than .*; got depth, embed",
        ),
        ("vjepa2", {"crop_size": 32}, "of VJEPA2Config other than .*crop_size.*; got crop_size"),
        ("videomae", {"hidden_size": 50}, "can't make videomae: .*multiple of the number of att"),
        ("vjepa2", {"hidden_size": "48"}, "can't make vjepa2"),
        ("vjepa2", {"hidden_act": "glue"}, "can't make vjepa2: .*glue"),
        ("vjepa2", {"tubelet_size": 0}, "`tubelet_size` must be at least 1, got 0"),
        ("videomae", {"tubelet_size": 4}, r"multiples of the tubelet \(4, 16, 16\), got \(6, 32,"),
        (
            "vjepa2",
            {"image_size": 40},
            r"multiples of the tubelet \(2, 16, 16\), got \(6, 40, 40\)",
        ),
        ("vjepa2", {"image_size": (32, 32, 3)}, "`image_size` must be one number or"),
        ("vjepa2", {"frames": 0}, "`frames` must be at least 1, got 0"),
        ("vjepa2", {"patch_size": 0}, "`patch_size` must be at least 1, got 0"),
        ("vjepa2", {"drop_path": -0.1}, "`drop_path` must be at least 0, got -0.1"),
        ("vjepa2", {"embedding_dim": 0}, "`embedding_dim` must be at least 1, got 0"),
        ("vjepa2", {"pooling": "cls"}, "`pooling` must be one of attention, mean, got 'cls'"),
    ],
)
def test_bad_settings_are_named(name, settings, message) -> None:
    base = {"frames": 6, "image_size": 32, "patch_size": 16} | SMALL.get(name, {})
    with pytest.raises(ValueError, match=message):
        TubeletEncoder(name, **(base | settings))


def test_folders_that_do_not_fit_are_named(tmp_path) -> None:
    with pytest.raises(ValueError, match=r"`name` must be a folder .*config.json"):
        TubeletEncoder(str(tmp_path), 4, 32)
    ViTModel(ViTConfig(**SHAPE, intermediate_size=96)).save_pretrained(tmp_path / "vit")
    with pytest.raises(ValueError, match=r"`name` must be a videomae or a vjepa2, got .*, a vit"):
        TubeletEncoder(str(tmp_path / "vit"), 4, 224)
    folder = str(tmp_path / "clip")
    written("videomae", tmp_path / "clip")
    with pytest.raises(ValueError, match=r"must be \(6, 32, 48\), as the fixed places of .*clip"):
        TubeletEncoder(folder, 4, 32, pretrained=True)
    with pytest.raises(ValueError, match=r"can't make .*its weights lack layernorm"):
        TubeletEncoder(folder, 6, (32, 48), pretrained=True, use_mean_pooling=False)
    with pytest.raises(ValueError, match=r"can't make .*clip"):
        TubeletEncoder(folder, 6, (32, 48), pretrained=True, hidden_size=96)
    (tmp_path / "clip" / "model.safetensors").unlink()
    with pytest.raises(ValueError, match=r"can't make .*clip.*model.safetensors"):
        TubeletEncoder(folder, 6, (32, 48), pretrained=True)


def test_bad_clips_are_named() -> None:
    encoder = small("vjepa2")
    with pytest.raises(ValueError, match=r"`clips` must be \(B, T, 3, H, W\).*\(2, 3, 32, 48\)"):
        encoder(torch.randn(2, 3, 32, 48))
    with pytest.raises(ValueError, match=r"`clips` must be \(B, T, 3, H, W\).*\(2, 3, 6, 32, 48\)"):
        encoder(torch.randn(2, 3, 6, 32, 48))
    with pytest.raises(TypeError, match="uint8"):
        encoder(torch.zeros(1, 6, 3, 32, 48, dtype=torch.uint8))
    with pytest.raises(
        ValueError, match=r"multiples of the tubelet \(2, 16, 16\), got \(5, 32, 48"
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
        TubeletEncoder("videomae", 4, 32)
