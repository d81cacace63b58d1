"""What a source of images or clips is, and how one is opened by name."""

import operator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from PIL import Image
from torch.utils.data import Subset

from levyjepa.data.clips import middle
from levyjepa.data.images import UNLABELED, CorruptImageError, to_rgb
from levyjepa.data.registry import SOURCES
from levyjepa.data.settings import DataSettings
from levyjepa.data.video import Footage

MEASURED = 500, 100  # images, or clips, whose pixels are measured
STRETCHES = 5  # of an ordered source, whose last parts are held out


@dataclass(frozen=True)
class Source:
    """Images or videos with what training and tasks must know about them.

    `train` and `test` are map-style datasets, or lists, of (image, label): a PIL image or a uint8
    array (H, W, 3), and an integer, -1 where there is no label. Datasets of video give
    (`Footage`, label). Two methods are optional: `name(i)` says what to call an item in messages,
    `truth(i)` is a mask (H, W) of class ids, -1 where ignored, or a `DigitClip`.
    """

    name: str
    train: Any
    test: Any = None
    classes: tuple[str, ...] = ()  # names of the labels
    mean: tuple[float, ...] | None = None  # of pixels in [0, 1]; None measures the training split
    std: tuple[float, ...] | None = None
    truth: str = ""  # what `truth(i)` gives: "masks", "scenes" or nothing
    mask_classes: tuple[str, ...] = ()  # names of the ids of masks
    sequences: tuple[Any, ...] = ()  # videos with object masks, to be tracked
    ordered: bool = False  # items follow each other in time: whole stretches are held out
    clips: bool = False  # whether items are video


class Rows(Subset):
    """Some items of a dataset, in the order of `indices`; `name` and `truth` included."""

    dataset: Any

    def name(self, index: int) -> str:
        """What to call an item in messages."""
        return item_name(self.dataset, self.indices[index])

    def truth(self, index: int) -> Any:
        """What is known about an item's pixels."""
        return self.dataset.truth(self.indices[index])


def open_source(settings: DataSettings) -> Source:
    """Open the images or videos that settings name.

    Raises:
        ValueError: An unknown source, no images, no labels, a missing split or column.
        FileNotFoundError, ConnectionError: The folder is missing, a hub can't be reached.
    """
    return prepared(SOURCES.get(settings.source).build(settings), settings)


def prepared(source: Source, settings: DataSettings) -> Source:
    """Check a source, measure its pixels, hold out a part and limit its size, as settings say.

    Raises:
        TypeError: It is not a source, or its items are not (image, label).
        ValueError: A split is empty, a label has no class, items are images in place of video.
    """
    if not isinstance(source, Source):
        raise TypeError(f"`data.source={settings.source}` must give a `Source`, got {source!r}.")
    if source.clips != (settings.frames is not None):
        wanted, kind = ("a number", "video") if source.clips else ("null", "images")
        why = f"{wanted}, as {source.name} gives {kind}"
        raise ValueError(f"`data.frames` must be {why}; got {settings.frames or 'null'}.")
    _check(source, "train", source.train)
    if source.test is not None:
        _check(source, "test", source.test)
    if source.mean is None or source.std is None:
        mean, std = pixel_statistics(source.train, MEASURED[source.clips])
        source = replace(source, mean=source.mean or mean, std=source.std or std)
    if settings.holdout:
        labels = labels_of(source.train) or [UNLABELED] * len(source.train)
        split = stretches if source.ordered else stratified
        train, test = (Rows(source.train, p.tolist()) for p in split(labels, settings.holdout))
        source = replace(source, train=train, test=test)
    if limit := settings.limit:
        train = _sample(source.train, limit)
        test = None if source.test is None else _sample(source.test, limit)
        source = replace(source, train=train, test=test, sequences=source.sequences[:limit])
    return source


def _sample(dataset: Any, limit: int) -> Rows:
    chosen = np.random.default_rng(0).permutation(len(dataset))[:limit]
    return Rows(dataset, sorted(chosen.tolist()))


def item_name(dataset: Any, index: int) -> str:
    """What to call an item of a dataset in messages: its own name, or its number."""
    name = getattr(dataset, "name", None)
    return str(name(index)) if callable(name) else f"image {index}"


def labels_of(dataset: Any) -> list[int] | None:
    """Return all labels where they are known without decoding; else None."""
    if isinstance(dataset, Rows):
        labels = labels_of(dataset.dataset)
        return labels and [labels[index] for index in dataset.indices]
    if isinstance(dataset, (list, tuple)):
        return [operator.index(label) for _, label in dataset]
    labels = getattr(dataset, "labels", None)
    return None if labels is None else [operator.index(label) for label in labels]


