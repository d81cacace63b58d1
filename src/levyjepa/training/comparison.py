"""Scores of several runs as tidy tables: means over seeds, and differences paired by seed."""

# pyright: reportAttributeAccessIssue=false, reportCallIssue=false, reportGeneralTypeIssues=false
# pyright: reportArgumentType=false, reportIndexIssue=false

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from levyjepa.training.config import short_keys
from levyjepa.training.run_folder import RunFolder
from levyjepa.training.settings import Config

IGNORED = ("seed", "run_dir", "logger.", "experiment", "trainer.progress", "trainer.devices")
IGNORED += ("trainer.evaluate", "data.workers", "data.path")
GAMMA = "objective.gamma"
PRIOR = ("objective.", "model.patch_projection")  # settings that do nothing at gamma 0, but for
SHARED = ("objective.kappa", "objective.lamb", "objective.num_directions", "objective.knots")
PUBLISHED = "online_probe/last"  # the score that `experiment.published` reports
NAMED = 3  # settings in a cell's name; of more, those that differ from the first cell
SMALLEST = 1e-12  # differences and deviations below that are rounding
FIRST = "everything that differs from the first cell"

ABOUT = ["task", "name", "key", "title", "unit", "chance", "note", "higher_is_better", "headline"]
RUN = ["run", "data", "cell", "seed"]
SCORE = [*ABOUT, "subject", "value", "low", "high", "n", "published"]
COMPARISON = ["data", "kind", "side", "cell", "base", "subject", "n", "mean", "low", "high", "d_z"]
COMPARISON += ["verdict", "published", *ABOUT]


def run_names(runs: Sequence[RunFolder]) -> dict[str, RunFolder]:
    """Return runs by their paths below the folder that they share."""
    paths = {run.path.resolve(): run for run in runs}
    root = os.path.commonpath([path.parent for path in paths]) if paths else ""
    return {path.relative_to(root).as_posix(): run for path, run in paths.items()}


def run_table(runs: Sequence[RunFolder]) -> pd.DataFrame:
    """Return a row for each run: its name, data, cell, seed and every setting that differs.

    A cell is a combination of settings; its runs differ by their seed alone. Runs are compared
    within the same data. The table's order is that of comparison: runs without the prior come
    first, then the order of the experiment's values.

    Raises:
        RunFolderError: A run's settings can't be read.
    """
    names = run_names(runs)
    rows = []
    groups: dict[str, list[str]] = {}
    for name in sorted(names, key=lambda name: _order(names[name])):
        groups.setdefault(data_name(names[name].config), []).append(name)
    for data, group in groups.items():
        runs = [names[name] for name in group]
        differing = _differing(runs)
        for name, run, cell in zip(group, runs, _cell_names(runs), strict=True):
            row = {"run": name, "data": data, "cell": cell, "seed": run.config.seed}
            rows.append(row | {key: _scalar(run.settings.get(key)) for key in differing})
    return pd.DataFrame(rows, columns=None if rows else RUN)


def score_table(runs: Sequence[RunFolder]) -> pd.DataFrame:
    """Return a row for each run and score: the columns of `run_table` and the fields of `Score`.

    `key` is "TASK/NAME", `low` and `high` are ends of the score's own 95 % interval, and
    `published` is what an experiment's settings report from elsewhere.

    Raises:
        RunFolderError: A run's files can't be read.
    """
    about, names = run_table(runs), run_names(runs)
    rows = []
    for row in about.to_dict("records"):
        run = names[row["run"]]
        grid = run.config.experiment
        published = grid.published.get(row["cell"]) if grid else None
        for score in run.evaluation().scores:
            low, high = score.interval or (math.nan, math.nan)
            seen = published if (score.key, score.subject) == (PUBLISHED, "trained") else None
            about_score = {**score.as_dict(), "key": score.key, "published": seen}
            about_score |= {"low": low, "high": high}
            rows.append(row | {name: about_score[name] for name in SCORE})
    table = pd.DataFrame(rows, columns=[*about.columns, *SCORE])
    return table.astype(dict.fromkeys(("value", "low", "high", "chance", "published"), float))


