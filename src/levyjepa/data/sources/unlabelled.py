"""Images without labels."""

import numpy as np

from levyjepa.data.folders import existing, image_files
from levyjepa.data.images import Images
from levyjepa.data.registry import register_source
from levyjepa.data.settings import DataSettings
from levyjepa.data.source import Source


@register_source("unlabelled")
def unlabelled(settings: DataSettings) -> Source:
    """Every image below a folder; a random tenth is for testing."""
    root = existing(settings)
    paths = image_files(root)
    if not paths:
        raise ValueError(f"`data.path` must hold images, got none in {root}.")
    order = np.random.default_rng(0).permutation(len(paths))
    number = max(1, len(paths) // 10) if len(paths) > 1 else 0
    test, train = ([paths[i] for i in sorted(part)] for part in (order[:number], order[number:]))
    return Source(root.name, Images(train), Images(test) if test else None)
