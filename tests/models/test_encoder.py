from typing import Any

import pytest
import torch
from timm.layers.attention_pool2d import AttentionPool2d
from torch import nn

from levyjepa.models import Encoder

SMALL: dict[str, Any] = {"embed_dim": 96, "depth": 2, "num_heads": 3}


def small(**settings) -> Encoder:
    size = settings.pop("image_size", (16, 24))
    return Encoder("vit_small_patch8_224", size, **(SMALL | settings)).eval()


def test_the_encoder_of_the_published_results():
    encoder = Encoder().eval()
    with torch.inference_mode():
        encoding = encoder(torch.randn(2, 3, 128, 128))
    assert encoding.embedding.shape == (2, 512)
    assert encoding.field.shape == (2, 16, 16, 384)
    assert isinstance(encoder.pool, AttentionPool2d)
    assert encoder.pool.num_heads == 6
    assert encoder.pool.feat_size == (16, 16)
    assert [type(layer) for layer in encoder.embed] == [nn.LayerNorm, nn.Linear]
    assert encoder.vit.blocks[-1].drop_path1.drop_prob == pytest.approx(0.1)


@pytest.mark.parametrize("pooling", ["attention", "cls", "mean"])
@pytest.mark.parametrize(
    ("name", "patch", "prefix", "overrides"),
    [
        ("vit_small_patch8_224", 8, 1, {}),
        ("vit_small_patch8_224", 8, 4, {"reg_tokens": 3}),
        ("vit_small_patch14_reg4_dinov2", 14, 5, {}),
        ("deit_tiny_distilled_patch16_224", 16, 2, {}),
        ("vit_small_patch16_dinov3", 16, 5, {}),
    ],
)
def test_patch_tokens_keep_their_place(name, patch, prefix, overrides, pooling):
    encoder = Encoder(name, (2 * patch, 3 * patch), pooling=pooling, **SMALL, **overrides).eval()
    images = torch.randn(2, 3, 2 * patch, 3 * patch)
    with torch.inference_mode():
        encoding = encoder(images)
        tokens = encoder.vit.forward_features(images)
    assert tokens.shape[1] == prefix + 6
    assert encoding.field.shape == (2, 2, 3, 96)
    for row in range(2):
        for column in range(3):
            expected = tokens[:, prefix + 3 * row + column]
            torch.testing.assert_close(encoding.field[:, row, column], expected)


def test_a_token_comes_from_its_own_patch():
    encoder = small(reg_tokens=2, depth=1)
    for block in encoder.vit.blocks:  # attention off: nothing mixes patches
        nn.init.zeros_(block.attn.proj.weight)
    images = torch.randn(1, 3, 16, 24)
    changed = images.clone()
    changed[..., 8:16, 16:24] += 1.0
    with torch.inference_mode():
        moved = (encoder(changed).field - encoder(images).field).abs().sum(-1)[0]
    assert moved.nonzero().tolist() == [[1, 2]]


@pytest.mark.parametrize("name", ["vit_medium_patch16_gap_240", "vit_so150m_patch16_reg4_map_256"])
def test_a_model_with_its_own_pooling_gives_normalised_tokens_and_no_idle_parameters(name):
    encoder = Encoder(name, 32, embed_dim=64, depth=1, num_heads=2)
    encoding = encoder(torch.randn(2, 3, 32, 32))
    torch.testing.assert_close(encoding.field.mean(-1), torch.zeros(2, 2, 2), atol=1e-5, rtol=0)
    encoding.embedding.sum().backward()
    assert [key for key, p in encoder.named_parameters() if p.grad is None] == []


def test_poolings_differ_in_what_they_read():
    images = torch.randn(2, 3, 16, 24)
    with torch.inference_mode():
        mean = small(pooling="mean")
        field = mean(images).field
        torch.testing.assert_close(mean(images).embedding, mean.embed(field.mean((1, 2))))
        cls = small(pooling="cls")
        first = cls.vit.forward_features(images)[:, 0]
        torch.testing.assert_close(cls(images).embedding, cls.embed(first))


@pytest.mark.parametrize("pooling", ["attention", "cls", "mean"])
def test_smaller_views_than_the_built_size(pooling):
    encoder = small(image_size=32, pooling=pooling)
    assert encoder(torch.randn(2, 3, 16, 24)).field.shape == (2, 2, 3, 96)


def test_another_patch_size():
    encoder = small(image_size=28, patch_size=4)
    assert encoder(torch.randn(1, 3, 28, 28)).field.shape == (1, 7, 7, 96)


@pytest.mark.parametrize(("width", "heads"), [(96, 6), (384, 6), (128, 2), (64, 1), (320, 5)])
def test_attention_pooling_fits_any_width(width, heads):
    encoder = small(embed_dim=width, num_heads=2, depth=1)
    assert encoder.pool is not None
    assert encoder.pool.num_heads == heads


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("vit_smal_patch8_224", {}, "vit_small_patch8_224"),
        ("resnet18", {}, "must be a ViT"),
        ("swin_tiny_patch4_window7_224", {"image_size": 224}, "must be a ViT"),
        ("vit_small_patch8_224", {"dept": 2}, "dept"),
        ("vit_small_patch8_224", {"image_size": 30}, r"multiple of the patch size \(8, 8\).*30"),
        ("vit_small_patch8_224", {"image_size": (32, 28)}, r"\(32, 28\)"),
        ("vit_small_patch8_224", {"image_size": (32, 32, 3)}, "one number or"),
        ("vit_small_patch8_224", {"patch_size": 0}, "`patch_size` must be at least 1"),
        ("vit_small_patch8_224", {"pooling": "max"}, "attention, cls, mean, got 'max'"),
        ("vit_medium_patch16_gap_240", {"image_size": 32, "pooling": "cls"}, "no class token"),
    ],
)
def test_bad_settings_are_named(name, settings, message):
    with pytest.raises(ValueError, match=message):
        Encoder(name, **({"image_size": 32} | settings))


def test_bad_images_are_named():
    encoder = small()
    with pytest.raises(ValueError, match=r"\(B, 3, H, W\).*\(3, 16, 24\)"):
        encoder(torch.randn(3, 16, 24))
    with pytest.raises(ValueError, match=r"patch size \(8, 8\)"):
        encoder(torch.randn(1, 3, 16, 20))
    with pytest.raises(TypeError, match="uint8"):
        encoder(torch.zeros(1, 3, 16, 24, dtype=torch.uint8))
