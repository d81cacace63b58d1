"""A network's frozen features, beside a random encoder's and raw pixels."""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import torch
from torch.utils.data import Dataset, Subset

from levyjepa.checks import count
from levyjepa.conf.schema import DataConfig
from levyjepa.data import Source, normalise, test_loader
from levyjepa.evaluation.accuracy import Accuracy
from levyjepa.evaluation.features import Features, extract, pixels
from levyjepa.evaluation.knn import knn
from levyjepa.evaluation.probe import linear_probe
from levyjepa.models import Network

NEIGHBOURS = 20


def evaluate(
    network: Network,
    source: Source,
    config: DataConfig,
    *,
    device: str | torch.device = "cpu",
    seed: int = 0,
    limit: int | None = None,
) -> dict[str, Any]:
    """Judge frozen features by a linear probe and weighted nearest neighbours.

    Args:
        network: What was trained.
        source: Labelled images to fit and to judge.
        config: How they are loaded.
        device: Where features are computed.
        seed: Draws the random encoder, the probe's validation part and the `limit`.
        limit: At most so many training images; None for all.

    Returns:
        What `evaluation.json` holds: "linear_probe" and "knn", and the same under
        "random_encoder" and "pixels", each {"accuracy", "correct", "n", "low", "high"}.

    Raises:
        ValueError: The source has no labels, no test images, or too few images for a probe.
    """
    if not source.classes:
        raise ValueError(f"`source` must be labelled to be evaluated, got {source.name}.")
    if source.test is None:
        raise ValueError(f"`source` must have test images to be evaluated, got {source.name}.")
    train = test_loader(subset(source.train, limit, seed), config)
    test = test_loader(source.test, config)
    prepare = partial(normalise, mean=source.mean, std=source.std)

    def judge(features: Callable[[Iterable[Any]], Features]) -> dict[str, Any]:
        return _judge(features(train), features(test), seed)

    return {
        **judge(lambda loader: extract(network, loader, prepare, device)),
        "random_encoder": judge(
            lambda loader: extract(network.untrained(seed), loader, prepare, device)
        ),
        "pixels": judge(pixels),
    }


def subset(dataset: Dataset, limit: int | None, seed: int) -> Dataset:
    """Draw at most `limit` images of a data set, in a seeded order; None leaves it as it is."""
    if limit is None:
        return dataset
    size: int = len(dataset)  # pyright: ignore[reportArgumentType]
    generator = torch.Generator().manual_seed(seed)
    return Subset(
        dataset, torch.randperm(size, generator=generator)[: count("limit", limit)].tolist()
    )


def _judge(train: Features, test: Features, seed: int) -> dict[str, Any]:
    neighbours = min(NEIGHBOURS, len(train.labels))
    return {
        "linear_probe": _leaf(linear_probe(train, test, seed)),
        "knn": _leaf(knn(train, test, neighbours)),
    }


def _leaf(accuracy: Accuracy) -> dict[str, float]:
    low, high = accuracy.interval
    return {
        "accuracy": accuracy.value,
        "correct": accuracy.correct,
        "n": accuracy.n,
        "low": low,
        "high": high,
    }
