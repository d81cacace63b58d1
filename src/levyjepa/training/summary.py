"""Scores and comparisons as text: tables of means, tables of differences, Markdown."""

# pyright: reportAttributeAccessIssue=false, reportCallIssue=false, reportGeneralTypeIssues=false
# pyright: reportArgumentType=false, reportIndexIssue=false

import math
from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd

from levyjepa.tasks.evaluation import Evaluation
from levyjepa.tasks.registry import TASKS
from levyjepa.tasks.score import SUBJECTS, Score

CHANCE = "chance"
NOTE = (
    "Means over n runs that differ by their seed, with 95 % t-intervals. Differences are paired by "
    "seed, of shares in percentage points. With one pair there is no interval. Of twenty "
    "comparisons without an effect, about one is called better or worse by chance."
)
EFFECT = "d_z is the mean of the paired differences over their standard deviation."


def number(value: float, unit: str, signed: bool = False) -> str:
    """Write a value in a score's unit.

    >>> number(0.8231, "%"), number(-0.016, "%", signed=True), number(12.34, "")
    ('82.3 %', '−1.6', '12.3')
    """
    return Score("value", 0.0, unit=unit).text(value, signed).replace("-", "−")


def entry(row: Any, signed: bool = False) -> str:
    """Write a mean or difference; its interval and the published number on lines of their own."""
    lines = [number(row.mean, row.unit, signed)]
    if not math.isnan(row.low):
        ends = (number(end, row.unit, signed) for end in (row.low, row.high))
        lines.append(" to ".join(end.removesuffix(f" {row.unit}") for end in ends))
    if not math.isnan(row.published):
        lines.append(f"published {number(row.published, row.unit, signed)}")
    return "\n".join(lines)


def task_title(name: str) -> str:
    """Return the title that a task is registered with, else one made from its name."""
    try:
        return TASKS.get(name).options["title"]
    except ValueError:
        return name.replace("_", " ").capitalize()


def labels(found: pd.DataFrame, task: bool = True, note: bool = False) -> dict[str, str]:
    """Return what to call each score, by its key.

    Args:
        found: A comparison.
        task: Name its task: "Linear probe: Accuracy".
        note: Add its note on a second line.
    """
    names = {}
    for row in found.drop_duplicates("key").itertuples():
        title = task_title(row.task)
        prefix = f"{title}: " if task and not row.title.startswith(title) else ""
        names[row.key] = prefix + row.title + (f"\n{row.note}" if note and row.note else "")
    return names


def standing(table: pd.DataFrame) -> pd.DataFrame:
    """Return a score table of one run in a comparison's columns, with the scores' own intervals."""
    own = table.assign(kind="mean", mean=table["value"], side="", base="", d_z=math.nan, verdict="")
    own["cell"] = (own["subject"] == "trained").map({True: "trained", False: ""})
    return own.assign(n=1)


def mean_table(found: pd.DataFrame) -> pd.DataFrame:
    """Return means as text: a row for each score's key, a column for each cell and baseline."""
    means = found[found["kind"] == "mean"]
    columns: dict[str, dict[str, str]] = {}
    for subject, title in SUBJECTS.items():
        for cell, own in means[means["subject"] == subject].groupby("cell", sort=False):
            name = title
            if subject == "trained":
                name = f"{cell}\n{_count(own['n'])}" if own["n"].max() > 1 else str(cell)
            columns[name] = {row.key: entry(row) for row in own.itertuples()}
    if means["chance"].notna().any():
        rows = means[means["chance"].notna()].drop_duplicates("key").itertuples()
        columns[CHANCE] = {row.key: number(row.chance, row.unit) for row in rows}
    return pd.DataFrame(columns, index=means["key"].unique()).fillna("")


def difference_table(found: pd.DataFrame) -> pd.DataFrame:
    """Return differences as text: a row for each score, indexed by key, and pair of cells."""
    rows = list(found[found["kind"] == "difference"].itertuples())
    table = {
        "compared": [f"{row.cell}\nminus {row.base}" for row in rows],
        "difference": [entry(row, signed=True) for row in rows],
        "n": [str(row.n) for row in rows],
        "d_z": [number(row.d_z, "", signed=True) for row in rows],
        "verdict": [row.verdict for row in rows],
    }
    return pd.DataFrame(table, index=[row.key for row in rows])


def markdown(found: pd.DataFrame) -> str:
    """Write a comparison as Markdown tables that are aligned as plain text too.

    Args:
        found: As `training.comparison.compare` returns it.
    """
    parts = []
    for data, group in found.groupby("data", sort=False):
        parts += [f"## {data}"] if found["data"].nunique() > 1 else []
        for table in (mean_table(group), difference_table(group)):
            if len(table):
                named = table.rename(index=labels(group)).reset_index(names="score")
                lines = [list(map(_in_line, line)) for line in (named.columns, *named.to_numpy())]
                lines.insert(1, ["---"] * len(lines[0]))
                parts.append("\n".join(f"| {' | '.join(line)} |" for line in _aligned(lines)))
    return "\n\n".join([*parts, f"{NOTE} {EFFECT}"]) + "\n" if parts else "No run is evaluated.\n"


def terminal(evaluation: Evaluation) -> str:
    """Write a run's scores as a table of plain text, and the tasks that failed."""
    if not evaluation.scores:
        lines = ["No scores."]
    else:
        columns = [*SUBJECTS.values(), CHANCE]
        rows: dict[str, dict[str, str]] = {}
        for score in evaluation.scores:
            row = rows.setdefault(score.key, {"task": task_title(score.task), "": score.title})
            row[SUBJECTS.get(score.subject, score.subject)] = score.text()
            if score.chance is not None:
                row[CHANCE] = score.text(score.chance)
        shown = ["task", "", *(c for c in columns if any(c in row for row in rows.values()))]
        grid, above = [shown], ""
        for row in rows.values():
            grid.append([row.get(column, "") for column in shown])
            grid[-1][0], above = "" if row["task"] == above else row["task"], row["task"]
        lines = ["  ".join(line).rstrip() for line in _aligned(grid, left=2)]
    for failure in evaluation.failures:
        subject = SUBJECTS.get(failure.subject, failure.subject)
        lines.append(f"{task_title(failure.task)} failed ({subject}): {failure.reason}")
    return "\n".join(lines)


def _count(numbers: Iterable[int]) -> str:
    low, high = min(numbers), max(numbers)
    return f"n = {high}" if low == high else f"n = {low} to {high}"


def _in_line(text: str) -> str:
    first, *rest = text.replace("\nminus", " minus").replace("|", "\\|").split("\n")
    return f"{first} ({', '.join(rest)})" if rest else first


def _aligned(lines: Sequence[Sequence[str]], left: int = 1) -> list[list[str]]:
    """Pad columns to one width, the first ones on the right, the others on the left."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return [
        [
            text.ljust(width, "-" if text == "---" else " ")
            if at < left or text == "---"
            else text.rjust(width)
            for at, (text, width) in enumerate(zip(line, widths, strict=True))
        ]
        for line in lines
    ]
