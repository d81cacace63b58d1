"""The numbers of an evaluation as one table of plain text."""

import math
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from levyjepa.cli.command import out, say

COLUMNS = {"": "trained", "random_encoder": "untrained", "pixels": "pixels"}
LABELS = "labels"
GROUPS = {  # by a path's first part: the group, and whether its rows leave that part out
    "mean_token": ("mean token", True),
    "low_shot": ("few labels", True),
    "segmentation": ("masks", False),
    "boundaries": ("masks", False),
    "tracking": ("tracking", True),
    "jumps": ("jumps", True),
}


def show_scores(evaluation: Mapping[str, Any], *online: float | None) -> None:
    """Print an evaluation, after the online probe's last and best accuracy, and its warning."""
    from levyjepa.training.comparison import scores

    if text := table(scores(evaluation, *online)):
        out(text)
    if evaluation.get("representation", {}).get("collapsed"):
        say("The embeddings have collapsed: they lie on a point or a line.")


def table(scores: Mapping[str, float]) -> str:
    """Shares in percent: a row for each measure, a column for the network and each baseline.

    Args:
        scores: By path, as `levyjepa.training.comparison.scores` gives them.
    """
    from levyjepa.training.comparison import is_share, title

    rows: dict[str, dict[str, float]] = {}
    for path, value in scores.items():
        parts = path.split("/")
        column = next((part for part in parts if part in COLUMNS), "")
        if is_share(path) and math.isfinite(value):
            measure = "/".join(part for part in parts if part != column)
            rows.setdefault(measure, {})[column] = value
    if not rows:
        return ""
    order = [LABELS, *(group for group, _ in GROUPS.values())]
    measures = sorted(rows, key=lambda measure: order.index(_placed(measure)[0]))
    columns = [column for column in COLUMNS if any(column in row for row in rows.values())]
    lines = [["percent", "", *(COLUMNS[column] for column in columns)]]
    for measure in measures:
        numbers = [f"{100 * rows[measure][c]:.1f}" if c in rows[measure] else "" for c in columns]
        group, inner = _placed(measure)
        lines.append([group, title(inner), *numbers])
    for above, line in reversed(list(pairwise(lines))):
        line[0] = "" if line[0] == above[0] else line[0]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if place < 2 else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def _placed(measure: str) -> tuple[str, str]:
    """A measure's group, and its path within it."""
    first, _, rest = measure.partition("/")
    group, left_out = GROUPS.get(first, (LABELS, False))
    return group, rest if left_out else measure
