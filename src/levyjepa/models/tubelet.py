"""A video ViT of transformers, whose tokens stand for tubelets: a patch over a few frames."""

from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import timm
import torch
from timm.layers.attention_pool import AttentionPoolLatent
from timm.layers.drop import DropPath
from torch import Tensor, nn

from levyjepa.checks import count, floating, not_negative
from levyjepa.models.encoder import Encoding, _heads

# A clip's frames, pixels and channels, as transformers call them.
KINDS = {
    "videomae": ("num_frames", "image_size", "num_channels"),
    "vjepa2": ("frames_per_clip", "crop_size", "in_chans"),
}
POOLINGS = ("attention", "mean")


class TubeletEncoder(nn.Module):
    """Encode clips as a field of tubelet tokens and an embedding pooled from them.

    Of V-JEPA 2 it keeps the encoder alone, whose places are rotary: clips of any length follow in
    `forward`, and images no larger than `image_size`. VideoMAE's places are fixed.

    Args:
        name: "videomae" or "vjepa2", of the sizes that `overrides` say; or a folder that
            `save_pretrained` wrote, or a hub id, "OWNER/MODEL", of either.
        frames: T, of a clip.
        image_size: Pixels, one number or (H, W).
        patch_size: Pixels; None takes the model's own.
        pooling: "attention" over all tokens, or their "mean".
        embedding_dim: E, the width of the embedding.
        drop_path: Stochastic depth's rate in the last block.
        pretrained: Start from the weights of the folder or hub model; random otherwise.
        overrides: Further settings of transformers' VideoMAEConfig or VJEPA2Config, as
            hidden_size, num_hidden_layers, num_attention_heads, intermediate_size, tubelet_size.

    Raises:
        ValueError: No such model, no video model, settings it has not, or sizes that don't fit.
        ImportError: transformers is missing.

    >>> small = {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    >>> encoder = TubeletEncoder("vjepa2", frames=8, image_size=64, patch_size=16, **small)
    >>> encoder(torch.randn(2, 8, 3, 64, 64)).field.shape  # (B, t, h, w, C)
    torch.Size([2, 4, 4, 4, 48])
    """

    def __init__(
        self,
        name: str,
        frames: int,
        image_size: int | tuple[int, int] = 224,
        patch_size: int | None = None,
        pooling: str = "attention",
        embedding_dim: int = 512,
        drop_path: float = 0.0,
        pretrained: bool = False,
        **overrides: Any,
    ) -> None:
        super().__init__()
        if pooling not in POOLINGS:
            raise ValueError(f"`pooling` must be one of {', '.join(POOLINGS)}, got {pooling!r}.")
        if len(size := _pair(image_size)) != 2:
            raise ValueError(f"`image_size` must be one number or (H, W), got {image_size!r}.")
        self.clip = count("frames", frames), *(count("image_size", side) for side in size)
        if patch_size is not None:
            overrides["patch_size"] = count("patch_size", patch_size)
        config = _config(name, self.clip, pretrained, overrides)
        self.kind: str = config.model_type
        tubelet = count("tubelet_size", config.tubelet_size), *_pair(config.patch_size)
        self.tubelet: tuple[int, ...] = tubelet
        self.grid = self._grid(self.clip)
        self.model = _model(name, config, pretrained, not_negative("drop_path", drop_path))
        self.width: int = config.hidden_size
        self.embedding_dim = count("embedding_dim", embedding_dim)
        self.pool = (
            AttentionPoolLatent(self.width, num_heads=_heads(self.width), norm_layer=nn.LayerNorm)
            if pooling == "attention"
            else None
        )
        self.embed = nn.Sequential(nn.LayerNorm(self.width), nn.Linear(self.width, embedding_dim))

    def forward(self, clips: Tensor) -> Encoding:
        """Encode normalised `clips` (B, T, 3, H, W), which tubelets divide."""
        if floating("clips", clips, 5, "(B, T, 3, H, W)").shape[2] != 3:
            raise ValueError(f"`clips` must be (B, T, 3, H, W), got shape {tuple(clips.shape)}.")
        clip = clips.shape[1], *clips.shape[3:]
        grid = self._grid(clip)
        tokens = self._rotary(clips, grid) if self.kind == "vjepa2" else self._fixed(clips, clip)
        pooled = tokens.mean(1) if self.pool is None else self.pool(tokens)
        return Encoding(embedding=self.embed(pooled), field=tokens.unflatten(1, grid))

    def _grid(self, clip: tuple[int, ...]) -> tuple[int, ...]:
        if any(length % step for length, step in zip(clip, self.tubelet, strict=True)):
            raise ValueError(
                f"`frames` and `image_size` must be multiples of the tubelet {self.tubelet}, "
                f"got {clip}."
            )
        return tuple(length // step for length, step in zip(clip, self.tubelet, strict=True))

    def _fixed(self, clips: Tensor, clip: tuple[int, ...]) -> Tensor:
        if clip != self.clip:
            raise ValueError(
                f"`clips` must be of {self.clip} frames and pixels, as VideoMAE's fixed places "
                f"were made, got {clip}; vjepa2 takes shorter and smaller ones."
            )
        return self.model(pixel_values=clips).last_hidden_state

    def _rotary(self, clips: Tensor, grid: tuple[int, ...]) -> Tensor:
        """V-JEPA 2's encoder, told where tokens lie if they don't fill its square of places."""
        (_, high, wide), side = grid, max(self.grid[1:])
        if max(high, wide) > side:
            raise ValueError(
                f"`clips` must be at most {max(self.clip[1:])} pixels wide and high, "
                f"got {tuple(clips.shape[3:])}."
            )
        places = None
        if (high, wide) != (side, side):
            t, y, x = torch.meshgrid(
                *(torch.arange(n, device=clips.device) for n in grid), indexing="ij"
            )
            places = ((t * side + y) * side + x).reshape(1, -1)
        tokens = self.model.embeddings(clips)
        for layer in self.model.layer:
            tokens = layer(tokens, places)[0]
        return self.model.layernorm(tokens)


def _config(name: str, clip: tuple[int, ...], pretrained: bool, overrides: dict[str, Any]) -> Any:
    """The settings of transformers, checked as far as it does not check them itself."""
    try:
        from transformers import AutoConfig  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise ImportError(
            f"{name} needs transformers: pip install 'levyjepa[transformers]'."
        ) from None
    stored = Path(name).is_dir() or "/" in name
    if name not in KINDS and not stored:
        near = get_close_matches(name, [*KINDS, *timm.list_models()], n=3, cutoff=0.5)
        hint = f" Near it: {', '.join(near)}." if near else ""
        raise ValueError(
            f"`name` must be {' or '.join(KINDS)}, a folder that save_pretrained wrote, or a hub "
            f"id, OWNER/MODEL, got {name!r}.{hint}"
        )
    if pretrained and not stored:
        raise ValueError(f"`pretrained` needs a folder or a hub id for a name, got {name!r}.")
    try:
        config = AutoConfig.from_pretrained(name) if stored else AutoConfig.for_model(name)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"`name` must be a folder that save_pretrained wrote or a hub id, got {name!r}: "
            f"{_line(error)}"
        ) from error
    if (kind := config.model_type) not in KINDS:
        raise ValueError(f"`name` must be a {' or a '.join(KINDS)}, got {name!r}, a {kind}.")
    fixed, (frames, *size) = kind == "videomae", clip
    sizes = dict(zip(KINDS[kind], (frames, tuple(size) if fixed else max(size), 3), strict=True))
    own, held = set(overrides), config.to_dict()
    if wrong := sorted((own - set(held)) | (own & set(sizes))):
        raise ValueError(
            f"`overrides` must be settings of {type(config).__name__} other than "
            f"{', '.join(sizes)}; got {', '.join(wrong)}."
        )
    if pretrained and fixed and (made := (config.num_frames, *_pair(config.image_size))) != clip:
        raise ValueError(
            f"`frames` and `image_size` must be {made}, as the fixed places of {name}, got {clip}."
        )
    if not stored and fixed:
        held["use_mean_pooling"] = False  # tokens pass a final norm
    try:
        return type(config).from_dict(held | sizes | overrides)
    except Exception as error:  # what a setting's check raises has no common kind
        raise _refusal(name, overrides, error) from error


