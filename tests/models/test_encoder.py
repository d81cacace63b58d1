from typing import Any

import pytest
import torch
from timm.layers.attention_pool2d import AttentionPool2d
from torch import nn

from levyjepa.models import (
    Encoder,
    Encoding,
    ModelSettings,
    PixelEncoder,
    build_encoder,
    check_encoder,
)
from levyjepa.models.encoders.timm_vit import ViTEncoder
from levyjepa.models.registry import ENCODERS, register_encoder

SMALL: dict[str, Any] = {"embed_dim": 96, "depth": 2, "num_heads": 3}


def small(**settings) -> ViTEncoder:
    return ViTEncoder(**({"image_size": (16, 24)} | SMALL | settings)).eval()


def test_the_encoder_of_the_published_results():
    encoder = ViTEncoder().eval()
    with torch.inference_mode():
        encoding = encoder(torch.randn(2, 3, 128, 128))
    assert encoding.embedding.shape == (2, 512)
    assert encoding.tokens.shape == (2, 16, 16, 384)
    assert isinstance(encoder.pool, AttentionPool2d)
    assert encoder.pool.num_heads == 6
    assert encoder.pool.feat_size == (16, 16)
    assert [type(layer) for layer in encoder.embed] == [nn.LayerNorm, nn.Linear]
    assert encoder.vit.blocks[-1].drop_path1.drop_prob == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("name", "patch", "prefix", "overrides"),
    [
        ("vit_small_patch8_224", 8, 4, {"reg_tokens": 3, "pooling": "mean"}),
        ("vit_small_patch14_reg4_dinov2", 14, 5, {}),
        ("deit_tiny_distilled_patch16_224", 16, 2, {"pooling": "cls"}),
        ("vit_small_patch16_dinov3", 16, 5, {}),
    ],
)
def test_patch_tokens_keep_their_place(name, patch, prefix, overrides):
    encoder = ViTEncoder((2 * patch, 3 * patch), None, name, **SMALL, **overrides).eval()
    images = torch.randn(2, 3, 2 * patch, 3 * patch)
    with torch.inference_mode():
        encoding = encoder(images)
        tokens = encoder.vit.forward_features(images)
    assert tokens.shape[1] == prefix + 6
    assert (encoder.patch_size, encoder.prefix_tokens) == ((patch, patch), prefix)
    assert encoder.grid((2 * patch, 3 * patch)) == (2, 3)
    assert encoding.tokens.shape == (2, 2, 3, 96)
    for row in range(2):
        for column in range(3):
            expected = tokens[:, prefix + 3 * row + column]
            torch.testing.assert_close(encoding.tokens[:, row, column], expected)


def test_a_token_comes_from_its_own_patch():
    encoder = small(reg_tokens=2, depth=1)
    for block in encoder.vit.blocks:  # attention off: nothing mixes patches
        nn.init.zeros_(block.attn.proj.weight)
    images = torch.randn(1, 3, 16, 24)
    changed = images.clone()
    changed[..., 8:16, 16:24] += 1.0
    with torch.inference_mode():
        moved = (encoder(changed).tokens - encoder(images).tokens).abs().sum(-1)[0]
    assert moved.nonzero().tolist() == [[1, 2]]


def test_a_model_with_its_own_pooling_gives_normalized_tokens_and_no_idle_parameters():
    encoder = ViTEncoder(
        32, None, "vit_so150m_patch16_reg4_map_256", embed_dim=64, depth=1, num_heads=2
    )
    encoding = encoder(torch.randn(2, 3, 32, 32))
    torch.testing.assert_close(encoding.tokens.mean(-1), torch.zeros(2, 2, 2), atol=1e-5, rtol=0)
    encoding.embedding.sum().backward()
    assert [key for key, p in encoder.named_parameters() if p.grad is None] == []


def test_poolings_differ_in_what_they_read():
    images = torch.randn(2, 3, 16, 24)
    with torch.inference_mode():
        mean = small(pooling="mean")
        tokens = mean(images).tokens
        torch.testing.assert_close(mean(images).embedding, mean.embed(tokens.mean((1, 2))))
        cls = small(pooling="cls")
        first = cls.vit.forward_features(images)[:, 0]
        torch.testing.assert_close(cls(images).embedding, cls.embed(first))


