"""Weighted nearest neighbors: what frozen features know without any training."""

import torch
from torch.nn.functional import normalize, one_hot

from levyjepa.checks import count, positive
from levyjepa.tasks.accuracy import Labeled, accuracy, labeled_splits
from levyjepa.tasks.context import Context
from levyjepa.tasks.registry import register_task
from levyjepa.tasks.score import Score

NEIGHBORS = 20


@register_task("knn", title="k nearest neighbors", needs=("labels",), order=11)
def knn(context: Context) -> list[Score]:
    """Test accuracy of the vote of the 20 most similar training images."""
    what = [("accuracy", "embedding", "k nearest neighbors")]
    if context.subject.name != "pixels":
        what.append(("mean_token/accuracy", "mean_token", "k nearest neighbors, mean patch token"))
    scores = []
    for name, features, title in what:
        train, test = labeled_splits(context, features)
        k = min(NEIGHBORS, len(train.labels))
        note = f"Test accuracy of a vote of {k} training images, weighted by cosine similarity."
        correct = int((vote(train, test, k) == test.labels).sum())
        scores.append(accuracy(name, correct, test, title, note, headline=name == "accuracy"))
    return scores


def vote(
    train: Labeled, test: Labeled, k: int = NEIGHBORS, temperature: float = 0.07
) -> torch.Tensor:
    """Let the `k` most similar training images vote, weighted by exp(cosine / temperature).

    Args:
        train: Features (N, E) and labels of the voters.
        test: Features (M, E).
        k: Voters of each test image, at most N.
        temperature: The lower, the more the nearest count.

    Returns:
        Labels, (M,) int64.

    Raises:
        ValueError: `k` above N.
    """
    positive("temperature", temperature)
    if count("k", k) > len(train.labels):
        raise ValueError(f"`k` must be at most the {len(train.labels)} training images, got {k}.")
    voters, labels = normalize(train.features), one_hot(train.labels).to(train.features.dtype)
    votes = []
    for rows in test.features.split(256):
        cosine, nearest = (normalize(rows) @ voters.T).topk(k)
        weights = ((cosine - cosine[:, :1]) / temperature).exp()  # the scale cancels in the vote
        votes.append(torch.einsum("mk,mkc->mc", weights, labels[nearest]).argmax(1))
    return torch.cat(votes)
