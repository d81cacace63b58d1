"""What sources share: what they are, and how their files are found, split and measured."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from levyjepa.conf.schema import DataConfig
from levyjepa.data.images import CorruptImageError

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm"}


@dataclass(frozen=True)
class Source:
    """Images or videos with what training must know of them.

    `train` and `test` are map-style data sets of (PIL RGB image, label) or (Video, label), the
    label -1 where there is none; `test` is None where there are no test images. `classes` is empty
    where there are no labels; `mean` and `std` are of the pixels in [0, 1], for each channel.
    `masks` opens a `SegmentationSource`, where pixels have classes, at a size (H, W);
    `scenes` holds the training and the test clips as `DigitClip`, where all is known of them;
    `sequences` each `VideoSequence` whose objects are to be followed.
    """

    name: str
    train: Dataset
    test: Dataset | None
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    masks: Callable[[tuple[int, int]], Any] | None = None
    scenes: tuple[Any, Any] | None = None
    sequences: tuple[Any, ...] | None = None


def existing(config: DataConfig) -> Path:
    """The folder that `data.path` names."""
    if config.path is None:
        raise ValueError(f"`data.path` must be a folder for data={config.source}, got none.")
    folder = Path(config.path).expanduser()
    if folder.is_file():
        raise ValueError(f"`data.path` must be a folder, got the file {folder}.")
    if not folder.is_dir():
        raise FileNotFoundError(f"`data.path` must be a folder, but there is none at {folder}.")
    return folder


def files(folder: Path) -> list[Path]:
    """The images below a folder, by name."""
    return sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())


def parted(
    config: DataConfig, classes: Callable[[Path], tuple[str, ...]]
) -> tuple[Path, Path, tuple[str, ...]] | None:
    """The folders of train and test below `data.path` and the classes of train, if it is parted.

    Raises:
        ValueError: No folder of test beside that of train, or a class in it that train has not.
    """
    root = existing(config)
    if not (train := root / config.train_split).is_dir():
        return None
    tests = [root / name for name in (config.test_split, "test", "val") if (root / name).is_dir()]
    if not tests:
        raise ValueError(f"`data.path` must hold test/ or val/ beside train/, got {root}.")
    known = classes(train)
    if unknown := set(classes(tests[0])) - set(known):
        raise ValueError(f"{tests[0]} holds {', '.join(sorted(unknown))}, no class of train/.")
    return train, tests[0], known


def stratified(labels: np.ndarray, share: float) -> tuple[np.ndarray, np.ndarray]:
    """The same split each time: of every class, `share` of its images to the second part."""
    random = np.random.default_rng(0)
    members = [random.permutation(np.flatnonzero(labels == label)) for label in np.unique(labels)]
    chosen = np.sort(np.concatenate([each[: round(share * len(each))] for each in members]))
    if not len(chosen):
        raise ValueError(
            f"A share of {share:g} must hold an image of some class, got {len(labels)} images "
            f"of {len(members)} classes."
        )
    return np.setdiff1d(np.arange(len(labels)), chosen), chosen


def statistics(
    images: Any, most: int = 500, pixels_of: Callable[[Any], Any] = np.asarray
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation of the pixels in [0, 1], for each channel, over a fixed sample.

    Args:
        images: a map-style data set of (image, label), or of (video, label).
        most: so many of them.
        pixels_of: an image to its pixels (..., 3) of uint8.

    Raises:
        ValueError: none of them can be decoded.
    """
    moments, corrupt = [], None
    for index in np.random.default_rng(0).permutation(len(images))[:most]:
        try:
            pixels = np.asarray(pixels_of(images[int(index)][0])).reshape(-1, 3) / 255
        except CorruptImageError as error:
            corrupt = error
            continue
        moments.append((pixels.mean(0), (pixels**2).mean(0)))
    if not moments:
        raise ValueError(f"No image or video can be decoded, as {corrupt}.")
    mean, square = np.mean(moments, 0)
    return tuple(mean.tolist()), tuple(np.sqrt(np.maximum(square - mean**2, 1e-6)).tolist())
