"""Sources of images, and views of them."""

from levyjepa.data.common import Source
from levyjepa.data.images import CorruptImageError, Images, Tally, TooManyCorruptError
from levyjepa.data.loader import TestBatch, test_loader, train_loader, whole
from levyjepa.data.source import load_source
from levyjepa.data.views import Batch, Photometric, normalise

__all__ = [
    "Batch",
    "CorruptImageError",
    "Images",
    "Photometric",
    "Source",
    "Tally",
    "TestBatch",
    "TooManyCorruptError",
    "load_source",
    "normalise",
    "test_loader",
    "train_loader",
    "whole",
]
