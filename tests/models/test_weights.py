"""Weights from files: the tokens of the original, whatever the keys stand under."""

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file

from levyjepa.models import CheckpointError, ModelSettings, build_encoder
from levyjepa.models.weights import find_origin
from levyjepa.training import load

NAME = "vit_tiny_patch16_224"
SIZE = {"depth": 2, "img_size": 64, "patch_size": 16, "dynamic_img_size": True}


def original(name: str = NAME, **settings: Any) -> Any:
    torch.manual_seed(0)
    vit: Any = timm.create_model(name, **SIZE | settings).eval()
    with torch.no_grad():
        for parameter in vit.parameters():  # also those that begin at 0, such as registers
            parameter.add_(torch.randn_like(parameter), alpha=0.02)
    return vit


def written(content: Any, path: Path) -> str:
    (save_file if path.suffix == ".safetensors" else torch.save)(content, path)
    return str(path)


KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "registers": {"reg_tokens": 4},
    "registers without positions": {"reg_tokens": 4, "no_embed_class": True, "init_values": 1e-5},
    "no class token": {"class_token": False, "global_pool": "avg"},
    "norm of pooled tokens": {"global_pool": "avg"},
    "norm before": {"pre_norm": True, "qkv_bias": False},
    "norm of queries": {"qk_norm": True, "num_heads": 6},
    "wider": {"mlp_ratio": 2.5, "embed_dim": 128, "num_heads": 2},
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [64, 96])
def test_shapes_say_the_architecture(kind: str, size: int, tmp_path: Path) -> None:
    vit = original(**KINDS[kind])
    file = written(vit.state_dict(), tmp_path / "vit.pt")
    images = torch.randn(2, 3, size, size)
    with torch.no_grad():
        tokens = vit.fc_norm(vit.forward_features(images))
    at_size = ["data.image_size=96"] if size == 96 else []  # positions are resized while loading
    for trained in (load(file), load(file, at_size)):
        found = trained.tokens(images).flatten(1, 2)
        torch.testing.assert_close(found, tokens[:, vit.num_prefix_tokens :], atol=1e-5, rtol=0)
    assert load(file).config.data.image_size == 64
    pooled = tokens[:, 0] if vit.global_pool == "token" else found.mean(1)
    torch.testing.assert_close(trained.embed(images), pooled, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    "name", ["vit_small_patch14_reg4_dinov2", "vit_small_patch16_dinov3", "deit3_small_patch16_224"]
)
def test_a_name_says_what_shapes_can_not(name: str, tmp_path: Path) -> None:
    vit: Any = original(name)
    file = written(vit.state_dict(), tmp_path / "vit.safetensors")
    trained = load(file, [f"model.name={name}", "model.overrides.depth=2", "model.patch_size=16"])
    images = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        tokens = vit.fc_norm(vit.forward_features(images))[:, vit.num_prefix_tokens :]
    torch.testing.assert_close(trained.tokens(images).flatten(1, 2), tokens, atol=1e-4, rtol=0)
    assert trained.mean == timm.get_pretrained_cfg(name).mean
    if "dinov3" in name:  # rotary positions
        with pytest.raises(CheckpointError, match=r"\d+ of \d+ match; it .*model.name"):
            load(file)


def test_the_first_release_of_dinov2_is_read(tmp_path: Path) -> None:
    vit = original(reg_tokens=4, no_embed_class=True, init_values=1e-5)
    state = vit.state_dict()
    cls, positions = state.pop("cls_token"), state.pop("pos_embed")
    state["register_tokens"] = state.pop("reg_token")
    state |= {"cls_token": cls - 0.5, "mask_token": torch.zeros(1, 192)}
    state["pos_embed"] = torch.cat([torch.full_like(cls, 0.5), positions], 1)
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        tokens = vit.forward_features(images)[:, 5:]
    found = load(written(state, tmp_path / "dinov2.pth")).tokens(images).flatten(1, 2)
    torch.testing.assert_close(found, tokens, atol=1e-5, rtol=0)


PREFIXES = {
    "": "",
    "backbone.": "",
    "student_backbone.vit.": "state_dict",
    "_orig_mod.model.": "state_dict",
    "module.": "model",
}


