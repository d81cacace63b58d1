"""What a trained network makes of pictures or of a data set: embeddings, with names and labels."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset, Subset

from levyjepa.conf.schema import DataConfig
from levyjepa.data import Images, Source, normalise, test_loader
from levyjepa.data.video import Videos
from levyjepa.evaluation.features import frozen
from levyjepa.training.checkpoint import Trained


@dataclass(frozen=True)
class Embeddings:
    """n images, or clips from the middle of videos, as a network embeds them."""

    embeddings: np.ndarray  # (n, E) of float32
    names: np.ndarray  # (n,) of str: a path, or the number within a split
    splits: np.ndarray | None  # (n,) of str: "train", "test"; None of files
    labels: np.ndarray | None  # (n,) of int64; None where there are none
    classes: np.ndarray | None  # (k,) of str, what labels count; None where there are none
    tokens: np.ndarray | None  # (n, h, w, C) of float32, of clips (n, t, h, w, C); if asked for
    corrupt: tuple[str, ...]  # names of those that can't be decoded, which are left out

    def save(self, path: str | Path) -> None:
        """Write an .npz of the arrays that there are."""
        held: Any = {k: v for k, v in vars(self).items() if isinstance(v, np.ndarray)}
        np.savez_compressed(path, **held)


def embed(
    trained: Trained,
    source: Source | Sequence[str | Path],
    config: DataConfig,
    *,
    tokens: bool = False,
    device: str | torch.device = "cpu",
    progress: Callable[[str], None] = lambda what: None,
) -> Embeddings:
    """Embed every image of a source, or picture files; a network of clips embeds videos likewise.

    Args:
        trained: The network.
        source: Both of its splits are embedded, the training split first; or paths.
        config: How images are loaded: their size, frames, batch and workers.
        tokens: Whether to keep the patch tokens too, hundreds of times as many numbers.
        device: Where to compute.
        progress: Told what begins.

    Raises:
        ValueError: No image, or of files one that is no picture.
    """
    if isinstance(source, Source):
        splits = {"train": source.train} | ({"test": source.test} if source.test else {})
        classes = source.classes
    elif missing := [str(path) for path in source if not Path(path).exists()]:
        raise ValueError(f"`images` must be files, but there is none at {missing[0]}.")
    elif config.frames is None:
        splits, classes = {"": Images(list(source))}, ()
    else:
        splits, classes = {"": Videos(list(source), size=2 * config.image_size)}, ()
    parts: dict[str, list[np.ndarray]] = {"embeddings": [], "tokens": [], "labels": []}
    names: list[str] = []
    told: list[str] = []
    corrupt: list[str] = []
    network = trained.network.to(device)
    for split, dataset in splits.items():
        progress(f"{split} images".strip())
        with frozen(network):
            for batch in test_loader(_Numbered(dataset), config):
                corrupt += batch.corrupt
                if not len(batch.images):
                    continue
                seen = normalise(batch.images.to(device), trained.mean, trained.std)
                encoding: Any = network.encoder(seen)
                parts["embeddings"].append(encoding.embedding.float().cpu().numpy())
                if tokens:
                    parts["tokens"].append(encoding.field.float().cpu().numpy())
                places, labels = batch.labels.T.tolist()
                parts["labels"].append(np.array(labels))
                names += [_name(dataset, place) for place in places]
                told += [split] * len(places)
    if corrupt and not isinstance(source, Source):
        raise ValueError(f"`images` must be pictures, got {', '.join(corrupt[:10])}.")
    if not names:
        raise ValueError("There must be an image that can be decoded, got none.")
    return Embeddings(
        np.concatenate(parts["embeddings"]),
        np.array(names),
        np.array(told) if isinstance(source, Source) else None,
        np.concatenate(parts["labels"]) if classes else None,
        np.array(classes) if classes else None,
        np.concatenate(parts["tokens"]) if tokens else None,
        tuple(corrupt),
    )


class _Numbered(Dataset):
    """A data set whose labels are (index, label)."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> tuple[Any, tuple[int, int]]:
        image, label = self.dataset[index]
        return image, (index, label)


def _name(dataset: Any, index: int) -> str:
    while isinstance(dataset, Subset):
        dataset, index = dataset.dataset, dataset.indices[index]
    if isinstance(dataset, Images):
        return dataset.name(index)
    return str(dataset.videos[index].path) if isinstance(dataset, Videos) else str(index)
