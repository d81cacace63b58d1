"""Semantic segmentation: a linear head reads the class of a pixel from frozen tokens."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import interpolate
from torchmetrics.functional.classification import multiclass_confusion_matrix

from levyjepa.data.masks import VOID
from levyjepa.data.source import stretches
from levyjepa.tasks.context import Context
from levyjepa.tasks.panels import GRAY_VOID, Tile, channels_last, class_colors, evenly, paint, tiles
from levyjepa.tasks.registry import register_task
from levyjepa.tasks.score import Score

DECAYS = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5)  # of the head's weights, per pixel
STEPS = 100
SHOWN = 6  # images

Dense = tuple[Tensor, Tensor]  # tokens (N, h, w, C), masks (N, H, W) int64, -1 where ignored
Head = tuple[Tensor, Tensor]  # weight (C, K), bias (K,)


@dataclass(frozen=True)
class Segmentation:
    """How well pixels are classified, all of it from the confusion matrix.

    A class that no test pixel has is absent: its IoU is NaN and the mean leaves it out.
    """

    confusion: Tensor  # (K, K) pixels of int64: true class, predicted class
    prediction: Tensor  # (M, H, W) of int16, the class predicted for each pixel
    decay: float  # of the head's weights, chosen on held-out training images

    @property
    def pixels(self) -> list[int]:
        """Test pixels of each class."""
        return self.confusion.sum(1).tolist()

    @property
    def iou(self) -> Tensor:
        """Intersection over union of each class, (K,)."""
        hits, true = self.confusion.diagonal(), self.confusion.sum(1)
        iou = hits.double() / (self.confusion.sum(0) + true - hits)
        return iou.where(true > 0, torch.nan)

    @property
    def miou(self) -> float:
        """Mean IoU of the classes that occur."""
        return self.iou.nanmean().item()

    @property
    def pixel_accuracy(self) -> float:
        """Share of test pixels that are right."""
        return (self.confusion.trace() / self.confusion.sum()).item()


@register_task("segmentation", title="Segmentation", needs=("masks", "images"), order=30)
def segmentation(context: Context) -> list[Score]:
    """Mean IoU of a linear head that reads each pixel's class from frozen tokens."""
    train, test, names = context.train, context.test, context.source.mask_classes
    assert train.masks is not None
    assert test.masks is not None
    found = segmentation_probe((train.tokens, train.masks), (test.tokens, test.masks), len(names))
    if context.subject.name == "trained":
        images, rows = channels_last(test.images), evenly(len(test.images), SHOWN)
        colors = class_colors(len(names))
        layers = [[Tile(images[row]) for row in rows]]
        for masks in (test.masks, found.prediction):
            layers.append([Tile(paint(images[row], masks[row].numpy(), colors)) for row in rows])
        key = [*zip(names, colors, strict=True), ("void", GRAY_VOID)]
        context.picture(
            "overlays",
            tiles(layers, ["image", "truth", "predicted"], key),
            "Segmentation from frozen tokens",
            "What a linear head makes of each token, upsampled to pixels, below the true classes.",
            headline=True,
        )
    pixels, n = found.pixels, sum(found.pixels)
    commonest = max(pixels) / n
    note = (
        f"A linear head on frozen tokens, weight decay {found.decay:g} chosen on training images; "
        "chance predicts the commonest class everywhere."
    )
    chance = commonest / sum(count > 0 for count in pixels)
    scores = [
        Score("miou", found.miou, None, len(test.masks), "%", chance, "Mean IoU", note, True, True)
    ]
    note = "Share of pixels whose class is right; chance predicts the commonest class."
    accuracy = found.pixel_accuracy
    scores.append(Score("pixel_accuracy", accuracy, n=n, chance=commonest, note=note))
    note = "Intersection over union of this class; n is its pixels."
    for name, iou, count in zip(names, found.iou.tolist(), pixels, strict=True):
        if count:
            scores.append(Score(f"class/{name}", iou, n=count, title=f"IoU, {name}", note=note))
    return scores


