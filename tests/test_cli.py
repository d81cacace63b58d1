"""Commands: what they write, what they say, and how they end."""

import json
import os
import re
import signal
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from sklearn.datasets import load_sample_image

from levyjepa.cli import COMMANDS, main
from levyjepa.data import DataSettings, open_source
from levyjepa.training import RunFolder, load

QUICK = (
    "data=folder",
    "data.path=images",
    "data.image_size=28",
    "data.batch_size=24",
    "data.workers=0",
    "model=tiny",
    "views=digits",
    "model.overrides.depth=1",
    "model.overrides.embed_dim=48",
    "trainer.max_epochs=1",
    "trainer.progress=false",
    "trainer.accelerator=cpu",
)


@pytest.fixture(scope="module")
def workplace(tmp_path_factory) -> Path:
    """A folder with 120 real digits as PNG files in class folders, and a run of four steps."""
    place = tmp_path_factory.mktemp("place")
    source = open_source(DataSettings())
    for index in range(0, 4000, 34):
        image, label = source.train[index]
        path = place / "images" / str(label) / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path)
    before = Path.cwd()
    os.chdir(place)
    try:
        assert main(["train", *QUICK, "run_dir=first"]) == 0
    finally:
        os.chdir(before)
    return place


@pytest.fixture
def here(workplace, monkeypatch) -> Path:
    monkeypatch.chdir(workplace)
    return workplace


def test_no_command_shows_help(capsys):
    assert main([]) == 0
    said = capsys.readouterr().out
    assert "evaluate" in said
    assert "demo|exp1|exp2" in "".join(said.split())


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself_with_an_example(command, capsys):
    with pytest.raises(SystemExit) as done:
        main([command, "--help"])
    assert done.value.code == 0
    assert f"Example: levyjepa {command} " in " ".join(capsys.readouterr().out.split())


def test_settings_can_be_read_before_a_run(capsys):
    assert main(["train", "--settings", "objective.gamma=0.5"]) == 0
    said = capsys.readouterr().out
    assert "gamma: 0.5  # Weight of the prior" in said
    assert re.search(r"limit: null  # .*each split", said)


def test_a_run_leaves_scores_and_a_report(here, capsys):
    run = RunFolder("first")
    assert run.report.stat().st_size > 10_000
    assert run.last_checkpoint.is_file()
    stamp = run.metrics_file.stat().st_mtime_ns
    assert main(["train", *QUICK, "run_dir=first"]) == 0
    said = capsys.readouterr()
    assert "finished before" in said.err
    assert "Linear probe" in said.out
    assert run.metrics_file.stat().st_mtime_ns == stamp


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "objective.gama=1"], "Unknown key `objective.gama`; did you mean"),
        (["train", "data=folder", "data.path=nowhere"], "nowhere"),
        (["train", *QUICK, "run_dir=first", "seed=1"], "`seed=0`, not 1"),
        (["train", *QUICK, "run_dir=first", "trainer.max_epochs=9"], "length of a run is fixed"),
        (["train", "data=parquet", "data.path=first/config.yaml"], "must be a folder"),
        (["report", "nowhere"], "nowhere"),
        (["report", "first", "nowhere"], "nowhere"),
        (["report", "images"], "holds no run folder"),
        (["experiment"], "needs a grid"),
        (["evaluate", "nowhere"], "must be a run folder or a checkpoint, a file with"),
        (
            ["evaluate", "images"],
            "got images, which has neither checkpoints/last.ckpt nor",
        ),
        (["evaluate", "images/0/0.png"], "is not a checkpoint"),
        (["evaluate", "first", "--task", "linear_prob"], "did you mean 'linear_probe'"),
        (
            ["evaluate", "first", "--task", "segmentation"],
            "needs masks, which images does not have",
        ),
        (["jumps", "first", "nowhere.png"], "`image` must be a file"),
        (["jumps", "first", "first/config.yaml"], "must be an image"),
        (["embed", "first", "nowhere.png"], "must be files, but nowhere.png does not exist"),
        (["embed", "first", "first/config.yaml"], "`images` must be images, got first/config"),
        (["embed", "first", "a.png", "data=mnist5k"], "Give either images or a data set"),
        (["export", "first", "encoder.onnx"], "must end in .pt2, got encoder.onnx"),
        (["train", "--plugin", "no_such_module"], "The plugin no_such_module failed to import"),
    ],
)
def test_an_error_is_one_line(arguments, message, here, capsys):
    assert main(arguments) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"levyjepa {arguments[0]}: ")
    assert message in said
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", *QUICK, "run_dir=new", "data.batch_size=2000"], "must be at most"),
        (["train", *QUICK, "run_dir=new", "model.name=vit_foo"], "vit_foo"),
        (["jumps", "first", "nowhere.png", "--out", "new"], "`image` must be a file"),
    ],
)
def test_a_command_that_can_not_begin_leaves_no_folder(arguments, message, here, capsys):
    assert main(arguments) == 2
    assert message in capsys.readouterr().err
    assert not Path("new").exists()


