"""A grid of runs: which cells run, what the table says, and what happens to failures."""

import csv
import json
from pathlib import Path

import pytest
from scipy import stats

from levyjepa.conf.compose import ConfigError
from levyjepa.conf.schema import ExperimentConfig
from levyjepa.training.checkpoint import load
from levyjepa.training.experiment import Cell, markdown, run_experiment, summarise
from levyjepa.training.run import RunFolderError


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


def test_the_effect_size_is_the_mean_difference_over_its_deviation():
    cells = [cell(0, 0, 0.5), cell(0, 1, 0.5), cell(1, 0, 0.51), cell(1, 1, 0.53)]
    result = summarise(Path("x"), ExperimentConfig(), cells)
    paired = next(r for r in result.differences if r.metric == "linear_probe")
    assert paired.d_z == pytest.approx(2**0.5)  # differences .01 and .03
    assert "d_z +1.41" in markdown(result)


def test_pairs_need_the_same_seed_and_one_seed_has_no_interval():
    cells = [cell(0, 0, 0.9), cell(0, 1, 0.8), cell(1, 0, None), cell(1, 1, 0.9)]
    result = summarise(Path("x"), ExperimentConfig(), cells)
    (paired,) = (r for r in result.differences if r.metric == "linear_probe")
    assert (paired.n, paired.mean) == (1, pytest.approx(0.1))
    assert (paired.low, paired.high) == (None, None)
    assert "| gamma=1 | 1 | 90.00 % | 90.00 % |" in markdown(result)
    assert "n = 1: no interval" in markdown(result)
    assert "runs/1-0 failed" in markdown(result)


def test_every_side_is_compared_within_the_others():
    more = "objective.kappa"
    cells = [cell(g, 0, 0.5 + 0.1 * g + 0.2 * k, **{more: k}) for g in (0, 1) for k in (1, 0)]
    result = summarise(Path("x"), ExperimentConfig(), cells)
    pairs = {(r.side, r.a, r.b): r.mean for r in result.differences if r.metric == "linear_probe"}
    assert pairs == {
        ("gamma", "gamma=1, kappa=1", "gamma=0, kappa=1"): pytest.approx(0.1),
        ("gamma", "gamma=1, kappa=0", "gamma=0, kappa=0"): pytest.approx(0.1),
        ("kappa", "gamma=0, kappa=0", "gamma=0, kappa=1"): pytest.approx(-0.2),
        ("kappa", "gamma=1, kappa=0", "gamma=1, kappa=1"): pytest.approx(-0.2),
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


def test_laws_and_stencils_may_be_sides_of_a_grid(small, overrides):
    laws = "objective.law=Brownian(sigma=1.0),Brownian(2.0) + CompoundPoisson(1, LaplaceJumps(1))"
    stencils = "objective.stencils=[box(2)],[box(2), line(2, axis=0)]"
    few = ["objective.gamma=1", "seed=0", "trainer.max_steps=1", "trainer.max_epochs=1"]
    given = [*overrides, "experiment=demo", "run_dir=laws", *few, laws, stencils]
    result = run_experiment(given)
    assert [c.status for c in result.cells] == ["finished"] * 4
    assert len({c.run_dir for c in result.cells}) == 4
    held = [load(f"{c.run_dir}/checkpoints/last.ckpt").config.objective for c in result.cells]
    assert [len(o.stencils) for o in held] == [1, 2, 1, 2]
    assert [o.law.split("(")[1][:3] for o in held] == ["sig", "sig", "2.0", "2.0"]
    assert {r.side for r in result.differences} == {"law", "stencils"}


def test_a_folder_of_another_experiment_is_refused(small, overrides):
    given = [*overrides, "experiment=demo", "run_dir=grid", "objective.gamma=0", "seed=0"]
    few = ["trainer.max_steps=1", "trainer.max_epochs=1"]
    run_experiment([*given, *few])
    table = Path("grid/table.md").read_text()
    with pytest.raises(RunFolderError, match=r"gamma-0_seed-0 has `objective.kappa=1.0`, not 0.0"):
        run_experiment([*given, *few, "objective.kappa=0", "seed=1,2"])
    assert Path("grid/table.md").read_text() == table
    assert not Path("grid/gamma-0_seed-1").exists()
    assert run_experiment([*given, *few]).cells[0].kept


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("seed=0,1,0", "every cell once; .*seed=0 and in .*seed=0"),
        ("objective.gamma=0,0.0", "gamma=0, seed=0 and in objective.gamma=0.0, seed=0"),
        ("experiment.sweep={objective.gamma:[]}", "`objective.gamma` must have at least one"),
    ],
)
def test_a_cell_stands_once_in_a_grid_and_no_side_is_empty(given, message):
    with pytest.raises(ConfigError, match=message):
        run_experiment(["experiment=demo", given])


def test_a_grid_needs_a_name_and_known_sides():
    with pytest.raises(ConfigError, match="needs a grid, such as `experiment=demo`"):
        run_experiment(["data=mnist5k"])
    with pytest.raises(ConfigError, match=r"did you mean `objective\.gamma`"):
        run_experiment(["experiment=demo", "objective.gama=0,1"])
    with pytest.raises(ConfigError, match=r"`objective\.gamma` must"):
        run_experiment(["experiment=demo", "objective.gamma=0,-1"])
