"""Packages whose names are imported on first use, listed once, in the stub beside `__init__.py`."""

import ast
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any


def attach(package: str, init: str) -> tuple[Callable[[str], Any], Callable[[], list[str]], list]:
    """Return `__getattr__`, `__dir__` and `__all__` of a package, read from its stub.

    The stub, `__init__.pyi`, holds lines such as `from levyjepa.laws import Brownian as Brownian`.
    Type checkers read the same lines.

    Args:
        package: Its `__name__`.
        init: Its `__file__`.
    """
    stub = ast.parse(Path(init).with_suffix(".pyi").read_text("utf-8"))
    origins = {
        alias.asname or alias.name: (line.module or "", alias.name)
        for line in stub.body
        if isinstance(line, ast.ImportFrom)
        for alias in line.names
    }

    def load(name: str) -> Any:
        if name not in origins:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module, original = origins[name]
        value = getattr(import_module(module), original)
        vars(import_module(package))[name] = value
        return value

    def listed() -> list[str]:
        return sorted({*vars(import_module(package)), *origins})

    return load, listed, sorted(origins)
