"""Models of transformers, from a folder or the hub, with errors that say what to change."""

from pathlib import Path
from textwrap import shorten
from typing import Any

HALF = (0.5, 0.5, 0.5)
VIDEO = ("videomae", "vjepa2")  # kinds of models, and names for one with random weights


def library(name: str) -> Any:
    """Import transformers for a model; an ImportError says how to install it."""
    try:
        import transformers  # pyright: ignore[reportMissingImports]
    except ImportError:
        what = "needs" if Path(name).is_dir() or name in VIDEO else "is no folder; a hub id needs"
        install = "pip install 'levyjepa[transformers]'"
        raise ImportError(f"{name} {what} transformers: {install}.") from None
    return transformers


def read_config(name: str) -> Any:
    """Return the configuration of a kind in `VIDEO`, a folder or a hub id; ValueError if none."""
    config = library(name).AutoConfig
    if name in VIDEO:
        return config.for_model(name)
    try:
        return config.from_pretrained(name)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"`name` must be a folder that save_pretrained wrote, with config.json, or a hub id, "
            f"OWNER/MODEL, got {name!r}: {shorten(str(error), 300)}"
        ) from error


def load_model(
    name: str, config: Any, values: dict[str, Any], overrides: dict[str, Any], pretrained: bool
) -> Any:
    """Return a model to train, of changed settings; an error names the user's, `overrides`."""
    auto = library(name).AutoModel
    try:
        config = type(config).from_dict(config.to_dict() | values | overrides)
        if not pretrained:
            return auto.from_config(config).float()
        model, report = auto.from_pretrained(name, config=config, output_loading_info=True)
        if missing := sorted(key for key in report["missing_keys"] if "pooler." not in key):
            raise ValueError(f"its weights lack {', '.join(missing[:3])}")
    except Exception as error:  # what checks of settings and files raise has no common kind
        these = f" with {overrides}" if overrides else ""
        why = f"{type(error).__name__}: {shorten(str(error), 300)}"
        raise ValueError(f"transformers can't make {name}{these}: {why}") from error
    return model.float().train()


def read_statistics(name: str) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    """Return the mean and std of pixels that a model was trained with; None where it says none."""
    processing = library(name).image_processing_base.ImageProcessingMixin
    try:
        values, _ = processing.get_image_processor_dict(name)
    except OSError:  # a model without one
        values = {}
    found = values.get("image_mean"), values.get("image_std")
    return (tuple(found[0]), tuple(found[1])) if found[0] and found[1] else None
