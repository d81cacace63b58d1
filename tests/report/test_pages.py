"""Pages, tables and the terminal show whatever scores, pictures and curves runs have."""

import io
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from scipy import stats

from levyjepa.report import (
    Section,
    compare_report,
    experiment_report,
    markdown,
    run_report,
    terminal,
    write_page,
)
from levyjepa.tasks.evaluation import Evaluation, Failure
from levyjepa.tasks.score import Picture, Score
from levyjepa.training.comparison import compare, score_table
from levyjepa.training.config import compose
from levyjepa.training.run_folder import RunFolder, RunFolderError, find_runs

VALUES = {0: (0.80, 0.82, 0.84), 1: (0.90, 0.91, 0.95)}  # by gamma and seed
Write = Callable[..., RunFolder]


def png() -> bytes:
    out = io.BytesIO()
    Figure((1, 1)).savefig(out, format="png", dpi=10)
    return out.getvalue()


def text(page: Path) -> str:
    """What a reader sees."""
    body = re.sub(r"(?s)<(style|pre|title).*?</\1>", "", page.read_text("utf-8"))
    return " ".join(re.sub(r"<[^>]*>", " ", body).split())


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """`write(name, *words, gamma=0, seed=0)` writes a run with a task that nobody knows."""

    def run(name: str, *words: str, gamma: int = 0, seed: int = 0, scores: bool = True):
        folder = RunFolder(tmp_path / name)
        words = words or ("data=mnist5k",)
        folder.write_config(compose([*words, f"objective.gamma={gamma}", f"seed={seed}"]))
        table = pd.DataFrame(
            {"epoch": range(5), "step": range(5), "train/tide": np.arange(5) + 1.0}
        )
        folder.write_text(folder.metrics_file, table.to_csv(index=False))
        if scores:
            moon = Score(
                "roundness",
                VALUES[gamma][seed],
                interval=(0.7, 0.96),
                chance=0.25,
                note="How round <the moon> is.",
                headline=True,
                task="moon",
            )
            tide = Score("height", 3.0 + seed, unit="m", higher_is_better=None, task="moon")
            pixels = Score("roundness", 0.5, task="moon", subject="pixels")
            picture = Picture("map", png(), "Map of the moon", "Craters are dark.", task="moon")
            failure = Failure("stars", "trained", f"{tmp_path}/stars can't be read.")
            folder.write_evaluation(Evaluation([moon, tide, pixels], [picture], [failure]))
        return folder

    return run


@pytest.fixture
def grid(write: Write, tmp_path: Path) -> Path:
    """Three seeds of gamma 0 and 1 on each of two data sets."""
    elsewhere = ("data=cifar10", f"data.path={tmp_path}/pictures/cifar10")
    for letter, words in {"a": ("data=mnist5k",), "b": elsewhere}.items():
        for gamma in (0, 1):
            for seed in range(3):
                write(f"grid/{letter}{gamma}{seed}", *words, gamma=gamma, seed=seed)
    return tmp_path / "grid"


def test_a_page_over_two_data_sets_begins_with_means_differences_and_verdicts(grid: Path):
    first = text(experiment_report(grid)).split("Means over n runs")[0]
    test = stats.ttest_rel(VALUES[1], VALUES[0]).confidence_interval()
    assert test.low > 0
    for data in ("mnist5k", "cifar10"):
        row = re.search(f"{data} Moon: Roundness (.*?) better", first)
        assert row, first
        assert row[1].startswith("82.0 %")
        assert "92.0 %" in row[1]
        assert f"+10.0 +{100 * test.low:.1f} to +{100 * test.high:.1f} 3" in row[1]


