"""What a report shows of a network: jump maps, increments and nearest neighbours."""

from collections import Counter
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize as unit
from torch.utils.data import Dataset, Subset

from levyjepa.conf.schema import DataConfig
from levyjepa.data import Source, normalise, test_loader
from levyjepa.evaluation.arrays import Arrays
from levyjepa.evaluation.evaluate import subset
from levyjepa.evaluation.features import frozen
from levyjepa.evaluation.jumps import increment_map, jump_map
from levyjepa.lattice import box, increments
from levyjepa.laws import Law
from levyjepa.models import Network

IMAGES, NEIGHBOURS = 12, 5
TEST, TRAIN = 256, 2000  # images drawn to choose from
INCREMENTS = 20_000


@dataclass(frozen=True)
class Gallery(Arrays):
    """M test images and what the network makes of them."""

    images: np.ndarray  # (M, H, W, 3) of uint8, spread over the classes
    labels: np.ndarray  # (M,), -1 where there is none
    classes: np.ndarray  # names of the labels
    jump_probability: np.ndarray  # (M, h - 1, w - 1), NaN under a law that names no jumps
    jump_size: np.ndarray  # (M, h - 1, w - 1), by `increment_map`; 0 of a constant field
    increments: np.ndarray  # (n,), box(2) increments of projected fields of test images
    increments_before: np.ndarray  # (n,), the same of an untrained network
    neighbours: np.ndarray  # (M, 5, H, W, 3) of uint8, nearest first, of the training images drawn
    neighbour_labels: np.ndarray  # (M, 5)


@torch.no_grad()
def gallery(
    network: Network,
    source: Source,
    config: DataConfig,
    law: Law,
    *,
    device: str | torch.device = "cpu",
    seed: int = 0,
    rescale: bool = False,
) -> Gallery:
    """Collect a gallery from 256 test and 2,000 training images.

    Where there are no test images, training images that are no neighbours take their place.

    Args:
        network: What was trained.
        source: The images.
        config: How they are loaded.
        law: The law of the field's increments.
        device: Where networks compute.
        seed: Draws the images, the increments and the untrained network.
        rescale: For a network trained without the prior, see `jump_map`.
    """
    shown, drawn = _draw(source, seed)
    test = _look(network, shown, source, config, device)
    before = _look(network.untrained(seed), shown, source, config, device)
    train = _look(network, drawn, source, config, device, field=False)
    chosen = _spread(test.labels, IMAGES)
    similarity = unit(test.embedding[chosen]) @ unit(train.embedding).T
    nearest = similarity.topk(min(NEIGHBOURS, len(train.labels))).indices
    return Gallery(
        images=_channels_last(test.images[chosen]),
        labels=test.labels[chosen].numpy(),
        classes=np.array(source.classes, dtype=np.str_),
        jump_probability=_probability(test.field[chosen], law, rescale).numpy(),
        jump_size=_sizes(test.field)[chosen].numpy(),
        increments=_increments(test.field, seed),
        increments_before=_increments(before.field, seed),
        neighbours=_channels_last(train.images[nearest]),
        neighbour_labels=train.labels[nearest].numpy(),
    )


def _draw(source: Source, seed: int) -> tuple[Dataset, Dataset]:
    if source.test is not None:
        return subset(source.test, TEST, seed), subset(source.train, TRAIN, seed)
    size: int = len(source.train)  # pyright: ignore[reportArgumentType]
    order = torch.randperm(size, generator=torch.Generator().manual_seed(seed)).tolist()
    cut = min(TEST, size // 2)
    return Subset(source.train, order[:cut]), Subset(source.train, order[cut : cut + TRAIN])


@dataclass(frozen=True)
class _Seen:
    images: Tensor
    labels: Tensor
    embedding: Tensor
    field: Tensor  # no channels where it was not asked for


def _look(
    network: Network,
    dataset: Dataset,
    source: Source,
    config: DataConfig,
    device: str | torch.device,
    field: bool = True,
) -> _Seen:
    parts = []
    with frozen(network.to(device)):
        for batch in test_loader(dataset, config):
            images = normalise(batch.images.to(device), source.mean, source.std)
            output = network(images, field=field)
            projected = images[:, :0] if output.field is None else output.field.float()
            parts.append((batch.images, batch.labels, output.embedding.float(), projected))
    return _Seen(*(torch.cat(part).cpu() for part in zip(*parts, strict=True)))


def _probability(field: Tensor, law: Law, rescale: bool) -> Tensor:
    try:
        return jump_map(field, law, rescale)
    except ValueError:  # a law of another kind, a constant field that cannot be rescaled
        return torch.full_like(field[:, 1:, 1:, 0], torch.nan)


def _sizes(field: Tensor) -> Tensor:
    norms = increments(field, box(2)).norm(dim=-1)
    return increment_map(field) if norms.any() else torch.zeros_like(field[:, 1:, 1:, 0])


def _increments(field: Tensor, seed: int) -> np.ndarray:
    values = increments(field, box(2)).flatten()
    generator = torch.Generator().manual_seed(seed)
    return values[torch.randperm(len(values), generator=generator)[:INCREMENTS]].numpy()


def _spread(labels: Tensor, count: int) -> list[int]:
    """The first of every class, then the second, and so on."""
    seen: Counter[int] = Counter()
    turn = []
    for label in labels.tolist():
        turn.append((seen[label], label))
        seen[label] += 1
    return sorted(range(len(turn)), key=turn.__getitem__)[:count]


def _channels_last(images: Tensor) -> np.ndarray:
    return images.movedim(-3, -1).contiguous().numpy()
