"""The segmentation probe: a linear head reads the class of a pixel from frozen tokens."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import interpolate
from torchmetrics.functional.classification import multiclass_confusion_matrix

from levyjepa.checks import floating
from levyjepa.data.masks import VOID

DECAYS = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5)  # of the head's weights, per pixel
STRETCHES = 5  # of consecutive images, whose last fifths are held out
STEPS = 100


@dataclass(frozen=True)
class Dense:
    """A grid of tokens and a mask for each image."""

    field: Tensor  # (N, h, w, C) floating point
    masks: Tensor  # (N, H, W) int64, -1 where ignored


@dataclass(frozen=True)
class Segmentation:
    """How well pixels are classified, all of it from the confusion matrix.

    A class that no test pixel has is absent: its IoU is None and the mean leaves it out.
    """

    classes: tuple[str, ...]
    confusion: Tensor  # (K, K) pixels of int64: true class, predicted class
    prediction: Tensor  # (M, H, W) of int16, the class predicted for each pixel
    decay: float  # of the head's weights, chosen on held-out training images

    @property
    def pixels(self) -> tuple[int, ...]:
        """Test pixels of each class."""
        return tuple(self.confusion.sum(1).tolist())

    @property
    def iou(self) -> tuple[float | None, ...]:
        """Intersection over union of each class; None if it is absent."""
        hits = self.confusion.diagonal()
        union = self.confusion.sum(0) + self.confusion.sum(1) - hits
        return tuple(
            (hit / all_).item() if n else None
            for hit, all_, n in zip(hits, union, self.pixels, strict=True)
        )

    @property
    def miou(self) -> float:
        """Mean IoU of the classes that occur."""
        present = [value for value in self.iou if value is not None]
        return sum(present) / len(present)

    @property
    def pixel_accuracy(self) -> float:
        """Share of test pixels that are right."""
        return (self.confusion.trace() / self.confusion.sum()).item()


def segmentation_probe(train: Dense, test: Dense, classes: Sequence[str]) -> Segmentation:
    """Fit a linear head to standardized tokens; test its upsampled logits against masks.

    Training minimizes the cross-entropy of pixels, which share the logits of their patch's token,
    plus decay/2 times the squared weights. This is convex, so nothing is drawn and there is no
    learning rate. In testing, logits are upsampled bilinearly to the size of the masks. The decay
    falls until the mean IoU on held-out training images does. These are the last fifth of each of
    five stretches of consecutive images, so that few of them are neighbors in time of fitted ones.
    `test` chooses nothing.

    Args:
        train: Tokens (N, h, w, C) and masks (N, H, W), N at least 5, in order of time.
        test: Tokens (M, h', w', C) and masks (M, H', W').
        classes: Names of the masks' classes; pixels of -1 are ignored.

    Raises:
        ValueError: Other shapes, unknown ids, tokens that are not finite, fewer than five
            training images, or a split whose pixels are all ignored.
    """
    out = held_out(len(_checked("train", train, len(classes)).masks))
    _checked("test", test, len(classes))
    if train.field.shape[-1] != test.field.shape[-1]:
        raise ValueError(
            f"`test` must have tokens as wide as `train`, got {test.field.shape[-1]} "
            f"and {train.field.shape[-1]}."
        )
    fitted, left = (
        _checked(f"train, {part}", Dense(train.field[chosen], train.masks[chosen]), len(classes))
        for part, chosen in (("fitted", ~out), ("held out", out))
    )
    best, best_score, head = DECAYS[0], -1.0, None
    for decay in DECAYS:
        head = _fit(fitted, len(classes), decay, head)
        score = _score(head, left, classes, decay).miou
        if score < best_score:
            break
        best, best_score = decay, score
    return _score(_fit(train, len(classes), best, head), test, classes, best)


@dataclass(frozen=True)
class _Head:
    weight: Tensor  # (C, K)
    bias: Tensor  # (K,)


def _checked(name: str, split: Dense, classes: int) -> Dense:
    """Return a split that a head can be fitted to and tested on; raise otherwise."""
    field, masks = floating(name, split.field, 4, "(N, h, w, C)"), split.masks
    if masks.ndim != 3 or len(masks) != len(field):
        raise ValueError(
            f"`{name}` must have a mask (H, W) per image, got {tuple(masks.shape)} "
            f"for tokens {tuple(field.shape)}."
        )
    if masks.max() >= classes or masks.min() < VOID:
        raise ValueError(
            f"`{name}` must have masks of {classes} classes and {VOID} for void, "
            f"got {masks.min()} to {masks.max()}."
        )
    if (masks == VOID).all():
        raise ValueError(f"`{name}` must have masks that are not void (-1) everywhere.")
    if not field.isfinite().all():
        raise ValueError(f"`{name}` must be finite, got NaN or infinite tokens.")
    return split


def held_out(images: int) -> Tensor:
    """Return which of N images in order are held out, (N,) bool: the last fifth of each stretch."""
    if images < 5:
        raise ValueError(f"`train` must hold at least five images, got {images}.")
    stretches = min(STRETCHES, images // 5)
    place = torch.arange(images) * stretches % images  # in its stretch, of `images`
    return 5 * place >= 4 * images


def pixel_counts(masks: Tensor, grid: Sequence[int], classes: int) -> Tensor:
    """Count pixels of each class in each patch: masks (N, H, W) to (N, h, w, K)."""
    n, *size = masks.shape
    row, column = (
        torch.arange(pixels) * patches // pixels for pixels, patches in zip(size, grid, strict=True)
    )
    patch = (torch.arange(n)[:, None, None] * grid[0] + row[:, None]) * grid[1] + column
    place, known = patch * classes + masks, masks != VOID
    return torch.bincount(place[known], minlength=n * grid[0] * grid[1] * classes).view(
        n, *grid, classes
    )


def _fit(split: Dense, classes: int, decay: float, start: "_Head | None" = None) -> _Head:
    """The head at the minimum, by L-BFGS in coordinates in which the tokens are white."""
    counts = pixel_counts(split.masks, split.field.shape[1:3], classes).flatten(0, 2)
    known = counts.any(1)
    x, y = split.field.flatten(0, 2)[known].float(), counts[known].float()
    y = y / y.sum()
    mean, scale = x.mean(0), x.std(0, correction=0).clamp_min(1e-6)
    x = (x - mean) / scale
    gram = (x.T @ x).double() / len(x) + (decay + 1e-6) * torch.eye(x.shape[1]).double()
    root = torch.linalg.cholesky(gram)
    to_weight = torch.linalg.inv(root).T.float()
    white = x @ to_weight
    if start is None:
        v, bias = torch.zeros(x.shape[1], classes), torch.zeros(classes)
    else:
        v = root.T.float() @ (start.weight * scale[:, None])
        bias = start.bias + mean @ start.weight
    v.requires_grad_()
    bias.requires_grad_()
    optimizer = torch.optim.LBFGS([v, bias], max_iter=STEPS, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = -(y * (white @ v + bias).log_softmax(1)).sum()
        value = value + decay / 2 * (to_weight @ v).square().sum()
        value.backward()
        return value.detach()

    with torch.enable_grad():
        optimizer.step(loss)
    weight = to_weight @ v.detach() / scale[:, None]
    return _Head(weight, bias.detach() - mean @ weight)


def _score(head: _Head, split: Dense, classes: Sequence[str], decay: float) -> Segmentation:
    k, size = len(classes), split.masks.shape[1:]
    confusion = torch.zeros(k, k, dtype=torch.int64)
    predictions = []
    for field, masks in zip(split.field.split(32), split.masks.split(32), strict=True):
        logits = (field.float() @ head.weight + head.bias).movedim(-1, 1)
        chosen = interpolate(logits, size, mode="bilinear").argmax(1)
        confusion += multiclass_confusion_matrix(
            chosen, masks, k, ignore_index=VOID, validate_args=False
        )
        predictions.append(chosen.to(torch.int16))
    return Segmentation(tuple(classes), confusion, torch.cat(predictions), decay)
