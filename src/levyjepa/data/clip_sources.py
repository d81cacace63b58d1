"""Where clips come from: moving digits, and folders of videos."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from levyjepa.conf.schema import DataConfig
from levyjepa.data.clips import middle
from levyjepa.data.common import Source, existing, parted, stratified
from levyjepa.data.images import UNLABELLED, CorruptImageError
from levyjepa.data.moving_digits import LEAST, MovingDigits
from levyjepa.data.video import Still, Video, Videos, find_videos

CLIPS = {"train": 2000, "test": 400}  # of moving digits
SAMPLE = 100  # videos whose colours are measured


class _Seen(Dataset):
    """(frames, label) of clips of moving digits: the class of the digit that shows most."""

    labels = None  # not known before a clip is drawn

    def __init__(self, scenes: MovingDigits) -> None:
        self.scenes = scenes

    def __len__(self) -> int:
        return len(self.scenes)

    def __getitem__(self, index: int) -> tuple[Still, int]:
        clip = self.scenes[index]
        shown = torch.bincount(clip.masks.flatten().long(), minlength=2)[1:]
        return Still(clip.frames), clip.identities[int(shown.argmax())].digit


def moving_digits(config: DataConfig) -> Source:
    """Clips with every mask, identity and event; the digits of train and test differ."""
    if config.image_size < LEAST:
        raise ValueError(
            f"`data.image_size` must be at least {LEAST} for moving digits, "
            f"got {config.image_size}."
        )
    if config.stride != 1:
        raise ValueError(f"`data.stride` must be 1 for moving digits, got {config.stride}.")
    least, most = config.digits
    train, test = (
        MovingDigits(split, count, config.frames or 1, config.image_size, (least, most))
        for split, count in CLIPS.items()
    )
    classes = tuple(map(str, range(10)))
    seen = _Seen(train), _Seen(test)
    return Source("moving_digits", *seen, classes, *colours(seen[0]), scenes=(train, test))


def videofolder(config: DataConfig) -> Source:
    """Videos below class folders or without, below train/ and test/ or val/, or 80 to 20 of all."""
    folder = existing(config)
    if parts := parted(config, _classes):
        classes = parts[2]
        splits = [_labelled(part, classes) for part in parts[:2]]
    else:
        classes = _classes(folder)
        paths, labels = _labelled(folder, classes)
        least = min(np.unique(labels, return_counts=True)[1])
        if least < 2:
            raise ValueError(f"`data.path` must hold two videos or more of a class, got {least}.")
        splits = [
            ([paths[i] for i in part], [labels[i] for i in part])
            for part in stratified(np.array(labels), max(0.2, 1 / least))
        ]
    size = 2 * config.image_size  # on the short side; crops are still taken from it
    train, test = (Videos(*split, size=size) for split in splits)
    return Source(folder.name, train, test, classes, *colours(train))


class Records(Dataset):
    """(Video, label) of records that hold a video's `bytes` or `path`, opened when asked for."""

    def __init__(self, records: Any, labels: Sequence[int], size: int) -> None:
        self.records, self.labels, self.size = records, labels, size

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> tuple[Video, int]:
        record = self.records[index]
        held = record["path"] if record.get("bytes") is None else record["bytes"]
        return Video(held, self.size), self.labels[index]


def _classes(folder: Path) -> tuple[str, ...]:
    """Its folders, if each holds videos and none is a video of pictures itself; else none."""
    videos = find_videos(folder)
    names = sorted({path.relative_to(folder).parts[0] for path in videos})
    loose = any(path.parent == folder or path == folder for path in videos)
    return () if loose else tuple(names)


def _labelled(folder: Path, classes: Sequence[str]) -> tuple[list[Path], list[int]]:
    paths = find_videos(folder)
    if not classes:
        return paths, [UNLABELLED] * len(paths)
    number = {name: n for n, name in enumerate(classes)}
    return paths, [number[path.relative_to(folder).parts[0]] for path in paths]


def colours(videos: Any) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation of the pixels in [0, 1], for each channel, of a few videos' middles."""
    moments: list[Tensor] = []
    for index in np.random.default_rng(0).permutation(len(videos))[:SAMPLE]:
        try:
            pixels = middle(videos[int(index)][0], 1)[0].double().flatten(1) / 255
        except CorruptImageError:
            continue
        moments.append(torch.stack([pixels.mean(1), pixels.square().mean(1)]))
    if not moments:
        raise ValueError("`data.path` must hold a video that can be decoded, got none.")
    mean, square = torch.stack(moments).mean(0)
    return tuple(mean.tolist()), tuple((square - mean**2).clamp(min=1e-6).sqrt().tolist())
