"""Images in folders."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from levyjepa.conf.schema import DataConfig
from levyjepa.data.common import Source, existing, files, parted, statistics, stratified
from levyjepa.data.images import Images
from levyjepa.data.segmentation import load_segmentation


def folder(config: DataConfig, normalisation: Any = None) -> Source:
    """Class folders, below train/ and test/ or val/; one level of them is split 80 to 20."""
    root = existing(config)
    if parts := parted(config, _classes):
        classes = parts[2]
        train, test = (_labelled(part, classes) for part in parts[:2])
    else:
        classes = _classes(root)
        paths, labels = _labelled(root, classes)
        train, test = (
            ([paths[i] for i in part], [labels[i] for i in part])
            for part in stratified(np.array(labels), 0.2)
        )
    images = Images(*train)
    mean, std = normalisation or statistics(images)
    return Source(root.name, images, Images(*test), classes, mean, std)


def _folders(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))


def _classes(folder: Path) -> tuple[str, ...]:
    if classes := tuple(path.name for path in _folders(folder)):
        return classes
    raise ValueError(
        f"`data.path` must hold a folder for each class, got none in {folder}; "
        "images without labels are read by data=unlabelled."
    )


def _labelled(folder: Path, classes: Sequence[str]) -> tuple[list[Path], list[int]]:
    found = [(path, n) for n, name in enumerate(classes) for path in files(folder / name)]
    if not found:
        raise ValueError(f"`data.path` must hold images, got none in {folder}.")
    return [path for path, _ in found], [n for _, n in found]


def unlabelled(config: DataConfig) -> Source:
    root = existing(config)
    paths = files(root)
    if not paths:
        raise ValueError(f"`data.path` must hold images, got none in {root}.")
    order = np.random.default_rng(0).permutation(len(paths))
    held = max(1, len(paths) // 10) if len(paths) > 1 else 0
    tests = Images([paths[i] for i in sorted(order[:held])]) if held else None
    images = Images([paths[i] for i in sorted(order[held:])])
    return Source(root.name, images, tests, (), *statistics(images))


def segmentation(config: DataConfig) -> Source:
    """Images for training without labels, the validation split's for the jump maps and masks."""
    if config.path is None:
        raise ValueError(
            "`data.path` must be a folder or a hub id for data=segmentation, got none."
        )
    masks = partial(
        load_segmentation,
        config.path,
        classes=config.classes,
        ignore=config.void,
        train_split=config.train_split,
        val_split=config.test_split,
        image_column=config.image_column,
        mask_column=config.mask_column,
        subset=config.subset,
    )
    held = masks((config.image_size, config.image_size))
    return Source(held.name, held.train.images, held.val.images, (), held.mean, held.std, masks)
