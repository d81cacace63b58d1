"""Weighted nearest neighbours: what frozen features know without any training."""

import torch
from torch.nn.functional import normalize, one_hot

from levyjepa.checks import count, positive
from levyjepa.evaluation.accuracy import Accuracy
from levyjepa.evaluation.features import Features, check_splits


def knn(train: Features, test: Features, k: int = 20, temperature: float = 0.07) -> Accuracy:
    """Let the `k` most similar training images vote, weighted by exp(cosine / temperature).

    Args:
        train: Features (N, E) and labels of the voters.
        test: Features (M, E) and labels to judge.
        k: Voters per test image, at most N.
        temperature: The lower, the more the nearest count.

    Raises:
        ValueError: An empty or unlabelled split, a single class, `k` above N.
    """
    check_splits(train, test)
    positive("temperature", temperature)
    if count("k", k) > len(train.embedding):
        raise ValueError(
            f"`k` must be at most the {len(train.embedding)} training images, got {k}."
        )
    voters, labels = normalize(train.embedding), one_hot(train.labels).to(train.embedding.dtype)
    correct = 0
    for rows, truth in zip(test.embedding.split(256), test.labels.split(256), strict=True):
        cosine, nearest = (normalize(rows) @ voters.T).topk(k)
        weights = ((cosine - cosine[:, :1]) / temperature).exp()  # the scale cancels in the vote
        votes = torch.einsum("mk,mkc->mc", weights, labels[nearest])
        correct += int((votes.argmax(1) == truth).sum())
    return Accuracy(correct, len(test.labels), {"k": k, "temperature": temperature})
