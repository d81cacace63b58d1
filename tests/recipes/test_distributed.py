"""Two gloo processes give the gradient of one process with the joint batch."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

pytest.importorskip("timm", reason="needs pip install 'levyjepa[recipes]'")


ROOT = Path(__file__).parents[2]


def run(script: str, how: str, folder: Path) -> None:
    """Run a script on two processes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    path = f"{ROOT / 'src'}{os.pathsep}{ROOT}"
    done = subprocess.run(
        [sys.executable, f"tests/recipes/{script}", how, str(folder), port],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.parametrize("how", ["ddp", "ddp-checkpoint", "ddp-static", "fsdp"])
def test_two_processes_are_one(how, tmp_path):
    run("ranks.py", how, tmp_path)
    alone, *ranks = (torch.load(tmp_path / f"{how}-{n}.pt") for n in ("1-0", "2-0", "2-1"))
    torch.testing.assert_close(sum(rank["term"] for rank in ranks) / 2, alone["term"])
    assert "levy.projection.weight" in alone["grads"]
    for rank in ranks:
        assert set(rank["grads"]) == set(alone["grads"])
        for name, grad in alone["grads"].items():
            torch.testing.assert_close(rank["grads"][name], grad, rtol=1e-4, atol=1e-6, msg=name)


def test_the_trainer_of_transformers(tmp_path):
    pytest.importorskip("transformers", reason="needs pip install 'levyjepa[recipes]'")
    pytest.importorskip("accelerate", reason="needs pip install 'levyjepa[recipes]'")
    run("trainer_ranks.py", "ddp", tmp_path)
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    assert torch.equal(first, second)
    assert (first @ first.T - torch.eye(32)).abs().max() > 1e-6  # was trained
