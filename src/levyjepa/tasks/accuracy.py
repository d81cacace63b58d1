"""What classifiers of frozen features share: labeled splits, and their accuracy as a score."""

from dataclasses import dataclass

from torch import Tensor

from levyjepa.tasks.context import Context
from levyjepa.tasks.intervals import wilson
from levyjepa.tasks.score import Score


@dataclass(frozen=True)
class Labeled:
    """Features of images with a label each."""

    features: Tensor  # (N, E) floating point
    labels: Tensor  # (N,) int64

    def rows(self, rows: list[int]) -> "Labeled":
        """Return some of the images."""
        return Labeled(self.features[rows], self.labels[rows])


def labeled_splits(context: Context, features: str = "embedding") -> tuple[Labeled, Labeled]:
    """Return the training and test split.

    Args:
        context: Of the task.
        features: "embedding" or "mean_token".

    Raises:
        ValueError: As `check_splits`.
    """
    splits = [Labeled(getattr(s, features), s.labels) for s in (context.train, context.test)]
    check_splits(*splits)
    return splits[0], splits[1]


def check_splits(train: Labeled, test: Labeled) -> None:
    """Check that a classifier can be fitted to `train` and tested on `test`.

    Raises:
        ValueError: An image without a label, features that are not finite, or a single class.
    """
    for name, split in (("train", train), ("test", test)):
        if not len(split.labels):
            raise ValueError(f"`{name}` must have at least one image, got none.")
        if (split.labels < 0).any():
            missing = int((split.labels < 0).sum())
            raise ValueError(f"`{name}` must be labeled, got {missing} images without a label.")
        if not split.features.isfinite().all():
            raise ValueError(f"`{name}` must be finite, got NaN or infinite features.")
    if len(train.labels.unique()) < 2:
        raise ValueError(f"`train` must have at least two classes, got only {train.labels[0]}.")


def accuracy(
    name: str, correct: int, test: Labeled, title: str, note: str, headline: bool
) -> Score:
    """Return a score of a classifier that is right about `correct` test images."""
    n = len(test.labels)
    return Score(
        name,
        correct / n,
        wilson(correct, n),
        n,
        chance=chance(test.labels),
        title=title,
        note=note,
        headline=headline,
    )


def chance(labels: Tensor) -> float:
    """Return the share of the commonest class.

    >>> import torch
    >>> chance(torch.tensor([0, 1, 1, 2]))
    0.5
    """
    return int(labels.bincount().max()) / len(labels)
