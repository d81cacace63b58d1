"""A self-contained page: tables, pictures and text, for light and dark screens and for print."""

import math
import re
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd

from levyjepa.tasks.score import SUBJECTS, Picture
from levyjepa.training.run_folder import RunFolder
from levyjepa.training.summary import CHANCE

PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")  # Okabe and Ito
BASELINES = [title for subject, title in SUBJECTS.items() if subject != "trained"] + [CHANCE]


@dataclass(frozen=True)
class Drawing:
    """A small drawing, three of which stand side by side: an `<svg>` element."""

    svg: str
    title: str = ""
    caption: str = ""


@dataclass(frozen=True)
class Section:
    """A part of a page.

    Args:
        title: Its head.
        text: Below it; an empty line parts paragraphs.
        table: Texts and numbers; lines after a text's first are shown small. The index names rows.
        pictures: Pictures as tasks draw them, or drawings.
        note: Below the table.
        legend: Names and their colors, such as "var(--c0)".
        code: Shown as it is.
        columns: Pictures stand one (1) or two (2) in a row.
        folded: Show the title alone until it is clicked.
        sections: Parts of this part.
    """

    title: str = ""
    text: str = ""
    table: pd.DataFrame | None = None
    pictures: Sequence[Picture | Drawing] = ()
    note: str = ""
    legend: Mapping[str, str] = field(default_factory=dict)
    code: str = ""
    columns: int = 1
    folded: bool = False
    sections: Sequence["Section"] = ()


def write_page(
    path: str | Path,
    title: str,
    lead: str,
    sections: Sequence[Section],
    *,
    facts: str = "",
    warnings: Sequence[str] = (),
) -> Path:
    """Write a page of HTML that needs no other file, and return its path.

    Args:
        path: The file.
        title: At the top, and in the browser's tab.
        lead: What the page is about or says, in large letters.
        sections: In their order.
        facts: Below the lead, in small letters.
        warnings: What a reader must know first.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"lines": _lines, "data_url": _data_url, "plain": without_folders}
    page = environment.get_template("page.html").render(
        title=title,
        lead=lead,
        facts=facts,
        warnings=warnings,
        sections=sections,
        palette=PALETTE,
        baselines=BASELINES,
    )
    path = Path(path)
    RunFolder(path.parent).write_text(path, page)
    return path


def without_folders(text: str) -> str:
    """Shorten absolute paths to their last part, so that a page names no folder of a machine.

    >>> without_folders("path: /home/me/data/cifar10")
    'path: …/cifar10'
    """
    return re.sub(r"""(?<![^\s'"(=])(?:[A-Za-z]:)?[/\\](?:[^\s/\\'"]+[/\\])+""", "…/", text)


def _lines(value: Any) -> list[str]:
    """A table's entry: its text, then small lines."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ["–"]
    if isinstance(value, float):
        value = f"{value:.4g}".replace("-", "−")
    return without_folders(str(value)).split("\n") if str(value) else ["–"]


def _data_url(png: bytes) -> str:
    return f"data:image/png;base64,{b64encode(png).decode()}"
