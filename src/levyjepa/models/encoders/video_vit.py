"""Video ViTs of transformers, whose tokens stand for tubelets: a patch over a few frames."""

from functools import partial
from pathlib import Path
from typing import Any

import torch
from timm.layers.attention_pool import AttentionPoolLatent
from timm.layers.drop import DropPath
from torch import Tensor, nn

from levyjepa.checks import count, floating, not_negative
from levyjepa.models.encoder import Encoder, Encoding, Size, pair
from levyjepa.models.frames import attention_heads, check_pooling, embedding_head
from levyjepa.models.hub import change_config, library, load_model, read_config
from levyjepa.models.registry import register_encoder

# Frames, pixels and channels of a clip, as transformers call them.
KINDS = {
    "videomae": ("num_frames", "image_size", "num_channels"),
    "vjepa2": ("frames_per_clip", "crop_size", "in_chans"),
}


class TubeletEncoder(Encoder):
    """Encode clips by VideoMAE or V-JEPA 2.

    Of V-JEPA 2 only the encoder is used. Its positions are rotary: `forward` takes clips of any
    length, and images no larger than `image_size`. VideoMAE's positions are fixed, and so is the
    size of its clips.

    Args:
        image_size: Pixels, one number or (H, W).
        frames: T, of a clip.
        name: "videomae" or "vjepa2", of the sizes that `overrides` give; or a folder that
            `save_pretrained` wrote, or a hub id, "OWNER/MODEL", of either.
        patch_size: Pixels; None takes the model's own.
        pooling: "attention" over all tokens, or their "mean".
        embedding_dim: E, the width of the embedding.
        drop_path: Rate of stochastic depth in the last block.
        pretrained: Start from the weights of the folder or hub model; random otherwise.
        overrides: Further settings of transformers' VideoMAEConfig or VJEPA2Config, such as
            hidden_size, num_hidden_layers, num_attention_heads, intermediate_size, tubelet_size.

    Raises:
        ValueError: No such model, no video model, settings that it does not have, or sizes that
            don't fit.
        ImportError: transformers is missing.

    >>> small = {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    >>> encoder = TubeletEncoder(64, frames=8, name="vjepa2", patch_size=16, **small)
    >>> encoder(torch.randn(2, 8, 3, 64, 64)).tokens.shape  # (B, t, h, w, C)
    torch.Size([2, 4, 4, 4, 48])
    """

    def __init__(
        self,
        image_size: Size,
        frames: int | None,
        name: str,
        patch_size: int | None = None,
        pooling: str = "attention",
        embedding_dim: int = 512,
        drop_path: float = 0.0,
        pretrained: bool = False,
        **overrides: Any,
    ) -> None:
        super().__init__()
        check_pooling(pooling, ("attention", "mean"))
        if frames is None:
            raise ValueError(f"{name} encodes clips; `frames` must be an integer, got None.")
        self.clip = count("frames", frames), *pair(image_size)
        if patch_size is not None:
            overrides["patch_size"] = count("patch_size", patch_size)
        config = _config(name, self.clip, pretrained, overrides)
        self.kind: str = config.model_type
        self.patch_size = (count("tubelet_size", config.tubelet_size), *pair(config.patch_size))
        self.fixed_size = self.clip if self.kind == "videomae" else None
        self.grid(self.clip)
        self.model = _model(name, config, pretrained, not_negative("drop_path", drop_path))
        self.width, self.embedding_dim = config.hidden_size, embedding_dim
        heads = attention_heads(self.width)
        self.pool = (
            AttentionPoolLatent(self.width, num_heads=heads, norm_layer=nn.LayerNorm)
            if pooling == "attention"
            else None
        )
        self.embed = embedding_head(self.width, embedding_dim)

    def forward(self, clips: Tensor) -> Encoding:
        """Encode normalized `clips` (B, T, 3, H, W), which tubelets divide."""
        if floating("clips", clips, 5, "(B, T, 3, H, W)").shape[2] != 3:
            raise ValueError(f"`clips` must be (B, T, 3, H, W), got shape {tuple(clips.shape)}.")
        clip = clips.shape[1], *clips.shape[3:]
        grid = self.grid(clip)
        tokens = self._rotary(clips, grid) if self.fixed_size is None else self._fixed(clips, clip)
        pooled = tokens.mean(1) if self.pool is None else self.pool(tokens)
        return Encoding(embedding=self.embed(pooled), tokens=tokens.unflatten(1, grid))

    def _fixed(self, clips: Tensor, clip: tuple[int, ...]) -> Tensor:
        if clip != self.clip:
            raise ValueError(
                f"`clips` must be of {self.clip} frames and pixels, for which VideoMAE's positions "
                f"were made, got {clip}; vjepa2 takes shorter and smaller ones."
            )
        return self.model(pixel_values=clips).last_hidden_state

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
            t, y, x = torch.meshgrid(
                *(torch.arange(n, device=clips.device) for n in grid), indexing="ij"
            )
            positions = ((t * side + y) * side + x).reshape(1, -1)
        tokens = self.model.embeddings(clips)
        for layer in self.model.layer:
            tokens = layer(tokens, positions)[0]
        return self.model.layernorm(tokens)


