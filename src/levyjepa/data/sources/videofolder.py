"""Videos, or folders of frames, in class folders or not."""

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from levyjepa.data.folders import existing, split_folders
from levyjepa.data.images import UNLABELED
from levyjepa.data.registry import register_source
from levyjepa.data.settings import DataSettings
from levyjepa.data.source import Source, stratified
from levyjepa.data.video import Video, Videos, find_videos

log = logging.getLogger(__name__)

SIMILAR = 1.05  # frame rates within this factor count as equal


@register_source("videofolder")
def videofolder(settings: DataSettings) -> Source:
    """Videos below train/ and test/ or val/; without these, 20 % of each class are for testing."""
    folder = existing(settings)
    if split := split_folders(settings, _classes):
        *folders, classes = split
        splits = [_labeled(part, classes) for part in folders]
    else:
        classes = _classes(folder)
        paths, labels = _labeled(folder, classes)
        least = min(np.unique(labels, return_counts=True)[1])
        if least < 2:
            raise ValueError(
                f"`data.path` must hold at least two videos of each class, got {least}."
            )
        splits = [
            ([paths[i] for i in part], [labels[i] for i in part])
            for part in stratified(np.array(labels), max(0.2, 1 / least))
        ]
    size = 2 * settings.image_size  # of the short side: crops are taken from it
    train, test = (Videos(*part, size=size) for part in splits)
    videos = [*train.videos, *test.videos]
    if folders := sum(Path(str(video.path)).is_dir() for video in videos):
        log.info(
            "%d of %d videos are folders of images, which are read as frames in order of name.",
            *(folders, len(videos)),
        )
    if settings.rate is None:
        _warn_of_rates(videos, settings.stride)
    return Source(folder.name, train, test, classes, clips=True)


def _classes(folder: Path) -> tuple[str, ...]:
    """Names of a folder's folders, if each holds videos and none is itself one of frames."""
    videos = find_videos(folder)
    names = sorted({path.relative_to(folder).parts[0] for path in videos})
    loose = any(path.parent == folder or path == folder for path in videos)
    return () if loose else tuple(names)


def _labeled(folder: Path, classes: Sequence[str]) -> tuple[list[Path], list[int]]:
    paths = find_videos(folder)
    if not classes:
        return paths, [UNLABELED] * len(paths)
    number = {name: n for n, name in enumerate(classes)}
    return paths, [number[path.relative_to(folder).parts[0]] for path in paths]


def _warn_of_rates(videos: Sequence[Video], stride: int) -> None:
    """Warn where `stride` frames last longer in one video than in another."""
    rates = sorted(
        ((len(video) - 1) / video.times[-1], str(video.path))
        for video in videos
        if video.times[-1] > 0
    )
    if rates and rates[-1][0] > SIMILAR * rates[0][0]:
        (least, slow), (most, fast) = rates[0], rates[-1]
        log.warning(
            "Videos run at %.4g (%s) to %.4g (%s) frames per second, and clips count frames; "
            "data.rate=%.4g gives clips of equal duration.",
            *(least, slow, most, fast, least / stride),
        )
