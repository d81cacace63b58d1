"""What docs/toolbox.md says it prints, it prints."""

import re
from pathlib import Path

PAGE = (Path(__file__).parents[2] / "docs" / "toolbox.md").read_text("utf-8")


def test_its_example_prints_what_the_page_says(capsys):
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    (block,) = (block for block in blocks if "print(" in block)
    exec(block, {})
    printed = capsys.readouterr().out.strip()
    assert re.fullmatch(r"a sheet 0\.\d{5}, independent increments 0\.\d{5}", printed)
    assert f"prints `{printed}`" in PAGE
