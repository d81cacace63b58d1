"""Frozen features of a data set, with its labels."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, adaptive_avg_pool3d, pixel_unshuffle

from levyjepa.checks import count


@dataclass(frozen=True)
class Features:
    """One row and one label per image."""

    embedding: Tensor  # (N, E) of float32
    labels: Tensor  # (N,) of int64, -1 where there is none
    tokens: Tensor | None = None  # (N, C), the mean patch token, of an encoder


@dataclass(frozen=True)
class Dense:
    """A grid of tokens and a mask per image."""

    field: Tensor  # (N, h, w, C) of float32
    masks: Tensor  # (N, H, W) of int64, -1 where void


def extract(
    model: nn.Module,
    loader: Iterable[Any],
    normalise: Callable[[Tensor], Tensor],
    device: str | torch.device = "cpu",
) -> Features:
    """Embed every image of a loader in evaluation mode.

    Args:
        model: An Encoder, or a Network, whose encoder is taken.
        loader: Yields batches with `.images` (B, 3, s, s) of uint8, or clips (B, T, 3, s, s), and
            `.labels` (B,).
        normalise: From such images to the encoder's input.
        device: Where to compute; the model is moved there, the features end on the CPU.

    Raises:
        ValueError: The loader is empty.
    """
    encoder: Any = getattr(model, "encoder", model)

    def read(images: Tensor) -> Tensor:
        encoding = encoder(normalise(images.to(device)))
        return (
            torch.cat([encoding.embedding, encoding.field.flatten(1, -2).mean(1)], 1).float().cpu()
        )

    with frozen(model.to(device)):
        both = _collect(loader, read)
    width = both.embedding.shape[1] - encoder.width
    return Features(both.embedding[:, :width], both.labels, both.embedding[:, width:])


def pixels(loader: Iterable[Any], side: int = 32) -> Features:
    """Raw pixels in [0, 1] as features, larger images averaged down to `side` pixels a side.

    Clips are averaged down to a quarter of the frames and half the side.

    Args:
        loader: As for `extract`.
        side: Pixels; the baseline stays small on large images.

    Raises:
        ValueError: The loader is empty.
    """

    def flatten(images: Tensor) -> Tensor:
        images = images.float() / 255
        if images.ndim == 5:
            few = -(-images.shape[1] // 4), side // 2, side // 2
            images = adaptive_avg_pool3d(images.transpose(1, 2), few)
        elif max(images.shape[-2:]) > side:
            images = adaptive_avg_pool2d(images, side)
        return images.flatten(1)

    return _collect(loader, flatten)


def fields(
    model: nn.Module,
    images: Tensor,
    normalise: Callable[[Tensor], Tensor],
    device: str | torch.device = "cpu",
    projected: bool = False,
) -> Tensor:
    """The patch tokens (N, h, w, C) of images, in evaluation mode.

    Args:
        model: An Encoder, or a Network, whose encoder is taken.
        images: (N, 3, H, W) of uint8.
        normalise: From such images to the encoder's input.
        device: Where to compute; the model is moved there, the tokens end on the CPU.
        projected: Take a Network's projected tokens, which its prior sees, instead.
    """
    whole: Any = model
    encoder: Any = getattr(model, "encoder", model)
    parts = []
    with frozen(model.to(device)):
        for some in images.split(64):
            field = encoder(normalise(some.to(device))).field
            parts.append((whole.patch_projection(field) if projected else field).float().cpu())
    return torch.cat(parts)


def patches(images: Tensor, side: int) -> Tensor:
    """Raw pixels in [0, 1] as tokens: images (N, 3, H, W) of uint8 to (N, h, w, 3 side^2).

    Raises:
        ValueError: `side` does not divide the images' sides.
    """
    height, width = images.shape[-2:]
    if height % count("side", side) or width % side:
        raise ValueError(f"`side` must divide {height} and {width}, got {side}.")
    return pixel_unshuffle(images.float() / 255, side).movedim(1, -1)


@contextmanager
def frozen(model: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients; each module gets its own mode back."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        for module in training:
            module.training = True


def check_splits(train: Features, test: Features) -> None:
    """Raise a ValueError that names the split unless a classifier can be fitted and judged."""
    for name, split in (("train", train), ("test", test)):
        if len(split.embedding) == 0:
            raise ValueError(f"`{name}` must hold at least one image, got none.")
        if len(split.labels) != len(split.embedding):
            raise ValueError(
                f"`{name}` must have a label per image, "
                f"got {len(split.labels)} for {len(split.embedding)}."
            )
        if (split.labels < 0).any():
            raise ValueError(f"`{name}` must be labelled, got images without labels.")
        if not split.embedding.isfinite().all():
            raise ValueError(f"`{name}` must be finite, got NaN or infinite features.")
    if train.embedding.shape[1] != test.embedding.shape[1]:
        raise ValueError(
            f"`test` must be as wide as `train`, got {test.embedding.shape[1]} "
            f"and {train.embedding.shape[1]} features."
        )
    if len(train.labels.unique()) < 2:
        raise ValueError(
            f"`train` must hold at least two classes, got only {train.labels[0].item()}."
        )


def _collect(loader: Iterable[Any], features: Callable[[Tensor], Tensor]) -> Features:
    parts = [(features(batch.images), batch.labels) for batch in loader]
    if not parts:
        raise ValueError("`loader` must yield at least one batch, got none.")
    embeddings, labels = zip(*parts, strict=True)
    return Features(torch.cat(embeddings), torch.cat(labels).long().cpu())
