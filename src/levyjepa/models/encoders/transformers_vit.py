"""ViTs of transformers: of images, and of clips, whose tokens are a patch over a few frames."""

import inspect
import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from timm.layers.drop import DropPath
from torch import Tensor, nn

from levyjepa.checks import count
from levyjepa.models.encoder import Size, pair
from levyjepa.models.pooled import PooledEncoder
from levyjepa.models.pretrained import VIDEO, load_model, read_config
from levyjepa.models.registry import register_encoder


@register_encoder("transformers")
def transformers_encoder(
    image_size: Size,
    frames: int | None,
    name: str,
    patch_size: int | None = None,
    pooling: str = "attention",
    embedding_dim: int | None = 512,
    drop_path: float = 0.0,
    pretrained: bool = False,
    **overrides: Any,
) -> PooledEncoder:
    """A folder or hub id of transformers: an image ViT, VideoMAE or V-JEPA 2.

    Image ViTs are such as ViT, DINOv2 or the vision half of CLIP. Of V-JEPA 2 only the encoder is
    used. Its positions are rotary: `forward` takes clips of any length, and images no larger than
    `image_size`. VideoMAE's positions are fixed: clips must have `frames` and `image_size`.

    The arguments are those of `ModelSettings`. The name may also be a kind, "videomae" or
    "vjepa2". `overrides` are further settings of the model's configuration, such as hidden_size,
    num_hidden_layers, num_attention_heads, intermediate_size and tubelet_size.

    >>> small = {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    >>> encoder = transformers_encoder(64, 8, "vjepa2", patch_size=16, **small)
    >>> encoder(torch.randn(2, 8, 3, 64, 64)).tokens.shape  # (B, t, h, w, C)
    torch.Size([2, 4, 4, 4, 48])
    """
    config, size = read_config(name), pair(image_size)
    kind, values = config.model_type, {}
    clip = size if frames is None else (count("frames", frames), *size)
    if pretrained and name in VIDEO:
        raise ValueError(f"`pretrained` needs a folder or a hub id for a name, got {name!r}.")
    if kind in VIDEO and frames is None:
        raise ValueError(f"{name} encodes clips; `frames` must be an integer, got None.")
    if not pretrained:
        config = getattr(config, "vision_config", config)
    if kind == "videomae":
        made = config.num_frames, *pair(config.image_size)
        if pretrained and made != clip:
            what = f"{made}, the fixed positions of {name}"
            raise ValueError(f"`frames` and `image_size` must be {what}, got {clip}.")
        values = {"num_frames": frames, "image_size": size, "num_channels": 3}
    elif kind == "vjepa2":
        values = {"frames_per_clip": frames, "crop_size": max(size), "in_chans": 3}
    if patch_size is not None:
        overrides["patch_size"] = patch_size
    if wrong := sorted(set(overrides) - (set(config.to_dict()) - set(values))):
        known = type(config).__name__ + f" other than {', '.join(values)}" * bool(values)
        raise ValueError(f"`overrides` must be settings of {known}, got {', '.join(wrong)}.")
    if hasattr(config, "drop_path_rate"):
        values["drop_path_rate"] = drop_path
    if name == "videomae":
        values["use_mean_pooling"] = False  # so that tokens pass a final norm
    if kind == "vjepa2" and not pretrained:
        values["pred_num_hidden_layers"] = 0  # of the predictor, which is dropped
    model = load_model(name, config, values, overrides, pretrained)
    if kind in VIDEO:
        pooling = "mean" if pooling == "own" else pooling
        return VideoViT(model, clip, pooling, embedding_dim, drop_path)
    return ImageViT(model, name, size, pooling, embedding_dim)


