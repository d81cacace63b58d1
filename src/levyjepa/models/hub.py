"""Models of transformers, from a folder or the hub, with errors that say what to change."""

from pathlib import Path
from typing import Any

HALF = (0.5, 0.5, 0.5)


def library(name: str) -> Any:
    """Import transformers, for a model of this name.

    Raises:
        ImportError: It is not installed.
    """
    try:
        import transformers  # pyright: ignore[reportMissingImports]
    except ImportError:
        hub = "/" in name and not Path(name).is_dir()
        what = "is not a folder, and a hub id needs" if hub else "needs"
        raise ImportError(
            f"{name} {what} transformers: pip install 'levyjepa[transformers]'."
        ) from None
    return transformers


def read_config(name: str) -> Any:
    """Return the configuration of a folder that `save_pretrained` wrote, or of a hub id.

    Raises:
        ValueError: There is none.
    """
    config = library(name).AutoConfig
    try:
        return config.from_pretrained(name)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"`name` must be a folder that save_pretrained wrote, with config.json, or a hub id, "
            f"OWNER/MODEL, got {name!r}: {one_line(error)}"
        ) from error


def change_config(config: Any, values: dict[str, Any], name: str, **overrides: Any) -> Any:
    """Return a configuration with other values; `overrides` are named in the error.

    Raises:
        ValueError: transformers refuses them.
    """
    try:
        return type(config).from_dict(config.to_dict() | values | overrides)
    except Exception as error:  # what a setting's check raises has no common kind
        raise _refusal(name, overrides, error) from error


def load_model(name: str, config: Any, pretrained: bool) -> Any:
    """Return a model of a configuration, with its published weights or random ones, to train.

    Raises:
        ValueError: transformers can't make it, or weights are missing.
    """
    auto = library(name).AutoModel
    try:
        if not pretrained:
            return auto.from_config(config).float()
        model, report = auto.from_pretrained(name, config=config, output_loading_info=True)
        if missing := sorted(key for key in report["missing_keys"] if "pooler." not in key):
            raise ValueError(f"its weights lack {', '.join(missing[:3])}")
    except (OSError, RuntimeError, ValueError, KeyError, TypeError) as error:
        raise _refusal(name, {}, error) from error
    return model.float().train()


def read_statistics(name: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return the mean and std of pixels that a model was trained with; 0.5 where it says none."""
    library(name)
    from transformers.image_processing_base import (  # pyright: ignore[reportMissingImports]
        ImageProcessingMixin,
    )

    try:
        values, _ = ImageProcessingMixin.get_image_processor_dict(name)
    except OSError:  # a model without one
        values = {}
    return tuple(values.get("image_mean", HALF)), tuple(values.get("image_std", HALF))


def one_line(error: Exception) -> str:
    """Return an error's text in one line, cut after 300 characters."""
    return " ".join(str(error).split())[:300]


def _refusal(name: str, overrides: dict[str, Any], error: Exception) -> ValueError:
    with_these = f" with {overrides}" if overrides else ""
    return ValueError(
        f"transformers can't make {name}{with_these}: {type(error).__name__}: {one_line(error)}"
    )
