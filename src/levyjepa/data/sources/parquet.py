"""Parquet files with Hugging Face features."""

from levyjepa.data.folders import existing
from levyjepa.data.registry import register_source
from levyjepa.data.settings import DataSettings
from levyjepa.data.source import Source
from levyjepa.data.tables import parquet_tables, table_source


@register_source("parquet")
def parquet(settings: DataSettings) -> Source:
    """The files train*.parquet and test*.parquet of a folder."""
    folder = existing(settings)
    return table_source(folder.name, parquet_tables(folder, settings), settings)
