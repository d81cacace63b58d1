"""A run folder: what it holds, how a stopped run goes on, and what is refused."""

import os
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import ConcatDataset

from levyjepa.data import Images, normalize, test_loader
from levyjepa.training import RunFolder, RunFolderError, load, train
from levyjepa.training.loading import CheckpointError
from levyjepa.training.module import Diverged, LevyJEPA
from levyjepa.training.trainer import Interrupted


def weights(path: str) -> dict:
    return torch.load(RunFolder(path).last_checkpoint, weights_only=True)["state_dict"]


def interrupted_at(step: int, monkeypatch):
    """Send Ctrl-C in the middle of one step, as a person would."""
    whole = LevyJEPA.training_step

    def stop(self, batch, index):
        if self.global_step == step:
            os.kill(os.getpid(), signal.SIGINT)
        return whole(self, batch, index)

    monkeypatch.setattr(LevyJEPA, "training_step", stop)


def test_a_run_returns_its_folder_scores_and_encoder(small, digits):
    words = "run_dir=first", "trainer.evaluate=true"
    run = train(small(*words), source=digits)
    assert not run.existed
    names = {path.name for path in run.folder.path.iterdir()}
    assert {"config.yaml", "metrics.csv", "tensorboard", "checkpoints", "evaluation.json"} <= names
    assert run.folder.last_checkpoint.is_file()
    assert run.folder.best_checkpoint.is_file()
    metrics = run.folder.metrics()
    losses = ("lejepa_loss", "inv", "sigreg", "levy", "probe_loss", "lr")
    assert set(metrics) == {"epoch", "step", "test/acc", *(f"train/{name}" for name in losses)}
    accuracies = metrics["test/acc"].dropna().tolist()
    scores = {score.key: score for score in run.scores if score.subject == "trained"}
    assert scores["online_probe/last"].value == accuracies[-1]
    assert scores["online_probe/best"].value == max(accuracies)
    assert scores["linear_probe/accuracy"].n == 60
    assert not run.evaluation.failures

    trained, hits = run.encoder, 0
    for batch in test_loader(digits.test, trained.config.data):
        embedding = trained.network(normalize(batch.images, trained.mean, trained.std)).embedding
        hits += int((trained.network.probe(embedding).argmax(1) == batch.labels).sum())
    assert hits / 60 == pytest.approx(accuracies[-1])

    again = train(small(*words), source=digits)
    assert again.existed
    assert again.scores == run.scores


def test_an_encoder_takes_images_as_people_have_them(small, digits, tmp_path):
    trained = train(small("trainer.max_steps=1", "run_dir=first"), source=digits).encoder
    image = digits.train[0][0].resize((40, 50))
    image.save(tmp_path / "a.png")
    arrays = np.asarray(image)
    one = trained.embed(image)
    assert one.shape == (1, 128)
    for other in (arrays, str(tmp_path / "a.png"), torch.tensor(arrays).permute(2, 0, 1)[None]):
        torch.testing.assert_close(trained.embed(other), one)
    assert trained.embed([image, image]).shape == (2, 128)
    assert trained.tokens(trained.preprocess([image])).shape == (1, 7, 7, 48)
    assert trained.field(image).shape == (1, 7, 7, 16)
    with pytest.raises(ValueError, match="`images` must be uint8"):
        trained.embed(torch.zeros(1, 3, 8, 8, dtype=torch.int32))
    with pytest.raises(ValueError, match="`image` must be a file, got nowhere"):
        trained.embed("nowhere.png")


def test_runs_that_differ_in_the_loss_alone_share_baselines(small, digits, tmp_path):
    cache, short = tmp_path / "baselines.json", ("trainer.max_steps=1", "trainer.evaluate=true")

    def baselines(name: str, *words: str) -> tuple[list, int]:
        before = cache.stat().st_size if cache.exists() else 0
        run = train(small(f"run_dir={name}", *short, *words), source=digits, baselines=cache)
        others = [score for score in run.scores if score.subject != "trained"]
        return others, cache.stat().st_size - before

    first, written = baselines("first")
    assert first
    assert written > 0
    assert baselines("second", "objective.gamma=0") == (first, 0)
    assert baselines("third", "seed=1")[1] > 0


@pytest.mark.parametrize("step", [1, 3, 6])
def test_a_stopped_run_goes_on_exactly(step, small, digits, monkeypatch):
    before = signal.getsignal(signal.SIGINT)
    train(small("run_dir=whole"), source=digits)
    with monkeypatch.context() as patch:
        interrupted_at(step, patch)
        with pytest.raises(Interrupted, match="continues from") as stopped:
            train(small("run_dir=parts"), source=digits)
    assert stopped.value.run_dir == Path("parts")
    content = torch.load(RunFolder("parts").last_checkpoint, weights_only=True)
    assert content["global_step"] == step + 1
    train(small("run_dir=parts"), source=digits)
    whole, parts = weights("whole"), weights("parts")
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    assert Path("whole/metrics.csv").read_text() == Path("parts/metrics.csv").read_text()
    assert signal.getsignal(signal.SIGINT) is before


def test_the_same_seed_gives_the_same_weights_and_another_gives_others(small, digits):
    short = "trainer.max_steps=2"
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        train(small(short, f"run_dir={name}", f"seed={seed}"), source=digits)
    a, b, c = (weights(name) for name in "abc")
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert not all(torch.equal(a[name], c[name]) for name in a)