def check_label(label: Any, classes: int, dataset: Any, index: int, where: str = "") -> int:
    """Return the label of an item as an integer; raise if it is neither -1 nor one of the classes.

    `dataset`, `index` and `where` say in messages whose it is.
    """
    try:
        number = operator.index(label)
    except TypeError:
        name = item_name(dataset, index) + where
        raise TypeError(f"The label of {name} must be an integer, got {label!r}.") from None
    if UNLABELED <= number < classes:
        return number
    name = item_name(dataset, index) + where
    known = f"-1 or from 0 to {classes - 1}, as `classes` names {classes}"
    known = known if classes else "-1, as `classes` names none"
    raise ValueError(f"The label of {name} must be {known}; got {number}.")


def stratified(labels: Any, share: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the indices of two parts; a share of each class goes to the second.

    Raises:
        ValueError: The second part is empty.
    """
    random, labels = np.random.default_rng(0), np.asarray(labels)
    members = [random.permutation(np.flatnonzero(labels == label)) for label in np.unique(labels)]
    chosen = np.sort(np.concatenate([some[: round(share * len(some))] for some in members]))
    if not len(chosen):
        some = f"A share of {share:g} of {len(labels)} images of {len(members)} classes"
        raise ValueError(f"{some} is none; `data.holdout` must be larger, or the images more.")
    return np.setdiff1d(np.arange(len(labels)), chosen), chosen


def stretches(items: Any, share: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the indices of two parts of a sequence in order of time.

    The second part is the last `share` of each of five stretches, so that few of its items are
    neighbors of items of the first.

    >>> stretches(range(10), 0.5)
    (array([0, 2, 4, 6, 8]), array([1, 3, 5, 7, 9]))
    """
    size = len(items)
    number = max(1, min(STRETCHES, int(size * share + 1e-9)))
    place = np.arange(size) * number % size  # within its stretch, of `size`
    last = place >= size * (1 - share) - 1e-9
    if not last.any() or last.all():
        raise ValueError(f"`data.holdout` must divide {size} images in two, got {share:g}.")
    return np.flatnonzero(~last), np.flatnonzero(last)


def pixel_statistics(dataset: Any, most: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and deviation of pixels in [0, 1], for each channel, over a seeded sample.

    Of a video, the frame in its middle counts.
    """
    moments, corrupt = [], None
    for index in np.random.default_rng(0).permutation(len(dataset))[:most]:
        try:
            item = dataset[int(index)][0]
            if isinstance(item, Footage):
                image = middle(item, 1)[0].permute(1, 2, 0).numpy()
            else:
                image = np.asarray(to_rgb(item))
        except CorruptImageError as error:
            corrupt = error
            continue
        pixels = image.reshape(-1, 3) / 255
        moments.append((pixels.mean(0), (pixels**2).mean(0)))
    if not moments:
        raise ValueError(f"No image or video can be decoded: {corrupt}.")
    mean, square = np.mean(moments, 0)
    return tuple(mean.tolist()), tuple(np.sqrt(np.maximum(square - mean**2, 1e-6)).tolist())


def _check(source: Source, split: str, dataset: Any) -> None:
    """Check a split's size, its first item (of a list every item) and its labels."""
    part = f"`{split}` of {source.name}"
    where, classes = f" of {part}", len(source.classes)
    if not len(dataset):
        see = f"`data.path` and `data.{split}_split`"
        raise ValueError(f"{part} must hold an item, got none; see {see}.")
    for index in range(len(dataset) if isinstance(dataset, (list, tuple)) else 1):
        try:
            item = dataset[index]
        except CorruptImageError:  # counted when it is loaded
            continue
        name = item_name(dataset, index) + where
        if not isinstance(item, (tuple, list)) or len(item) != 2:
            raise TypeError(f"{name} must be (image, label), got {type(item).__name__}.")
        _check_image(item[0], source.clips, name)
        check_label(item[1], classes, dataset, index, where)
    for index, label in enumerate(labels_of(dataset) or ()):
        check_label(label, classes, dataset, index, where)


def _check_image(image: Any, clips: bool, name: str) -> None:
    kind, video = type(image).__name__, isinstance(image, Footage)
    if video and not clips:
        raise TypeError(f"{name} is video ({kind}), so the source must say `clips=True`.")
    if clips and not video:
        raise TypeError(f"{name} must be video (`Footage`), as `clips=True` says; got {kind}.")
    fine = video or isinstance(image, Image.Image)
    if isinstance(image, np.ndarray):
        fine = image.dtype == np.uint8 and (image.ndim == 2 or image.shape[2:] == (3,))
        kind = f"{image.shape} of {image.dtype}"
    if not fine:
        wanted = "a PIL image or an array (H, W, 3) of uint8"
        raise TypeError(f"The image of {name} must be {wanted}, got {kind}.")
