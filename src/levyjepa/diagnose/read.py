"""A sample of images, and the patch tokens that a frozen model gives of them."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from levyjepa.checks import count
from levyjepa.data.images import CorruptImageError
from levyjepa.data.loader import whole
from levyjepa.data.source import Source
from levyjepa.data.views import normalize
from levyjepa.diagnose.measure import LEAST
from levyjepa.tasks.features import frozen


def read_fields(
    encoder: Any,
    images: Tensor,
    mean: Sequence[float],
    std: Sequence[float],
    layers: Sequence[int] | None = None,
    device: str | torch.device = "cpu",
    projection: nn.Module | None = None,
) -> dict[str, Tensor]:
    """Return the patch tokens of images, (N, h, w, C) by the layer's name.

    Args:
        encoder: As `levyjepa.models.Encoder`; one without `layers` gives its last alone.
        images: (N, 3, H, W) uint8.
        mean, std: Of the pixels in [0, 1] that it was trained on, for each channel.
        layers: From 1 to its depth; None for four, evenly spaced, the last among them.
        device: Where to compute; the tokens end on the CPU.
        projection: From the last layer to the field that the prior sees: "projected".

    Raises:
        ValueError: There is no such layer.
    """
    depth = encoder.depth if hasattr(encoder, "layers") else 1
    read = getattr(encoder, "layers", lambda inputs, layers: [encoder(inputs).tokens] * len(layers))
    if layers is None:
        layers = sorted({max(1, round(depth * k / 4)) for k in (1, 2, 3, 4)})
    for layer in layers:
        if not 1 <= count("layers", layer) <= depth:
            raise ValueError(f"`layers` must be from 1 to {depth}, got {layer}.")
    names = [f"layer {layer}" for layer in layers] + ["projected"] * (projection is not None)
    parts = []
    with frozen(encoder.to(device), (projection or nn.Identity()).to(device)):
        for batch in images.split(32):
            inputs = normalize(batch.to(device), mean, std)
            *fields, last = read(inputs, [*layers, depth])
            fields += [] if projection is None else [projection(last)]
            parts.append([field.float().cpu() for field in fields])
    return {name: torch.cat(some) for name, *some in zip(names, *parts, strict=True)}


def sample_images(source: Source, image_size: int, number: int = 64, seed: int = 0) -> Tensor:
    """Draw test images, and training images where those are fewer.

    Images that can't be decoded are left out.

    Args:
        source: The data.
        image_size: s, pixels.
        number: N, at most.
        seed: Draws the images.

    Returns:
        (N, 3, s, s) uint8.

    Raises:
        ValueError: Fewer than 8 can be read, or the source holds clips.
    """
    if source.clips:
        raise ValueError(f"A diagnosis needs images, and {source.name} gives clips.")
    generator = torch.Generator().manual_seed(seed)
    images, corrupt = [], 0
    for dataset in (source.test or [], source.train):
        for index in torch.randperm(len(dataset), generator=generator).tolist():
            if len(images) < number:
                try:
                    images.append(whole(dataset[index][0], image_size))
                except CorruptImageError:
                    corrupt += 1
    if len(images) < LEAST:
        got = f"got {len(images)} of {source.name}"
        bad = f"; {corrupt} can't be decoded" * (corrupt > 0)
        raise ValueError(f"At least {LEAST} images are needed, {got}{bad}.")
    return torch.stack(images)
