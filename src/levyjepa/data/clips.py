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

    views: tuple[Tensor, ...]  # (count, T, 3, size, size) uint8
    valid: tuple[Tensor, ...]  # (count, T) bool, False beyond the video's end


class ClipCrops:
    """Views of a random clip of a video.

    All views are of one clip. A view's crop, flip and rotation are the same in all its frames.
    Views of a group with fewer `frames` begin at random frames of the clip.

    Args:
        crops: How frames are cropped.
        frames: Frames of a clip.
        stride: Frames from one frame of a clip to the next.
        rate: Frames per second of a clip, in place of `stride`.
    """

    def __init__(
        self, crops: Crops, frames: int, stride: int = 1, rate: float | None = None
    ) -> None:
        self.crops, self.frames, self.stride, self.rate = crops, frames, stride, rate

    def __call__(self, video: Footage, key: Sequence[int]) -> ClipViews:
        """Draw a clip and its views: a pure function of video and key, as (seed, epoch, index)."""
        random = np.random.default_rng(key)
        timing = self.frames, self.stride, self.rate
        clip = video.clip(int(random.integers(video.starts(*timing))), *timing)
        views, valid = [], []
        for group in self.crops.settings.groups:
            length = group.frames or self.frames
            crops, real = [], []
            for _ in range(group.count):
                start = int(random.integers(self.frames - length + 1))
                part = slice(start, start + length)
                frames = clip.frames[part]
                turned = partial(rotate, frames, interpolation=InterpolationMode.BILINEAR)
                crops.append(self.crops.crop(frames, turned, group, random))
                real.append(clip.valid[part])
            views.append(torch.stack(crops))
            valid.append(torch.stack(real))
        return ClipViews(tuple(views), tuple(valid))


def middle(video: Footage, frames: int, stride: int = 1, rate: float | None = None) -> Tensor:
    """Return the clip in the middle of a video, (T, 3, H, W); its last frame repeats at the end."""
    starts = video.starts(frames, stride, rate)
    return video.clip((starts - 1) // 2, frames, stride, rate).frames