class ImageViT(PooledEncoder):
    """Encode images by a model; see `transformers_encoder`."""

    def __init__(
        self, model: Any, name: str, size: tuple[int, int], pooling: str, embedding_dim: int | None
    ) -> None:
        super().__init__()
        self.model: Any = getattr(model, "vision_model", model)
        names = ("patch_size", "image_size", "num_hidden_layers", "hidden_size")
        sizes: list[Any] = [getattr(self.model.config, name, None) for name in names]
        no_vit = ValueError(f"`name` must be a ViT, with patch tokens on a grid, got {name}.")
        if not all(isinstance(value, int) for value in sizes):
            raise no_vit
        patch, self.native, self.depth, self.width = sizes
        self.patch_size = (patch, patch)
        taken = inspect.signature(self.model.forward).parameters
        self.interpolates = "interpolate_pos_encoding" in taken
        if getattr(self.model, "pooler", None) is not None:
            self.model.pooler = None  # would stay without gradient, as the mask token
        for key, parameter in self.model.named_parameters():
            parameter.requires_grad_(not key.endswith("mask_token"))
        patches = math.prod(self.grid(size))
        self.model.eval()
        with torch.no_grad():
            tokens = self._run(torch.zeros(1, 3, *size)).last_hidden_state
        self.model.train()
        if tokens.ndim != 3 or tokens.shape[1] < patches:
            raise no_vit
        self.prefix_tokens = tokens.shape[1] - patches
        if pooling == "own":
            pooling = "cls" if self.prefix_tokens else "mean"
        self.add_head(pooling, size, embedding_dim, class_token=self.prefix_tokens > 0)

    def read(self, images: Tensor) -> tuple[Tensor, Tensor]:
        grid, prefix = self.grid(images.shape[-2:]), self.prefix_tokens
        tokens = self._run(images).last_hidden_state
        return tokens[:, :prefix], tokens[:, prefix:].unflatten(1, grid)

    def layers(self, images: Tensor, layers: Sequence[int]) -> list[Tensor]:
        grid, output = self.grid(images.shape[-2:]), self._run(images, output_hidden_states=True)
        states = [*output.hidden_states[: self.depth], output.last_hidden_state]
        return [states[layer][:, self.prefix_tokens :].unflatten(1, grid) for layer in layers]

    def _run(self, images: Tensor, **extra: bool) -> Any:
        if self.interpolates and tuple(images.shape[-2:]) != (self.native, self.native):
            extra["interpolate_pos_encoding"] = True
        return self.model(pixel_values=images, **extra)


class VideoViT(PooledEncoder):
    """Encode clips by VideoMAE or V-JEPA 2; see `transformers_encoder`."""

    def __init__(
        self,
        model: Any,
        clip: tuple[int, ...],
        pooling: str,
        embedding_dim: int | None,
        drop_path: float,
    ) -> None:
        super().__init__()
        config, self.clip = model.config, clip
        self.patch_size = (config.tubelet_size, *pair(config.patch_size))
        self.width = config.hidden_size
        if config.model_type == "vjepa2":
            self.model = model.encoder
        else:
            self.model, self.fixed_size = model, clip
            rates = torch.linspace(0, drop_path, len(model.encoder.layer)).tolist()
            for layer, rate in zip(model.encoder.layer, rates, strict=True):
                for part in (layer.attention.output, layer.output):
                    part.dropout = nn.Sequential(part.dropout, DropPath(rate))
            # As a plain attribute, positions would be copied to the device at every step.
            positions = model.embeddings.__dict__.pop("position_embeddings")
            model.embeddings.register_buffer("position_embeddings", positions, persistent=False)
        self.add_head(pooling, clip, embedding_dim, class_token=False)

    def read(self, images: Tensor) -> tuple[Tensor, Tensor]:
        size = images.shape[1], *images.shape[3:]
        grid = self.grid(size)
        if self.fixed_size is None:
            tokens = self._rotary(images, grid)
        elif size == self.fixed_size:
            tokens = self.model(pixel_values=images).last_hidden_state
        else:
            raise ValueError(
                f"`clips` must be of {self.clip} frames and pixels, for which VideoMAE's positions "
                f"were made, got {size}; vjepa2 takes shorter and smaller ones."
            )
        return tokens[:, :0], tokens.unflatten(1, grid)

    def _rotary(self, clips: Tensor, grid: tuple[int, ...]) -> Tensor:
        """Run V-JEPA 2's encoder; it takes positions where tokens don't fill its square."""
        (_, high, wide), side = grid, max(self.grid(self.clip)[1:])
        if max(high, wide) > side:
            raise ValueError(
                f"`clips` must be at most {max(self.clip[1:])} pixels wide and high, "
                f"got {tuple(clips.shape[3:])}."
            )
        positions = None
        if (high, wide) != (side, side):
            axes = (torch.arange(n, device=clips.device) for n in grid)
            t, y, x = torch.meshgrid(*axes, indexing="ij")
            positions = ((t * side + y) * side + x).reshape(1, -1)
        tokens = self.model.embeddings(clips)
        for layer in self.model.layer:
            tokens = layer(tokens, positions)[0]
        return self.model.layernorm(tokens)


for _kind, _title in zip(VIDEO, ("VideoMAE", "V-JEPA 2"), strict=True):
    register_encoder(_kind, help=f"{_title} of transformers, for clips.")(
        partial(transformers_encoder, name=_kind)
    )
