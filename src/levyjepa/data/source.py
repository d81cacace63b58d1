"""Where images and clips come from: a name to a source."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from torch.utils.data import Dataset, Subset

from levyjepa.conf.schema import DataConfig
from levyjepa.data.clip_sources import moving_digits, videofolder
from levyjepa.data.common import Source, stratified
from levyjepa.data.davis import davis
from levyjepa.data.folders import folder, segmentation, unlabelled
from levyjepa.data.hub import hub, parquet
from levyjepa.data.images import UNLABELLED
from levyjepa.data.mnist5k import mnist5k

IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CIFAR10 = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
IMAGENETTE = {
    "n01440764": "tench",
    "n02102040": "English springer",
    "n02979186": "cassette player",
    "n03000684": "chain saw",
    "n03028079": "church",
    "n03394916": "French horn",
    "n03417042": "garbage truck",
    "n03425413": "gas pump",
    "n03445777": "golf ball",
    "n03888257": "parachute",
}


def load_source(config: DataConfig) -> Source:
    """Open the images or videos that a configuration names.

    Raises:
        ValueError: an unknown source, no images, no labels, a missing split or column.
        FileNotFoundError: the folder is missing.
        ConnectionError: a hub can't be reached.
    """
    if config.source not in _SOURCES:
        raise ValueError(
            f"`data.source` must be one of {', '.join(_SOURCES)}, got {config.source}."
        )
    source = _SOURCES[config.source](config)
    if config.holdout:
        source = _held_out(source, config.holdout)
    if config.limit is not None:
        source = _few(source, config.limit)
    return source


def _held_out(source: Source, share: float) -> Source:
    """Of every class a share of the training images in the place of the test images."""
    images: Any = source.train
    labels = np.array(images.labels or [UNLABELLED] * len(images))
    kept, held = (part.tolist() for part in stratified(labels, share))
    scenes = source.scenes and (Subset(source.scenes[0], kept), Subset(source.scenes[0], held))
    return replace(source, train=Subset(images, kept), test=Subset(images, held), scenes=scenes)


def _few(source: Source, limit: int) -> Source:
    """At most so many images of each split."""
    test = None if source.test is None else _drawn(source.test, limit)
    scenes = source.scenes and (_drawn(source.scenes[0], limit), _drawn(source.scenes[1], limit))
    sequences = source.sequences and source.sequences[:limit]
    train = _drawn(source.train, limit)
    return replace(source, train=train, test=test, scenes=scenes, sequences=sequences)


def _drawn(images: Any, limit: int) -> Dataset:
    chosen = np.random.default_rng(0).permutation(len(images))[:limit]
    return Subset(images, sorted(chosen.tolist()))


def _cifar10(config: DataConfig) -> Source:
    if config.path is None:
        return hub(replace(config, path="uoft-cs/cifar10"), CIFAR10)
    return replace(parquet(config, CIFAR10), name="cifar10")


def _imagenette(config: DataConfig) -> Source:
    if config.path is None:
        return hub(replace(config, path="frgfm/imagenette"), IMAGENET)
    source = folder(config, IMAGENET)
    names = tuple(IMAGENETTE.get(name, name) for name in source.classes)
    return replace(source, name="imagenette", classes=names)


_SOURCES: dict[str, Callable[[DataConfig], Source]] = {
    "mnist5k": mnist5k,
    "cifar10": _cifar10,
    "imagenette": _imagenette,
    "hub": hub,
    "parquet": parquet,
    "folder": folder,
    "unlabelled": unlabelled,
    "segmentation": segmentation,
    "moving_digits": moving_digits,
    "videofolder": videofolder,
    "davis": davis,
}
