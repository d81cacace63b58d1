"""Sources by name: ours in `sources/`, a script's own and those of plugins."""

from collections.abc import Callable, Mapping
from typing import Any

from levyjepa.registry import Registry

SOURCES = Registry("source", "levyjepa.data.sources")


def register_source(
    name: str, *, help: str = "", preset: Mapping[str, Any] | None = None
) -> Callable[[Any], Any]:
    """Return a decorator that makes a function from `DataSettings` to `Source` a `data=NAME`.

    Args:
        name: How settings and the command line call it.
        help: One line for lists of presets; the first line of the docstring if empty.
        preset: Settings that go with it, nested, such as
            `{"data": {"image_size": 32}, "use": {"model": "tiny"}}`.

    Raises:
        ValueError: The name is taken.

    >>> from levyjepa.data import Source, register_source
    >>> @register_source("blobs", preset={"data": {"image_size": 32}})
    ... def blobs(settings):
    ...     "Random blobs."
    ...     return Source("blobs", train=[...], test=[...], classes=("small", "large"))
    """
    return SOURCES.register(name, help=help, preset=preset)
