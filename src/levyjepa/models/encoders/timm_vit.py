"""ViTs of timm."""

from collections.abc import Sequence
from difflib import get_close_matches
from textwrap import shorten
from typing import Any

import timm
from torch import Tensor

from levyjepa.models.encoder import Size, pair
from levyjepa.models.pooled import PooledEncoder
from levyjepa.models.registry import ENCODERS, register_encoder


@register_encoder("timm")
class ViTEncoder(PooledEncoder):
    """Encode images by a ViT of timm; the arguments are those of `ModelSettings`.

    `forward` takes other sizes than `image_size` too. `overrides` are further arguments of timm's
    model, such as embed_dim, depth and num_heads.
    """

    def __init__(
        self,
        image_size: Size = 128,
        frames: int | None = None,
        name: str = "vit_small_patch8_224",
        patch_size: int | None = None,
        pooling: str = "attention",
        embedding_dim: int | None = 512,
        drop_path: float = 0.1,
        pretrained: bool = False,
        **overrides: Any,
    ) -> None:
        super().__init__()
        if not timm.is_model(name):
            ours = ENCODERS.names()
            near = get_close_matches(name, [*ours, *timm.list_models()], n=3, cutoff=0.4)
            hint = f" Near it: {', '.join(near)}." if near else ""
            raise ValueError(
                f"`name` must be a ViT of timm, a registered encoder ({', '.join(ours)}), "
                f"or a folder or hub id, OWNER/MODEL, of transformers, got {name!r}.{hint} "
                "An encoder of your own must be registered first, as `--plugin MODULE` does."
            )
        size = pair(image_size)
        overrides |= {"img_size": size, "drop_path_rate": drop_path}
        if patch_size is not None:
            overrides["patch_size"] = patch_size
        try:
            vit: Any = timm.create_model(
                name, pretrained=pretrained, num_classes=0, dynamic_img_size=True, **overrides
            )
        except (TypeError, AssertionError) as error:
            raise ValueError(
                f"`name` must be a ViT that takes any image size and these settings: "
                f"{name!r} refuses {overrides}: {error}"
            ) from error
        except Exception as error:  # what fetching raises has no common kind
            if not pretrained:
                raise
            why = f"({shorten(str(error), 300)}); random weights need no network"
            raise ConnectionError(f"The weights of {name} can't be fetched {why}.") from error
        if not (hasattr(vit, "num_prefix_tokens") and hasattr(vit, "patch_embed")):
            raise ValueError(f"`name` must be a ViT, with patch tokens, got {name!r}.")
        class_token = getattr(vit, "cls_token", None) is not None
        if pooling == "own":
            pooling = "cls" if class_token and vit.global_pool == "token" else "mean"
        vit.reset_classifier(0, "")  # drops a pooling of its own, which would get no gradient
        self.vit, self.width, self.depth = vit, vit.embed_dim, len(vit.blocks)
        self.patch_size = tuple(vit.patch_embed.feat_ratio(as_scalar=False))
        self.prefix_tokens = vit.num_prefix_tokens
        self.add_head(pooling, size, embedding_dim, class_token)

    def read(self, images: Tensor) -> tuple[Tensor, Tensor]:
        grid, prefix = self.grid(images.shape[-2:]), self.prefix_tokens
        tokens = self.vit.fc_norm(self.vit.forward_features(images))
        return tokens[:, :prefix], tokens[:, prefix:].unflatten(1, grid)

    def layers(self, images: Tensor, layers: Sequence[int]) -> list[Tensor]:
        """Return the residual stream after each of some blocks; after the last, normalized."""
        blocks = [layer - 1 for layer in layers]
        last, inner = self.vit.forward_intermediates(images, indices=sorted(set(blocks)))
        fields = dict(zip(sorted(set(blocks)), (x.movedim(1, -1) for x in inner), strict=True))
        patches = self.vit.fc_norm(last)[:, self.prefix_tokens :]
        fields[self.depth - 1] = patches.unflatten(1, self.grid(images.shape[-2:]))
        return [fields[block] for block in blocks]