def _model(name: str, config: Any, pretrained: bool, drop_path: float) -> Any:
    from transformers import AutoModel  # pyright: ignore[reportMissingImports]

    fixed = config.model_type == "videomae"
    if not fixed:
        config.drop_path_rate = drop_path
        if not pretrained:
            config.pred_num_hidden_layers = 0  # of the predictor, which is dropped
    try:
        if not pretrained:
            model: Any = AutoModel.from_config(config)
        else:
            model, found = AutoModel.from_pretrained(name, config=config, output_loading_info=True)
            if missing := sorted(found["missing_keys"]):
                raise ValueError(f"its weights lack {', '.join(missing[:3])}")
    except (OSError, RuntimeError, ValueError, KeyError, TypeError) as error:
        raise _refusal(name, {}, error) from error
    model = model.float()
    if not fixed:
        return model.encoder
    rates = torch.linspace(0, drop_path, len(model.encoder.layer)).tolist()
    for layer, rate in zip(model.encoder.layer, rates, strict=True):
        for part in (layer.attention.output, layer.output):
            part.dropout = nn.Sequential(part.dropout, DropPath(rate))
    # Held by the host, the places would be copied at every step.
    places = model.embeddings.__dict__.pop("position_embeddings")
    model.embeddings.register_buffer("position_embeddings", places, persistent=False)
    return model


def _refusal(name: str, overrides: dict[str, Any], error: Exception) -> ValueError:
    with_these = f" with {overrides}" if overrides else ""
    return ValueError(
        f"transformers can't make {name}{with_these}: {type(error).__name__}: {_line(error)}"
    )


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]


def _pair(size: int | Sequence[int]) -> tuple[int, ...]:
    return (size, size) if isinstance(size, int) else tuple(size)
