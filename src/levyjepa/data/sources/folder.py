"""Images in folders, of classes or not."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from levyjepa.data.images import Images
from levyjepa.data.registry import register_source
from levyjepa.data.settings import DataSettings
from levyjepa.data.source import Source, stratified

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm"}
Classes = tuple[str, ...]
Labeled = tuple[list[Path], list[int]]


@register_source("folder")
def folder(settings: DataSettings) -> Source:
    """Class folders, below train/ and test/ or val/; without these, 20 % of each are tested on."""
    train, test, classes = class_splits(settings, _classes, _labeled)
    return Source(existing(settings).name, Images(*train), Images(*test), classes)


@register_source("unlabelled")
def unlabelled(settings: DataSettings) -> Source:
    """Every image below a folder; a random tenth is for testing."""
    root = existing(settings)
    paths = image_files(root)
    if not paths:
        raise ValueError(f"`data.path` must hold images, got none in {root}.")
    order = np.random.default_rng(0).permutation(len(paths))
    number = max(1, len(paths) // 10) if len(paths) > 1 else 0
    test, train = ([paths[i] for i in sorted(part)] for part in (order[:number], order[number:]))
    return Source(root.name, Images(train), Images(test) if test else None)


def existing(settings: DataSettings) -> Path:
    """Return the folder that `data.path` names, or raise `ValueError` or `FileNotFoundError`."""
    if settings.path is None:
        raise ValueError(f"`data.path` must be a folder for data={settings.source}, got none.")
    root = Path(settings.path).expanduser()
    if root.is_file():
        raise ValueError(f"`data.path` must be a folder, got the file {root}.")
    if not root.is_dir():
        raise FileNotFoundError(f"`data.path` must be a folder, but there is none at {root}.")
    return root


def image_files(root: Path) -> list[Path]:
    """Return the images below a folder, by name."""
    return sorted(p for p in root.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())


def class_splits(
    settings: DataSettings,
    classes: Callable[[Path], Classes],
    labeled: Callable[[Path, Classes], Labeled],
    share: Callable[[list[int]], float] = lambda labels: 0.2,
) -> tuple[Labeled, Labeled, Classes]:
    """Return paths and labels of the training and the test split, and the names of the classes.

    `classes` gives the names of the classes in a folder, `labeled` paths and their labels, `share`
    how much of each class is tested on where a folder is not split.
    """
    root = existing(settings)
    train = root / settings.train_split
    if not train.is_dir():
        names = classes(root)
        paths, labels = labeled(root, names)
        kept, out = (
            ([paths[i] for i in part], [labels[i] for i in part])
            for part in stratified(labels, share(labels))
        )
        return kept, out, names
    tests = [root / name for name in (settings.test_split, "test", "val") if (root / name).is_dir()]
    if not tests:
        raise ValueError(f"`data.path` must hold test/ or val/ beside train/, got {root}.")
    names = classes(train)
    if unknown := set(classes(tests[0])) - set(names):
        raise ValueError(f"{tests[0]} holds {', '.join(sorted(unknown))}, no class of train/.")
    return labeled(train, names), labeled(tests[0], names), names


def _classes(root: Path) -> Classes:
    names = sorted(p.name for p in root.iterdir() if p.is_dir() and not p.name.startswith("."))
    if not names:
        other = "images without labels are read by data=unlabelled"
        raise ValueError(f"`data.path` must hold class folders, got none in {root}; {other}.")
    return tuple(names)


def _labeled(root: Path, classes: Classes) -> Labeled:
    pairs = [(path, n) for n, name in enumerate(classes) for path in image_files(root / name)]
    if not pairs:
        raise ValueError(f"`data.path` must hold images, got none in {root}.")
    return [path for path, _ in pairs], [n for _, n in pairs]
