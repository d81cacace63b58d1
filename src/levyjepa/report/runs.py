"""Pages of runs, drawn from the table of their scores, their pictures and their logged values."""

# pyright: reportAttributeAccessIssue=false, reportCallIssue=false, reportGeneralTypeIssues=false
# pyright: reportArgumentType=false, reportIndexIssue=false

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from levyjepa.report.curves import learning_curves
from levyjepa.report.page import PALETTE, Section, write_page
from levyjepa.tasks.score import SUBJECTS, Picture
from levyjepa.training.comparison import compare, run_names, run_table, score_table, shown
from levyjepa.training.config import short_keys
from levyjepa.training.run_folder import RunFolder, RunFolderError, find_runs
from levyjepa.training.summary import (
    EFFECT,
    NOTE,
    difference_table,
    entry,
    labels,
    mean_table,
    standing,
    task_title,
)

SHOWN = len(PALETTE)  # cells whose curves and pictures a page holds
WIDE = 5  # more cells than that are rows of tables, not columns
HEADS = ("setting", "reference")  # columns of two means
INTERVALS = "Small numbers are 95 % intervals over the test split, where a task gives them."
CURVES = "One thin line per run, and a thick one for the mean over seeds."
FACTS = {  # settings that are named below a title, where all runs agree
    "model.name": "{}",
    "model.weights": "weights of {}",
    "data.image_size": "{} pixels",
    "data.frames": "{} frames",
    "data.batch_size": "batches of {}",
    "trainer.max_epochs": "{} epochs",
}


def run_report(path: str | Path) -> Path:
    """Write the page of a run, `report.html` in its folder, and return its path.

    Raises:
        RunFolderError: The folder holds no run, or one that can't be read.
    """
    run = RunFolder(path)
    run.evaluation()
    group = _groups([run], alone=True)[0]
    title = run.path.resolve().name
    what = next(iter(group.cells)) if run.metrics_file.is_file() else "Frozen features"
    lead = f"{what} on {group.data}"
    return _write(run.report, title, lead, [group], INTERVALS)


def experiment_report(path: str | Path) -> Path:
    """Write the page of a folder of runs, `report.html` in it, and return its path.

    Raises:
        RunFolderError: No folder below it holds a run that can be read.
    """
    path = Path(path)
    return _compare([path], RunFolder(path).report, path.resolve().name)


def compare_report(paths: Sequence[str | Path], out: str | Path) -> Path:
    """Write one page about several run folders, or folders of runs, and return its path.

    Args:
        paths: The folders.
        out: The page.

    Raises:
        ValueError: No folder is named.
        RunFolderError: A folder holds no run, or none can be read.
    """
    if not paths:
        raise ValueError("`paths` must name at least one folder, got none.")
    return _compare(paths, Path(out), "Comparison of runs")


@dataclass(frozen=True)
class _Group:
    """Runs over the same data, and what their scores say together."""

    data: str
    cells: dict[str, list[RunFolder]]
    summary: pd.DataFrame
    settings: pd.DataFrame  # a row for each run

    @property
    def runs(self) -> list[RunFolder]:
        return [run for runs in self.cells.values() for run in runs]


def _groups(runs: Sequence[RunFolder], alone: bool = False) -> list[_Group]:
    names, about, scores = run_names(runs), run_table(runs), score_table(runs)
    summary = standing(scores) if alone else compare(scores)
    groups = []
    for data, rows in about.groupby("data", sort=False):
        cells: dict[str, list[RunFolder]] = {}
        for name, cell in zip(rows["run"], rows["cell"], strict=True):
            cells.setdefault(cell, []).append(names[name])
        settings = rows.drop(columns=["data", "cell"]).set_index("run").dropna(axis=1, how="all")
        settings = settings.loc[
            :, [c == "seed" or settings[c].nunique(dropna=False) > 1 for c in settings]
        ]
        groups.append(_Group(str(data), cells, summary[summary["data"] == data], settings))
    return groups


