"""ViTs of timm."""

from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any

import timm
from torch import Tensor, nn

from levyjepa.checks import count
from levyjepa.models.encoder import Size, pair
from levyjepa.models.frames import PooledEncoder
from levyjepa.models.registry import ENCODERS, register_encoder


@register_encoder("timm")
class ViTEncoder(PooledEncoder):
    """Encode images by a ViT of timm.

    Args:
        image_size: Pixels, one number or (H, W); `forward` takes other sizes too.
        frames: Not used; `per_frame` gives an encoder of clips.
        name: Any ViT of timm, such as "vit_small_patch8_224".
        patch_size: Pixels; None takes the name's own.
        pooling: "attention" over patch tokens, "cls" token, or "mean" of patch tokens.
        embedding_dim: E, the width of the embedding.
        drop_path: Rate of stochastic depth in the last block.
        pretrained: Start from timm's weights.
        overrides: Further arguments of timm's model, such as embed_dim, depth and num_heads.

    Raises:
        ValueError: An unknown name or pooling, a model that is no ViT or does not take these
            arguments, "cls" without class token, or a size that patches do not divide.
    """

    def __init__(
        self,
        image_size: Size = 128,
        frames: int | None = None,
        name: str = "vit_small_patch8_224",
        patch_size: int | None = None,
        pooling: str = "attention",
        embedding_dim: int = 512,
        drop_path: float = 0.1,
        pretrained: bool = False,
        **overrides: Any,
    ) -> None:
        super().__init__()
        size = pair(image_size)
        if patch_size is not None:
            overrides["patch_size"] = count("patch_size", patch_size)
        self.vit: Any = _vit(name, pretrained, img_size=size, drop_path_rate=drop_path, **overrides)
        if pooling == "cls" and getattr(self.vit, "cls_token", None) is None:
            raise ValueError(f"`pooling` must be attention or mean: {name} has no class token.")
        self.width, self.depth = self.vit.embed_dim, len(self.vit.blocks)
        self.patch_size = tuple(self.vit.patch_embed.feat_ratio(as_scalar=False))
        self.prefix_tokens = self.vit.num_prefix_tokens
        grid: Any = self.grid(size)
        self.add_head(pooling, grid, embedding_dim)

    def read(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return the prefix tokens (B, p, C) and the patch tokens (B, h, w, C)."""
        grid, prefix = self.grid(images.shape[-2:]), self.prefix_tokens
        tokens = self.vit.fc_norm(self.vit.forward_features(images))
        return tokens[:, :prefix], tokens[:, prefix:].unflatten(1, grid)

    def layers(self, images: Tensor, layers: Sequence[int]) -> list[Tensor]:
        """Return the residual stream after each of some blocks; after the last, normalized."""
        inner = sorted({layer - 1 for layer in layers})
        last, seen = self.vit.forward_intermediates(images, indices=inner)
        fields = {i + 1: tokens.movedim(1, -1) for i, tokens in zip(inner, seen, strict=True)}
        if self.depth in fields:
            patches = self.vit.fc_norm(last)[:, self.prefix_tokens :]
            fields[self.depth] = patches.unflatten(1, fields[self.depth].shape[1:3])
        return [fields[layer] for layer in layers]


def _vit(name: str, pretrained: bool, **arguments: Any) -> nn.Module:
    if not timm.is_model(name):
        near = get_close_matches(name, [*ENCODERS.names(), *timm.list_models()], n=3, cutoff=0.4)
        hint = f" Near it: {', '.join(near)}." if near else ""
        raise ValueError(
            f"`name` must be a ViT of timm, a registered encoder ({', '.join(ENCODERS.names())}), "
            f"or a folder or hub id, OWNER/MODEL, of transformers, got {name!r}.{hint}"
        )
    try:
        vit: Any = timm.create_model(
            name, pretrained=pretrained, num_classes=0, dynamic_img_size=True, **arguments
        )
    except (TypeError, AssertionError) as error:
        raise ValueError(
            f"`name` must be a ViT that takes any image size and these settings: "
            f"{name!r} refuses {arguments}: {error}"
        ) from error
    if not (hasattr(vit, "num_prefix_tokens") and hasattr(vit, "patch_embed")):
        raise ValueError(f"`name` must be a ViT, with patch tokens, got {name!r}.")
    vit.reset_classifier(0, "")  # drops a pooling of its own, which would stay without gradient
    return vit
