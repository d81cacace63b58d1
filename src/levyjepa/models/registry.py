"""Encoders by name: ours in `encoders/`, a script's own and those of plugins."""

from collections.abc import Callable
from typing import Any

from levyjepa.registry import Registry

ENCODERS = Registry("encoder", "levyjepa.models.encoders")


def register_encoder(name: str, *, help: str = "") -> Callable[[Any], Any]:
    """Return a decorator that makes a function or class available as `model.name=NAME`.

    It is called with `(image_size, frames, **arguments)`, the arguments being `embedding_dim` and
    `model.overrides`, and as far as it names them `patch_size`, `pooling`, `drop_path`,
    `pretrained` and `mixer_depth`. It returns an encoder: a module as `levyjepa.models.Encoder`
    describes it.

    Args:
        name: How settings call it.
        help: One line; the first line of the docstring if empty.

    Raises:
        ValueError: The name is taken.
    """
    return ENCODERS.register(name, help=help)
