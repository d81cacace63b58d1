"""Batches, in an order that is a pure function of the seed and the epoch."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler
from torchvision.transforms.v2 import functional as F

from levyjepa.data.clips import Groups, crop_clip, middle
from levyjepa.data.images import CorruptImageError, TooManyCorruptError, to_rgb
from levyjepa.data.settings import DataSettings, ViewsSettings
from levyjepa.data.source import Source, check_label
from levyjepa.data.views import Batch, Crops


class TestBatch(NamedTuple):
    """Whole images."""

    images: Tensor  # (B, 3, size, size) uint8, of clips (B, T, 3, size, size)
    labels: Tensor  # (B,) int64
    corrupt: tuple[str, ...] = ()  # names of images that can't be decoded, not among the B

    __test__ = False  # no test for pytest

    def to(self, device: torch.device | str, non_blocking: bool = False) -> "TestBatch":
        """Return the batch on `device`."""
        images, labels = (tensor.to(device, non_blocking=non_blocking) for tensor in self[:2])
        return TestBatch(images, labels, self.corrupt)


def train_loader(
    source: Source,
    data: DataSettings,
    views: ViewsSettings,
    seed: int,
    rank: int = 0,
    world_size: int = 1,
    start: tuple[int, int] = (0, 0),
) -> DataLoader:
    """Return batches of views, shuffled anew each epoch; the last incomplete batch is left out.

    Args:
        source: Its training split is loaded.
        data: Batch size (of each rank), image size, frames and workers.
        views: How images are cropped.
        seed: Decides, with the epoch, the order, and with epoch and image the crops.
        rank, world_size: This process's share.
        start: Epoch and batch to begin with.

    Raises:
        ValueError: Fewer images than a batch.
    """
    size = len(source.train)
    if size < data.batch_size * world_size:
        wanted = f"at most {size // world_size}, as there are {size} training images or clips"
        raise ValueError(f"`data.batch_size` must be {wanted}, got {data.batch_size}.")
    return DataLoader(
        _Items(partial(_cropped, source.train, len(source.classes), views, data, seed), size),
        batch_sampler=Order(size, data.batch_size, seed, rank, world_size, start),
        num_workers=data.workers,
        persistent_workers=data.workers > 0,
        pin_memory=torch.cuda.is_available(),
        collate_fn=_collate_views,
    )


def test_loader(dataset: Any, data: DataSettings) -> DataLoader:
    """Return each image once, in order: its short side resized to `image_size`, its center cropped.

    Of a video, it is the clip in the middle.
    """
    shape = (3, data.image_size, data.image_size)
    return DataLoader(
        _Items(partial(_whole, dataset, data), len(dataset)),
        batch_size=data.batch_size,
        num_workers=data.workers,
        pin_memory=torch.cuda.is_available(),
        collate_fn=partial(_collate_whole, (data.frames, *shape) if data.frames else shape),
    )


test_loader.__test__ = False  # pyright: ignore


def two_views(
    item: Any, views: ViewsSettings, data: DataSettings, key: Sequence[int]
) -> tuple[Tensor, Tensor]:
    """Return two views of an image or video, as of the first group; colors are untouched.

    They are (3, size, size) uint8, of video (T, 3, size, size): a function of item and key,
    integers of at least 0 such as (seed, index).
    """
    first = views.groups[0].replace(count=2)
    crops, _ = _crops(item, views.model_copy(update={"groups": [first]}), data, key)
    return crops[0][0], crops[0][1]


def whole(image: Image.Image | np.ndarray | Tensor, size: int) -> Tensor:
    """Resize the short side of an image to `size` pixels and crop the center square.

    An image is a PIL image, an array (H, W, 3) or a tensor (..., 3, H, W) of uint8; it becomes
    (..., 3, size, size) uint8.
    """
    pixels = image if isinstance(image, Tensor) else F.pil_to_tensor(to_rgb(image))
    resized: Any = F.resize(pixels, [size], antialias=True)
    return F.center_crop(resized, [size, size])


@dataclass(eq=False)
class Order(Sampler[list[tuple[int, int]]]):
    """Batches of (epoch, index); an epoch's order is drawn from (seed, epoch)."""

    size: int
    batch_size: int
    seed: int
    rank: int
    world_size: int
    start: tuple[int, int]  # epoch and batch

    def __post_init__(self) -> None:
        self.epoch = self.start[0]
        self.sampler = self  # where Lightning looks for `set_epoch`

    def set_epoch(self, epoch: int) -> None:
        """Draw the order of this epoch from now on."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.size // (self.batch_size * self.world_size)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        order = np.random.default_rng((self.seed, self.epoch)).permutation(self.size)
        mine = order[self.rank :: self.world_size]
        first = self.start[1] if self.epoch == self.start[0] else 0
        for batch in range(first, len(self)):
            chosen = mine[batch * self.batch_size : (batch + 1) * self.batch_size]
            yield [(self.epoch, int(index)) for index in chosen]


@dataclass(eq=False)
class _Items(Dataset):
    """`load(key)`; where an image can't be decoded, its name."""

    load: Callable[[Any], Any]
    size: int

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, key: Any) -> Any:
        try:
            return self.load(key)
        except CorruptImageError as error:
            return str(error)


def _crops(
    item: Any, views: ViewsSettings, data: DataSettings, key: Sequence[int]
) -> tuple[Groups, Groups]:
    crops = Crops(views, data.image_size)
    if data.frames is None:
        return crops(item, key), ()
    return crop_clip(crops, item, (data.frames, data.stride, data.rate), key)


def _cropped(
    dataset: Any,
    classes: int,
    views: ViewsSettings,
    data: DataSettings,
    seed: int,
    key: tuple[int, int],
) -> tuple[Groups, Groups, int]:
    epoch, index = key
    item, label = dataset[index]
    crops = _crops(item, views, data, (seed, epoch, index))
    return *crops, check_label(label, classes, dataset, index)


def _whole(dataset: Any, data: DataSettings, index: int) -> tuple[Tensor, int]:
    image, label = dataset[index]
    if data.frames is not None:
        image = middle(image, data.frames, data.stride, data.rate)
    return whole(image, data.image_size), int(label)


def _collate_views(items: list[Any]) -> Batch:
    good, corrupt = _good_and_corrupt(items)
    if not good:
        raise TooManyCorruptError(f"No image of a batch can be decoded: {', '.join(corrupt[:10])}.")
    views, valid, labels = zip(*good, strict=True)
    valid = _stacked(valid)
    if all(group.all() for group in valid):
        valid = ()
    return Batch(_stacked(views), torch.tensor(labels), corrupt, valid)


def _collate_whole(shape: tuple[int, ...], items: list[Any]) -> TestBatch:
    good, corrupt = _good_and_corrupt(items)
    if not good:
        return TestBatch(torch.empty(0, *shape, dtype=torch.uint8), torch.empty(0).long(), corrupt)
    images, labels = zip(*good, strict=True)
    return TestBatch(torch.stack(images), torch.tensor(labels), corrupt)


def _good_and_corrupt(items: list[Any]) -> tuple[list[Any], tuple[str, ...]]:
    good = [item for item in items if not isinstance(item, str)]
    return good, tuple(item for item in items if isinstance(item, str))


def _stacked(items: Sequence[Groups]) -> Groups:
    """Tensors (count, ...) of each group of each item, as (count, B, ...) of each group."""
    return tuple(torch.stack(group, dim=1) for group in zip(*items, strict=True))
