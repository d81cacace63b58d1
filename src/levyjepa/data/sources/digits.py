"""Real digits, as images and as clips in which they move and jump. No download."""

from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.data import Dataset

from levyjepa.data.digit_clips import LEAST, DigitClip, MovingDigits, real_digits
from levyjepa.data.images import Images
from levyjepa.data.registry import register_source
from levyjepa.data.settings import DataSettings
from levyjepa.data.source import Source
from levyjepa.data.video import MemoryVideo

CLASSES = tuple("0123456789")
TRAIN, TEST = 2000, 400  # clips


@register_source("mnist5k")
def mnist5k(settings: DataSettings) -> Source:
    """Digits of 28 x 28 pixels, 400 of each class to train on and 100 to test on."""
    (train, train_labels), (test, test_labels) = real_digits()
    return Source(
        "mnist5k",
        train=Images(list(train), train_labels.tolist(), "train digit"),
        test=Images(list(test), test_labels.tolist(), "test digit"),
        classes=CLASSES,
    )


@register_source("moving_digits")
def moving_digits(settings: DataSettings) -> Source:
    """Clips of moving digits; those of train and test show different digits."""
    for name, fits, wanted in (
        ("image_size", settings.image_size >= LEAST, f"at least {LEAST}"),
        ("stride", settings.stride == 1, "1"),
        ("rate", settings.rate is None, "null"),
    ):
        if not fits:
            value = getattr(settings, name)
            raise ValueError(f"`data.{name}` must be {wanted} for moving digits, got {value}.")
    form: Any = settings.frames or 1, settings.image_size, settings.digits
    train = DigitVideos(MovingDigits("train", TRAIN, *form))
    test = DigitVideos(MovingDigits("test", TEST, *form))
    return Source("moving_digits", train, test, CLASSES, truth="scenes", clips=True)


@dataclass(eq=False)
class DigitVideos(Dataset):
    """(video, label) of clips of moving digits: the class of the digit with the most pixels."""

    scenes: MovingDigits

    def __len__(self) -> int:
        return len(self.scenes)

    def __getitem__(self, index: int) -> tuple[MemoryVideo, int]:
        clip = self.scenes[index]
        pixels = torch.bincount(clip.masks.flatten().long(), minlength=2)[1:]
        return MemoryVideo(clip.frames), clip.identities[int(pixels.argmax())].digit

    def truth(self, index: int) -> DigitClip:
        """Return the clip with all that is known about it."""
        return self.scenes[index]
