"""Sources, encoders and tasks by name: ours, a script's own, and those of installed plugins."""

import logging
import pkgutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)

GROUP = "levyjepa.plugins"  # of entry points

_failed: dict[str, str] = {}  # plugin: why it could not be imported


@dataclass(frozen=True)
class Entry:
    """A registered function or class, and what was said of it."""

    name: str
    build: Callable[..., Any]
    help: str = ""  # one line
    preset: Mapping[str, Any] = field(default_factory=dict)  # settings that go with it
    options: Mapping[str, Any] = field(default_factory=dict)  # what the registry's owner asks for


class Registry:
    """Functions or classes by name.

    Args:
        kind: What an entry is called in messages: "source".
        package: A package of ours whose modules register themselves when they are imported.
    """

    def __init__(self, kind: str, package: str) -> None:
        self.kind, self.package = kind, package
        self._entries: dict[str, Entry] = {}
        self._complete = False

    def register(
        self,
        name: str,
        *,
        help: str = "",
        preset: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> Callable[[Any], Any]:
        """Return a decorator that registers a function or class under a name.

        Args:
            name: How settings and commands call it.
            help: One line; the first line of the docstring if empty.
            preset: Settings that go with it, nested as in a YAML file.
            options: See the function that calls this one.

        Raises:
            ValueError: The name is taken by something else.
        """
        if not isinstance(name, str) or not name.strip():
            raise TypeError(f"`name` must be a non-empty string, got {name!r}.")

        def decorate(build: Any) -> Any:
            old = self._entries.get(name)
            if old is not None and _origin(old.build) != _origin(build):
                raise ValueError(
                    f"The {self.kind} {name!r} is registered twice, by {_origin(old.build)} and by "
                    f"{_origin(build)}; choose another name."
                )
            line = help or (build.__doc__ or "").strip().split("\n")[0]
            self._entries[name] = Entry(name, build, line, preset or {}, options)
            return build

        return decorate

    def names(self) -> list[str]:
        """Every name, in alphabetical order."""
        return sorted(self.entries())

    def entries(self) -> dict[str, Entry]:
        """Every entry by name, in the order of registration."""
        if not self._complete:
            self._complete = True
            for module in pkgutil.iter_modules(import_module(self.package).__path__):
                import_module(f"{self.package}.{module.name}")
            load_plugins()
        return self._entries

    def get(self, name: str) -> Entry:
        """Return the entry of a name.

        Raises:
            ValueError: There is none; the message names the nearest.
        """
        if name in self._entries:
            return self._entries[name]
        known = self.entries()
        if name not in known:
            near = get_close_matches(name, known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else "."
            failed = "".join(
                f" The plugin {p} failed to import: {why}." for p, why in _failed.items()
            )
            raise ValueError(
                f"There is no {self.kind} {name!r}{hint} Registered: {', '.join(sorted(known))}."
                + failed
            )
        return known[name]

    def presets(self) -> dict[str, Entry]:
        """Entries registered so far from outside this package, without importing ours."""
        load_plugins()
        return {
            name: entry
            for name, entry in self._entries.items()
            if not _origin(entry.build).startswith(f"{self.package}.")
        }


@cache
def load_plugins() -> None:
    """Import every installed plugin once; name those that fail and go on."""
    for point in entry_points(group=GROUP):
        try:
            point.load()
        except Exception as error:
            _failed[point.name] = f"{type(error).__name__}: {error}"
            log.warning(
                "The plugin %s (%s) failed to import and is left out: %s: %s",
                *(point.name, point.value, type(error).__name__, error),
            )


def import_plugin(module: str) -> None:
    """Import a module that registers something, as `levyjepa --plugin MODULE` does.

    Args:
        module: Its name, also of one in the current folder, or the path of a .py file.

    Raises:
        ImportError: It can't be imported.
    """
    path = Path(module)
    folder = str(path.parent.resolve() if path.suffix == ".py" else Path.cwd())
    if folder not in sys.path:
        sys.path.append(folder)
    try:
        import_module(path.stem if path.suffix == ".py" else module)
    except Exception as error:
        raise ImportError(
            f"The plugin {module} failed to import: {type(error).__name__}: {error}"
        ) from error


def _origin(build: Any) -> str:
    return f"{getattr(build, '__module__', '?')}.{getattr(build, '__qualname__', repr(build))}"
