"""A tiny data set and a tiny encoder of one's own, which keep to the protocols and no more."""

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_limits
from torch import nn

from levyjepa.data import DataSettings, Source
from levyjepa.laws import Brownian, CompoundPoisson, LaplaceJumps
from levyjepa.models import Encoding
from levyjepa.tasks import Subject

SIZE, PATCH = 16, 4
LAW = Brownian(0.125) + CompoundPoisson(2.0, LaplaceJumps(1.0))


@pytest.fixture(scope="package", autouse=True)
def one_thread() -> Iterator[None]:
    """Several threads would only wait for one another on tensors this small."""
    with threadpool_limits(1):
        yield


class Squares:
    """Bright squares on noise, in the left half (class 0) or the right half (class 1)."""

    def __init__(self, size: int, seed: int) -> None:
        random = np.random.default_rng(seed)
        self.images = random.integers(0, 60, (size, SIZE, SIZE, 3)).astype(np.uint8)
        self.masks = np.zeros((size, SIZE, SIZE), dtype=np.int64)
        self.labels = random.integers(2, size=size)
        for image, mask, label in zip(self.images, self.masks, self.labels, strict=True):
            row = random.integers(1, 10)
            part = slice(row, row + 5), slice(1 + 8 * label, 6 + 8 * label)
            image[part] += np.uint8(180)
            mask[part] = 1
        self.decoded: Counter[int] = Counter()

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        if index >= len(self):
            raise IndexError
        self.decoded[index] += 1
        return self.images[index], int(self.labels[index])

    def truth(self, index: int) -> np.ndarray:
        """Background 0, square 1."""
        return self.masks[index]


class Patches(nn.Module):
    """Patches of pixels through one linear map; the embedding is made of all tokens."""

    width, embedding_dim, patch_size, prefix_tokens = 12, 8, (PATCH, PATCH), 0
    fixed_size = None

    def __init__(self, seed: int) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.map = nn.Linear(3 * PATCH**2, self.width)
            self.embed = nn.Linear(self.width * (SIZE // PATCH) ** 2, self.embedding_dim)
        self.encoded = 0

    def grid(self, size: Any) -> tuple[int, ...]:
        """Tokens along each axis."""
        return tuple(pixels // PATCH for pixels in size)

    def forward(self, images: torch.Tensor) -> Encoding:
        """Count images, too."""
        assert not self.training
        self.encoded += len(images)
        tokens = self.map(nn.functional.pixel_unshuffle(images, PATCH).movedim(1, -1))
        return Encoding(self.embed(tokens.flatten(1)), tokens)


@pytest.fixture
def squares() -> Callable[..., Source]:
    """A source of squares, with other fields as they are given."""

    def make(train: int = 40, test: int | None = 24, **fields: Any) -> Source:
        splits = Squares(train, 0), None if test is None else Squares(test, 1)
        common = {"classes": ("left", "right"), "mean": (0.2,) * 3, "std": (0.3,) * 3}
        return Source("squares", *splits, **{**common, **fields})

    return make


@pytest.fixture
def subjects() -> list[Subject]:
    """A trained and an untrained encoder with heads, and a third without."""
    torch.manual_seed(0)
    heads = [(nn.Linear(8, 4), nn.Linear(12, 4)) for _ in range(2)]
    return [
        Subject("trained", Patches(0).train(), *heads[0]),
        Subject("untrained", Patches(1), *heads[1]),
        Subject("pixels", Patches(2)),
    ]


@pytest.fixture
def settings() -> DataSettings:
    """Batches that do not divide the splits."""
    return DataSettings(image_size=SIZE, batch_size=7)
