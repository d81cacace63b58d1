"""Commands: what they write, what they say, and how they end."""

import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_sample_image

from levyjepa.cli import main
from levyjepa.cli.door import COMMANDS
from levyjepa.cli.scores import table
from levyjepa.conf.schema import DataConfig
from levyjepa.data import load_source
from levyjepa.training import judge

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
    """A folder with 120 real digits as PNG files in class folders, and a run of two steps."""
    place = tmp_path_factory.mktemp("place")
    source = load_source(DataConfig())
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
    assert "|demo|exp1|exp2" in said


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself_with_an_example(command, capsys):
    with pytest.raises(SystemExit) as done:
        main([command, "--help"])
    assert done.value.code == 0
    assert f"Example: levyjepa {command} " in " ".join(capsys.readouterr().out.split())


def test_settings_can_be_read_before_a_run(capsys):
    assert main(["train", "--settings", "objective.gamma=0.5"]) == 0
    said = capsys.readouterr().out
    assert "gamma: 0.5" in said
    assert "limit: null  # at most so many images of each split" in said
    assert "image_size: 28" in said


def test_a_run_leaves_a_report(here):
    assert (here / "first" / "report.html").stat().st_size > 10_000
    assert (here / "first" / "checkpoints" / "last.ckpt").is_file()


def test_a_finished_run_is_kept(here, capsys):
    stamp = (here / "first" / "metrics.csv").stat().st_mtime_ns
    assert main(["train", *QUICK, "run_dir=first"]) == 0
    assert "first was finished before and is kept" in capsys.readouterr().err
    assert (here / "first" / "metrics.csv").stat().st_mtime_ns == stamp


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "objective.gama=1"], "Unknown key `objective.gama`; did you mean"),
        (["train", "data=folder", "data.path=nowhere"], "nowhere"),
        (["train", *QUICK, "run_dir=first", "seed=1"], "`seed=0`, not 1"),
        (["train", *QUICK, "run_dir=first", "trainer.max_epochs=9"], "a run's length is fixed"),
        (
            ["train", "data=parquet", "data.path=first/config.yaml"],
            "must be a folder, got the file",
        ),
        (["report", "nowhere"], "`DIR` must be a folder, but there is none at nowhere"),
        (["report", "first", "nowhere"], "`DIR` must be a folder, but there is none at nowhere"),
        (["experiment"], "needs a grid"),
        (["evaluate", "nowhere"], "must be a run folder, or a file of a checkpoint, got nowhere"),
        (["evaluate", "images"], "got images, a folder without checkpoints/last.ckpt"),
        (["evaluate", "images/0/0.png"], "is no checkpoint"),
        (["jumps", "first/checkpoints/last.ckpt", "nowhere.png"], "`image` must be a file"),
        (["jumps", "first/checkpoints/last.ckpt", "first/config.yaml"], "must be a picture"),
        (["report", "images"], "images"),
        (["embed", "first", "nowhere.png"], "`images` must be files, but there is none at nowhere"),
        (["embed", "first", "first/config.yaml"], "`images` must be pictures, got first/config"),
        (["embed", "first", "tokens=maybe"], "`tokens` must be true or false, got 'maybe'"),
        (["embed", "first", "a.png", "data=mnist5k"], "Either pictures or data can be embedded"),
        (["export", "first", "encoder.onnx"], "must end in .pt2, got encoder.onnx"),
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
        (["train", *QUICK, "run_dir=new", "model.name=vit_foo"], "must be a ViT of timm"),
        (["jumps", "first", "nowhere.png", "--out", "new"], "`image` must be a file"),
    ],
)
def test_what_can_t_begin_leaves_no_folder(arguments, message, here, capsys):
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
        (["nothing"], "There are: train, experiment, evaluate"),
        (["--settings"], "a command comes first, as in `levyjepa train --settings`"),
        (["data=mnist5k"], "a command comes first, as in `levyjepa train data=mnist5k`"),
    ],
)
def test_what_is_no_command_is_answered_by_the_nearest(words, hint, capsys):
    with pytest.raises(SystemExit) as done:
        main(words)
    assert done.value.code == 2
    assert hint in capsys.readouterr().err