@pytest.mark.parametrize("words", [["--gamma=0"], ["--gamma", "0"], ["--objective.gamma=0"]])
def test_a_setting_with_dashes_is_shown_without(words, capsys):
    with pytest.raises(SystemExit) as done:
        main(["train", *words])
    assert done.value.code == 2
    assert "a setting has no dashes: objective.gamma=" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["trian", "data=mnist5k"], "did you mean `levyjepa train`?"),
        (["nothing"], "Commands: train, experiment, evaluate"),
        (["--settings"], "a command comes first, such as `levyjepa train --settings`"),
        (["data=mnist5k"], "a command comes first, such as `levyjepa train data=mnist5k`"),
    ],
)
def test_an_unknown_command_meets_the_nearest(words, hint, capsys):
    with pytest.raises(SystemExit) as done:
        main(words)
    assert done.value.code == 2
    assert hint in capsys.readouterr().err


def test_a_traceback_is_shown_on_request():
    with pytest.raises(ValueError, match="objective"):
        main(["train", "objective.gama=1", "--debug"])


def test_ctrl_c_says_how_to_continue(here, monkeypatch, capsys):
    from levyjepa.training.module import LevyJEPA

    whole = LevyJEPA.training_step

    def stop(self, batch, index):
        os.kill(os.getpid(), signal.SIGINT)
        return whole(self, batch, index)

    later = "trainer.evaluate=false"
    with monkeypatch.context() as patch:
        patch.setattr(LevyJEPA, "training_step", stop)
        assert main(["train", *QUICK, later, "run_dir=stopped"]) == 130
    said = capsys.readouterr().err
    assert "To continue: levyjepa train data=folder" in said
    assert said.rstrip().endswith("run_dir=stopped")
    run = RunFolder("stopped")
    assert run.last_checkpoint.is_file()
    assert main(["train", *QUICK, later, "run_dir=stopped"]) == 0
    assert "the same command with trainer.evaluate=true" in capsys.readouterr().err
    assert run.report.is_file()
    metrics = run.metrics_file.read_text()
    assert not run.finished
    assert main(["train", *QUICK, "run_dir=stopped"]) == 0
    assert run.finished
    assert run.metrics_file.read_text() == metrics


def test_evaluation_of_own_data_replaces_scores_and_of_other_data_does_not(here, capsys):
    run = RunFolder("first")
    before = run.evaluation()
    assert main(["evaluate", "first", "--task", "knn", "data.limit=60"]) == 0
    assert "written: first/evaluation-images.json" in capsys.readouterr().out
    assert {score.task for score in run.evaluation("images").scores} == {"knn"}
    assert run.evaluation().scores == before.scores
    assert main(["evaluate", "first", "--task", "knn"]) == 0
    assert "written: first/evaluation.json" in capsys.readouterr().out
    after = {(s.key, s.subject): s.value for s in run.evaluation().scores}
    assert after == {(s.key, s.subject): s.value for s in before.scores}


def test_an_older_evaluation_is_renewed(here, capsys):
    run = RunFolder("stopped")
    text = run.evaluation_file.read_text()
    run.evaluation_file.write_text(json.dumps({"linear_probe": {"accuracy": 0.5}}))
    assert main(["report", "stopped", "first", "--out", "old.html"]) in (0, 2)
    assert "levyjepa evaluate stopped" in capsys.readouterr().err + Path("old.html").read_text()
    assert main(["evaluate", "stopped"]) == 0
    assert json.loads(run.evaluation_file.read_text())["format"] == json.loads(text)["format"]


