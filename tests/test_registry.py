"""Registries: names from anywhere, each once, and plugins that fail are named."""

import importlib.metadata
import sys

import pytest

from levyjepa import registry
from levyjepa.registry import Registry, import_plugin, load_plugins


@pytest.fixture
def names(monkeypatch):
    """A registry of nothing of ours."""
    monkeypatch.setitem(sys.modules, "empty", type(sys)("empty"))
    sys.modules["empty"].__path__ = []
    return Registry("source", "empty")


def test_a_function_is_found_by_its_name(names):
    @names.register("mine", preset={"data": {"image_size": 32}}, order=3)
    def mine():
        """One line of help.

        More.
        """

    entry = names.get("mine")
    assert entry.build is mine
    assert (entry.help, entry.preset["data"], entry.options["order"]) == (
        "One line of help.",
        {"image_size": 32},
        3,
    )
    assert "mine" in names.names()
    assert "mine" in names.presets()


def test_a_name_is_taken_once_but_may_be_defined_again(names):
    def mine(): ...

    def other(): ...

    names.register("mine")(mine)
    names.register("mine")(mine)  # a notebook's cell that runs again
    with pytest.raises(ValueError, match=r"'mine' is registered twice, by .*mine and by .*other"):
        names.register("mine")(other)


def test_an_unknown_name_meets_the_nearest(names):
    names.register("digits")(lambda: None)
    with pytest.raises(ValueError, match="There is no source 'digit'; did you mean 'digits'"):
        names.get("digit")


def test_a_plugin_that_fails_is_named_and_the_others_go_on(names, monkeypatch, caplog, tmp_path):
    (tmp_path / "good_plugin.py").write_text("loaded = True")
    (tmp_path / "bad_plugin.py").write_text("import a_module_that_is_missing")
    monkeypatch.syspath_prepend(tmp_path)
    points = [
        importlib.metadata.EntryPoint(name, f"{name}_plugin", registry.GROUP)
        for name in ("bad", "good")
    ]
    monkeypatch.setattr(registry, "entry_points", lambda group: points)
    monkeypatch.setattr(registry, "_failed", {})
    load_plugins.cache_clear()
    with pytest.raises(ValueError, match="The plugin bad failed to import: ModuleNotFoundError"):
        names.get("anything")
    assert "a_module_that_is_missing" in caplog.text
    assert sys.modules["good_plugin"].loaded
    load_plugins.cache_clear()
    with pytest.raises(ImportError, match="The plugin bad_plugin failed to import"):
        import_plugin("bad_plugin")
