"""Batches, in an order that is a pure function of the seed and the epoch."""

from collections.abc import Iterator
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
from levyjepa.data.images import CorruptImageError, TooManyCorruptError
from levyjepa.data.source import Source
from levyjepa.data.views import Batch, Crops


@dataclass(frozen=True)
class TestBatch:
    """Whole images: (B, 3, s, s) uint8, (B,) labels, and the names of those left out."""

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
            f"`data.batch_size` must be at most the {size} training images over {world_size} "
            f"ranks, got {config.batch_size}."
        )
    return DataLoader(
        _Views(source.train, Crops(views, config.image_size), seed),
        batch_sampler=Order(size, config.batch_size, seed, rank, world_size, start),
        num_workers=config.workers,
        persistent_workers=config.workers > 0,
        pin_memory=torch.cuda.is_available(),
        collate_fn=_collate_views,
    )


def test_loader(dataset: Dataset, config: DataConfig) -> DataLoader:
    """Every image once, in order: the short side resized to `image_size`, the centre cropped."""
    return DataLoader(
        _Whole(dataset, config.image_size),
        batch_size=config.batch_size,
        num_workers=config.workers,
        pin_memory=torch.cuda.is_available(),
        collate_fn=partial(_collate_whole, size=config.image_size),
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
    def __init__(self, images: Any, crops: Crops, seed: int) -> None:
        self.images, self.crops, self.seed = images, crops, seed

    def __getitem__(self, key: tuple[int, int]) -> Any:
        epoch, index = key
        try:
            image, label = self.images[index]
        except CorruptImageError as error:
            return str(error)
        return self.crops(image, (self.seed, epoch, index)), label


class _Whole(Dataset):
    def __init__(self, images: Any, size: int) -> None:
        self.images, self.size = images, size

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Any:
        try:
            image, label = self.images[index]
        except CorruptImageError as error:
            return str(error)
        return whole(image, self.size), label


def whole(image: Image.Image, size: int) -> Tensor:
    """An image as the network sees it, (3, size, size) uint8: its centre square, resized."""
    resized: Any = F.resize(F.pil_to_tensor(image), [size], antialias=True)
    return F.center_crop(resized, [size, size])


def _split(items: list[Any]) -> tuple[list[Any], tuple[str, ...]]:
    good = [item for item in items if not isinstance(item, str)]
    return good, tuple(item for item in items if isinstance(item, str))


def _collate_views(items: list[Any]) -> Batch:
    good, corrupt = _split(items)
    if not good:
        raise TooManyCorruptError(f"No image of a batch can be decoded: {', '.join(corrupt[:10])}.")
    views, labels = zip(*good, strict=True)
    groups = map(partial(torch.stack, dim=1), zip(*views, strict=True))
    return Batch(tuple(groups), torch.tensor(labels), corrupt)


def _collate_whole(items: list[Any], size: int) -> TestBatch:
    good, corrupt = _split(items)
    images = [image for image, _ in good]
    labels = torch.tensor([label for _, label in good], dtype=torch.int64)
    empty = torch.empty(0, 3, size, size, dtype=torch.uint8)
    return TestBatch(torch.stack(images) if images else empty, labels, corrupt)
