"""Clips of videos: which frames, and views of them that are cropped alike through time."""

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.v2.functional import InterpolationMode, rotate

from levyjepa.data.video import Footage
from levyjepa.data.views import Crops

Groups = tuple[Tensor, ...]  # a tensor for each group of views


def crop_clip(
    crops: Crops, video: Footage, timing: tuple[int, int, float | None], key: Sequence[int]
) -> tuple[Groups, Groups]:
    """Draw a random clip of a video and views of it: a pure function of video and key.

    All views are of one clip. A view's crop, flip and rotation are the same in all its frames.
    Views of a group with fewer `frames` begin at random frames of the clip.

    Args:
        crops: How frames are cropped.
        video: Where the clip is from.
        timing: Frames of a clip, stride and rate, as of `Footage.clip`.
        key: Integers of at least 0, as (seed, epoch, index).

    Returns:
        For each group, views (count, T, 3, size, size) uint8; and (count, T) bool, False beyond the
        video's end.
    """
    random = np.random.default_rng(key)
    clip = video.clip(int(random.integers(video.starts(*timing))), *timing)
    views, valid = [], []
    for group in crops.settings.groups:
        length = group.frames or timing[0]
        cropped, real = [], []
        for _ in range(group.count):
            start = int(random.integers(timing[0] - length + 1))
            frames = clip.frames[start : start + length]
            turned = partial(rotate, frames, interpolation=InterpolationMode.BILINEAR)
            cropped.append(crops.crop(frames, turned, group, random))
            real.append(clip.valid[start : start + length])
        views.append(torch.stack(cropped))
        valid.append(torch.stack(real))
    return tuple(views), tuple(valid)


def middle(video: Footage, frames: int, stride: int = 1, rate: float | None = None) -> Tensor:
    """Return the clip in the middle of a video, (T, 3, H, W); its last frame repeats at the end."""
    starts = video.starts(frames, stride, rate)
    return video.clip((starts - 1) // 2, frames, stride, rate).frames
