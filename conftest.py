"""For tests and doctests alike: whatever one registers is gone before the next."""

from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def _fresh_registries() -> Iterator[None]:
    from levyjepa.data.registry import SOURCES
    from levyjepa.models.registry import ENCODERS
    from levyjepa.tasks.registry import TASKS

    registries = SOURCES, ENCODERS, TASKS
    before = [set(registry._entries) for registry in registries]
    yield
    for registry, names in zip(registries, before, strict=True):
        for name in set(registry._entries) - names:
            module = getattr(registry._entries[name].build, "__module__", None) or ""
            if not module.startswith("levyjepa."):
                del registry._entries[name]