def test_jumps_are_drawn_over_images_of_any_shape(here, capsys):
    flower = load_sample_image("flower.jpg")
    Image.fromarray(flower[:300]).save("flower.jpg")
    assert main(["jumps", "first", "flower.jpg", "--out", "drawn"]) == 0
    probability = np.load("drawn/flower.npy")
    assert probability.shape == (6, 14)
    assert ((probability >= 0) & (probability <= 1)).all()
    assert Image.open("drawn/flower.png").width > 500


def test_images_and_data_sets_are_embedded(here, capsys):
    paths = sorted(Path("images/3").glob("*.png"))[:3]
    assert main(["embed", "first", *map(str, paths), "--out", "few"]) == 0
    assert main(["embed", "first", "--out", "all", "--tokens"]) == 0
    few, every = (dict(np.load(f"{name}/embeddings.npz")) for name in ("few", "all"))
    assert set(few) == {"embeddings", "names"}
    assert few["names"].tolist() == list(map(str, paths))
    rows = [every["names"].tolist().index(str(path)) for path in paths]
    np.testing.assert_allclose(few["embeddings"], every["embeddings"][rows], atol=1e-5)
    assert (every["classes"][every["labels"][rows]] == "3").all()
    assert [(every["splits"] == split).sum() for split in ("train", "test")] == [98, 20]
    assert every["tokens"].shape == (118, 7, 7, 48)
    assert "embeddings (118, 128)" in capsys.readouterr().out


def test_an_exported_encoder_gives_the_embeddings_of_the_run(here):
    assert main(["export", "first", "encoder.pt2"]) == 0
    path = sorted(Path("images/3").glob("*.png"))[0]
    pixels = np.asarray(Image.open(path).convert("RGB")).transpose(2, 0, 1) / 255
    images = torch.tensor(pixels, dtype=torch.float32).expand(5, -1, -1, -1)
    embedding, tokens = torch.export.load("encoder.pt2").module()(images)
    assert tokens.shape == (5, 7, 7, 48)
    assert main(["embed", "first", str(path), "--out", "one"]) == 0
    expected = np.load("one/embeddings.npz")["embeddings"]
    np.testing.assert_allclose(embedding.numpy(), expected.repeat(5, 0), atol=1e-5)


def test_a_model_is_diagnosed(here, capsys):
    words = ["first", "--images", "16", "--layers", "1", "run_dir=diagnosed"]
    assert main(["diagnose", *words]) == 0
    said = capsys.readouterr().out
    assert "report: diagnosed/" in said
    assert any(path.suffix == ".json" for path in Path("diagnosed").iterdir())


@pytest.fixture
def anybodys(here) -> str:
    """A checkpoint as a framework for self-supervised learning writes it."""
    torch.manual_seed(0)
    vit = timm.create_model("vit_tiny_patch16_224", img_size=32, patch_size=8, depth=1)
    state = {f"student_backbone.vit.{key}": value for key, value in vit.state_dict().items()}
    torch.save({"state_dict": state | {"head.weight": torch.zeros(2)}, "epoch": 1}, "theirs.ckpt")
    return "theirs.ckpt"


def test_anybodys_weights_are_taken_wherever_a_run_is(anybodys, capsys, caplog):
    data = ["data=folder", "data.path=images", "data.workers=0"]
    evaluate = ["evaluate", anybodys, *data, "--task", "knn"]
    assert main(evaluate) == 0
    assert "under 'state_dict.student_backbone.vit.'" in caplog.text
    assert "Images are 32 pixels wide; the embedding is the class token." in caplog.text
    assert "report: runs/theirs/report.html" in capsys.readouterr().out
    scores = RunFolder("runs/theirs").evaluation().scores
    assert {score.subject for score in scores} == {"trained", "untrained", "pixels"}
    assert main([*evaluate, "data.limit=60"]) == 0
    assert "written: runs/theirs/evaluation-images.json" in capsys.readouterr().out
    assert main([*evaluate, "model.pooling=mean"]) == 2
    assert "`model.pooling=own`, not mean" in capsys.readouterr().err
    path = str(next(Path("images/3").glob("*.png")))
    assert main(["embed", anybodys, path, "--out", "theirs"]) == 0
    assert np.load("theirs/embeddings.npz")["embeddings"].shape == (1, 192)
    assert main(["jumps", anybodys, path, "data.image_size=64", "--out", "theirs"]) == 0
    assert np.load(next(Path("theirs").glob("*.npy"))).shape == (7, 7)
    assert main(["diagnose", anybodys, *data, "--images", "16", "--layers", "1"]) == 0
    assert "report: runs/diagnosis-theirs/" in capsys.readouterr().out
    assert main(["embed", anybodys]) == 2
    assert "`data` must be given" in capsys.readouterr().err


