"""Embeddings of images or of a data set, with names and labels."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from levyjepa.data.images import Images
from levyjepa.data.loader import test_loader
from levyjepa.data.settings import DataSettings
from levyjepa.data.source import Source, item_name
from levyjepa.data.video import Videos
from levyjepa.training.loading import Trained

log = logging.getLogger(__name__)

LABELS = 2**31  # above every label


def embed(
    trained: Trained,
    source: Source | Sequence[str | Path],
    settings: DataSettings,
    tokens: bool = False,
    device: str = "cpu",
) -> dict[str, np.ndarray]:
    """Embed every image of a source, or image files; videos for a network of clips.

    Args:
        trained: The network.
        source: Data, whose training split comes first, or paths.
        settings: How images are loaded: size, frames, batch and workers.
        tokens: Whether to return the patch tokens too.
        device: Where to compute.

    Returns:
        "embeddings" (n, E) and "names" (n,); of a source also "splits" (n,), with labels "labels"
        (n,) and "classes"; on request "tokens" (n, h, w, C). Images that can't be decoded are
        named in a warning and left out.

    Raises:
        ValueError: There is no image, or a file is not an image.
    """
    if isinstance(source, Source):
        splits = {"train": source.train} | ({"test": source.test} if source.test else {})
    elif missing := [str(path) for path in source if not Path(path).exists()]:
        raise ValueError(f"`images` must be files, but {missing[0]} does not exist.")
    elif settings.frames is None:
        splits = {"": Images(list(source))}
    else:
        splits = {"": Videos(list(source), size=2 * settings.image_size)}
    columns: dict[str, list[Any]] = {"embeddings": [], "names": [], "splits": [], "labels": []}
    columns |= {"tokens": []} if tokens else {}
    corrupt: list[str] = []
    trained.network.to(device)
    for split, dataset in splits.items():
        for batch in test_loader(_Numbered(dataset), settings):
            corrupt += batch.corrupt
            if not len(batch.images):
                continue
            columns["embeddings"].append(trained.embed(batch.images).float().cpu())
            if tokens:
                columns["tokens"].append(trained.tokens(batch.images).float().cpu())
            rows, labels = (batch.labels // LABELS).tolist(), batch.labels % LABELS - 1
            columns["names"].append([item_name(dataset, row) for row in rows])
            columns["splits"].append([split] * len(rows))
            columns["labels"].append(labels)
    if corrupt and not isinstance(source, Source):
        raise ValueError(f"`images` must be images, got {', '.join(corrupt[:10])}.")
    if corrupt:
        names = ", ".join(corrupt[:10])
        log.warning("%d images can't be decoded and are left out: %s", len(corrupt), names)
    if not columns["names"]:
        raise ValueError("There is no image that can be decoded.")
    arrays = {name: np.concatenate(parts) for name, parts in columns.items()}
    if isinstance(source, Source) and source.classes:
        return {**arrays, "classes": np.array(source.classes)}
    dropped = {"labels"} if isinstance(source, Source) else {"labels", "splits"}
    return {name: array for name, array in arrays.items() if name not in dropped}


class _Numbered(Dataset):
    """A dataset whose labels hold the index too: LABELS * index + label + 1."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        image, label = self.dataset[index]
        return image, LABELS * index + label + 1
