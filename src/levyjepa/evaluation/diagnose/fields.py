"""The patch tokens of a frozen model, layer by layer."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from levyjepa.checks import count
from levyjepa.data import normalise
from levyjepa.evaluation.features import frozen
from levyjepa.models.backbone import Backbone


def read_fields(
    backbone: Backbone,
    images: Tensor,
    layers: Sequence[int] | None = None,
    device: str | torch.device = "cpu",
) -> dict[str, Tensor]:
    """The patch tokens of images, (N, h, w, C) by the layer's name.

    Args:
        backbone: The model.
        images: (N, 3, H, W) of uint8.
        layers: From 1 to its depth; None for four, evenly spaced, the last among them. A network
            trained here adds "projected", which its prior sees.
        device: Where to compute; the tokens end on the CPU.

    Raises:
        ValueError: A layer that there is not.
    """
    depth, projection = backbone.depth, backbone.projection
    if layers is None:
        layers = sorted({max(1, round(depth * k / 4)) for k in (1, 2, 3, 4)})
    for layer in layers:
        if not 1 <= count("layers", layer) <= depth:
            raise ValueError(f"`layers` must be from 1 to {depth}, got {layer}.")
    names = [f"layer {layer}" for layer in layers]
    parts: dict[str, list[Tensor]] = {}
    with frozen(nn.ModuleList([backbone.module, projection or nn.Identity()]).to(device)):
        for some in images.split(32):
            inputs = normalise(some.to(device), backbone.mean, backbone.std)
            *found, last = backbone.tokens(inputs, [*layers, depth])
            fields = dict(zip(names, found, strict=True))
            if projection is not None:
                fields["projected"] = projection(last)
            for name, field in fields.items():
                parts.setdefault(name, []).append(field.float().cpu())
    return {name: torch.cat(each) for name, each in parts.items()}