def test_scores_are_a_table_with_a_row_for_each_measure():
    text = table(
        {
            "segmentation/miou": 0.5,
            "linear_probe": 0.8349,
            "low_shot/1_percent": 0.2,
            "random_encoder/linear_probe": 0.5,
            "random_encoder/segmentation/miou": float("nan"),
            "pixels/boundaries/sobel/best_f": 1.0,
            "representation/levy/box(2)": 0.3,  # no share
        }
    )
    assert [line.split() for line in text.splitlines()] == [
        ["percent", "trained", "untrained", "pixels"],
        ["labels", "Linear", "probe", "83.5", "50.0"],
        ["few", "labels", "1", "%", "20.0"],
        ["masks", "Segmentation,", "mIoU", "50.0"],
        ["Boundaries,", "sobel,", "best", "F", "100.0"],
    ]
    assert (
        len(
            {
                line.index(number)
                for line, number in zip(
                    text.splitlines()[1:4], ("83.5", "20.0", "50.0"), strict=True
                )
            }
        )
        == 1
    )
    assert table({}) == ""


def test_a_traceback_is_shown_when_asked_for():
    with pytest.raises(ValueError, match="objective"):
        main(["train", "objective.gama=1", "--debug"])


def test_ctrl_c_says_how_to_go_on(here, monkeypatch, capsys):
    from levyjepa.training.module import LevyJEPA

    whole = LevyJEPA.training_step

    def stop(self, batch, index):
        os.kill(os.getpid(), signal.SIGINT)
        return whole(self, batch, index)

    monkeypatch.setattr(LevyJEPA, "training_step", stop)
    assert main(["train", *QUICK, "run_dir=stopped"]) == 130
    said = capsys.readouterr().err
    assert "To go on: levyjepa train data=folder" in said
    assert said.rstrip().endswith("run_dir=stopped")
    assert (here / "stopped" / "checkpoints" / "last.ckpt").is_file()
    monkeypatch.undo()
    monkeypatch.chdir(here)
    assert main(["train", *QUICK, "run_dir=stopped"]) == 0
    assert (here / "stopped" / "report.html").is_file()


def test_a_run_is_evaluated_later(here, monkeypatch, capsys, caplog):
    later = ["train", *QUICK, "trainer.max_steps=1", "run_dir=later"]
    with caplog.at_level("INFO", "levyjepa"):
        assert main([*later, "trainer.evaluate=false"]) == 0
    assert "images: 98 training and 20 test images of 10 classes: 0, 1, 2" in caplog.text
    assert "the same command with trainer.evaluate=true" in capsys.readouterr().err
    assert "later is trained and not evaluated" in Path("later/report.html").read_text("utf-8")

    def interrupted(*args, **more):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(judge, "evaluate", interrupted)
        assert main(later) == 130
    said = capsys.readouterr().err
    assert said.rstrip().endswith("run_dir=later")
    before = Path("later/metrics.csv").read_text()
    assert main(later) == 0
    assert Path("later/evaluation.json").is_file()
    assert Path("later/metrics.csv").read_text() == before


def test_evaluate_judges_a_run_folder_s_last_checkpoint_and_renews_its_pictures(here, capsys):
    (here / "first/gallery.npz").unlink()
    assert main(["evaluate", "first", "data.limit=30"]) == 0
    assert not (here / "first/gallery.npz").exists()  # of other data than the run's
    assert main(["evaluate", "first"]) == 0
    assert "jump_size" in np.load(here / "first/gallery.npz")
    assert (here / "first/checkpoints/last.images.json").is_file()
    said = capsys.readouterr().out.splitlines()
    assert said[-3:] == [
        "written: first/checkpoints/last.images.json",
        "written: first/gallery.npz",
        "`levyjepa report first` draws its page from them",
    ]
    assert sum("trained  untrained  pixels" in line for line in said) == 2
    assert sum("kNN" in line for line in said) == 4  # of embeddings and mean tokens, twice