def _config(name: str, clip: tuple[int, ...], pretrained: bool, overrides: dict[str, Any]) -> Any:
    """Return the configuration, checked as far as transformers does not check it itself."""
    stored = Path(name).is_dir() or "/" in name
    if name not in KINDS and not stored:
        raise ValueError(
            f"`name` must be {' or '.join(KINDS)}, a folder that save_pretrained wrote, or a hub "
            f"id, OWNER/MODEL, got {name!r}."
        )
    if pretrained and not stored:
        raise ValueError(f"`pretrained` needs a folder or a hub id for a name, got {name!r}.")
    config = read_config(name) if stored else library(name).AutoConfig.for_model(name)
    if (kind := config.model_type) not in KINDS:
        raise ValueError(f"`name` must be a {' or a '.join(KINDS)}, got {name!r}, a {kind}.")
    fixed, (frames, *size) = kind == "videomae", clip
    sizes = dict(zip(KINDS[kind], (frames, tuple(size) if fixed else max(size), 3), strict=True))
    own = set(overrides)
    if wrong := sorted((own - set(config.to_dict())) | (own & set(sizes))):
        raise ValueError(
            f"`overrides` must be settings of {type(config).__name__} other than "
            f"{', '.join(sizes)}; got {', '.join(wrong)}."
        )
    if pretrained and fixed and (made := (config.num_frames, *pair(config.image_size))) != clip:
        raise ValueError(
            f"`frames` and `image_size` must be {made}, the fixed positions of {name}, got {clip}."
        )
    if not stored and fixed:
        sizes["use_mean_pooling"] = False  # so that tokens pass a final norm
    return change_config(config, sizes, name, **overrides)


def _model(name: str, config: Any, pretrained: bool, drop_path: float) -> Any:
    fixed = config.model_type == "videomae"
    if not fixed:
        config.drop_path_rate = drop_path
        if not pretrained:
            config.pred_num_hidden_layers = 0  # of the predictor, which is dropped
    model = load_model(name, config, pretrained)
    if not fixed:
        return model.encoder
    rates = torch.linspace(0, drop_path, len(model.encoder.layer)).tolist()
    for layer, rate in zip(model.encoder.layer, rates, strict=True):
        for part in (layer.attention.output, layer.output):
            part.dropout = nn.Sequential(part.dropout, DropPath(rate))
    # As a plain attribute, positions would be copied to the device at every step.
    positions = model.embeddings.__dict__.pop("position_embeddings")
    model.embeddings.register_buffer("position_embeddings", positions, persistent=False)
    return model


for _kind, _title in (("videomae", "VideoMAE"), ("vjepa2", "V-JEPA 2")):
    register_encoder(_kind, help=f"{_title} of transformers, for clips.")(
        partial(TubeletEncoder, name=_kind)
    )