@pytest.mark.parametrize("start", ["theirs.ckpt", "first"])
def test_training_starts_from_weights_and_needs_them_no_more(start, anybodys, caplog):
    words = [word for word in QUICK if not word.startswith("model")]
    words += [f"model.weights={start}", "trainer.max_steps=1", "trainer.evaluate=false"]
    size = 28 if start == "first" else 32
    words += [f"run_dir=from_{start}", f"data.image_size={size}", "optimizer.lr=1e-9"]
    assert main(["train", *words]) == 0
    assert f"Starts from {start}" in caplog.text
    Path("theirs.ckpt").unlink()
    trained, image = load(f"from_{start}"), torch.zeros(1, 3, size, size, dtype=torch.uint8)
    if start == "first":
        torch.testing.assert_close(trained.embed(image), load("first").embed(image))
        assert trained.mean == load("first").mean
    else:
        assert len(trained.encoder.vit.blocks) == 1
        assert trained.mean[0] == 0.485
    untrained = trained.network.untrained(1).encoder.vit.patch_embed.proj.weight
    assert not torch.allclose(untrained, trained.encoder.vit.patch_embed.proj.weight)


def test_a_name_gives_random_weights_unless_they_are_fetched(here, monkeypatch, capsys, caplog):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    path = str(next(Path("images/3").glob("*.png")))
    arguments = ["embed", "vit_tiny_patch16_224", path, "data.image_size=32", "--out", "named"]
    assert main(arguments) == 0
    assert "random weights; --pretrained fetches timm's" in caplog.text
    assert main([*arguments, "--pretrained"]) == 2
    assert "weights of vit_tiny_patch16_224 can't be fetched" in capsys.readouterr().err


def test_events_of_a_folder_of_pictures(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for number, name in enumerate(["flower.jpg", "china.jpg"]):
        picture = Image.fromarray(load_sample_image(name)).resize((64, 48))
        for frame in range(20 * number, 20 * number + 20):
            Path("film").mkdir(exist_ok=True)
            picture.save(f"film/{frame:02}.png")
    assert main(["events", "film", "--rate", "30"]) == 0
    said = capsys.readouterr()
    assert said.out.startswith("frame 20, 0.667 s: a shot begins")
    content = json.loads(Path("runs/film/events.json").read_text("utf-8"))
    assert [shot["end_time"] for shot in content["shots"]] == [0.666667, 1.333333]
    assert [event["time"] for event in content["events"]] == [0.666667]
    assert main(["events", "film"]) == 2
    assert "runs/film exists" in capsys.readouterr().err
    assert main(["events", "film", "--rate", "30", "run_dir=runs/film"]) == 0
    assert main(["events", "no", "run_dir=other"]) == 2
    assert not Path("other").exists()


def test_an_experiment_is_compared_and_a_failed_run_shows(here, capsys):
    grid = ["experiment", "experiment=demo", *QUICK, "trainer.max_steps=2", "run_dir=grid"]
    alone = ["objective.gamma=0,1", "seed=0"]
    assert main([*grid, *alone]) == 0
    assert "Linear probe" in capsys.readouterr().out
    assert (here / "grid/report.html").is_file()
    assert RunFolder("grid/gamma-1_seed-0").report.is_file()
    assert main(["report", "grid"]) == 0
    assert main(["report", "first", "stopped", "--out", "both.html"]) == 0
    assert Path("both.html").is_file()
    (here / "grid/gamma-0_seed-1").mkdir()
    (here / "grid/gamma-0_seed-1/mine").touch()
    assert main([*grid, "objective.gamma=0,1", "seed=0,1"]) == 1
    assert "gamma-0_seed-1 failed" in capsys.readouterr().err
