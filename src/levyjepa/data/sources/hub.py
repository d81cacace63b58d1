"""Labeled tables of Hugging Face's `datasets`, from a hub or parquet files."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from glob import escape
from pathlib import Path
from typing import Any

from torch.utils.data import Dataset

from levyjepa.data.images import UNLABELED, Images
from levyjepa.data.registry import register_source
from levyjepa.data.settings import DataSettings
from levyjepa.data.source import Source
from levyjepa.data.sources.folder import existing, folder
from levyjepa.data.video import Video

OFFLINE = (
    "data=mnist5k needs no network, and data=cifar10, imagenette, parquet, folder and unlabelled "
    "none with data.path=FOLDER"
)
CIFAR10 = {"mean": (0.4914, 0.4822, 0.4465), "std": (0.2470, 0.2435, 0.2616)}
IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
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


@register_source("hub")
def hub(settings: DataSettings) -> Source:
    """Any labeled data set of a hub, of images or, with `data.frames`, of videos."""
    if settings.path is None:
        raise ValueError("`data.path` must be the id of a hub data set, such as uoft-cs/cifar10.")
    return _source(settings.path.split("/")[-1], hub_tables(settings), settings)


@register_source("parquet")
def parquet(settings: DataSettings) -> Source:
    """The files train*.parquet and test*.parquet of a folder, with Hugging Face features."""
    root = existing(settings)
    return _source(root.name, parquet_tables(root, settings), settings)


@register_source("cifar10")
def cifar10(settings: DataSettings) -> Source:
    """CIFAR-10, 32 x 32 pixels, 10 classes (Krizhevsky 2009), from the hub or parquet files."""
    local = settings.path is not None
    source = parquet(settings) if local else hub(settings.replace(path="uoft-cs/cifar10"))
    return replace(source, name="cifar10", **CIFAR10)


@register_source("imagenette")
def imagenette(settings: DataSettings) -> Source:
    """Imagenette, ten easy classes of ImageNet, from the hub, class folders or parquet files."""
    if settings.path is None:
        source = hub(settings.replace(path="frgfm/imagenette"))
    elif any(existing(settings).glob("*.parquet")):
        source = parquet(settings)
    else:
        source = folder(settings)
    classes = tuple(IMAGENETTE.get(name, name) for name in source.classes)
    return replace(source, name="imagenette", classes=classes, **IMAGENET)


def undecoded(table: Any, column: str, kind: Any) -> Any:
    """Return a column of images or videos as a sequence of records."""
    return table.cast_column(column, kind(decode=False)).select_columns(column)[column]


@dataclass(eq=False)
class VideoRecords(Dataset):
    """(Video, label) of records of `bytes` or `path`, opened when they are read."""

    records: Any  # a sequence
    labels: Sequence[int]
    size: int

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> tuple[Video, int]:
        record = self.records[index]
        content = record["path"] if record.get("bytes") is None else record["bytes"]
        return Video(content, self.size), self.labels[index]


def hub_tables(settings: DataSettings) -> dict[str, Any]:
    """Return the tables of a hub's data set, in which both splits must be."""
    from datasets import load_dataset
    from datasets.exceptions import DatasetNotFoundError

    path, subset = str(settings.path), settings.subset
    try:
        try:
            tables: Any = load_dataset(path, subset)
        except RuntimeError as error:
            if "script" not in str(error):
                raise
            # A data set that is a script: the hub's own conversion, a folder for each subset.
            tables = load_dataset(path, data_dir=subset, revision="refs/convert/parquet")
    except DatasetNotFoundError as error:
        raise ValueError(f"`data.path` must be the id of a hub data set: {error}") from error
    except OSError as error:
        what = f"The data set {path} can't be fetched from the hub ({error})"
        raise ConnectionError(f"{what}; {OFFLINE}.") from error
    for setting in ("train_split", "test_split"):
        if (split := getattr(settings, setting)) not in tables:
            raise ValueError(f"`data.{setting}` must be one of {', '.join(tables)}, got {split}.")
    return tables


def parquet_tables(root: Path, settings: DataSettings) -> dict[str, Any]:
    """Return the tables of both splits, from the files train*.parquet and test*.parquet."""
    from datasets import Dataset

    files, parts = sorted(root.glob("*.parquet")), {}
    for setting in ("train_split", "test_split"):
        split = getattr(settings, setting)
        parts[split] = [escape(str(path)) for path in files if path.name.startswith(split)]
        if not parts[split]:
            names = ", ".join(path.name for path in files) or "none"
            wanted = f"{split}*.parquet, as `data.{setting}` says"
            raise ValueError(f"`data.path` must hold {wanted}; got {names} in {root}.")
    try:
        return {split: Dataset.from_parquet(paths) for split, paths in parts.items()}
    except Exception as error:  # those of pyarrow and datasets have no common base
        reason = error.__cause__ or error
        raise ValueError(f"The parquet files in {root} can't be read: {reason}") from error


def pick_column(settings: DataSettings, what: str, usable: list[str], likely: list[str]) -> str:
    """Return the column that settings name, else the only likely one."""
    chosen = getattr(settings, f"{what}_column")
    if chosen is None and len(likely) == 1:
        return likely[0]
    if chosen in usable:
        return chosen
    names = ", ".join(usable) or "none, as there is no such column"
    raise ValueError(f"`data.{what}_column` must be one of {names}, got {chosen}.")


def _source(name: str, tables: dict[str, Any], settings: DataSettings) -> Source:
    """A source of tables with a column of images, or of videos, and one of labels."""
    from datasets import ClassLabel, Value
    from datasets import Image as ImageFeature
    from datasets import Video as VideoFeature

    clips, splits = settings.frames is not None, (settings.train_split, settings.test_split)
    kind: Any = VideoFeature if clips else ImageFeature
    features = tables[splits[0]].features

    def column(what: str, kind: Any, others: list[str]) -> str:
        """A column of this kind, or another that is usable."""
        typed = [key for key, feature in features.items() if isinstance(feature, kind)]
        usable = [key for key in features if key in typed or key in others]
        if not usable:
            raise ValueError(f"{name} has no column of {what}s, only {', '.join(features)}.")
        named = ["label"] if what == "label" in usable else []
        return pick_column(settings, what, usable, typed or named)

    plain = {key: feature.dtype for key, feature in features.items() if isinstance(feature, Value)}
    files = [key for key, dtype in plain.items() if dtype in ("binary", "string")]
    files += [key for key, f in features.items() if isinstance(f, dict) and "bytes" in f]
    image = column("image", kind, [] if clips else files)
    label = column("label", ClassLabel, [key for key, d in plain.items() if "float" not in d])
    known = getattr(features[label], "names", None)
    values = [tables[split][label][:] for split in splits]
    distinct = range(len(known)) if known else sorted({*values[0], *values[1]} - {None, UNLABELED})
    number = {value: n for n, value in enumerate(distinct)}

    def dataset(split: str, values: list[Any]) -> Any:
        records = undecoded(tables[split], image, kind)
        labels = [number.get(value, UNLABELED) for value in values]
        if clips:
            return VideoRecords(records, labels, 2 * settings.image_size)
        return Images(records, labels, f"{split} image")

    train, test = map(dataset, splits, values)
    labeled = any(n != UNLABELED for n in (*train.labels, *test.labels))
    classes = tuple(known or map(str, distinct)) if labeled else ()
    return Source(name, train, test, classes, clips=clips)
