"""The README and the pages run as they are written."""

import re
import shlex
from pathlib import Path

import pytest

from levyjepa.training import compose
from levyjepa.training.config import sweep

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def text(path: Path) -> str:
    return path.read_text("utf-8")


RUN = [page for page in PAGES if page.name != "video.md"]  # has a test of its own, with a film


@pytest.mark.parametrize("page", RUN, ids=lambda path: path.name)
def test_python_blocks_run(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "docs").symlink_to(ROOT / "docs")
    names: dict = {}
    for block in re.findall(r"```python\n(.*?)```", text(page), re.DOTALL):
        exec(block, names)
    if page.name == "README.md":
        assert names["tokens"].grad is not None
        assert names["embeddings"].shape == (1, 128)


def test_lines_for_frameworks_are_those_of_the_recipes():
    recipes = "\n".join(map(text, sorted(ROOT.glob("tests/recipes/*.py"))))
    added = re.findall(r"^\+(.*)$", text(ROOT / "docs/loop.md"), re.MULTILINE)
    assert added
    for line in added:
        assert f"{line}\n" in recipes, line


COMMANDS = [
    line.strip()
    for page in PAGES
    for line in re.findall(r"^levyjepa (?:train|experiment) ([^#`\n]*)", text(page), re.MULTILINE)
]


@pytest.mark.parametrize("line", sorted(set(COMMANDS)))
def test_settings_of_commands_compose(line):
    words = [word for word in shlex.split(line) if "=" in word and not word.startswith("-")]
    single, several = sweep(
        [word for word in words if "stripes" not in word and "patch_means" not in word]
    )
    compose([*single, *(f"{key}={values[0]}" for key, values in several.items())])


def test_settings_in_the_text_exist():
    pattern = r"`((?:objective|views|model|trainer|logger|data)[.\w]*=[^`]*)`"
    words = {
        word
        for page in [PAGES[0], ROOT / "docs/training.md"]
        for word in re.findall(pattern, text(page))
    }
    assert len(words) > 20
    for word in words:
        parts = word.split()
        compose([part for part in parts if not part.endswith(("NAME", "=true wandb"))])


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_links_lead_somewhere(page):
    prose = re.sub(r"```.*?```", "", text(page), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)#:]+?)(?:#[^)]*)?\)", prose):
        assert (page.parent / target).exists(), target
