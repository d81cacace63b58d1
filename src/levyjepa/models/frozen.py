"""Anybody's frozen ViT, by name, ready to be read layer by layer."""

from dataclasses import dataclass
from pathlib import Path
from textwrap import shorten
from typing import Any

import timm
import torch

from levyjepa.models.encoder import build_encoder
from levyjepa.models.pretrained import HALF, read_config, read_statistics
from levyjepa.models.settings import ModelSettings


@dataclass(frozen=True)
class FrozenEncoder:
    """An encoder in evaluation mode without gradients, and the images that it was made for."""

    encoder: Any
    image_size: int  # pixels
    mean: tuple[float, ...]  # of pixels in [0, 1], for each channel
    std: tuple[float, ...]
    random: bool  # whether the weights are random


def load_frozen(
    name: str, pretrained: bool = False, image_size: int | None = None, seed: int = 0
) -> FrozenEncoder:
    """Load a frozen ViT.

    Args:
        name: A ViT of timm, or a registered encoder; else a folder that `save_pretrained` of
            transformers wrote, or the id of a hub model, "OWNER/MODEL", both with their weights.
        pretrained: Fetch timm's weights; they are random otherwise.
        image_size: Pixels; None for what it was made for.
        seed: Draws random weights.

    Raises:
        ValueError: No such model, no ViT, or an image size that it can't take.
        ConnectionError: Weights that can't be fetched.
        ImportError: transformers is needed and not installed.
    """
    size, mean, std = 224, HALF, HALF
    if Path(name).is_dir() or "/" in name:
        config, pretrained = read_config(name), True
        size = getattr(getattr(config, "vision_config", config), "image_size", size)
        mean, std = read_statistics(name)
    elif timm.is_model(name) and (known := timm.get_pretrained_cfg(name)):
        size, mean, std = known.input_size[-1], tuple(known.mean), tuple(known.std)
    size = image_size or size
    values = {"name": name, "pooling": "mean", "drop_path": 0.0, "pretrained": pretrained}
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        try:
            encoder = build_encoder(ModelSettings.parse(values), size)
        except Exception as error:  # what fetching raises has no common kind
            ours = isinstance(error, (ValueError, TypeError, ImportError))
            if ours and not isinstance(error, OSError):
                raise
            why = f"({shorten(str(error), 300)}); pretrained=false needs no network"
            raise ConnectionError(f"The weights of {name} can't be fetched {why}.") from error
    return FrozenEncoder(encoder.eval().requires_grad_(False), size, mean, std, not pretrained)
