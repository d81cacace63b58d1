"""Tables of scores: which cells are compared, means, intervals and verdicts."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from scipy import stats

from levyjepa.tasks.evaluation import Evaluation
from levyjepa.tasks.score import Score
from levyjepa.training.comparison import FIRST, cell_name, compare, score_table
from levyjepa.training.config import compose
from levyjepa.training.run_folder import RunFolder

Write = Callable[..., RunFolder]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """`write([scores], "objective.gamma=0", ...)` writes a run folder."""
    made = []

    def run(scores: Sequence[Score], *words: str) -> RunFolder:
        folder = RunFolder(tmp_path / f"run {len(made)}")
        made.append(folder)
        folder.write_config(compose(list(words)))
        folder.write_evaluation(Evaluation(list(scores)))
        return folder

    return run


def score(value: float, name: str = "share", **about) -> Score:
    return Score(name, value, task="moon", **about)


def grid(write: Write, *cells: str, seeds: Sequence[int] = (0, 1)) -> list[RunFolder]:
    return [write([score(0.5)], *cell.split(), f"seed={seed}") for cell in cells for seed in seeds]


def pairs(runs: Sequence[RunFolder]) -> list[tuple[str, str, str]]:
    found = compare(score_table(runs)).query("kind == 'difference'")
    return list(found[["side", "cell", "base"]].itertuples(index=False, name=None))


def test_differences_are_those_of_a_paired_t_test(write: Write):
    base, prior = [11.0, 12.5, 10.0], [13.0, 13.5, 11.0]
    runs = [
        write([score(value, unit="")], f"objective.gamma={gamma}", f"seed={seed}")
        for gamma, values in ((1, prior), (0, base))
        for seed, value in enumerate(values)
    ]
    table = score_table(runs)
    assert len(table) == 6
    assert set(table["cell"]) == {"gamma=0", "gamma=1"}
    found = compare(table)
    first, second = found[found["kind"] == "mean"].to_dict("records")
    expected = stats.t.interval(0.95, 2, loc=stats.tmean(base), scale=stats.sem(base))
    assert (first["cell"], first["n"]) == ("gamma=0", 3)
    assert (first["low"], first["high"]) == pytest.approx(expected)
    assert second["mean"] == pytest.approx(12.5)
    (row,) = found[found["kind"] == "difference"].to_dict("records")
    test = stats.ttest_rel(prior, base)
    ends = test.confidence_interval()
    assert (row["side"], row["cell"], row["base"]) == ("gamma", "gamma=1", "gamma=0")
    assert (row["low"], row["high"]) == pytest.approx((ends.low, ends.high))
    assert (row["n"], row["d_z"]) == (3, pytest.approx(test.statistic / 3**0.5))
    assert row["verdict"] == "no difference shown"


@pytest.mark.parametrize(
    ("values", "higher_is_better", "verdict"),
    [
        ([0.2, 0.21, 0.22], True, "better"),
        ([0.2, 0.21, 0.22], False, "worse"),
        ([-0.2, -0.21, -0.22], False, "better"),
        ([-0.2, -0.21, -0.22], None, "lower"),
        ([0.2, -0.2, 0.1], True, "no difference shown"),
        ([0.2], True, "one pair"),
        ([0.25, 0.25], True, "no interval"),
        ([0.0, 0.0], True, "no difference shown"),
    ],
)
def test_verdicts(write: Write, values, higher_is_better, verdict):
    runs = [
        write(
            [score(0.5 + gamma * value, higher_is_better=higher_is_better)],
            f"objective.gamma={gamma}",
            f"seed={seed}",
        )
        for gamma in (0, 1)
        for seed, value in enumerate(values)
    ]
    (row,) = compare(score_table(runs)).query("kind == 'difference'").to_dict("records")
    assert row["verdict"] == verdict


def test_shares_stay_within_0_and_1_and_baselines_are_means_over_all_cells(write: Write):
    runs = [
        write(
            [
                score(value),
                Score("share", 0.7 + 0.1 * seed, task="moon", subject="untrained"),
                Score("share", 0.6, interval=(0.5, 0.7), task="moon", subject="pixels"),
            ],
            f"objective.gamma={gamma}",
            f"seed={seed}",
        )
        for gamma in (0, 1)
        for seed, value in enumerate((0.99, 0.7))
    ]
    found = compare(score_table(runs)).query("kind == 'mean'")
    trained, untrained, pixels = (
        found[found["subject"] == subject] for subject in ("trained", "untrained", "pixels")
    )
    assert list(trained["high"]) == [1.0, 1.0]
    assert list(trained["low"]) == [0.0, 0.0]
    assert list(untrained["mean"]) == pytest.approx([0.75])
    assert pixels[["mean", "low", "high"]].to_numpy().tolist() == [[0.6, 0.5, 0.7]]


def test_settings_that_always_change_together_are_one_side(write: Write):
    (found,) = pairs(
        grid(
            write, "objective.nodes=32 optimizer.lr=1e-3", "objective.nodes=64 optimizer.lr=2.5e-3"
        )
    )
    assert found == ("nodes and lr", "nodes=64", "nodes=32")


def test_cells_of_no_full_grid_are_compared_with_the_first_too(write: Write):
    found = pairs(
        grid(
            write,
            "objective.kappa=1 trainer.max_epochs=2",
            "objective.kappa=0 trainer.max_epochs=2",
            "objective.kappa=0 trainer.max_epochs=3",
        )
    )
    assert found == [
        ("kappa", "kappa=0, max_epochs=2", "kappa=1, max_epochs=2"),
        ("max_epochs", "kappa=0, max_epochs=3", "kappa=0, max_epochs=2"),
        (FIRST, "kappa=0, max_epochs=3", "kappa=1, max_epochs=2"),
    ]


def test_a_law_is_compared_with_the_run_without_the_prior(write: Write):
    words = [f"objective.gamma=1 objective.law=Brownian(sigma={sigma})" for sigma in (1.0, 2.0)]
    for_each = [f"{word} objective.kappa={kappa}" for kappa in (1, 0) for word in words]
    without = [f"objective.gamma=0 objective.kappa={kappa}" for kappa in (1, 0)]
    found = pairs(grid(write, *for_each, *without))
    gammas = {(cell, base) for side, cell, base in found if side == "gamma"}
    assert len(gammas) == 4
    for cell, base in gammas:
        assert ("kappa=0" in cell) == ("kappa=0" in base)
        assert "gamma=0" in base


def test_seeds_that_only_one_cell_has_are_no_pair(write: Write):
    zero = grid(write, "objective.gamma=0", seeds=(0, 1))
    one = grid(write, "objective.gamma=1", seeds=(1, 2))
    found = compare(score_table([*zero, *one]))
    assert list(found.loc[found["kind"] == "difference", "n"]) == [1]
    assert not pairs([zero[0], one[1]])


def test_runs_over_different_data_are_not_compared(write: Write):
    runs = grid(write, "data=mnist5k objective.gamma=0", "data=cifar10 objective.gamma=1")
    found = compare(score_table(runs))
    assert list(found["data"]) == ["mnist5k", "cifar10"]
    assert set(found["kind"]) == {"mean"}


def test_published_numbers_stand_beside_the_last_online_probe(write: Write):
    probe = Score("last", 0.9, task="online_probe")
    runs = [write([probe], "experiment=exp1", f"objective.gamma={gamma}") for gamma in (0, 1)]
    found = compare(score_table(runs))
    assert list(found["published"]) == pytest.approx([0.90726, 0.91287, 0.91287 - 0.90726])


def test_names_are_short_and_different():
    settings = {"objective.gamma": 1.0, "objective.stencils": ["box(2)", "diamond()"]}
    assert cell_name(settings) == "gamma=1, stencils=box(2) + diamond()"
    assert cell_name({"trainer.compile": True, "data.limit": None}) == "compile=true, limit=none"
    weights = {"objective.time.weight": 0.0, "objective.spacetime.weight": 0.0}
    assert cell_name(weights) == "time.weight=0, spacetime.weight=0"
    close = [cell_name({"optimizer.lr": rate}) for rate in (0.00012345678, 0.00012345679)]
    assert close[0] != close[1]
