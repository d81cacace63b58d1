"""A package of one's own beside levyjepa: its source, encoder and task are like ours."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

PLUGIN = Path(__file__).parent / "plugin"
WORDS = (
    "data=stripes",
    "model.name=patch_means",
    "model.pooling=mean",
    "model.embedding_dim=16",
    "trainer.max_epochs=1",
    "trainer.progress=false",
    "trainer.accelerator=cpu",
)


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """A folder that holds the installed package, entry points included."""
    target = tmp_path_factory.mktemp("site")
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
    ]
    done = subprocess.run(
        [*command, "--target", str(target), str(PLUGIN)], capture_output=True, text=True
    )
    if done.returncode:
        pytest.skip(f"the example package can't be built here: {done.stderr[-200:]}")
    return target


def levyjepa(installed: Path, place: Path, *words: str) -> str:
    import os

    environment = {**os.environ, "PYTHONPATH": str(installed), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "levyjepa", *words],
        capture_output=True,
        text=True,
        cwd=place,
        env=environment,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_package_adds_a_source_an_encoder_and_a_task(installed, tmp_path):
    said = levyjepa(installed, tmp_path, "train", *WORDS, "run_dir=run")
    assert "Variance of brightness explained" in said
    scores = json.loads((tmp_path / "run" / "evaluation.json").read_text())["scores"]
    found = {(s["task"], s["name"], s["subject"]) for s in scores}
    assert {("brightness", "r2", who) for who in ("trained", "untrained", "pixels")} <= found
    assert ("linear_probe", "accuracy", "trained") in found
    assert "Variance of brightness explained" in (tmp_path / "run" / "report.html").read_text()

    grid = "experiment=cifar10", *WORDS, "seed=0,1", "objective.kappa=1", "run_dir=grid"
    said = levyjepa(installed, tmp_path, "experiment", *grid)
    assert "Variance of brightness explained" in said
    for name in ("table.md", "report.html"):
        assert "Variance of brightness explained" in (tmp_path / "grid" / name).read_text()
    said = levyjepa(installed, tmp_path, "evaluate", "run", "--task", "brightness")
    assert "Variance of brightness explained" in said


def test_a_script_adds_them_too(tmp_path):
    script = tmp_path / "script.py"
    code = (PLUGIN / "levyjepa_example" / "__init__.py").read_text()
    code += f"""
import levyjepa
if __name__ == "__main__":
    run = levyjepa.train([*{WORDS!r}, "run_dir={tmp_path / "run"}"])
    print(sorted({{score.task for score in run.scores}}))
    print(run.encoder.embed(stripes(None).test[0][0]).shape)
"""
    script.write_text(code)
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "'brightness'" in done.stdout
    assert "torch.Size([1, 16])" in done.stdout