def test_smaller_views_than_the_built_size_and_another_patch_size():
    encoder = small(image_size=32, patch_size=4)
    assert encoder(torch.randn(2, 3, 16, 24)).tokens.shape == (2, 4, 6, 96)


@pytest.mark.parametrize(("width", "heads"), [(96, 6), (64, 1), (320, 5)])
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
        ("vit_small_patch8_224", {"image_size": (32, 32, 3)}, "one number or"),
        ("vit_medium_patch16_gap_240", {"image_size": 32, "pooling": "cls"}, "no class token"),
    ],
)
def test_bad_settings_are_named(name, settings, message):
    with pytest.raises(ValueError, match=message):
        ViTEncoder(name=name, **({"image_size": 32} | settings))


def test_bad_images_are_named():
    encoder = small()
    for shape in ((3, 16, 24), (1, 1, 16, 24)):
        with pytest.raises(ValueError, match=r"\(B, 3, H, W\).*16, 24\)"):
            encoder(torch.randn(shape))
    with pytest.raises(ValueError, match=r"patch size \(8, 8\)"):
        encoder(torch.randn(1, 3, 16, 20))
    with pytest.raises(TypeError, match="uint8"):
        encoder(torch.zeros(1, 3, 16, 24, dtype=torch.uint8))


@pytest.mark.parametrize("overrides", [{}, {"global_pool": "avg"}], ids=["norm", "fc_norm"])
def test_layers_are_the_residual_stream_and_the_last_is_what_it_gives(overrides):
    encoder, images = small(depth=3, **overrides), torch.randn(2, 3, 16, 24)
    seen = []
    for block in encoder.vit.blocks:
        block.register_forward_hook(lambda _m, _i, out: seen.append(out))
    with torch.inference_mode():
        tokens = encoder(images).tokens
        first, second, third = encoder.layers(images, [1, 2, 3])
    torch.testing.assert_close(first, seen[0][:, 1:].unflatten(1, (2, 3)))
    torch.testing.assert_close(second, seen[1][:, 1:].unflatten(1, (2, 3)))
    torch.testing.assert_close(third, tokens)


class Patches(Encoder):
    """A stranger's encoder: a linear map of patches."""

    def __init__(self, size: int = 8, width: int = 12, embedding_dim: int = 12) -> None:
        super().__init__()
        self.patch_size, self.width, self.embedding_dim = (size, size), width, embedding_dim
        self.conv = nn.Conv2d(3, 12, 8, stride=8)
        self.bias = nn.Parameter(torch.ones(12))

    def forward(self, images):
        tokens = self.conv(images).movedim(1, -1) + self.bias
        return Encoding(tokens.mean((1, 2)), tokens)


def test_an_encoder_of_ones_own_is_checked_and_left_as_it_was():
    encoder = Patches()
    assert check_encoder(encoder, 32) is encoder
    assert encoder.training
    assert encoder.conv.weight.grad is None
    assert encoder.layers(torch.zeros(1, 3, 32, 32), [1])[0].shape == (1, 4, 4, 12)


@pytest.mark.parametrize(
    ("encoder", "error", "message"),
    [
        (lambda images: images, TypeError, "torch.nn.Module, got function"),
        (nn.Conv2d(3, 4, 8), ValueError, "Conv2d lacks `width`, `embedding_dim`, `patch_size`"),
        (Patches(size=4), ValueError, r"`tokens` .* \(1, 8, 8, 12\) .* got \(1, 4, 4, 12\)"),
        (Patches(width=5), ValueError, r"`tokens` .*\(1, 4, 4, 5\)"),
        (Patches(embedding_dim=5), ValueError, r"`embedding` .*\(1, 5\) .*got \(1, 12\)"),
        (Patches(size=5), ValueError, "multiple of the patch size"),
    ],
)
def test_what_a_strangers_encoder_lacks_is_named(encoder, error, message):
    with pytest.raises(error, match=message):
        check_encoder(encoder, 32)


