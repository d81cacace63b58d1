"""A grid of runs: which runs there are, what is written, and what happens to failures."""

import json
from pathlib import Path

import pandas as pd
import pytest

from levyjepa.settings import ConfigError
from levyjepa.training import RunFolderError, load
from levyjepa.training.experiment import plan, run_experiment

QUICK = (
    "data.limit=48",
    "data.batch_size=24",
    "model.overrides.depth=1",
    "model.overrides.embed_dim=48",
    "model.projection_hidden=32",
    "model.patch_projection_hidden=32",
    "trainer.max_epochs=1",
    "trainer.progress=false",
    "trainer.accelerator=cpu",
    "trainer.evaluate=false",
)


@pytest.fixture
def here(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)


def grid(*words: str) -> list[str]:
    return ["experiment=cifar10", "data=mnist5k", *QUICK, *words]


def test_a_grid_runs_finished_runs_stay_and_a_failure_stops_nothing(here):
    words = grid("objective.kappa=1", "seed=0,1", "run_dir=grid", "trainer.evaluate=true")
    blocked = Path("grid/gamma-1_kappa-1_seed-1")
    blocked.mkdir(parents=True)
    (blocked / "thesis.txt").write_text("years of work")
    first = run_experiment(words)
    assert [run.error is None for run in first.runs] == [True, True, True, False]
    assert "exists and is not a run folder" in str(first.runs[-1].error)
    assert not any(run.existed for run in first.runs)
    assert load("grid/gamma-0_kappa-1_seed-1").config.objective.gamma == 0

    (blocked / "thesis.txt").unlink()
    second = run_experiment(words)
    assert [run.existed for run in second.runs] == [True, True, True, False]
    assert len(second.finished) == 4
    content = json.loads(Path("grid/experiment.json").read_text())
    assert [run["error"] for run in content["runs"]] == [None] * 4
    table = pd.read_csv("grid/table.csv")
    assert len(table) == len(second.comparison())
    assert "Linear probe" in Path("grid/table.md").read_text()


def test_runs_side_by_side_are_the_runs_one_by_one(here):
    import torch

    words = grid("objective.kappa=1", "seed=0")
    for name, jobs in (("one", 1), ("two", 2)):
        assert len(run_experiment([*words, f"run_dir={name}"], jobs=jobs).finished) == 2
    for run in ("gamma-0_kappa-1_seed-0", "gamma-1_kappa-1_seed-0"):
        a, b = (load(f"{name}/{run}").network.state_dict() for name in ("one", "two"))
        assert all(torch.equal(a[key], b[key]) for key in a)


def test_a_grid_runs_as_jobs_of_submitit(here):
    pytest.importorskip("submitit")
    words = grid("objective.kappa=1", "objective.gamma=0", "seed=0", "run_dir=jobs")
    result = run_experiment(words, slurm={"cluster": "local", "timeout_min": 5})
    assert [run.error for run in result.runs] == [None]
    assert result.finished[0].last_checkpoint.is_file()


def test_whole_pairs_come_first():
    runs = plan(["experiment=camvid", "seed=0,1", "objective.kappa=1"]).configs
    assert [(c.seed, c.objective.gamma) for c in runs] == [(0, 0), (0, 1), (1, 0), (1, 1)]


def test_laws_and_stencils_may_vary_in_a_grid():
    laws = "objective.law=Brownian(sigma=1.0),Brownian(2.0) + CompoundPoisson(1, LaplaceJumps(1))"
    stencils = "objective.stencils=[box(2)],[box(2), line(2, axis=0)]"
    found = plan(grid("objective.gamma=1", "objective.kappa=1", "seed=0", laws, stencils))
    assert [len(c.objective.stencils) for c in found.configs] == [1, 2, 1, 2]
    assert [c.objective.law[:12] for c in found.configs] == ["Brownian(sig"] * 2 + [
        "Brownian(2.0"
    ] * 2


def test_a_folder_of_another_experiment_is_refused(here):
    words = grid("objective.gamma=0", "objective.kappa=1", "seed=0", "run_dir=grid")
    run_experiment(words)
    with pytest.raises(RunFolderError, match=r"gamma-0_kappa-1_seed-0 has `objective.lamb=0.02`"):
        run_experiment([*words, "objective.lamb=0.5"])
    assert run_experiment(words).runs[0].error is None


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["experiment=demo", "seed=0,1,0"], "the same settings twice: .*seed=0 and .*seed=0"),
        (["experiment=demo", "objective.gamma=0,0.0"], "the same settings twice"),
        (["experiment=demo", "experiment.sweep={objective.gamma: []}"], "at least one value"),
        (["data=mnist5k"], "needs a grid, such as `experiment=demo`"),
        (["experiment=demo", "objective.gama=0,1"], r"did you mean `objective\.gamma`"),
        (["experiment=demo", "objective.gamma=0,-1"], r"`objective\.gamma` must be at least 0"),
    ],
)
def test_a_wrong_grid_is_named_before_anything_runs(words, message):
    with pytest.raises(ConfigError, match=message):
        plan(words)
