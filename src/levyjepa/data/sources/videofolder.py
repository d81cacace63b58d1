"""Videos, or folders of frames, in class folders or not."""

import logging
from pathlib import Path

import numpy as np

from levyjepa.data.images import UNLABELED
from levyjepa.data.registry import register_source
from levyjepa.data.settings import DataSettings
from levyjepa.data.source import Source
from levyjepa.data.sources.folder import Classes, Labeled, class_splits, existing
from levyjepa.data.video import Video, Videos, find_videos

log = logging.getLogger(__name__)

SIMILAR = 1.05  # frame rates within this factor count as equal


@register_source("videofolder")
def videofolder(settings: DataSettings) -> Source:
    """Videos below train/ and test/ or val/; without these, 20 % of each class are for testing."""
    *parts, classes = class_splits(settings, _classes, _labeled, _share)
    size = 2 * settings.image_size  # of the short side: crops are taken from it
    train, test = (Videos(*part, size=size) for part in parts)
    videos = [*train.videos, *test.videos]
    if folders := sum(Path(str(video.path)).is_dir() for video in videos):
        log.info(
            "%d of %d videos are folders of images, which are read as frames in order of name.",
            *(folders, len(videos)),
        )
    if settings.rate is None:
        _warn_of_rates(videos, settings.stride)
    return Source(existing(settings).name, train, test, classes, clips=True)


def _classes(root: Path) -> Classes:
    """Names of a folder's folders, if each holds videos and none is itself one of frames."""
    videos = find_videos(root)
    loose = any(root in (path, path.parent) for path in videos)
    return () if loose else tuple(sorted({path.relative_to(root).parts[0] for path in videos}))


def _labeled(root: Path, classes: Classes) -> Labeled:
    paths = find_videos(root)
    if not classes:
        return paths, [UNLABELED] * len(paths)
    return paths, [classes.index(path.relative_to(root).parts[0]) for path in paths]


def _share(labels: list[int]) -> float:
    """What puts a video of each class, at least, into each part."""
    least = min(np.unique(labels, return_counts=True)[1])
    if least < 2:
        raise ValueError(f"`data.path` must hold at least two videos of each class, got {least}.")
    return max(0.2, 1 / least)


def _warn_of_rates(videos: list[Video], stride: int) -> None:
    """Warn where `stride` frames last longer in one video than in another."""
    moving = [video for video in videos if video.times[-1] > 0]
    rates = sorted(((len(video) - 1) / video.times[-1], str(video.path)) for video in moving)
    if rates and rates[-1][0] > SIMILAR * rates[0][0]:
        (least, slow), (most, fast) = rates[0], rates[-1]
        log.warning(
            "Videos run at %.4g (%s) to %.4g (%s) frames per second, and clips count frames; "
            "data.rate=%.4g gives clips of equal duration.",
            *(least, slow, most, fast, least / stride),
        )
