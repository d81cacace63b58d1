"""Every example, in its quick mode, ends in a picture and finite numbers."""

import re
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

EXAMPLES = Path(__file__).parents[1] / "examples"
SCRIPTS = sorted(EXAMPLES.glob("*.py"))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_ends_in_a_picture_and_finite_numbers(script, tmp_path, monkeypatch, capsys):
    picture = tmp_path / "picture.png"
    monkeypatch.setattr(sys, "argv", [script.name, "--quick", "--out", str(picture)])
    runpy.run_path(str(script), run_name="__main__")

    printed = capsys.readouterr().out
    numbers = [float(number) for number in re.findall(r"-?\d+\.\d+(?:e-?\d+)?", printed)]
    assert len(numbers) >= 3
    assert np.isfinite(numbers).all()
    assert not re.search(r"\b(nan|inf)\b", printed, re.IGNORECASE)

    with Image.open(picture) as image:
        pixels = np.asarray(image.convert("RGB"))
    height, width = pixels.shape[:2]
    assert 300 <= height <= 2000
    assert 800 <= width <= 2000
    assert 0.005 < (pixels < 250).any(-1).mean() < 0.95  # drawn on, and not all over


def test_readme_names_every_script():
    named = re.findall(r"python examples/(\w+\.py)", (EXAMPLES / "README.md").read_text("utf-8"))
    assert sorted(named) == [script.name for script in SCRIPTS]