def _compare(paths: Sequence[str | Path], out: Path, title: str) -> Path:
    runs, warnings = _readable(paths)
    groups = _groups(runs)
    on: dict[str, list[str]] = {}
    for group in groups:
        on.setdefault(_cells(group), []).append(group.data)
    lead = "; ".join(f"{cells} on {' and '.join(data)}" for cells, data in on.items())
    if not any((group.summary["kind"] == "difference").any() for group in groups) and len(runs) > 1:
        warnings.append("No two settings share a seed and a score, so nothing is compared.")
    return _write(out, title, f"{lead}.", groups, NOTE, warnings)


def _readable(paths: Sequence[str | Path]) -> tuple[list[RunFolder], list[str]]:
    """Runs that can be read, each once, and what to say of the others."""
    runs, warnings = [], []
    for run in {run.path.resolve(): run for path in paths for run in find_runs(path)}.values():
        try:
            run.evaluation()
            run_table([run])
            runs.append(run)
        except (KeyError, TypeError, ValueError) as error:
            warnings.append(f"{_name(run)} is left out: {error}")
    if not runs:
        raise RunFolderError(warnings[0])
    names, about = run_names(runs), run_table(runs)
    again = about.duplicated(["data", "cell", "seed"])
    if again.any():
        twins = ", ".join(about.loc[again, "run"])
        warnings.append(f"Left out, since another run has the same settings and seed: {twins}.")
    return [names[name] for name in about.loc[~again, "run"]], warnings


def _write(
    path: Path,
    title: str,
    lead: str,
    groups: list[_Group],
    note: str,
    warnings: Sequence[str] = (),
) -> Path:
    runs = [run for group in groups for run in group.runs]
    warnings = [*warnings, *_unfinished(runs), *_failures(runs)]
    overview = _overview([group.summary for group in groups])
    sections = [Section(table=overview, note=note)] if len(overview) else []
    if len(groups) == 1:
        sections += _sections(groups[0])
    else:
        sections += [
            Section(group.data, _facts(group.runs), folded=True, sections=_sections(group))
            for group in groups
        ]
    facts = _facts(runs) if len(groups) == 1 else ""
    return write_page(path, title, lead, sections, facts=facts, warnings=warnings)


