"""Any frozen ViT, of timm, of transformers or our own, as grids of patch tokens layer by layer."""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor, nn

from levyjepa.models.encoder import Encoder
from levyjepa.models.network import Network

HALF = (0.5, 0.5, 0.5)


@dataclass(frozen=True)
class Backbone:
    """A model whose patch tokens can be read after each of its `depth` blocks.

    `tokens(images, layers)` takes normalised images (B, 3, H, W) and layers from 1 to `depth`, and
    gives (B, h, w, C) for each: the residual stream after that block; the last layer is what the
    model gives, its final norm included. `projection`, of a network trained here, takes the last
    layer to what the prior sees.
    """

    name: str
    module: nn.Module
    depth: int
    image_size: int  # pixels, what it was made for
    mean: tuple[float, ...]  # of pixels in [0, 1], for each channel
    std: tuple[float, ...]
    tokens: Callable[[Tensor, Sequence[int]], list[Tensor]]
    projection: nn.Module | None = None


def load_backbone(
    name: str, pretrained: bool = False, image_size: int | None = None, seed: int = 0
) -> Backbone:
    """Load a frozen ViT.

    Args:
        name: A ViT of timm; else a folder that `save_pretrained` of transformers wrote, or the id
            of a hub model, "OWNER/MODEL", both with their weights.
        pretrained: Fetch timm's weights; they are random otherwise, drawn by `seed`.
        image_size: Pixels; None for what it was made for.

    Raises:
        ValueError: No such model, no ViT, or an image size that it can't take.
        ConnectionError: Weights that can't be fetched.
        ImportError: transformers is asked for and not installed.
    """
    if Path(name).is_dir() or "/" in name:
        return _of_transformers(name, image_size)
    return _of_timm(name, pretrained, image_size, seed)


def as_backbone(
    network: Network, name: str, mean: Sequence[float], std: Sequence[float]
) -> Backbone:
    """A network trained here; `mean` and `std` are of its training images."""
    size = network.settings[1]
    side = size if isinstance(size, int) else min(size)
    return _of_encoder(network.encoder, name, side, mean, std, network.patch_projection)


def _of_timm(name: str, pretrained: bool, image_size: int | None, seed: int) -> Backbone:
    known: Any = timm.get_pretrained_cfg(name) if timm.is_model(name) else None
    size = image_size or (known.input_size[-1] if known else 224)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        try:
            encoder = Encoder(name, size, pooling="mean", drop_path=0.0, pretrained=pretrained)
        except (ValueError, TypeError):
            raise
        except Exception as error:  # what fetching raises has no common kind
            raise ConnectionError(
                f"The weights of {name} can't be fetched ({_line(error)}); pretrained=false needs "
                "no network."
            ) from error
    known = encoder.vit.pretrained_cfg
    weights = "pretrained" if pretrained else "random weights"
    return _of_encoder(encoder, f"{name} ({weights})", size, known["mean"], known["std"])


def _of_encoder(
    encoder: Encoder,
    name: str,
    size: int,
    mean: Sequence[float],
    std: Sequence[float],
    projection: nn.Module | None = None,
) -> Backbone:
    vit = encoder.vit
    depth = len(vit.blocks)

    def tokens(images: Tensor, layers: Sequence[int]) -> list[Tensor]:
        inner = sorted({layer - 1 for layer in layers})
        last, seen = vit.forward_intermediates(images, indices=inner)
        fields = {i + 1: field.movedim(1, -1) for i, field in zip(inner, seen, strict=True)}
        if depth in fields:
            patches = vit.fc_norm(last)[:, vit.num_prefix_tokens :]
            fields[depth] = patches.unflatten(1, fields[depth].shape[1:3])
        return [fields[layer] for layer in layers]

    encoder.eval().requires_grad_(False)
    return Backbone(name, encoder, depth, size, tuple(mean), tuple(std), tokens, projection)


def _of_transformers(name: str, image_size: int | None) -> Backbone:
    folder = Path(name)
    try:
        from transformers import AutoModel  # pyright: ignore[reportMissingImports]
    except ImportError:
        what = "is read by" if folder.is_dir() else "is no folder, and a hub id needs"
        raise ImportError(f"{name} {what} transformers: pip install transformers.") from None
    if folder.is_dir() and not (folder / "config.json").is_file():
        raise ValueError(f"`model` must be a folder with config.json, got {name}.")
    try:
        model: Any = AutoModel.from_pretrained(name)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"`model` must be a ViT of timm, a folder or a hub id of transformers, got {name}: "
            f"{_line(error)}"
        ) from error
    model = getattr(model, "vision_model", model)
    config = model.config
    patch, native = getattr(config, "patch_size", None), getattr(config, "image_size", None)
    depth = getattr(config, "num_hidden_layers", None)
    if not isinstance(patch, int) or not isinstance(native, int) or not isinstance(depth, int):
        raise ValueError(f"`model` must be a ViT, with patch tokens on a grid, got {name}.")
    size = image_size or native
    if size % patch:
        raise ValueError(f"`image_size` must be a multiple of the patch size {patch}, got {size}.")
    interpolates = "interpolate_pos_encoding" in inspect.signature(model.forward).parameters
    extra = {"interpolate_pos_encoding": True} if interpolates and size != native else {}

    def tokens(images: Tensor, layers: Sequence[int]) -> list[Tensor]:
        grid = images.shape[-2] // patch, images.shape[-1] // patch
        seen = model(pixel_values=images, output_hidden_states=True, **extra)
        states = [*seen.hidden_states[:depth], seen.last_hidden_state]
        chosen = [states[layer] for layer in layers]
        if any(state.ndim != 3 or state.shape[1] < grid[0] * grid[1] for state in chosen):
            raise ValueError(f"`model` must be a ViT, with patch tokens on a grid, got {name}.")
        return [state[:, -grid[0] * grid[1] :].unflatten(1, grid) for state in chosen]

    model.eval().requires_grad_(False)
    mean, std = _normalisation(name)
    return Backbone(folder.name, model, depth, size, mean, std, tokens)


def _normalisation(name: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    from transformers.image_processing_base import (  # pyright: ignore[reportMissingImports]
        ImageProcessingMixin,
    )

    try:
        held, _ = ImageProcessingMixin.get_image_processor_dict(name)
    except OSError:  # a model without one
        held = {}
    return tuple(held.get("image_mean", HALF)), tuple(held.get("image_std", HALF))


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
