"""Images and videos in tables of Hugging Face's `datasets`, from a hub or from parquet files."""

from collections.abc import Callable, Sequence
from typing import Any

from levyjepa.conf.schema import DataConfig
from levyjepa.data.clip_sources import Records, colours
from levyjepa.data.common import Source, existing, statistics
from levyjepa.data.images import UNLABELLED, Images

OFFLINE = (
    "data=mnist5k needs no network, and data=cifar10, imagenette, parquet, folder and unlabelled "
    "none with data.path=FOLDER"
)


def hub(config: DataConfig, normalisation: Any = None) -> Source:
    """A hub's data set, of images or, with `data.frames`, of videos."""
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


def parquet(config: DataConfig, normalisation: Any = None) -> Source:
    """The files train*.parquet and test*.parquet of a folder."""
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
    from datasets import Video as VideoFeature

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

    clips = config.frames is not None
    kind: Any = VideoFeature if clips else ImageFeature
    image = column("image", kind, _holds_videos if clips else _holds_images)
    label = column("label", ClassLabel, _holds_labels, ("label",))
    known = getattr(features[label], "names", None)
    raw = {split: splits[split][label][:] for split in (config.train_split, config.test_split)}
    values = (
        range(len(known))
        if known
        else sorted({v for part in raw.values() for v in part} - {None, UNLABELLED})
    )
    number = {value: n for n, value in enumerate(values)}

    def images(split: str) -> Any:
        records = Column(splits[split].cast_column(image, kind(decode=False)), image)
        labels = [number.get(value, UNLABELLED) for value in raw[split]]
        if clips:
            return Records(records, labels, 2 * config.image_size)
        return Images(records, labels, f"{split} image")

    train, test = images(config.train_split), images(config.test_split)
    labelled = any(n != UNLABELLED for n in train.labels or ())
    classes = tuple(known or map(str, values)) if labelled else ()
    mean, std = normalisation or (colours if clips else statistics)(train)
    return Source(name, train, test, classes, mean, std)


def _holds_images(feature: Any) -> bool:
    """Whether a column can be read as images: decoded, in bytes, or by their paths."""
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


class Column:
    """The undecoded images of a Hugging Face data set, as a sequence."""

    def __init__(self, held: Any, column: str) -> None:
        self.held, self.column = held.select_columns(column), column

    def __len__(self) -> int:
        return len(self.held)

    def __getitem__(self, index: int) -> Any:
        return self.held[int(index)][self.column]
