"""Clips of real digits that move and jump, with every mask, identity and event."""

from typing import Any

import torch
from torch.utils.data import Dataset

from levyjepa.data.digit_clips import LEAST, DigitClip, MovingDigits
from levyjepa.data.registry import register_source
from levyjepa.data.settings import DataSettings
from levyjepa.data.source import Source
from levyjepa.data.video import MemoryVideo

TRAIN, TEST = 2000, 400  # clips


@register_source("moving_digits")
def moving_digits(settings: DataSettings) -> Source:
    """Clips of moving digits; those of train and test show different digits."""
    if settings.image_size < LEAST:
        raise ValueError(
            f"`data.image_size` must be at least {LEAST} for moving digits, "
            f"got {settings.image_size}."
        )
    if settings.stride != 1:
        raise ValueError(f"`data.stride` must be 1 for moving digits, got {settings.stride}.")
    if settings.rate is not None:
        raise ValueError(f"`data.rate` must be null for moving digits, got {settings.rate}.")
    form: Any = settings.frames or 1, settings.image_size, settings.digits
    return Source(
        "moving_digits",
        train=DigitVideos(MovingDigits("train", TRAIN, *form)),
        test=DigitVideos(MovingDigits("test", TEST, *form)),
        classes=tuple("0123456789"),
        truth="scenes",
        clips=True,
    )


class DigitVideos(Dataset):
    """(video, label) of clips of moving digits: the class of the digit with the most pixels."""

    def __init__(self, scenes: MovingDigits) -> None:
        self.scenes = scenes

    def __len__(self) -> int:
        return len(self.scenes)

    def __getitem__(self, index: int) -> tuple[MemoryVideo, int]:
        clip = self.scenes[index]
        pixels = torch.bincount(clip.masks.flatten().long(), minlength=2)[1:]
        return MemoryVideo(clip.frames), clip.identities[int(pixels.argmax())].digit

    def truth(self, index: int) -> DigitClip:
        """Return the clip with all that is known about it."""
        return self.scenes[index]
