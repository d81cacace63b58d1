"""A run folder: files are whole or absent, one process writes, older ones are named."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from levyjepa.tasks import Evaluation, Picture, Score
from levyjepa.training import RunFolder, RunFolderError, compose, find_runs


@pytest.fixture
def folder(tmp_path) -> RunFolder:
    run = RunFolder(tmp_path / "run")
    run.write_config(compose(["seed=3", "data.path=日本語 (1)"]))
    return run


def test_settings_and_scores_come_back_as_they_were(folder):
    assert folder.config == compose(["seed=3", "data.path=日本語 (1)"])
    assert folder.settings["data.path"] == "日本語 (1)"
    assert not folder.finished
    score = Score("miou", 0.5, interval=(0.4, 0.6), n=3, chance=0.1, headline=True, task="masks")
    picture = Picture("maps", b"png", "Maps", "What to look for.", task="masks")
    folder.write_evaluation(Evaluation([score], [picture]))
    assert folder.finished
    evaluation = folder.evaluation()
    assert evaluation.scores == [score]
    assert evaluation.pictures == [picture]
    folder.write_evaluation(Evaluation([score]), "other data")
    assert folder.evaluation("other data").scores == [score]


def test_scores_of_one_task_leave_the_others(folder):
    one, other = Score("a", 0.1, task="one"), Score("a", 0.2, task="other")
    folder.write_evaluation(Evaluation([one, other]))
    better = Score("a", 0.3, task="one")
    assert folder.merged(Evaluation([better])).scores == [other, better]


def test_a_log_that_is_cut_short_is_read_up_to_its_last_whole_line(folder):
    folder.metrics_file.write_text("epoch,step,test/acc\n0,3,0.5\n1,7,0.6\n1,")
    assert folder.metrics()["test/acc"].tolist() == [0.5, 0.6]
    assert [row["step"] for row in folder.metrics_before(7)] == ["3"]


def test_a_file_is_replaced_only_when_it_is_whole(folder, monkeypatch):
    folder.write_text(folder.evaluation_file, "old")
    monkeypatch.setattr(os, "fsync", lambda number: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        folder.write_text(folder.evaluation_file, "new")
    assert folder.evaluation_file.read_text() == "old"
    assert not list(folder.path.glob(".*.part"))


@pytest.mark.parametrize("text", ["", "{", "[1, 2]", "data: ["])
def test_broken_settings_are_named(folder, text):
    folder.config_file.write_text(text)
    with pytest.raises(RunFolderError, match=r"config\.yaml"):
        _ = RunFolder(folder.path).config


def test_an_older_evaluation_names_the_command_that_renews_it(folder):
    folder.evaluation_file.write_text(json.dumps({"linear_probe": {"accuracy": 0.5}}))
    with pytest.raises(RunFolderError, match=r"`levyjepa evaluate .*run` writes it anew"):
        folder.evaluation()


def test_older_settings_are_read(folder):
    text = folder.config_file.read_text().replace("time_step:", "pace:")
    folder.config_file.write_text(text)
    assert RunFolder(folder.path).config.objective.time_step == 1.0


def test_a_folder_belongs_to_one_process_and_is_free_once_that_died(folder):
    code = (
        "import sys, time; from levyjepa.training import RunFolder\n"
        "with RunFolder(sys.argv[1]).lock():\n    print('locked', flush=True); time.sleep(60)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(folder.path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "locked\n"
    with pytest.raises(RunFolderError, match=f"in use by process {process.pid} on "), folder.lock():
        pass
    process.send_signal(signal.SIGKILL)
    process.wait()
    time.sleep(0.1)
    with folder.lock():
        assert json.loads((folder.path / ".owner.json").read_text())["pid"] == os.getpid()


def test_runs_below_a_folder_are_listed_in_order(tmp_path):
    for name in ("b/seed-10", "b/seed-9", "a/gamma-0.5", "a/gamma-10"):
        RunFolder(tmp_path / name).write_config(compose([]))
    names = [run.path.relative_to(tmp_path).as_posix() for run in find_runs(tmp_path)]
    assert names == ["a/gamma-0.5", "a/gamma-10", "b/seed-9", "b/seed-10"]
    with pytest.raises(RunFolderError, match="There is no folder"):
        find_runs(tmp_path / "nowhere")
    Path(tmp_path / "empty").mkdir()
    with pytest.raises(RunFolderError, match="holds no run folder"):
        find_runs(tmp_path / "empty")
