"""`import levyjepa`: every public name, at little cost, and nothing global changed."""

import subprocess
import sys

import pytest

import levyjepa


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_every_public_name_of_the_library_stands_at_the_top():
    from levyjepa import ecf, inference, lattice, laws, objectives

    for package in (laws, lattice, ecf, inference, objectives):
        for name in package.__all__:
            assert getattr(levyjepa, name) is getattr(package, name), name
    assert set(levyjepa.__all__) <= set(dir(levyjepa))
    assert {"load", "train", "register_source", "register_encoder", "register_task"} <= set(
        levyjepa.__all__
    )
    for name in levyjepa.__all__:
        assert getattr(levyjepa, name) is not None


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = levyjepa.nothing  # pyright: ignore


def test_importing_loads_no_torch_and_settings_neither():
    code = "import sys, levyjepa; dir(levyjepa); print('torch' in sys.modules)"
    assert run(code) == "False"
    code = "import sys; from levyjepa.training.config import compose; compose(['data=cifar10']); "
    assert run(f"{code}print('torch' in sys.modules)") == "False"
    assert run("import sys, levyjepa.cli; print('torch' in sys.modules)") == "False"


def test_a_law_needs_no_trainer():
    code = (
        "import sys, levyjepa; levyjepa.Brownian(1.0); levyjepa.LevyRegularizer; "
        "print([m for m in ('lightning', 'timm', 'pydantic', 'pandas') if m in sys.modules])"
    )
    assert run(code) == "[]"


def test_importing_changes_nothing_global():
    code = (
        "import logging, random, torch, numpy as np\n"
        "def state():\n"
        "    return (torch.initial_seed(), random.getstate()[1][:3], np.random.get_state()[1][:3]"
        ".tolist(), logging.getLogger().handlers, "
        "torch.get_default_dtype(), torch.get_num_threads())\n"
        "before = state()\n"
        "import levyjepa, levyjepa.laws, levyjepa.objectives, levyjepa.inference\n"
        "print(before == state())"
    )
    assert run(code) == "True"


def test_the_package_runs_as_a_module():
    assert (
        run(
            "import runpy, sys; sys.argv = ['levyjepa', '--version']\n"
            "try:\n    runpy.run_module('levyjepa', run_name='__main__')\nexcept SystemExit: pass"
        )
        == f"levyjepa {levyjepa.__version__}"
    )
