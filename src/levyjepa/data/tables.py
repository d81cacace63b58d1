"""Images, videos and masks in tables of Hugging Face's `datasets`, from a hub or parquet files."""

from collections.abc import Callable, Sequence
from glob import escape
from pathlib import Path
from typing import Any

from torch.utils.data import Dataset

from levyjepa.data.images import UNLABELED, Images
from levyjepa.data.settings import DataSettings
from levyjepa.data.source import Source
from levyjepa.data.video import Video

OFFLINE = (
    "data=mnist5k needs no network, and data=cifar10, imagenette, parquet, folder and unlabelled "
    "none with data.path=FOLDER"
)


class Column:
    """The undecoded images or videos of a table, as a sequence."""

    def __init__(self, table: Any, column: str, kind: Any) -> None:
        self.table = table.cast_column(column, kind(decode=False)).select_columns(column)
        self.column = column

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, index: int) -> Any:
        return self.table[int(index)][self.column]


class VideoRecords(Dataset):
    """(Video, label) of records that hold a video's `bytes` or `path`, opened when they are read.

    Args:
        records: A sequence of dicts.
        labels: One for each record.
        size: Pixels of the short side of frames, at most.
    """

    def __init__(self, records: Any, labels: Sequence[int], size: int) -> None:
        self.records, self.labels, self.size = records, labels, size

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> tuple[Video, int]:
        record = self.records[index]
        content = record["path"] if record.get("bytes") is None else record["bytes"]
        return Video(content, self.size), self.labels[index]


def hub_tables(path: str, subset: str | None) -> Any:
    """Load the splits of a hub's data set.

    Raises:
        ValueError: There is none of this id.
        ConnectionError: The hub can't be reached.
    """
    from datasets import load_dataset
    from datasets.exceptions import DatasetNotFoundError

    try:
        try:
            return load_dataset(path, subset)
        except RuntimeError as error:
            if "script" not in str(error):
                raise
            # A data set that is a script: the hub's own conversion, a folder for each subset.
            return load_dataset(path, data_dir=subset, revision="refs/convert/parquet")
    except DatasetNotFoundError as error:
        raise ValueError(f"`data.path` must be the id of a hub data set: {error}") from error
    except OSError as error:
        raise ConnectionError(
            f"The data set {path} can't be fetched from the hub ({error}); {OFFLINE}."
        ) from error


def parquet_tables(folder: Path, settings: DataSettings) -> Any:
    """Load the files train*.parquet and test*.parquet of a folder.

    Raises:
        ValueError: A split has none, or they can't be read.
    """
    from datasets import Dataset

    files, parts = sorted(folder.glob("*.parquet")), {}
    for setting in ("train_split", "test_split"):
        split = getattr(settings, setting)
        parts[split] = [escape(str(path)) for path in files if path.name.startswith(split)]
        if not parts[split]:
            names = ", ".join(path.name for path in files) or "none"
            raise ValueError(
                f"`data.path` must hold {split}*.parquet, as `data.{setting}` says; got {names} "
                f"in {folder}."
            )
    try:
        return {split: Dataset.from_parquet(paths) for split, paths in parts.items()}
    except Exception as error:  # those of pyarrow and datasets have no common base
        reason = error.__cause__ or error
        raise ValueError(f"The parquet files in {folder} can't be read: {reason}") from error


def check_splits(tables: Any, settings: DataSettings) -> None:
    """Check that there are tables of both splits.

    Raises:
        ValueError: One is missing.
    """
    for setting in ("train_split", "test_split"):
        if (split := getattr(settings, setting)) not in tables:
            raise ValueError(f"`data.{setting}` must be one of {', '.join(tables)}, got {split}.")


def table_source(name: str, tables: Any, settings: DataSettings) -> Source:
    """Make a source of tables with a column of images, or of videos, and one of labels.

    Raises:
        ValueError: A split or column is missing, or it can't be told which column to use.
    """
    from datasets import ClassLabel
    from datasets import Image as ImageFeature
    from datasets import Video as VideoFeature

    check_splits(tables, settings)
    features = tables[settings.train_split].features

    def column(what: str, kind: Any, fits: Callable[[Any], bool], names: Sequence[str] = ()) -> str:
        usable = [key for key, feature in features.items() if fits(feature)]
        if not usable:
            raise ValueError(f"{name} has no column of {what}s, only {', '.join(features)}.")
        chosen = getattr(settings, f"{what}_column")
        likely = [key for key in usable if isinstance(features[key], kind)]
        likely = likely or [key for key in names if key in usable]
        if chosen in usable if chosen else len(likely) == 1:
            return chosen or likely[0]
        raise ValueError(
            f"`data.{what}_column` must be one of {', '.join(usable)}, got {chosen}; "
            f"{name} has {len(likely)} columns of {what}s."
        )

    clips = settings.frames is not None
    kind: Any = VideoFeature if clips else ImageFeature
    image = column("image", kind, _holds_videos if clips else _holds_images)
    label = column("label", ClassLabel, _holds_labels, ("label",))
    names = getattr(features[label], "names", None)
    raw = {split: tables[split][label][:] for split in (settings.train_split, settings.test_split)}
    values = (
        range(len(names))
        if names
        else sorted({v for part in raw.values() for v in part} - {None, UNLABELED})
    )
    number = {value: n for n, value in enumerate(values)}

    def dataset(split: str) -> Any:
        records = Column(tables[split], image, kind)
        labels = [number.get(value, UNLABELED) for value in raw[split]]
        if clips:
            return VideoRecords(records, labels, 2 * settings.image_size)
        return Images(records, labels, f"{split} image")

    train, test = dataset(settings.train_split), dataset(settings.test_split)
    labeled = any(n != UNLABELED for n in (*train.labels, *test.labels))
    classes = tuple(names or map(str, values)) if labeled else ()
    return Source(name, train, test, classes, clips=clips)


def _holds_images(feature: Any) -> bool:
    """Whether a column can be read as images: decoded, as bytes, or by their paths."""
    from datasets import Image, Value

    if isinstance(feature, Value):
        return feature.dtype in ("binary", "string")
    return isinstance(feature, Image) or (isinstance(feature, dict) and "bytes" in feature)


def _holds_videos(feature: Any) -> bool:
    from datasets import Video

    return isinstance(feature, Video)


def _holds_labels(feature: Any) -> bool:
    from datasets import ClassLabel, Value

    if isinstance(feature, Value):
        return "float" not in feature.dtype
    return isinstance(feature, ClassLabel)
