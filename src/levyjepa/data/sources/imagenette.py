"""Imagenette, ten easy classes of ImageNet (fast.ai)."""

from dataclasses import replace

from levyjepa.data.folders import existing
from levyjepa.data.registry import register_source
from levyjepa.data.settings import DataSettings
from levyjepa.data.source import Source
from levyjepa.data.sources.folder import folder
from levyjepa.data.sources.hub import hub
from levyjepa.data.sources.parquet import parquet

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's
NAMES = {
    "n01440764": "tench",
    "n02102040": "English springer",
    "n02979186": "cassette player",
    "n03000684": "chain saw",
    "n03028079": "church",
    "n03394916": "French horn",
    "n03417042": "garbage truck",
    "n03425413": "gas pump",
    "n03445777": "golf ball",
    "n03888257": "parachute",
}


@register_source("imagenette")
def imagenette(settings: DataSettings) -> Source:
    """Imagenette, from the hub, from class folders or from parquet files."""
    if settings.path is None:
        source = hub(settings.replace(path="frgfm/imagenette"))
    elif any(existing(settings).glob("*.parquet")):
        source = parquet(settings)
    else:
        source = folder(settings)
    classes = tuple(NAMES.get(name, name) for name in source.classes)
    return replace(source, name="imagenette", classes=classes, mean=MEAN, std=STD)
