"""A grid of runs: which cells run, what the table says, and what happens to failures."""

import csv
import json
from pathlib import Path

import pytest
from scipy import stats

from levyjepa.conf.compose import ConfigError
from levyjepa.conf.schema import ExperimentConfig
from levyjepa.training.experiment import Cell, markdown, run_experiment, summarise
from levyjepa.training.run import load


def cell(gamma: float, seed: int, accuracy: float | None, **more) -> Cell:
    scores = None if accuracy is None else {"linear_probe": accuracy, "online_last": accuracy}
    status = "failed" if accuracy is None else "finished"
    overrides = {"objective.gamma": gamma, "seed": seed, **more}
    return Cell(overrides, f"runs/{gamma}-{seed}", status, scores=scores)


def test_the_table_holds_means_intervals_and_paired_differences():
    base, prior = [0.90, 0.92, 0.91], [0.93, 0.94, 0.92]
    cells = [cell(0, n, x) for n, x in enumerate(base)]
    cells += [cell(1, n, x) for n, x in enumerate(prior)]
    published = ExperimentConfig(published={"gamma=0": 0.5, "gamma=1": 0.6})
    result = summarise(Path("x"), published, cells)
    row = next(r for r in result.table if (r.cell, r.metric) == ("gamma=1", "linear_probe"))
    interval = stats.ttest_1samp(prior, 0).confidence_interval()
    assert (row.n, row.mean, row.published) == (3, pytest.approx(0.93), None)
    assert (row.low, row.high) == pytest.approx((interval.low, interval.high))
    paired = next(r for r in result.differences if r.metric == "linear_probe")
    interval = stats.ttest_rel(prior, base).confidence_interval()
    assert (paired.a, paired.b, paired.n) == ("gamma=1", "gamma=0", 3)
    assert (paired.low, paired.high) == pytest.approx((interval.low, interval.high))
    text = markdown(result)
    assert "| gamma=1 | 3 | 93.00 % (90.52 % to 95.48 %) |" in text
    assert "60.00 %" in text
    assert "+10.00" in text


def test_pairs_need_the_same_seed_and_one_seed_has_no_interval():
    cells = [cell(0, 0, 0.9), cell(0, 1, 0.8), cell(1, 0, None), cell(1, 1, 0.9)]
    result = summarise(Path("x"), ExperimentConfig(), cells)
    (paired,) = (r for r in result.differences if r.metric == "linear_probe")
    assert (paired.n, paired.mean) == (1, pytest.approx(0.1))
    assert (paired.low, paired.high) == (None, None)
    assert "| gamma=1 | 1 | 90.00 % | 90.00 % |" in markdown(result)
    assert "n = 1: no interval" in markdown(result)
    assert "runs/1-0 failed" in markdown(result)


def test_the_first_side_is_compared_within_the_others():
    more = "objective.kappa"
    cells = [cell(g, 0, 0.5 + 0.1 * g + 0.2 * k, **{more: k}) for g in (0, 1) for k in (0, 1)]
    result = summarise(Path("x"), ExperimentConfig(), cells)
    pairs = {(r.a, r.b): r.mean for r in result.differences if r.metric == "linear_probe"}
    assert pairs == {
        ("gamma=1, kappa=0", "gamma=0, kappa=0"): pytest.approx(0.1),
        ("gamma=1, kappa=1", "gamma=0, kappa=1"): pytest.approx(0.1),
    }


def test_a_grid_runs_keeps_what_is_finished_and_survives_a_failure(small, overrides):
    grid = [*overrides, "experiment=demo", "seed=0,1", "run_dir=grid", "trainer.max_epochs=1"]
    blocked = Path("grid/gamma-1_seed-1")
    blocked.mkdir(parents=True)
    (blocked / "thesis.txt").write_text("years of work")
    first = run_experiment(grid)
    states = {(c.overrides["objective.gamma"], c.overrides["seed"]): c for c in first.cells}
    assert [c.status for c in first.cells].count("finished") == 3
    assert "exists and is no run folder" in str(states[1, 1].error)
    assert not any(c.kept for c in first.cells)
    assert load("grid/gamma-0_seed-1/checkpoints/last.ckpt").config.objective.gamma == 0
    assert {r.n for r in first.table if r.cell == "gamma=0"} == {2}
    assert {r.n for r in first.differences} == {1}

    (blocked / "thesis.txt").unlink()
    second = run_experiment(grid)
    assert [c.kept for c in second.cells] == [True, True, True, False]
    assert {r.n for r in second.differences} == {2}
    found = json.loads(Path("grid/experiment.json").read_text())
    assert [c["status"] for c in found["cells"]] == ["finished"] * 4
    with open("grid/table.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(second.table) + len(second.differences)
    assert Path("grid/table.md").read_text() == markdown(second)


def test_a_grid_needs_a_name_and_known_sides():
    with pytest.raises(ConfigError, match="needs a grid, such as `experiment=demo`"):
        run_experiment(["data=mnist5k"])
    with pytest.raises(ConfigError, match=r"did you mean `objective\.gamma`"):
        run_experiment(["experiment=demo", "objective.gama=0,1"])
    with pytest.raises(ConfigError, match=r"`objective\.gamma` must"):
        run_experiment(["experiment=demo", "objective.gamma=0,-1"])
