"""The encoder with the heads that training needs."""

from dataclasses import dataclass, replace
from typing import Any

import timm
import torch
from torch import Tensor, nn
from torchvision.ops import MLP

from levyjepa.checks import count
from levyjepa.conf.schema import ModelConfig
from levyjepa.models.encoder import Encoder
from levyjepa.models.tubelet import TubeletEncoder
from levyjepa.models.video import FrameEncoder


@dataclass(frozen=True)
class Output:
    """What the loss sees of a batch of views."""

    embedding: Tensor  # (B, E)
    projection: Tensor  # (B, P)
    field: Tensor | None  # (B, h, w, P'), of clips (B, t, h, w, P'): projected patch tokens


class Network(nn.Module):
    """An encoder, its projections and its online probe.

    The probe is not part of `forward`: call `network.probe(embedding.detach())`.
    The same seed gives the same initial parameters with and without the prior.

    Args:
        config: The encoder and the widths of its heads.
        image_size: Pixels, one number or (H, W).
        num_classes: Classes of the probe; 0 for no probe.
        prior: Whether the patch projection is trained; it is frozen otherwise.
        frames: Of the clips that it takes; None for images.
    """

    def __init__(
        self,
        config: ModelConfig,
        image_size: int | tuple[int, int],
        num_classes: int,
        prior: bool,
        frames: int | None = None,
    ) -> None:
        super().__init__()
        self.settings = (config, image_size, num_classes, prior, frames)
        count("num_classes", num_classes, least=0)
        self.encoder: Any = build_encoder(config, image_size, frames)
        width = config.embedding_dim
        self.projection = MLP(
            width,
            [config.projection_hidden, config.projection_hidden, config.projection_dim],
            norm_layer=nn.BatchNorm1d,
        )
        self.probe = (
            nn.Sequential(nn.LayerNorm(width), nn.Linear(width, num_classes))
            if num_classes
            else None
        )
        self.patch_projection = _patch_projection(config, self.encoder.width)
        self.patch_projection.requires_grad_(prior)

    def forward(self, images: Tensor, field: bool = True) -> Output:
        """Encode and project normalised images (B, 3, H, W) or clips (B, T, 3, H, W).

        Args:
            images: Images or clips.
            field: Whether to project patches too.
        """
        encoding = self.encoder(images)
        return Output(
            embedding=encoding.embedding,
            projection=self.projection(encoding.embedding),
            field=self.patch_projection(encoding.field) if field else None,
        )

    def untrained(self, seed: int) -> "Network":
        """Return a randomly initialised network of the same shape, a function of `seed` alone."""
        config, image_size, num_classes, prior, frames = self.settings
        config = replace(config, pretrained=False)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            return Network(config, image_size, num_classes, prior, frames)


def build_encoder(
    config: ModelConfig, image_size: int | tuple[int, int], frames: int | None
) -> Encoder | FrameEncoder | TubeletEncoder:
    """The encoder that settings declare, of images or of clips."""
    shared: dict[str, Any] = {
        "image_size": image_size,
        "patch_size": config.patch_size,
        "pooling": config.pooling,
        "embedding_dim": config.embedding_dim,
        "drop_path": config.drop_path,
        "pretrained": config.pretrained,
        **config.overrides,
    }
    if frames is None:
        return Encoder(config.name, **shared)
    if timm.is_model(config.name):
        return FrameEncoder(config.name, mixer_depth=config.mixer_depth, **shared)
    return TubeletEncoder(config.name, frames=frames, **shared)


def _patch_projection(config: ModelConfig, width: int) -> nn.Module:
    hidden, dim = config.patch_projection_hidden, config.patch_projection_dim
    if config.patch_projection == "none":
        return nn.Identity()
    if config.patch_projection == "linear":
        return nn.Linear(width, dim)
    return MLP(width, [hidden, hidden, dim], norm_layer=nn.LayerNorm)
