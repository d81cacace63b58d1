"""The encoder with the heads that training needs."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torchvision.ops import MLP

from levyjepa.checks import count
from levyjepa.conf.schema import ModelConfig
from levyjepa.models.encoder import Encoder


@dataclass(frozen=True)
class Output:
    """What the loss sees of a batch of views."""

    embedding: Tensor  # (B, E)
    projection: Tensor  # (B, P)
    field: Tensor | None  # (B, h, w, P'), projected patch tokens


class Network(nn.Module):
    """An encoder, its projections and its online probe.

    The probe is not part of `forward`: call `network.probe(embedding.detach())`.
    The same seed gives the same initial parameters with and without the prior.

    Args:
        config: The encoder and the widths of its heads.
        image_size: Pixels, one number or (H, W).
        num_classes: Classes of the probe; 0 for no probe.
        prior: Whether the patch projection is trained; it is frozen otherwise.
    """

    def __init__(
        self,
        config: ModelConfig,
        image_size: int | tuple[int, int],
        num_classes: int,
        prior: bool,
    ) -> None:
        super().__init__()
        self.settings = (config, image_size, num_classes, prior)
        count("num_classes", num_classes, least=0)
        self.encoder = Encoder(
            config.name,
            image_size,
            config.patch_size,
            config.pooling,
            config.embedding_dim,
            config.drop_path,
            config.pretrained,
            **config.overrides,
        )
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
        """Encode and project normalised `images` (B, 3, H, W); without `field`, no patches."""
        encoding = self.encoder(images)
        return Output(
            embedding=encoding.embedding,
            projection=self.projection(encoding.embedding),
            field=self.patch_projection(encoding.field) if field else None,
        )

    def untrained(self, seed: int) -> "Network":
        """Return a randomly initialised network of the same shape, a function of `seed` alone."""
        config, image_size, num_classes, prior = self.settings
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            return Network(replace(config, pretrained=False), image_size, num_classes, prior)


def _patch_projection(config: ModelConfig, width: int) -> nn.Module:
    hidden, dim = config.patch_projection_hidden, config.patch_projection_dim
    if config.patch_projection == "none":
        return nn.Identity()
    if config.patch_projection == "linear":
        return nn.Linear(width, dim)
    return MLP(width, [hidden, hidden, dim], norm_layer=nn.LayerNorm)