def test_a_task_that_nobody_knows_shows_up_everywhere(grid: Path):
    page = experiment_report(grid)
    shown = text(page)
    for words in ("How round &lt;the moon&gt; is.", "Map of the moon", "Train: tide"):
        assert shown.count(words) == 2  # once for each data set
    assert page.read_text("utf-8").count("data:image/png;base64,") == 4  # of each cell, its first
    runs = find_runs(grid)
    table = markdown(compare(score_table(runs)))
    assert re.search(r"\| Moon: Roundness +\|.*82\.0 %.*92\.0 %.*50\.0 %.*25\.0 %", table)
    assert re.search(r"\| Moon: Height .*\+0 m", table)
    printed = terminal(runs[0].evaluation())
    assert re.search(r"Moon +Roundness +80\.0 % +50\.0 % +25\.0 %", printed)
    assert re.search(r"Height +3 m", printed)
    assert "Stars failed (trained)" in printed


def test_pages_need_nothing_from_outside_and_name_no_folder(grid: Path, tmp_path: Path):
    for page in (
        run_report(grid / "b00"),
        experiment_report(grid),
        compare_report([grid / "b00", grid / "b10"], tmp_path / "both.html"),
    ):
        content = page.read_text("utf-8")
        assert str(tmp_path) not in content
        assert "…/cifar10" in content
        assert not re.search(r"(?:src|href)=\"(?!data:|#)", content)
        assert "prefers-color-scheme: dark" in content
        assert "Stars failed (trained)" in content


def test_a_run_s_page_shows_scores_with_their_own_intervals_beside_baselines(write: Write):
    shown = text(run_report(write("one", gamma=1).path))
    assert re.search(r"Moon: Roundness 90.0 % 70.0 to 96.0 50.0 % 25.0 %", shown)
    assert "trained raw pixels chance" in shown


def test_broken_unfinished_and_repeated_runs_are_named(grid: Path, write: Write):
    write("grid/a99", gamma=1, seed=2)
    broken = write("grid/broken", gamma=1)
    broken.write_text(broken.config_file, "objective: {gama: 1}")
    old = write("grid/old", gamma=1)
    old.write_text(old.evaluation_file, '{"linear_probe": {"accuracy": 0.9}}')
    later = write("grid/later", "data=mnist5k", "objective.kappa=0", scores=False)
    shown = text(experiment_report(grid))
    assert "grid/broken is left out" in shown
    assert "grid/old is left out" in shown
    assert "the same settings and seed: a99." in shown
    assert "grid/later (5 of 20 epochs logged)" in shown
    assert "Learning curves" in text(run_report(later.path))


def test_folders_without_a_readable_run_are_errors(write: Write, tmp_path: Path):
    with pytest.raises(RunFolderError, match="no folder"):
        experiment_report(tmp_path / "nothing")
    with pytest.raises(ValueError, match="at least one"):
        compare_report([], tmp_path / "page.html")
    broken = write("runs/broken")
    broken.write_text(broken.config_file, "[")
    with pytest.raises(RunFolderError, match="broken"):
        experiment_report(tmp_path / "runs")


def test_many_settings_are_rows(write: Write, tmp_path: Path):
    for gamma in (0, 1):
        for lr in (1, 2, 3):
            write(f"many/{gamma}{lr}", "data=mnist5k", f"optimizer.lr={lr}e-3", gamma=gamma)
    shown = text(experiment_report(tmp_path / "many"))
    assert "6 settings on mnist5k" in shown
    assert re.search(r"Moon: Roundness gamma=1, lr=0.001 against gamma=0, lr=0.001 80.0 %", shown)
    assert "one pair" in shown


def test_a_page_of_one_s_own(tmp_path: Path):
    table = pd.DataFrame(
        {"p": [0.012345, float("nan")], "law": ["Laplace", None]}, index=["a", "b"]
    )
    sections = [Section("Laws", "First.\n\nSecond.", table, note="Fitted on one half.")]
    shown = text(write_page(tmp_path / "page.html", "Diagnosis", "Jumps.", sections))
    assert shown.startswith("Diagnosis Jumps. Laws First. Second.")
    assert "a 0.01235 Laplace b – –" in shown
