"""A timm ViT whose patch tokens stay on their grid, pooled into one embedding."""

from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import timm
from timm.layers.attention_pool2d import AttentionPool2d
from torch import Tensor, nn

from levyjepa.checks import count, floating

POOLINGS = ("attention", "cls", "mean")


@dataclass(frozen=True)
class Encoding:
    """What an encoder sees: one embedding per image or clip, one token per patch."""

    embedding: Tensor  # (B, E)
    field: Tensor  # (B, h, w, C), of clips (B, t, h, w, C)


class Encoder(nn.Module):
    """Encode images as a field of patch tokens and an embedding pooled from them.

    Args:
        name: Any ViT of timm, such as "vit_small_patch8_224".
        image_size: Pixels, one number or (H, W); other sizes may follow in `forward`.
        patch_size: Pixels; None takes the name's own.
        pooling: "attention" over patch tokens, "cls" token, or "mean" of patch tokens.
        embedding_dim: E, the width of the embedding.
        drop_path: Stochastic depth's rate in the last block.
        pretrained: Start from timm's weights.
        overrides: Further arguments of timm's model, as embed_dim, depth, num_heads, reg_tokens.

    Raises:
        ValueError: An unknown name or pooling, a model that is no ViT or takes no such
            arguments, "cls" without class token, or a size that patches do not divide.
    """

    def __init__(
        self,
        name: str = "vit_small_patch8_224",
        image_size: int | tuple[int, int] = 128,
        patch_size: int | None = None,
        pooling: str = "attention",
        embedding_dim: int = 512,
        drop_path: float = 0.1,
        pretrained: bool = False,
        **overrides: Any,
    ) -> None:
        super().__init__()
        if pooling not in POOLINGS:
            raise ValueError(f"`pooling` must be one of {', '.join(POOLINGS)}, got {pooling!r}.")
        size = (image_size, image_size) if isinstance(image_size, int) else tuple(image_size)
        if len(size) != 2:
            raise ValueError(f"`image_size` must be one number or (H, W), got {image_size!r}.")
        for side in size:
            count("image_size", side)
        if patch_size is not None:
            overrides["patch_size"] = count("patch_size", patch_size)
        self.vit: Any = _vit(name, pretrained, img_size=size, drop_path_rate=drop_path, **overrides)
        if pooling == "cls" and getattr(self.vit, "cls_token", None) is None:
            raise ValueError(f"`pooling` must be attention or mean: {name} has no class token.")
        self.pooling = pooling
        self.width: int = self.vit.embed_dim
        self.embedding_dim = count("embedding_dim", embedding_dim)
        self.grid = self._grid(size)
        self.pool = (
            AttentionPool2d(self.width, feat_size=self.grid, num_heads=_heads(self.width))
            if pooling == "attention"
            else None
        )
        self.embed = nn.Sequential(nn.LayerNorm(self.width), nn.Linear(self.width, embedding_dim))

    def forward(self, images: Tensor) -> Encoding:
        """Encode normalised `images` (B, 3, H, W), whose sides the patch size divides."""
        floating("images", images, 4, "(B, 3, H, W)")
        prefix, field = self.read(images)
        pooled = prefix[:, 0] if self.pooling == "cls" else self.pooled(field)
        return Encoding(embedding=self.embed(pooled), field=field)

    def read(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """The prefix tokens (B, p, C), as a class token, and the patch tokens (B, h, w, C)."""
        grid, prefix = self._grid(images.shape[-2:]), self.vit.num_prefix_tokens
        tokens = self.vit.fc_norm(self.vit.forward_features(images))
        return tokens[:, :prefix], tokens[:, prefix:].unflatten(1, grid)

    def pooled(self, field: Tensor) -> Tensor:
        """Pool patch tokens (B, h, w, C) to (B, C), by attention or the mean."""
        return field.mean((1, 2)) if self.pool is None else self.pool(field.permute(0, 3, 1, 2))

    def _grid(self, size: tuple[int, ...]) -> tuple[int, int]:
        height, width = self.vit.patch_embed.feat_ratio(as_scalar=False)
        if size[0] % height or size[1] % width:
            raise ValueError(
                f"`image_size` must be a multiple of the patch size {(height, width)}, "
                f"got {tuple(size)}."
            )
        return size[0] // height, size[1] // width


def _vit(name: str, pretrained: bool, **arguments: Any) -> nn.Module:
    if not timm.is_model(name):
        near = get_close_matches(name, timm.list_models(), n=3, cutoff=0.4)
        hint = f" Near it: {', '.join(near)}." if near else ""
        raise ValueError(f"`name` must be a ViT of timm, got {name!r}.{hint}")
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


def _heads(width: int) -> int:
    return next(h for h in (6, *range(max(1, width // 64), 0, -1)) if width % h == 0)