def _overview(parts: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """The main scores of each data set: two means, their difference, n and a verdict."""
    mains = [_main(summary) for summary in parts if len(summary)]
    compared = [_pairs(main) for main in mains]
    same = all(pairs == compared[0] for pairs in compared) and sum(map(len, compared[:1])) == 1
    heads = compared[0][0] if same else HEADS
    tables = []
    for main, pairs in zip(mains, compared, strict=True):
        head = [main["data"].iloc[0]]
        if any(compared):
            table = _against(main, labels(main), heads)
            if len(pairs) == 1 and not same:
                head.append(" against ".join(pairs[0]))
        else:
            table = mean_table(main).rename(index=labels(main))
            cells = list(main.loc[main["subject"] == "trained", "cell"].unique())
            if len(parts) > 1 and len(cells) == 1:
                table = table.set_axis([SUBJECTS["trained"], *table.columns[1:]], axis=1)
                head += cells
        if len(parts) > 1:
            table = pd.concat([pd.DataFrame(index=["\n".join(head)]), table])
        tables.append(table)
    return pd.concat(tables).fillna("") if tables else pd.DataFrame()


def _main(summary: pd.DataFrame) -> pd.DataFrame:
    """Headlines, or each task's first score; of their differences those along gamma, if any."""
    first = summary["headline"].astype(bool)
    first = first if first.any() else ~summary.duplicated("task")
    main: Any = summary[summary["key"].isin(summary.loc[first, "key"])]
    along = main["side"] == "gamma"
    return main[(main["kind"] == "mean") | along] if along.any() else main


def _pairs(summary: pd.DataFrame) -> list[tuple[str, str]]:
    rows = summary[summary["kind"] == "difference"].drop_duplicates(["cell", "base"])
    return list(zip(rows["cell"], rows["base"], strict=True))


def _against(
    summary: pd.DataFrame,
    names: dict[str, str],
    heads: tuple[str, str] = HEADS,
    columns: Sequence[str] = ("difference", "n", "verdict"),
) -> pd.DataFrame:
    """Two means and `columns` of their difference; grouped by score if several cells are compared.

    Args:
        summary: A comparison over the same data.
        names: What to call scores.
        heads: Of the columns of a cell and of what it is compared with.
        columns: Of `difference_table`.
    """
    means = summary[(summary["subject"] == "trained") & (summary["kind"] == "mean")]
    entries = {(row.key, row.cell): entry(row) for row in means.itertuples()}
    differences = summary[summary["kind"] == "difference"]
    if differences.empty:
        index = [f"{names[key]}\n{cell}" for key, cell in entries]
        return pd.DataFrame({heads[0]: list(entries.values())}, index=index)
    rows = list(differences.itertuples())
    texts = {
        heads[1]: [entries[row.key, row.base] for row in rows],
        heads[0]: [entries[row.key, row.cell] for row in rows],
    }
    texts |= difference_table(differences)[list(columns)].to_dict("list")
    if len(_pairs(summary)) == 1:
        return pd.DataFrame(texts, index=[names[row.key] for row in rows])
    table = pd.DataFrame(texts, index=[f"{row.cell}\nagainst {row.base}" for row in rows])
    parts = []
    for key, own in table.groupby([row.key for row in rows], sort=False):
        parts += [pd.DataFrame(index=[names[str(key)]]), own]
    return pd.concat(parts)


def _sections(group: _Group) -> list[Section]:
    """The main picture, a section for each task, curves, settings."""
    stacks = _stacks(group)
    main = next(
        (key for key, pictures in stacks.items() if next(iter(pictures.values())).headline), None
    )
    sections = [_stack(stacks[main])] if main else []
    summary = group.summary
    tasks = dict.fromkeys((*summary["task"], *(task for task, _ in stacks)))
    for task in tasks:
        own = summary[summary["task"] == task]
        parts = [_stack(p) for key, p in stacks.items() if key[0] == task and key != main]
        if len(own) or parts:
            sections.append(_task_section(task, own, parts, len(group.cells)))
    cells = dict(list(group.cells.items())[:SHOWN])
    logged = {cell: [run.metrics() for run in runs] for cell, runs in cells.items()}
    if drawings := learning_curves(logged):
        more = f" Only the first {SHOWN} settings are drawn." if len(group.cells) > SHOWN else ""
        legend = {cell: f"var(--c{place})" for place, cell in enumerate(cells)}
        text = CURVES + more if len(group.runs) > 1 else ""
        sections.append(Section("Learning curves", text, pictures=drawings, legend=legend))
    return [*sections, _settings(group)]


def _task_section(task: str, summary: pd.DataFrame, parts: list[Section], cells: int) -> Section:
    title = task_title(task)
    if summary.empty:
        return Section(title, sections=parts)
    table, differences = mean_table(summary), difference_table(summary)
    text = ""
    if cells > WIDE:
        table = table.rename(index=labels(summary, task=False)).T
        notes = summary.drop_duplicates("key")
        text = " ".join(f"{row.title}: {row.note}" for row in notes.itertuples() if row.note)
    elif len(differences) and differences["compared"].nunique() == 1:
        table.insert(2, "difference", differences["difference"])
        table.insert(3, "verdict", differences["verdict"])
        table = table.fillna("")
    if cells <= WIDE:
        table = table.rename(index=labels(summary, task=False, note=True))
    if "difference" not in table and len(differences):
        columns = ("difference", "n", "d_z", "verdict")
        named = _against(summary, labels(summary, task=False), columns=columns).fillna("")
        parts = [Section("Differences", table=named, note=EFFECT, folded=True), *parts]
    return Section(title, text, table, sections=parts)


def _stacks(group: _Group) -> dict[tuple[str, str], dict[str, Picture]]:
    """By task and name, the same picture by whose it is: each cell's first run's, baselines'."""
    stacks: dict[tuple[str, str], dict[str, Picture]] = {}
    owners: dict[tuple[str, str, str], RunFolder] = {}
    for cell, runs in list(group.cells.items())[:SHOWN]:
        for run in runs:
            for picture in run.evaluation().pictures:
                own = picture.subject == "trained"
                place = (picture.task, picture.name, cell if own else picture.subject)
                if owners.setdefault(place, run) is run:
                    seed = f", seed {run.config.seed}" if len(runs) > 1 else ""
                    label = cell + seed if own else SUBJECTS[picture.subject]
                    stacks.setdefault(place[:2], {})[label] = picture
    return {
        place: dict(sorted(own.items(), key=lambda item: item[1].subject != "trained"))
        for place, own in stacks.items()
    }


def _stack(pictures: dict[str, Picture]) -> Section:
    """The same picture of several runs, one below the other; what they share stands once."""
    first = next(iter(pictures.values()))
    same = all(picture.caption == first.caption for picture in pictures.values())
    named = [
        replace(
            picture,
            title=label if len(pictures) > 1 else "",
            caption="" if same else picture.caption,
        )
        for label, picture in pictures.items()
    ]
    columns = 2 if len(named) > 3 else 1
    return Section(first.title, first.caption if same else "", pictures=named, columns=columns)


def _settings(group: _Group) -> Section:
    short = short_keys([key for key in group.settings if key != "seed"])
    table = group.settings.rename(columns=short).map(shown)
    text = yaml.safe_dump(group.runs[0].config.as_dict(), sort_keys=False, allow_unicode=True)
    parts = [Section(f"All settings of {_name(group.runs[0])}", code=text, folded=True)]
    if len(group.runs) > 1:
        parts.insert(0, Section("Settings that differ", table=table, folded=True))
    return Section("Settings", sections=parts)


def _facts(runs: Sequence[RunFolder]) -> str:
    """What all runs share, in one line."""
    facts = []
    trained = any(run.metrics_file.is_file() for run in runs)
    for key, form in FACTS.items():
        if not trained and key in ("data.batch_size", "trainer.max_epochs"):
            continue
        values = {shown(run.settings.get(key)) for run in runs}
        if len(values) == 1 and (value := values.pop()) != "none":
            facts.append(form.format(value))
    seeds = sorted({run.config.seed for run in runs})
    facts.append(f"seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}")
    return ", ".join(facts)


def _unfinished(runs: Sequence[RunFolder]) -> list[str]:
    names = []
    for run in runs:
        if not run.finished:
            epochs = run.metrics()["epoch"].max()
            done = 0 if pd.isna(epochs) else int(epochs) + 1
            text = f"{done} of {run.config.trainer.max_epochs} epochs logged"
            owner = f", in use by {run.owner}" if run.owner else ""
            names.append(f"{_name(run)} ({text}{owner})")
    return [f"Not evaluated, so without scores: {', '.join(names)}."] if names else []


def _failures(runs: Sequence[RunFolder]) -> list[str]:
    reasons: dict[tuple[str, str], list[str]] = {}
    for run in runs:
        for failure in run.evaluation().failures:
            subject = SUBJECTS.get(failure.subject, failure.subject)
            place = f"{task_title(failure.task)} failed ({subject})", failure.reason
            reasons.setdefault(place, []).append(_name(run))
    return [f"{what} in {_few(names)}: {why}" for (what, why), names in reasons.items()]


def _name(run: RunFolder) -> str:
    return "/".join(run.path.resolve().parts[-2:])


def _few(names: Sequence[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


def _cells(group: _Group) -> str:
    number = len(group.cells)
    return " against ".join(group.cells) if number <= 2 else f"{number} settings"
