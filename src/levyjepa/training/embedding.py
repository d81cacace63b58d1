"""Embeddings of images or of a data set, with names and labels."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from levyjepa.data.images import Images
from levyjepa.data.loader import test_loader
from levyjepa.data.settings import DataSettings
from levyjepa.data.source import Source, item_name
from levyjepa.data.video import Videos
from levyjepa.data.views import normalize
from levyjepa.tasks.context import frozen
from levyjepa.training.load import Trained


@dataclass(frozen=True)
class Embeddings:
    """Embeddings of n images, or of clips from the middle of n videos."""

    embeddings: np.ndarray  # (n, E) of float32
    names: np.ndarray  # (n,) of str: a path, or a number within a split
    splits: np.ndarray | None  # (n,) of str: "train", "test"; None for files
    labels: np.ndarray | None  # (n,) of int64; None without labels
    classes: np.ndarray | None  # (k,) of str, names of the labels; None without labels
    tokens: np.ndarray | None  # (n, h, w, C) of float32, of clips (n, t, h, w, C); on request
    corrupt: tuple[str, ...]  # names of images that can't be decoded and are left out

    def save(self, path: str | Path) -> None:
        """Write an .npz of the arrays that are not None."""
        arrays: Any = {k: v for k, v in vars(self).items() if isinstance(v, np.ndarray)}
        np.savez_compressed(path, **arrays)


def embed(
    trained: Trained,
    source: Source | Sequence[str | Path],
    settings: DataSettings,
    *,
    tokens: bool = False,
    device: str | torch.device = "cpu",
    progress: Callable[[str], None] = lambda stage: None,
) -> Embeddings:
    """Embed every image of a source, or image files; videos for a network of clips.

    Args:
        trained: The network.
        source: Data, whose training split comes first, or paths.
        settings: How images are loaded: size, frames, batch and workers.
        tokens: Whether to return the patch tokens too.
        device: Where to compute.
        progress: Called with what begins.

    Raises:
        ValueError: No image, or a file that is not an image.
    """
    classes: Sequence[str] = ()
    if isinstance(source, Source):
        splits = {"train": source.train} | ({"test": source.test} if source.test else {})
        classes = source.classes
    elif missing := [str(path) for path in source if not Path(path).exists()]:
        raise ValueError(f"`images` must be files, but {missing[0]} does not exist.")
    elif settings.frames is None:
        splits = {"": Images(list(source))}
    else:
        splits = {"": Videos(list(source), size=2 * settings.image_size)}
    parts: dict[str, list[Any]] = {"embedding": [], "tokens": [], "labels": []}
    names: list[str] = []
    of_split: list[str] = []
    corrupt: list[str] = []
    network = trained.network.to(device)
    for split, dataset in splits.items():
        progress(f"{split} images".strip())
        with frozen(network):
            for batch in test_loader(_Numbered(dataset), settings):
                corrupt += batch.corrupt
                if not len(batch.images):
                    continue
                images = normalize(batch.images.to(device), trained.mean, trained.std)
                encoding = network.encoder(images)
                parts["embedding"].append(encoding.embedding.float().cpu())
                if tokens:
                    parts["tokens"].append(encoding.tokens.float().cpu())
                parts["labels"].append(batch.labels[:, 1])
                indices = batch.labels[:, 0].tolist()
                names += [item_name(dataset, index) for index in indices]
                of_split += [split] * len(indices)
    if corrupt and not isinstance(source, Source):
        raise ValueError(f"`images` must be images, got {', '.join(corrupt[:10])}.")
    if not names:
        raise ValueError("There is no image that can be decoded.")
    whole = {key: torch.cat(values).numpy() for key, values in parts.items() if values}
    return Embeddings(
        whole["embedding"],
        np.array(names),
        np.array(of_split) if isinstance(source, Source) else None,
        whole["labels"] if classes else None,
        np.array(classes) if classes else None,
        whole.get("tokens"),
        tuple(corrupt),
    )


class _Numbered(Dataset):
    """A dataset whose labels are (index, label)."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> tuple[Any, tuple[int, int]]:
        image, label = self.dataset[index]
        return image, (index, label)
