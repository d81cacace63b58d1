"""Image ViTs of transformers, and any model of it by folder or hub id."""

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from levyjepa.checks import count
from levyjepa.models.encoder import Encoder, Size, pair
from levyjepa.models.encoders.video_vit import KINDS, TubeletEncoder
from levyjepa.models.frames import PooledEncoder
from levyjepa.models.hub import change_config, load_model, read_config
from levyjepa.models.registry import register_encoder


@register_encoder("transformers")
def transformers_encoder(
    image_size: Size,
    frames: int | None,
    name: str,
    patch_size: int | None = None,
    pooling: str = "attention",
    drop_path: float = 0.0,
    pretrained: bool = False,
    **settings: Any,
) -> Encoder:
    """A folder or hub id of transformers: an image ViT, VideoMAE or V-JEPA 2."""
    settings |= {"patch_size": patch_size, "pooling": pooling}
    settings |= {"drop_path": drop_path, "pretrained": pretrained}
    if read_config(name).model_type in KINDS:
        return TubeletEncoder(image_size, frames, name, **settings)
    return TransformersViT(image_size, name, **settings)


class TransformersViT(PooledEncoder):
    """Encode images by a ViT of transformers, such as ViT, DINOv2 or the vision half of CLIP.

    Args:
        image_size: Pixels, one number or (H, W).
        name: A folder that `save_pretrained` wrote, or a hub id, "OWNER/MODEL".
        patch_size: Pixels; None takes the model's own.
        pooling: "attention" over patch tokens, "cls" token, or "mean" of patch tokens.
        embedding_dim: E, the width of the embedding.
        drop_path: Rate of stochastic depth in the last block, of models that have it.
        pretrained: Start from its weights; random otherwise.
        overrides: Further settings of the model's configuration, such as num_hidden_layers.

    Raises:
        ValueError: No such model, a model that is no ViT, settings that it does not have, or a
            size that it can't take.
        ImportError: transformers is missing.
    """

    def __init__(
        self,
        image_size: Size,
        name: str,
        patch_size: int | None = None,
        pooling: str = "attention",
        embedding_dim: int = 512,
        drop_path: float = 0.0,
        pretrained: bool = False,
        **overrides: Any,
    ) -> None:
        super().__init__()
        config = read_config(name)
        config = config if pretrained else getattr(config, "vision_config", config)
        if patch_size is not None:
            overrides["patch_size"] = count("patch_size", patch_size)
        if wrong := sorted(set(overrides) - set(config.to_dict())):
            raise ValueError(
                f"`overrides` must be settings of {type(config).__name__}, got {', '.join(wrong)}."
            )
        own = {"drop_path_rate": drop_path} if hasattr(config, "drop_path_rate") else {}
        model = load_model(name, change_config(config, own, name, **overrides), pretrained)
        self.model: Any = getattr(model, "vision_model", model)
        config = self.model.config
        names = ("patch_size", "image_size", "num_hidden_layers", "hidden_size")
        sizes: list[Any] = [getattr(config, each, None) for each in names]
        if not all(isinstance(each, int) for each in sizes):
            raise _no_vit(name)
        patch, self.native, self.depth, self.width = sizes
        self.patch_size = (patch, patch)
        taken = inspect.signature(self.model.forward).parameters
        self.interpolates = "interpolate_pos_encoding" in taken
        if getattr(self.model, "pooler", None) is not None:
            self.model.pooler = None  # would stay without gradient, as the mask token
        for key, parameter in self.model.named_parameters():
            parameter.requires_grad_(not key.endswith("mask_token"))
        size = pair(image_size)
        grid: Any = self.grid(size)
        self.model.eval()
        with torch.no_grad():
            tokens = self._run(torch.zeros(1, 3, *size)).last_hidden_state
        self.model.train()
        self.prefix_tokens = tokens.shape[1] - grid[0] * grid[1] if tokens.ndim == 3 else -1
        if self.prefix_tokens < 0:
            raise _no_vit(name)
        self.add_head(pooling, grid, embedding_dim)

    def read(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return the prefix tokens (B, p, C) and the patch tokens (B, h, w, C)."""
        grid, prefix = self.grid(images.shape[-2:]), self.prefix_tokens
        tokens = self._run(images).last_hidden_state
        return tokens[:, :prefix], tokens[:, prefix:].unflatten(1, grid)

    def layers(self, images: Tensor, layers: Sequence[int]) -> list[Tensor]:
        """Return the residual stream after each of some blocks; after the last, normalized."""
        grid = self.grid(images.shape[-2:])
        seen = self._run(images, output_hidden_states=True)
        states = [*seen.hidden_states[: self.depth], seen.last_hidden_state]
        return [states[layer][:, self.prefix_tokens :].unflatten(1, grid) for layer in layers]

    def _run(self, images: Tensor, **extra: bool) -> Any:
        if self.interpolates and tuple(images.shape[-2:]) != (self.native, self.native):
            extra["interpolate_pos_encoding"] = True
        return self.model(pixel_values=images, **extra)


def _no_vit(name: str) -> ValueError:
    return ValueError(f"`name` must be a ViT, with patch tokens on a grid, got {name}.")
