"""Where clips come from: moving digits, and folders of videos."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from levyjepa.conf.schema import DataConfig
from levyjepa.data.clips import middle
from levyjepa.data.common import Source, existing, parted, statistics, stratified
from levyjepa.data.images import UNLABELLED
from levyjepa.data.moving_digits import LEAST, MovingDigits
from levyjepa.data.video import Still, Video, Videos, find_videos

log = logging.getLogger(__name__)

CLIPS = {"train": 2000, "test": 400}  # of moving digits
SAMPLE = 100  # videos whose colours are measured
ALIKE = 1.05  # frame rates within this factor count as one


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
    if config.rate is not None:
        raise ValueError(f"`data.rate` must be null for moving digits, got {config.rate}.")
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
    videos = [*train.videos, *test.videos]
    if folders := sum(Path(str(video.path)).is_dir() for video in videos):
        log.info(
            "%d of %d videos are folders of pictures, whose frames follow in the order of names.",
            *(folders, len(videos)),
        )
    if config.rate is None:
        _warn_of_paces(videos, config.stride)
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


def _warn_of_paces(videos: Sequence[Video], stride: int) -> None:
    """Say so where steps of `stride` frames last longer in one video than in another."""
    paces = sorted(
        ((len(video) - 1) / video.times[-1], str(video.path))
        for video in videos
        if video.times[-1] > 0
    )
    if paces and paces[-1][0] > ALIKE * paces[0][0]:
        (least, slow), (most, fast) = paces[0], paces[-1]
        log.warning(
            "Videos run at %.4g (%s) to %.4g (%s) frames a second, and their clips are taken by "
            "number of frames; data.rate=%.4g would take them by time.",
            *(least, slow, most, fast, least / stride),
        )


def colours(videos: Any) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """`statistics` of the frames in the middle of a few videos."""
    return statistics(videos, SAMPLE, lambda video: middle(video, 1)[0].permute(1, 2, 0))
