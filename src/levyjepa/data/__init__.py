"""Sources of images and videos, and views of them."""

from levyjepa.data.common import Source
from levyjepa.data.images import CorruptImageError, Images, Tally, TooManyCorruptError
from levyjepa.data.loader import TestBatch, test_loader, train_loader, whole
from levyjepa.data.moving_digits import MovingDigits
from levyjepa.data.segmentation import SegmentationSource, load_segmentation
from levyjepa.data.source import load_source
from levyjepa.data.video import Frame, UnreadableVideoError, Video, Videos, read_frames
from levyjepa.data.views import Batch, Photometric, normalise

__all__ = [
    "Batch",
    "CorruptImageError",
    "Frame",
    "Images",
    "MovingDigits",
    "Photometric",
    "SegmentationSource",
    "Source",
    "Tally",
    "TestBatch",
    "TooManyCorruptError",
    "UnreadableVideoError",
    "Video",
    "Videos",
    "load_segmentation",
    "load_source",
    "normalise",
    "read_frames",
    "test_loader",
    "train_loader",
    "whole",
]
