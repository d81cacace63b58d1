"""Clips of videos: which frames, and views of them that are cropped alike through time."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.v2.functional import InterpolationMode, rotate

from levyjepa.data.video import Footage
from levyjepa.data.views import Crops


@dataclass(frozen=True)
class ClipViews:
    """Views of one clip, for each group of views."""

    views: tuple[Tensor, ...]  # (count, T, 3, size, size) of uint8
    valid: tuple[Tensor, ...]  # (count, T) of bool, False beyond the video's end


class ClipCrops:
    """Views of a random clip of a video.

    All views are of one clip; each has a crop, a flip and a rotation of its own, the same in all
    frames, and of a group with fewer `frames`, frames of its own.

    Args:
        crops: How frames are cropped.
        frames: Of a clip.
        stride: From one of its frames to the next.
        rate: How many of them a second, in place of `stride`.
    """

    def __init__(
        self, crops: Crops, frames: int, stride: int = 1, rate: float | None = None
    ) -> None:
        self.crops, self.frames, self.stride, self.rate = crops, frames, stride, rate

    def __call__(self, video: Footage, key: Sequence[int]) -> ClipViews:
        """Draw a clip and its views: a pure function of video and key, as (seed, epoch, index)."""
        random = np.random.default_rng(key)
        form = self.frames, self.stride, self.rate
        clip = video.clip(int(random.integers(video.starts(*form))), *form)
        views, valid = [], []
        for group in self.crops.config.groups:
            length = group.frames or self.frames
            several = []
            for _ in range(group.count):
                at = int(random.integers(self.frames - length + 1))
                part = slice(at, at + length)
                frames = clip.frames[part]
                turned = partial(rotate, frames, interpolation=InterpolationMode.BILINEAR)
                view = self.crops.crop(frames, turned, group, random)
                several.append((view, clip.valid[part]))
            shown, true = zip(*several, strict=True)
            views.append(torch.stack(shown))
            valid.append(torch.stack(true))
        return ClipViews(tuple(views), tuple(valid))


def middle(video: Footage, frames: int, stride: int = 1, rate: float | None = None) -> Tensor:
    """The frames (T, 3, H, W) of the clip in the middle of a video; beyond its end the last one."""
    starts = video.starts(frames, stride, rate)
    return video.clip((starts - 1) // 2, frames, stride, rate).frames