def test_a_strangers_encoder_must_fit_the_data_and_return_an_encoding():
    with pytest.raises(ValueError, match=r"must be \(frames, h, w\) of clips, got \(8, 8\)"):
        check_encoder(Patches(), 32, frames=4)
    encoder = Patches()
    encoder.fixed_size = (16, 16)
    with pytest.raises(ValueError, match=r"takes only \(16, 16\), got \(32, 32\)"):
        check_encoder(encoder, 32)
    encoder = Patches()
    encoder.conv = nn.Conv2d(1, 12, 8)
    with pytest.raises(ValueError, match=r"Patches fails on zeros of shape \(1, 3, 32, 32\)"):
        check_encoder(encoder, 32)
    encoder.forward = lambda images: images
    with pytest.raises(TypeError, match="must return an Encoding, got Tensor"):
        check_encoder(encoder, 32)


@pytest.fixture
def registered():
    @register_encoder("patches")
    def patches(image_size, frames, embedding_dim, width=12, pooling="mean"):
        """Linear patches."""
        assert pooling == "cls"
        return Patches(width=width, embedding_dim=embedding_dim)

    yield
    ENCODERS.entries().pop("patches")


@pytest.mark.usefixtures("registered")
def test_a_registered_encoder_is_built_by_name():
    settings = ModelSettings.parse({"name": "patches", "pooling": "cls", "embedding_dim": 12})
    assert isinstance(check_encoder(build_encoder(settings, 32), 32), Patches)
    assert build_encoder(settings.replace(overrides={"width": 3}), 32).width == 3
    with pytest.raises(ValueError, match=r"do not fit the encoder 'patches': .*'wide'"):
        build_encoder(settings.replace(overrides={"wide": 3}), 32)
    with pytest.raises(ValueError, match="'patches' does not take"):
        build_encoder(settings.replace(pretrained=True), 32)


def test_a_name_that_nobody_knows_gets_hints():
    for name, near in (("vidomae", "videomae"), ("vit_smal_patch8_224", "vit_small_patch8_224")):
        with pytest.raises(ValueError, match=f"got '{name}'. Near it: .*{near}"):
            build_encoder(ModelSettings.parse({"name": name}), 32)


def test_settings_reach_timm():
    overrides = SMALL | {"reg_tokens": 2}
    settings = {"patch_size": 4, "pooling": "mean", "embedding_dim": 20, "drop_path": 0.3}
    encoder: Any = build_encoder(ModelSettings.parse(settings | {"overrides": overrides}), 16)
    assert (encoder.patch_size, encoder.embedding_dim, encoder.pool) == ((4, 4), 20, None)
    assert encoder.vit.blocks[-1].drop_path1.drop_prob == pytest.approx(0.3)
    assert encoder.prefix_tokens == 3


def test_pixels_are_what_they_were_before_normalization():
    images = torch.rand(2, 3, 48, 64)
    mean, std = (torch.tensor(v)[:, None, None] for v in ((0.5, 0.4, 0.3), (0.2, 0.3, 0.4)))
    encoder = check_encoder(
        PixelEncoder((8, 16), mean.flatten().tolist(), std.flatten().tolist()), (48, 64)
    )
    encoding = encoder((images - mean) / std)
    assert encoding.tokens.shape == (2, 6, 4, encoder.width)
    patch = images[1, :, 16:24, 32:48].flatten()
    torch.testing.assert_close(encoding.tokens[1, 2, 2], patch)
    expected = nn.functional.adaptive_avg_pool2d(images, 32).flatten(1)
    torch.testing.assert_close(encoding.embedding, expected)
    small = PixelEncoder(4, (0.0,) * 3, (1.0,) * 3)(images[..., :28, :28])
    torch.testing.assert_close(small.embedding, images[..., :28, :28].flatten(1))


def test_pixels_of_clips_are_tubelets_and_a_coarse_clip():
    clips = torch.rand(2, 6, 3, 32, 32)
    encoder = PixelEncoder((2, 8, 8), (0.0,) * 3, (1.0,) * 3, frames=6)
    encoding = check_encoder(encoder, 32, 6)(clips)
    assert encoding.tokens.shape == (2, 3, 4, 4, 2 * 3 * 8 * 8)
    torch.testing.assert_close(
        encoding.tokens[0, 1, 2, 3], clips[0, 2:4, :, 16:24, 24:32].flatten()
    )
    coarse = nn.functional.adaptive_avg_pool3d(clips.transpose(1, 2), (2, 16, 16))
    torch.testing.assert_close(encoding.embedding, coarse.flatten(1))
    assert PixelEncoder(8, (0.0,) * 3, (1.0,) * 3, frames=6)(clips).tokens.shape[1] == 6