@pytest.mark.parametrize("prefix", PREFIXES)
def test_a_prefix_is_found_among_other_tensors(prefix: str, tmp_path: Path) -> None:
    vit, entry = original(), PREFIXES[prefix]
    state = {f"{prefix}{key}": value for key, value in vit.state_dict().items()}
    state |= {"projection_head.layers.0.weight": torch.zeros(3, 3)}
    content = {entry: state, "epoch": 3, "optimizer": {0: torch.zeros(2)}} if entry else state
    trained = load(written(content, tmp_path / "some.ckpt"))
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        tokens = vit.forward_features(images)[:, 1:]
    torch.testing.assert_close(trained.tokens(images).flatten(1, 2), tokens, atol=1e-5, rtol=0)
    assert trained.origin is not None
    assert not prefix or f"under '{entry}{'.' * bool(entry)}{prefix}'" in trained.origin.text
    assert "3 heads (assumed)" in trained.origin.text
    assert "ImageNet's (assumed)" in trained.origin.text


def test_of_a_student_and_a_teacher_the_teacher_is_taken(tmp_path: Path) -> None:
    vit = original()
    state = {f"student.backbone.{key}": value for key, value in vit.state_dict().items()}
    state |= {f"teacher.backbone.{key}": value + 1 for key, value in vit.state_dict().items()}
    trained = load(written(state, tmp_path / "dino.pt"))
    torch.testing.assert_close(trained.encoder.vit.cls_token, vit.cls_token + 1)
    assert trained.origin is not None
    assert "'teacher.backbone.'" in trained.origin.text
    assert "also there: 'student.backbone.'" in trained.origin.text


def test_half_of_the_weights_are_refused(tmp_path: Path) -> None:
    state = original().state_dict()
    half = {key: value for key, value in state.items() if not key.startswith("blocks.0.")}
    file = written(half, tmp_path / "half.pt")
    with pytest.raises(CheckpointError, match=r"half.pt .*18 of 30 match; it lacks 12: blocks.0"):
        load(file)
    more = written(state | {"blocks.0.ls9.gamma": torch.ones(192)}, tmp_path / "more.pt")
    with pytest.raises(CheckpointError, match=r"30 of 30 match; it also has 1: blocks.0.ls9.gamma"):
        load(more)
    whole = written(state, tmp_path / "whole.pt")
    for words, message in (
        (["model.overrides.depth=1"], "18 of 18 match; it also has 12"),
        (["model.overrides.mlp_ratio=2"], r"it has other shapes of 6: .* \(768, 192\), not \(384"),
        (["model.patch_size=8"], "patches of 16 x 16 .* say patches of 8 x 8"),
        (["model.name=vit_small_patch16_224"], "in 192 channels, .* in 384 channels"),
    ):
        with pytest.raises(CheckpointError, match=message):
            load(whole, words)


@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
def test_files_without_a_vit_are_named(suffix: str, tmp_path: Path) -> None:
    file = tmp_path / f"bad.{suffix}"
    file.write_bytes(b"no weights")
    with pytest.raises(CheckpointError, match=f"bad.{suffix} is not a "):
        load(file)
    other = {"conv1.weight": torch.zeros(1), "fc.bias": torch.zeros(1)}
    with pytest.raises(CheckpointError, match=r"2 tensors .*they begin with conv1, fc"):
        load(written(other, file))
    file.write_bytes(file.read_bytes()[:-3])
    with pytest.raises(CheckpointError, match=f"bad.{suffix} is not a "):
        load(file)


def test_settings_follow_the_weights_and_are_whole_without_them(tmp_path: Path) -> None:
    vit = original(reg_tokens=2)
    file = written(vit.state_dict(), tmp_path / "vit.pt")
    settings = find_origin(ModelSettings.parse({"weights": file, "embedding_dim": 8})).settings
    encoder = build_encoder(settings, 64)
    assert torch.equal(encoder.vit.reg_token, vit.reg_token)
    (tmp_path / "vit.pt").unlink()
    again = build_encoder(ModelSettings.parse(settings.as_dict() | {"weights": None}), 64)
    again.load_state_dict(encoder.state_dict())
    clips = build_encoder(settings.replace(weights=written(vit.state_dict(), Path(file))), 64, 3)
    assert torch.equal(clips.image.vit.reg_token, vit.reg_token)
