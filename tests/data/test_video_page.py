"""What docs/video.md shows can be done."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest

from levyjepa.training.config import compose

PAGE = (Path(__file__).parents[2] / "docs" / "video.md").read_text("utf-8")
COMMANDS = re.findall(r"^levyjepa train (.*)$", PAGE, re.MULTILINE)


@pytest.mark.parametrize("line", COMMANDS)
def test_its_commands_compose(line):
    config = compose(shlex.split(line))
    assert config.data.frames is not None


def test_its_example_reads_a_clip(tmp_path, monkeypatch, write_film):
    """Two seconds of 25 frames each: eight frames at five a second end at 1.4 s."""
    monkeypatch.chdir(tmp_path)
    Path("films").mkdir()
    write_film(Path("films/one.mp4"), [np.full((90, 120, 3), 4 * n, np.uint8) for n in range(50)])
    (block,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    names: dict = {}
    exec(block, names)
    clip = names["clip"]
    assert clip.frames.shape == (8, 3, 64, 85)
    np.testing.assert_allclose(clip.times, np.arange(8) / 5)
    assert clip.valid.all()
