"""Batches, in an order that is a pure function of the seed and the epoch."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler
from torchvision.transforms.v2 import functional as F

from levyjepa.conf.schema import DataConfig, ViewsConfig
from levyjepa.data.clips import ClipCrops, ClipViews, middle
from levyjepa.data.common import Source
from levyjepa.data.images import CorruptImageError, TooManyCorruptError
from levyjepa.data.views import Batch, Crops


@dataclass(frozen=True)
class TestBatch:
    """Whole images (B, 3, s, s) uint8 or clips (B, T, 3, s, s), (B,) labels, names left out."""

    __test__ = False  # not a test, whatever its name

    images: Tensor
    labels: Tensor
    corrupt: tuple[str, ...] = ()

    def to(self, device: torch.device | str, non_blocking: bool = False) -> "TestBatch":
        """Return the batch on `device`."""
        images = self.images.to(device, non_blocking=non_blocking)
        return TestBatch(images, self.labels.to(device, non_blocking=non_blocking), self.corrupt)


def train_loader(
    source: Source,
    config: DataConfig,
    views: ViewsConfig,
    seed: int,
    rank: int = 0,
    world_size: int = 1,
    start: tuple[int, int] = (0, 0),
) -> DataLoader:
    """Batches of views, shuffled anew each epoch, the last incomplete batch left out.

    Args:
        source: whose training images.
        config: batch size (on each rank), image size and workers.
        views: how they are cropped.
        seed: with the epoch it gives the order, with epoch and image the crops.
        rank, world_size: this process's share.
        start: epoch and batch to begin with.

    Raises:
        ValueError: fewer images than a batch.
    """
    size = len(source.train)  # pyright: ignore
    if size < config.batch_size * world_size:
        raise ValueError(
            f"`data.batch_size` must be at most {size // world_size}, as there are {size} training "
            f"images or clips{f' for {world_size} ranks' * (world_size > 1)}, "
            f"got {config.batch_size}."
        )
    crops: Any = Crops(views, config.image_size)
    if config.frames is not None:
        crops = ClipCrops(crops, config.frames, config.stride, config.rate)
    return DataLoader(
        _Views(source.train, crops, seed),
        batch_sampler=Order(size, config.batch_size, seed, rank, world_size, start),
        num_workers=config.workers,
        persistent_workers=config.workers > 0,
        pin_memory=torch.cuda.is_available(),
        collate_fn=_collate_views,
    )


def test_loader(dataset: Dataset, config: DataConfig) -> DataLoader:
    """Every image once, in order: the short side resized to `image_size`, the centre cropped.

    Of a video, the clip in its middle.
    """
    return DataLoader(
        _Whole(dataset, config),
        batch_size=config.batch_size,
        num_workers=config.workers,
        pin_memory=torch.cuda.is_available(),
        collate_fn=partial(_collate_whole, shape=_shape(config)),
    )


test_loader.__test__ = False  # pyright: ignore


class Order(Sampler[list[tuple[int, int]]]):
    """Batches of (epoch, index); an epoch's order is drawn from (seed, epoch)."""

    def __init__(
        self,
        size: int,
        batch_size: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        start: tuple[int, int] = (0, 0),
    ) -> None:
        self.size, self.batch_size, self.seed = size, batch_size, seed
        self.rank, self.world_size = rank, world_size
        self.start, self.epoch = start, start[0]
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
        for at in range(first, len(self)):
            chosen = mine[at * self.batch_size : (at + 1) * self.batch_size]
            yield [(self.epoch, int(index)) for index in chosen]


class _Views(Dataset):
    def __init__(self, images: Any, crops: Any, seed: int) -> None:
        self.images, self.crops, self.seed = images, crops, seed

    def __getitem__(self, key: tuple[int, int]) -> Any:
        epoch, index = key
        try:
            image, label = self.images[index]
            return self.crops(image, (self.seed, epoch, index)), label
        except CorruptImageError as error:
            return str(error)


class _Whole(Dataset):
    def __init__(self, images: Any, config: DataConfig) -> None:
        self.images, self.config = images, config

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Any:
        size, frames = self.config.image_size, self.config.frames
        try:
            image, label = self.images[index]
            if frames is not None:
                image = middle(image, frames, self.config.stride, self.config.rate)
        except CorruptImageError as error:
            return str(error)
        return whole(image, size), label


def whole(image: Image.Image | Tensor, size: int) -> Tensor:
    """What the network sees of an image or of frames: the centre square, resized.

    Args:
        image: RGB, or (..., 3, H, W) uint8.
        size: pixels.

    Returns:
        (..., 3, size, size) uint8.
    """
    pixels = image if isinstance(image, Tensor) else F.pil_to_tensor(image)
    resized: Any = F.resize(pixels, [size], antialias=True)
    return F.center_crop(resized, [size, size])


def _shape(config: DataConfig) -> tuple[int, ...]:
    """Of an image or clip, as the network sees it."""
    image = (3, config.image_size, config.image_size)
    return image if config.frames is None else (config.frames, *image)


def _split(items: list[Any]) -> tuple[list[Any], tuple[str, ...]]:
    good = [item for item in items if not isinstance(item, str)]
    return good, tuple(item for item in items if isinstance(item, str))


def _collate_views(items: list[Any]) -> Batch:
    good, corrupt = _split(items)
    if not good:
        raise TooManyCorruptError(f"No image of a batch can be decoded: {', '.join(corrupt[:10])}.")
    crops, labels = zip(*good, strict=True)
    clips = isinstance(crops[0], ClipViews)
    views = [crop.views for crop in crops] if clips else crops
    valid = _stacked([crop.valid for crop in crops]) if clips else ()
    if all(each.all() for each in valid):
        valid = ()
    return Batch(_stacked(views), torch.tensor(labels), corrupt, valid)


def _stacked(items: Sequence[Sequence[Tensor]]) -> tuple[Tensor, ...]:
    """Of each group, the tensors (count, ...) of all items as (count, B, ...)."""
    return tuple(torch.stack(group, dim=1) for group in zip(*items, strict=True))


def _collate_whole(items: list[Any], shape: tuple[int, ...]) -> TestBatch:
    good, corrupt = _split(items)
    images = [image for image, _ in good]
    labels = torch.tensor([label for _, label in good], dtype=torch.int64)
    empty = torch.empty(0, *shape, dtype=torch.uint8)
    return TestBatch(torch.stack(images) if images else empty, labels, corrupt)
