"""What README shows runs."""

import re
import shlex
from pathlib import Path

import pytest

from levyjepa.conf.compose import compose

README = (Path(__file__).parents[1] / "README.md").read_text("utf-8")


def test_python_blocks_run():
    names: dict = {}
    for block in re.findall(r"```python\n(.*?)```", README, re.DOTALL):
        exec(block, names)
    assert names["loss"].ndim == 0
    assert names["tokens"].grad is not None
    assert names["jumps"].shape == (8, 225)


COMMANDS = re.findall(r"levyjepa (?:train|experiment) ([^#`\n]*)", README)


@pytest.mark.parametrize("line", [line.strip() for line in COMMANDS])
def test_settings_compose(line):
    grid = re.compile(r"seed=[\d,]+$")
    overrides = [
        grid.sub("seed=0", word) for word in shlex.split(line) if not word.startswith("--")
    ]
    config = compose(overrides)
    assert config.trainer.max_epochs > 0


def test_named_overrides_exist():
    words = re.findall(r"`((?:objective|views|model|trainer|logger)[.\w]*=[^`]*)`", README)
    assert len(words) >= 6
    for word in words:
        compose([word])