def test_jumps_are_drawn_over_pictures_of_any_shape(here, capsys):
    flower = load_sample_image("flower.jpg")
    Image.fromarray(flower[:300]).save("flower.jpg")
    assert main(["jumps", "first/checkpoints/last.ckpt", "flower.jpg", "--out", "drawn"]) == 0
    probability = np.load("drawn/flower.npy")
    assert probability.shape == (6, 14)
    assert ((probability >= 0) & (probability <= 1)).all()
    assert Image.open("drawn/flower.png").width > 500
    assert capsys.readouterr().out.count("The law itself expects a jump at 86 % of corners") == 1


def test_pictures_and_data_sets_are_embedded(here, capsys):
    paths = sorted(Path("images/3").glob("*.png"))[:3]
    assert main(["embed", "first", *map(str, paths), "run_dir=few"]) == 0
    assert main(["embed", "first", "run_dir=all", "tokens=true"]) == 0
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
    assert main(["embed", "first", str(path), "run_dir=one"]) == 0
    expected = np.load("one/embeddings.npz")["embeddings"]
    np.testing.assert_allclose(embedding.numpy(), expected.repeat(5, 0), atol=1e-5)


def test_events_are_found_in_a_folder_of_pictures_and_another_s_are_not_replaced(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    for number, name in enumerate(["flower.jpg", "china.jpg"]):
        picture = Image.fromarray(load_sample_image(name)).resize((64, 48))
        for frame in range(20 * number, 20 * number + 20):
            Path("film").mkdir(exist_ok=True)
            picture.save(f"film/{frame:02}.png")
    assert main(["events", "film", "rate=30"]) == 0
    said = capsys.readouterr()
    assert said.out.startswith("frame 20, 0.667 s: a shot begins")
    assert said.err == ""
    held = json.loads(Path("runs/film/events.json").read_text("utf-8"))
    assert [shot["end_time"] for shot in held["shots"]] == [0.666667, 1.333333]
    assert [event["time"] for event in held["events"]] == [0.666667]
    assert main(["events", "film"]) == 2
    assert "runs/film exists, of another video maybe; run_dir=runs/film" in capsys.readouterr().err
    assert main(["events", "film", "rate=30", "run_dir=runs/film"]) == 0
    for video, message in (("film/00.png", "got one frame: film/00.png"), ("no", "got no.")):
        assert main(["events", video, "run_dir=other"]) == 2
        assert message in capsys.readouterr().err
    assert main(["events", "film", "rate=many", "run_dir=other"]) == 2
    assert "`rate` must be a number, got 'many'" in capsys.readouterr().err
    assert not Path("other").exists()


def test_an_experiment_is_compared_and_a_failed_cell_shows(here, capsys):
    grid = ["experiment", "experiment=demo", *QUICK, "seed=0", "run_dir=grid"]
    assert main(grid) == 0
    said = capsys.readouterr().out
    assert "| gamma=1 minus gamma=0 | 1 |" in said
    assert (here / "grid/report.html").is_file()
    assert (here / "grid/gamma-1_seed-0/report.html").is_file()
    assert main(["report", "grid"]) == 0
    assert main(["report", "first", "stopped", "--out", "both.html"]) == 0
    assert main(["report", "grid", "--out", "one.html"]) == 2
    assert "this one is grid/report.html" in capsys.readouterr().err
    (here / "grid/gamma-0_seed-1").mkdir()
    (here / "grid/gamma-0_seed-1/mine").touch()
    grid[-2] = "seed=0,1"
    assert main(grid) == 1
    assert "gamma-0_seed-1 failed" in capsys.readouterr().out