def segmentation_probe(train: Dense, test: Dense, classes: int) -> Segmentation:
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
        classes: Of the masks; pixels of -1 are ignored.

    Raises:
        ValueError: Unknown ids, tokens that are not finite, fewer than five training images, or
            masks that are all ignored.
    """
    if len(train[0]) < 5:
        raise ValueError(f"`train` must hold at least five images, got {len(train[0])}.")
    fitted, held_out = ((train[0][p], train[1][p]) for p in stretches(range(len(train[0])), 0.2))
    parts = {"train": train, "test": test, "train, fitted": fitted, "train, held out": held_out}
    for name, (tokens, masks) in parts.items():
        if masks.max() >= classes or masks.min() < VOID:
            raise ValueError(
                f"`{name}` must have masks of {classes} classes and {VOID} for void, "
                f"got {masks.min()} to {masks.max()}."
            )
        if (masks == VOID).all():
            raise ValueError(f"`{name}` must have masks that are not void (-1) everywhere.")
        if not tokens.isfinite().all():
            raise ValueError(f"`{name}` must be finite, got NaN or infinite tokens.")
    best, best_score, head = DECAYS[0], -1.0, None
    for decay in DECAYS:
        head = fit_head(fitted, classes, decay, head)
        score = _test_head(head, held_out, classes, decay).miou
        if score < best_score:
            break
        best, best_score = decay, score
    return _test_head(fit_head(train, classes, best, head), test, classes, best)


def pixel_counts(masks: Tensor, grid: Sequence[int], classes: int) -> Tensor:
    """Count pixels of each class in each patch: masks (N, H, W) to (N, h, w, K)."""
    n, *size = masks.shape
    row, column = (
        torch.arange(pixels) * patches // pixels for pixels, patches in zip(size, grid, strict=True)
    )
    patch = (torch.arange(n)[:, None, None] * grid[0] + row[:, None]) * grid[1] + column
    place, known = patch * classes + masks, masks != VOID
    counts = place[known].bincount(minlength=n * grid[0] * grid[1] * classes)
    return counts.view(n, *grid, classes)


def fit_head(split: Dense, classes: int, decay: float, start: Head | None = None) -> Head:
    """The head at the minimum, by L-BFGS in coordinates in which the tokens are white."""
    tokens, masks = split
    counts = pixel_counts(masks, tokens.shape[1:3], classes).flatten(0, 2)
    known = counts.any(1)
    x, y = tokens.flatten(0, 2)[known].float(), counts[known].float()
    y = y / y.sum()
    mean, scale = x.mean(0), x.std(0, correction=0).clamp_min(1e-6)
    x = (x - mean) / scale
    gram = (x.T @ x).double() / len(x) + (decay + 1e-6) * torch.eye(x.shape[1]).double()
    root = torch.linalg.cholesky(gram)
    to_weight = torch.linalg.inv(root).T.float()
    white = x @ to_weight
    v, bias = torch.zeros(x.shape[1], classes), torch.zeros(classes)
    if start is not None:
        v, bias = root.T.float() @ (start[0] * scale[:, None]), start[1] + mean @ start[0]
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
    return weight, bias.detach() - mean @ weight


def _test_head(head: Head, split: Dense, classes: int, decay: float) -> Segmentation:
    confusion, predictions = torch.zeros(classes, classes, dtype=torch.int64), []
    for tokens, masks in zip(*(part.split(32) for part in split), strict=True):
        logits = (tokens.float() @ head[0] + head[1]).movedim(-1, 1)
        chosen = interpolate(logits, masks.shape[1:], mode="bilinear").argmax(1)
        confusion += multiclass_confusion_matrix(
            chosen, masks, classes, ignore_index=VOID, validate_args=False
        )
        predictions.append(chosen.to(torch.int16))
    return Segmentation(confusion, torch.cat(predictions), decay)