def test_a_folder_of_other_settings_is_refused(small, digits):
    train(small("run_dir=taken", "trainer.max_steps=1"), source=digits)
    before = weights("taken")
    with pytest.raises(RunFolderError, match=r"taken .* `objective.gamma=1.0`, not 0.0"):
        train(small("run_dir=taken", "trainer.max_steps=1", "objective.gamma=0"), source=digits)
    Path("mine").mkdir()
    Path("mine/thesis.txt").write_text("years of work")
    with pytest.raises(RunFolderError, match="mine exists and is not a run folder"):
        train(small("run_dir=mine"), source=digits)
    assert [path.name for path in Path("mine").iterdir()] == ["thesis.txt"]
    assert all(torch.equal(before[name], after) for name, after in weights("taken").items())


@pytest.mark.parametrize("step", [0, 5])
def test_a_loss_that_is_not_finite_stops_the_run(step, small, digits, monkeypatch):
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
        train(small("run_dir=bad"), source=digits)
    if step:
        assert all(value.isfinite().all() for value in weights("bad").values())


def test_weights_that_are_not_finite_are_never_written(small, digits, monkeypatch):
    def poison(self, *args):
        if self.global_step == 8:
            with torch.no_grad():
                self.network.encoder.embed[1].weight.fill_(float("inf"))

    monkeypatch.setattr(LevyJEPA, "on_train_batch_end", poison)
    with pytest.raises(Diverged, match=r"weights are not finite at step 8; .*last\.ckpt"):
        train(small("run_dir=bad"), source=digits)
    assert all(value.isfinite().all() for value in weights("bad").values())


def test_images_without_labels_need_no_test_split(small, unlabelled):
    words = "run_dir=unlabelled", "trainer.max_epochs=1", "trainer.evaluate=true"
    run = train(small(*words), source=unlabelled)
    tasks = {score.task for score in run.scores}
    assert "health" in tasks
    assert not tasks & {"linear_probe", "knn", "online_probe"}
    assert not run.folder.best_checkpoint.exists()
    assert run.encoder.network.probe is None


def test_corrupt_images_are_left_out_and_named(small, digits, caplog, tmp_path):
    torn = tmp_path / "torn.png"
    torn.write_bytes(b"not an image")
    many = ConcatDataset([digits.train, digits.test, Images([str(torn)], [0])])
    words = "run_dir=torn", "data.batch_size=39", "trainer.max_epochs=8"
    train(small(*words), source=replace(digits, train=many))
    assert "Left out 1 corrupt training images" in caplog.text
    assert "torn.png" in caplog.text


def test_a_missing_folder_leaves_no_run_folder(small):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        train(["data=folder", "data.path=nowhere", "run_dir=first"])
    assert not Path("first").exists()


def test_two_runs_without_a_folder_get_two(small, digits):
    runs = [train(small("trainer.max_steps=1"), source=digits) for _ in range(2)]
    assert runs[0].folder.path != runs[1].folder.path
    assert all(run.folder.exists for run in runs)


def test_a_checkpoint_of_something_else_is_refused(small, digits):
    run = train(small("run_dir=good", "trainer.max_steps=1"), source=digits)
    with pytest.raises(CheckpointError, match=r"run folder or a checkpoint, .* got nowhere"):
        load("nowhere")
    Path("text.ckpt").write_text("no checkpoint")
    with pytest.raises(CheckpointError, match=r"text\.ckpt is not a checkpoint"):
        load("text.ckpt")
    torch.save({"state_dict": {}}, "other.ckpt")
    with pytest.raises(CheckpointError, match=r"other\.ckpt is not a checkpoint of a levyjepa run"):
        load("other.ckpt")
    content = torch.load(run.folder.last_checkpoint, weights_only=True)
    content["hyper_parameters"]["config"]["model"]["embedding_dim"] = 64
    torch.save(content, "bent.ckpt")
    with pytest.raises(CheckpointError, match=r"bent\.ckpt holds weights of another architecture"):
        load("bent.ckpt")


def test_an_older_checkpoint_loads(small, digits):
    run = train(small("run_dir=new", "trainer.max_steps=1"), source=digits)
    content = torch.load(run.folder.last_checkpoint, weights_only=True)
    objective = content["hyper_parameters"]["config"]["objective"]
    objective["pace"] = objective.pop("time_step")
    torch.save(content, "old.ckpt")
    image = digits.test[0][0]
    torch.testing.assert_close(load("old.ckpt").embed(image), run.encoder.embed(image))


def test_a_module_of_ones_own_is_trained_and_loaded_with_it(small, digits):
    from levyjepa.models import Encoder, Encoding

    class Flat(Encoder):
        def __init__(self) -> None:
            super().__init__()
            self.patch_size, self.width, self.embedding_dim = (4, 4), 8, 128
            self.lift, self.embed = torch.nn.Conv2d(3, 8, 4, 4), torch.nn.Linear(8, 128)

        def forward(self, images):
            tokens = self.lift(images).movedim(1, -1)
            return Encoding(self.embed(tokens.mean((1, 2))), tokens)

    run = train(
        small("run_dir=own", "trainer.max_steps=2", "model.pooling=mean"),
        source=digits,
        encoder=Flat(),
    )
    with pytest.raises(CheckpointError, match="must be passed to `load`"):
        load("own")
    trained = load("own", encoder=Flat())
    assert trained.tokens(digits.test[0][0]).shape == (1, 7, 7, 8)
    assert run.folder.exists