def compare(table: pd.DataFrame) -> pd.DataFrame:
    """Return means over seeds and differences paired by seed, with 95 % t-intervals.

    Differences run along each side of the grid, all else equal, to the side's first value. A side
    is a setting, or several that always change together. A cell that has no partner without the
    prior is compared with the one that differs in settings of the prior alone; if the cells are
    no full grid, each is compared with the first cell too.

    Args:
        table: As `score_table` returns it.

    Returns:
        Rows of two kinds, "mean" and "difference". A mean of a baseline is over all cells; its
        `cell` is empty. A difference is `cell` minus `base`; `n` counts pairs, `d_z` is the mean
        of the differences over their standard deviation, and `verdict` is one of "better",
        "worse" ("higher" and "lower" if neither direction is better), "no difference shown" (the
        interval covers 0), "one pair" and "no interval" (all pairs differ by the same). Means of
        shares stay within [0, 1].
    """
    rows = []
    for data, group in table.groupby("data", sort=False):
        group = group.drop_duplicates(["cell", "seed", "key", "subject"])
        settings = [column for column in group.columns if column not in (*RUN, *SCORE)]
        pairs = _pairs(group.drop_duplicates("cell").set_index("cell")[settings])
        for _, scores in group.groupby("key", sort=False):
            about = {"data": data, **scores.iloc[0][ABOUT]}
            trained = scores[scores["subject"] == "trained"]
            cells = {
                cell: own.set_index("seed") for cell, own in trained.groupby("cell", sort=False)
            }
            for cell, own in cells.items():
                seen = own["published"].iloc[0]
                mean = _mean(own["value"], about["unit"])
                rows.append(about | {"cell": cell, "published": seen} | mean)
            others = scores[scores["subject"] != "trained"]
            for subject, own in others.groupby("subject", sort=False):
                values = own.groupby("seed")["value"].mean()
                mean = _mean(values, about["unit"])
                if own["value"].nunique() == 1:  # no seed changes it: the score's own interval
                    mean |= dict(own[["low", "high"]].iloc[0])
                rows.append(about | {"subject": subject} | mean)
            for side, cell, base in pairs:
                if not {cell, base} <= cells.keys():
                    continue
                both = cells[cell].join(cells[base], how="inner", rsuffix=" of base")
                if both.empty:
                    continue
                gaps = both["value"] - both["value of base"]
                seen = (both["published"] - both["published of base"]).iloc[0]
                names = {"side": side, "cell": cell, "base": base, "published": seen}
                rows.append(about | names | _difference(gaps, about["higher_is_better"]))
    found = pd.DataFrame(rows, columns=COMPARISON)
    texts = dict.fromkeys(("side", "cell", "base", "verdict"), "")
    return found.fillna({**texts, "subject": "trained"})


def data_name(config: Config) -> str:
    """Return what data is called: the last part of its path, else its source."""
    data = config.data
    name = Path(data.path).name if data.path else data.source
    return f"{name}, held-out part of the training split" if data.holdout else name


def shown(value: Any) -> str:
    """Write a setting's value in few characters.

    >>> shown(0.5), shown(["box(2)", "diamond()"]), shown(None)
    ('0.5', 'box(2) + diamond()', 'none')
    """
    if isinstance(value, bool) or value is None:
        return str(value).lower()
    if isinstance(value, (int, float)):
        short = f"{value:g}"
        return short if float(short) == value else str(value)
    if isinstance(value, Mapping):
        return " ".join(f"{key} {shown(item)}" for key, item in value.items() if item is not None)
    if isinstance(value, (list, tuple)):
        return " + ".join(map(shown, value))
    return str(value)


def cell_name(settings: Mapping[str, Any]) -> str:
    """Name a combination of settings under dotted keys.

    >>> cell_name({"objective.gamma": 1.0, "objective.space.weight": 0.0})
    'gamma=1, space.weight=0'
    """
    short = short_keys(list(settings))
    return ", ".join(f"{short[key]}={shown(value)}" for key, value in settings.items())


def _order(run: RunFolder) -> tuple:
    grid = run.config.experiment
    places = []
    for key, values in (grid.sweep if grid else {}).items():
        texts, text = list(map(shown, values)), shown(run.settings.get(key))
        if key != "seed":
            places.append(texts.index(text) if text in texts else len(texts))
    return run.config.objective.gamma > 0, places


def _differing(runs: Sequence[RunFolder]) -> list[str]:
    keys = dict.fromkeys(key for run in runs for key in run.settings)
    return [
        key
        for key in keys
        if not key.startswith(IGNORED) and len({shown(run.settings.get(key)) for run in runs}) > 1
    ]


