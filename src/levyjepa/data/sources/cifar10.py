"""CIFAR-10, 32 x 32 pixels, 10 classes (Krizhevsky 2009)."""

from dataclasses import replace

from levyjepa.data.registry import register_source
from levyjepa.data.settings import DataSettings
from levyjepa.data.source import Source
from levyjepa.data.sources.hub import hub
from levyjepa.data.sources.parquet import parquet

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)


@register_source("cifar10")
def cifar10(settings: DataSettings) -> Source:
    """CIFAR-10, from the hub or from parquet files."""
    if settings.path is None:
        source = hub(settings.replace(path="uoft-cs/cifar10"))
    else:
        source = parquet(settings)
    return replace(source, name="cifar10", mean=MEAN, std=STD)
