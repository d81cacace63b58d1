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


@pytest.mark.parametrize("how", ["ddp", "ddp-checkpoint", "ddp-static", "fsdp"])
def test_two_processes_are_one(how, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    path = f"{ROOT / 'src'}{os.pathsep}{ROOT}"
    done = subprocess.run(
        [sys.executable, "tests/recipes/ranks.py", how, str(tmp_path), port],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    alone, *ranks = (torch.load(tmp_path / f"{how}-{n}.pt") for n in ("1-0", "2-0", "2-1"))
    torch.testing.assert_close(sum(rank["term"] for rank in ranks) / 2, alone["term"])
    assert "levy.projection.weight" in alone["grads"]
    for rank in ranks:
        assert set(rank["grads"]) == set(alone["grads"])
        for name, grad in alone["grads"].items():
            torch.testing.assert_close(rank["grads"][name], grad, rtol=1e-4, atol=1e-6, msg=name)
