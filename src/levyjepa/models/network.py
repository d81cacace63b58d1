"""The encoder with the heads that training needs."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.ops import MLP

from levyjepa.checks import count
from levyjepa.models.encoder import untrained_encoder
from levyjepa.models.settings import ModelSettings


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
        encoder: As `build_encoder` gives it, or one's own; see `levyjepa.models.Encoder`.
        settings: The widths of the heads.
        num_classes: Classes of the probe; 0 for no probe.
        prior: Whether the patch projection is trained; it is frozen otherwise.
    """

    def __init__(
        self, encoder: nn.Module, settings: ModelSettings, num_classes: int, prior: bool
    ) -> None:
        super().__init__()
        self.settings = settings
        self.num_classes, self.prior = count("num_classes", num_classes, least=0), prior
        self.encoder: Any = encoder
        width = self.encoder.embedding_dim
        self.projection = MLP(
            width,
            [settings.projection_hidden, settings.projection_hidden, settings.projection_dim],
            norm_layer=nn.BatchNorm1d,
        )
        self.probe = (
            nn.Sequential(nn.LayerNorm(width), nn.Linear(width, num_classes))
            if num_classes
            else None
        )
        self.patch_projection = _patch_projection(settings, self.encoder.width)
        self.patch_projection.requires_grad_(prior)

    def forward(self, images: Tensor, field: bool = True) -> Output:
        """Encode and project normalized images (B, 3, H, W) or clips (B, T, 3, H, W).

        Args:
            images: Images or clips.
            field: Whether to project patches too.
        """
        encoding = self.encoder(images)
        return Output(
            embedding=encoding.embedding,
            projection=self.projection(encoding.embedding),
            field=self.patch_projection(encoding.tokens) if field else None,
        )

    def untrained(self, seed: int) -> "Network":
        """Return a network of the same architecture with random weights.

        They are a function of the seed alone. An encoder that `build_encoder` made is built again;
        of one's own a copy is made, `reset_parameters` is called on each module inside that has
        it, and parameters of the others are drawn from a normal distribution of standard deviation
        0.02.

        Args:
            seed: Draws the weights.
        """
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            encoder = untrained_encoder(self.encoder)
            return Network(encoder, self.settings, self.num_classes, self.prior)


def _patch_projection(settings: ModelSettings, width: int) -> nn.Module:
    hidden, dim = settings.patch_projection_hidden, settings.patch_projection_dim
    if settings.patch_projection == "none":
        return nn.Identity()
    if settings.patch_projection == "linear":
        return nn.Linear(width, dim)
    return MLP(width, [hidden, hidden, dim], norm_layer=nn.LayerNorm)