def _cell_names(runs: Sequence[RunFolder]) -> list[str]:
    """Of each side one setting: those of the experiment, else gamma, else the shortest."""
    grids = [run.config.experiment for run in runs]
    named = dict.fromkeys(key for grid in grids if grid for key in grid.sweep if key != "seed")
    values = {key: [shown(run.settings.get(key)) for run in runs] for key in _differing(runs)}
    for side in _sides(values).values():
        if not named.keys() & set(side):
            best = GAMMA if GAMMA in side else min(side, key=lambda k: max(map(len, values[k])))
            named[best] = None
    keys = list(named) or [GAMMA]
    first = [shown(runs[0].settings.get(key)) for key in keys]

    def name(run: RunFolder) -> str:
        own = {key: run.settings.get(key) for key in keys}
        if len(keys) > NAMED:
            own = {
                k: v for (k, v), text in zip(own.items(), first, strict=True) if shown(v) != text
            }
        return cell_name(own) or "base"

    return list(map(name, runs))


def _sides(values: Mapping[str, Sequence[str]]) -> dict[tuple[int, ...], list[str]]:
    """Settings that always change together, by which of its values each cell or run has."""
    sides: dict[tuple[int, ...], list[str]] = {}
    for key, texts in values.items():
        order = list(dict.fromkeys(texts))
        sides.setdefault(tuple(map(order.index, texts)), []).append(key)
    return sides


def _pairs(cells: pd.DataFrame) -> list[tuple[str, str, str]]:
    """Return (side, cell, the cell with the side's first value that is otherwise the same)."""
    if not len(cells.columns):
        return []
    values = {key: list(map(shown, cells[key])) for key in cells}
    sides = _sides(values)
    places = dict(zip(zip(*sides, strict=True), cells.index, strict=True))
    short = short_keys(list(values))
    pairs = []
    for number, together in enumerate(sides.values()):
        side = " and ".join(short[key] for key in together)
        for place, cell in places.items():
            base = places.get((*place[:number], 0, *place[number + 1 :]))
            if base is not None and base != cell:
                pairs.append((side, cell, base))
        if GAMMA in together:
            paired = {cell for name, cell, _ in pairs if name == side}
            pairs += [(side, *p) for p in _without_prior(cells) if p[0] not in paired]
    if len(cells) < math.prod(1 + max(side) for side in sides):
        first = cells.index[0]
        met = {cell for _, cell, base in pairs if base == first}
        pairs += [(FIRST, cell, first) for cell in cells.index if cell != first and cell not in met]
    return pairs


def _without_prior(cells: pd.DataFrame) -> Iterable[tuple[str, str]]:
    """Pair each cell with the first at gamma 0 that differs in settings of the prior alone."""
    apart = [key for key in cells if not key.startswith(PRIOR) or key in SHARED]
    texts = {cell: [shown(row[key]) for key in apart] for cell, row in cells.iterrows()}
    without = [cell for cell in cells.index if cells.loc[cell, GAMMA] == 0]
    for cell in cells.index:
        base = next((b for b in without if texts[b] == texts[cell]), None)
        if base is not None and cell not in without:
            yield cell, base


def _scalar(value: Any) -> Any:
    return value if value is None or isinstance(value, (bool, int, float, str)) else shown(value)


def _mean(values: pd.Series, unit: str) -> dict[str, Any]:
    n, mean, low, high = interval(values)
    if high - low < SMALLEST:
        low = high = math.nan
    if unit == "%":
        low, high = np.clip([low, high], 0.0, 1.0)
    return {"kind": "mean", "n": n, "mean": mean, "low": low, "high": high}


def _difference(gaps: pd.Series, higher_is_better: Any) -> dict[str, Any]:
    n, mean, low, high = interval(gaps)
    spread = float(np.std(gaps, ddof=1)) if n > 1 else 0.0
    d_z, verdict = math.nan, "no difference shown"
    if spread > max(SMALLEST, 1e-5 * abs(mean)):
        d_z = mean / spread
        if low > 0 or high < 0:
            words = ("higher", "lower") if pd.isna(higher_is_better) else ("better", "worse")
            up = pd.isna(higher_is_better) or bool(higher_is_better)
            verdict = words[0] if (low > 0) == up else words[1]
    else:
        low = high = math.nan
        if n == 1:
            verdict = "one pair"
        elif abs(mean) > SMALLEST:
            verdict = "no interval"
    found = {"n": n, "mean": mean, "low": low, "high": high, "d_z": d_z, "verdict": verdict}
    return {"kind": "difference", **found}


def interval(values: Iterable[float]) -> tuple[int, float, float, float]:
    """Return n, the mean and the ends of its 95 % t-interval, NaN for one value."""
    array = np.asarray(list(values), float)
    n, mean = len(array), float(array.mean())
    if n == 1:
        return n, mean, math.nan, math.nan
    half = float(stats.t.ppf(0.975, n - 1) * stats.sem(array))
    return n, mean, mean - half, mean + half
