"""The encoder with the heads that training needs."""

from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.ops import MLP

from levyjepa.checks import count
from levyjepa.models.encoder import build_encoder
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
        self.settings, self.prior = settings, prior
        self.num_classes = count("num_classes", num_classes, least=0)
        self.encoder: Any = encoder
        width, hidden = self.encoder.embedding_dim, settings.projection_hidden
        widths = [hidden, hidden, settings.projection_dim]
        self.projection = MLP(width, widths, norm_layer=nn.BatchNorm1d)
        self.probe = None
        if num_classes:
            self.probe = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, num_classes))
        width, hidden = self.encoder.width, settings.patch_projection_hidden
        dim, self.patch_projection = settings.patch_projection_dim, nn.Identity()
        if settings.patch_projection == "linear":
            self.patch_projection = nn.Linear(width, dim)
        elif settings.patch_projection == "mlp":
            self.patch_projection = MLP(width, [hidden, hidden, dim], norm_layer=nn.LayerNorm)
        self.patch_projection.requires_grad_(prior)

    def forward(self, images: Tensor, field: bool = True) -> Output:
        """Encode and project normalized images or clips, as `Encoder`; patches only if `field`."""
        encoding = self.encoder(images)
        return Output(
            embedding=encoding.embedding,
            projection=self.projection(encoding.embedding),
            field=self.patch_projection(encoding.tokens) if field else None,
        )

    def untrained(self, seed: int) -> "Network":
        """Return a network of the same architecture with random weights.

        They are a function of the seed alone. An encoder that `build_encoder` made is built again.
        One's own is copied: `reset_parameters` is called on each module inside that has it, and
        parameters of the others are normal of standard deviation 0.02.
        """
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            if made := getattr(self.encoder, "built_from", None):
                settings, *size = made
                settings = settings.replace(pretrained=False, weights=None)
                encoder = build_encoder(settings, *size)
            else:
                encoder = deepcopy(self.encoder).cpu()
                for module in encoder.modules():
                    if callable(reset := getattr(module, "reset_parameters", None)):
                        reset()
                    else:
                        for parameter in module.parameters(recurse=False):
                            nn.init.normal_(parameter, std=0.02)
            return Network(encoder, self.settings, self.num_classes, self.prior)
