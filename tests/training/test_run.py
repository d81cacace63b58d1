"""A run folder: what it holds, how a stopped run goes on, and what is refused."""

import csv
import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.utils.data import ConcatDataset

from levyjepa.data import Images as Pictures
from levyjepa.data import normalise, test_loader
from levyjepa.training import judge, run
from levyjepa.training.checkpoint import CheckpointError, load
from levyjepa.training.module import Diverged, LevyJEPA
from levyjepa.training.run import Interrupted, RunFolderError, train


def weights(run_dir: Path) -> dict:
    return torch.load(run_dir / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]


def interrupted_at(step: int, monkeypatch):
    """Send Ctrl-C in the middle of one step, as a person would."""
    whole = LevyJEPA.training_step

    def stop(self, batch, index):
        if self.global_step == step:
            os.kill(os.getpid(), signal.SIGINT)
        return whole(self, batch, index)

    monkeypatch.setattr(LevyJEPA, "training_step", stop)


@pytest.fixture
def quick(monkeypatch):
    """Leave the evaluation out, where a test is about training."""
    monkeypatch.setattr(run, "_evaluate", lambda *args: None)


def test_a_run_folder_holds_everything(small, digits):
    result = train(small("run_dir=first"))
    assert not result.kept
    names = {path.name for path in Path("first").iterdir()}
    assert {"config.yaml", "metrics.csv", "tensorboard", "checkpoints"} <= names
    assert {"evaluation.json", "gallery.npz"} <= names
    assert result.last.is_file()
    assert result.best is not None
    assert result.best.is_file()
    with open("first/metrics.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    logged = {name for row in rows for name, value in row.items() if value}
    losses = ("lejepa_loss", "inv", "sigreg", "levy", "probe_loss", "lr")
    assert logged == {"epoch", "step", "test/acc", *(f"train/{name}" for name in losses)}
    accuracies = [float(row["test/acc"]) for row in rows if row["test/acc"]]
    assert len(accuracies) == 2
    assert (result.online_last, result.online_best) == (accuracies[-1], max(accuracies))
    assert result.evaluation["linear_probe"]["n"] == 60

    trained = load(result.last)
    hits = 0
    for batch in test_loader(digits.test, trained.config.data):
        embedding = trained.network(normalise(batch.images, trained.mean, trained.std)).embedding
        hits += int((trained.network.probe(embedding).argmax(1) == batch.labels).sum())
    assert hits / 60 == pytest.approx(result.online_last)

    kept = train(small("run_dir=first"))
    assert kept == replace(result, kept=True)


def test_runs_that_differ_in_the_loss_alone_find_their_baselines_once(small, monkeypatch):
    whole, given = judge.evaluate, []

    def watched(*args, baselines=None, **more):
        given.append(baselines is not None)
        return whole(*args, baselines=baselines, **more)

    monkeypatch.setattr(judge, "evaluate", watched)
    known: dict = {}
    first = train(small("run_dir=first", "trainer.max_steps=1"), known)
    short = "trainer.max_steps=1", "objective.gamma=0"
    second = train(small("run_dir=second", *short), known)
    alone = train(small("run_dir=alone", *short))
    assert second.evaluation == alone.evaluation
    assert second.evaluation["representation"] != first.evaluation["representation"]
    train(small("run_dir=other", "seed=1", *short), known)
    assert given == [False, True, False, False]
    assert len(known) == 2


@pytest.mark.parametrize("step", [1, 3, 6])
def test_a_stopped_run_goes_on_exactly(step, small, quick, monkeypatch):
    before = signal.getsignal(signal.SIGINT)
    train(small("run_dir=whole"))
    with monkeypatch.context() as patch:
        interrupted_at(step, patch)
        with pytest.raises(Interrupted, match="goes on from") as stopped:
            train(small("run_dir=parts"))
    assert stopped.value.run_dir == Path("parts")
    held = torch.load("parts/checkpoints/last.ckpt", weights_only=True)
    assert held["global_step"] == step + 1
    train(small("run_dir=parts"))
    whole, parts = weights(Path("whole")), weights(Path("parts"))
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    assert Path("whole/metrics.csv").read_text() == Path("parts/metrics.csv").read_text()
    assert signal.getsignal(signal.SIGINT) is before


def test_the_same_seed_gives_the_same_weights_and_another_gives_others(small, quick):
    short = "trainer.max_steps=2"
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        train(small(short, f"run_dir={name}", f"seed={seed}"))
    a, b, c = (weights(Path(name)) for name in "abc")
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert not all(torch.equal(a[name], c[name]) for name in a)


def test_a_folder_of_other_settings_is_refused(small, quick):
    train(small("run_dir=taken", "trainer.max_steps=1"))
    before = weights(Path("taken"))
    with pytest.raises(RunFolderError, match=r"taken .* `objective.gamma=1.0`, not 0.0"):
        train(small("run_dir=taken", "trainer.max_steps=1", "objective.gamma=0"))
    Path("mine").mkdir()
    Path("mine/thesis.txt").write_text("years of work")
    with pytest.raises(RunFolderError, match="mine exists and is no run folder"):
        train(small("run_dir=mine"))
    assert [path.name for path in Path("mine").iterdir()] == ["thesis.txt"]
    assert all(torch.equal(before[name], after) for name, after in weights(Path("taken")).items())


@pytest.mark.parametrize("step", [0, 5])
def test_a_loss_that_is_not_finite_stops_the_run(step, small, quick, monkeypatch):
    whole = LevyJEPA.training_step

    def poison(self, batch, index):
        if self.global_step == step:
            weight = self.network.patch_projection[-2].weight
            with torch.no_grad():
                weight.fill_(float("nan"))
        return whole(self, batch, index)

    monkeypatch.setattr(LevyJEPA, "training_step", poison)
    left = (
        "there is no checkpoint yet" if step == 0 else "checkpoint is .*bad/checkpoints/last.ckpt"
    )
    with pytest.raises(Diverged, match=f"`train/levy` is not finite at step {step}; .*{left}"):
        train(small("run_dir=bad"))
    if step:
        assert all(value.isfinite().all() for value in weights(Path("bad")).values())


def test_weights_that_are_not_finite_are_never_written(small, quick, monkeypatch):
    def poison(self, *args):
        if self.global_step == 8:
            with torch.no_grad():
                self.network.encoder.embed[1].weight.fill_(float("inf"))

    monkeypatch.setattr(LevyJEPA, "on_train_batch_end", poison)
    with pytest.raises(Diverged, match=r"weights are not finite at step 8; .*last\.ckpt"):
        train(small("run_dir=bad"))
    assert all(value.isfinite().all() for value in weights(Path("bad")).values())


def test_images_without_labels_need_no_test_split(small, digits, monkeypatch):
    unlabelled = replace(digits, classes=(), test=None)
    monkeypatch.setattr(run, "load_source", lambda config: unlabelled)
    result = train(small("run_dir=unlabelled", "trainer.max_epochs=1"))
    assert (result.best, result.online_last) == (None, None)
    assert result.evaluation["labelled"] is False
    assert "linear_probe" not in result.evaluation
    assert result.evaluation["representation"]["effective_rank"] >= 1
    assert load(result.last).network.probe is None


def test_corrupt_images_are_left_out_and_named(small, digits, quick, monkeypatch, caplog, tmp_path):
    torn = tmp_path / "torn.png"
    torn.write_bytes(b"no picture")
    many = ConcatDataset([digits.train, digits.test, Pictures([str(torn)], [0])])
    monkeypatch.setattr(run, "load_source", lambda config: replace(digits, train=many))
    train(small("run_dir=torn", "data.batch_size=39", "trainer.max_epochs=8"))
    assert "Left out 1 corrupt training images" in caplog.text
    assert "torn.png" in caplog.text


def test_a_missing_folder_leaves_no_run_folder(monkeypatch, tmp_path):
    from levyjepa.conf.compose import compose

    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        train(compose(["data=folder", "data.path=nowhere", "run_dir=first"]))
    assert not Path("first").exists()


def test_a_checkpoint_of_something_else_is_refused(small, quick):
    result = train(small("run_dir=good", "trainer.max_steps=1"))
    with pytest.raises(
        CheckpointError, match=r"must be a run folder, .* got nowhere, which is not there"
    ):
        load("nowhere")
    Path("text.ckpt").write_text("no checkpoint")
    with pytest.raises(CheckpointError, match=r"text\.ckpt is no checkpoint"):
        load("text.ckpt")
    torch.save({"state_dict": {}}, "other.ckpt")
    with pytest.raises(CheckpointError, match=r"other\.ckpt is no checkpoint of a levyjepa run"):
        load("other.ckpt")
    held = torch.load(result.last, weights_only=True)
    held["hyper_parameters"]["config"]["model"]["embedding_dim"] = 64
    torch.save(held, "bent.ckpt")
    with pytest.raises(CheckpointError, match=r"bent\.ckpt holds weights of another architecture"):
        load("bent.ckpt")
