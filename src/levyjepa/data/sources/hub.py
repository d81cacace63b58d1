"""Any labeled data set of the hub."""

from levyjepa.data.registry import register_source
from levyjepa.data.settings import DataSettings
from levyjepa.data.source import Source
from levyjepa.data.tables import hub_tables, table_source


@register_source("hub")
def hub(settings: DataSettings) -> Source:
    """A hub's data set, of images or, with `data.frames`, of videos."""
    if settings.path is None:
        raise ValueError("`data.path` must be the id of a hub data set, such as uoft-cs/cifar10.")
    tables = hub_tables(settings.path, settings.subset)
    return table_source(settings.path.split("/")[-1], tables, settings)
