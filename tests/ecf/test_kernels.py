"""The GPU's kernels against the formula in float64 and against PyTorch's own operators.

They run on a GPU, or on a processor by Triton's interpreter, slowly:

    TRITON_INTERPRET=1 python -m pytest tests/ecf/test_kernels.py

Where there is no GPU, `test_by_the_interpreter` does so.
"""

import os
import subprocess
import sys

import pytest
import torch

from levyjepa.ecf import empirical, empirical_cf, equispaced, gauss_laguerre
from levyjepa.ecf.empirical import wave_sums
from levyjepa.laws import Brownian, CompoundPoisson, LaplaceJumps
from levyjepa.objectives import LevyRegularizer

LAW = Brownian(0.125) + CompoundPoisson(2.0, LaplaceJumps(1.0))
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = "cpu" if INTERPRETED else "cuda"
RULES = {f"{count}": equispaced(LAW, count) for count in (2, 17, 64, 96)}
RULES["laguerre"] = gauss_laguerre(LAW, 17)
rules = pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
on_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")


@pytest.fixture
def kernels(monkeypatch):
    """The kernels, taken for every tensor in float32."""
    if not (INTERPRETED or torch.cuda.is_available()):
        pytest.skip("there is no GPU; TRITON_INTERPRET=1 runs kernels on the processor")
    pytest.importorskip("triton", reason="Triton is not installed")
    from levyjepa.ecf import kernels

    if INTERPRETED:
        try:
            kernels.sums(torch.zeros(1, 1), torch.ones(1), False, None)
        except Exception as error:
            pytest.skip(f"Triton's interpreter does not run here: {error}")
        monkeypatch.setattr(empirical, "has_kernels", lambda x: x.dtype == torch.float32)
    return kernels


def drawn(rows, n, weighted=False):
    """Samples, and weights of which some are 0."""
    g = torch.Generator().manual_seed(n)
    x = 2 * torch.randn(rows, n, generator=g)
    kept = torch.rand(rows, n, generator=g, dtype=torch.float64) < 0.7
    kept[:, 0] = True
    w = kept / kept.sum(-1, keepdim=True) if weighted else None
    return x.to(DEVICE), None if w is None else w.to(DEVICE)


def found_by(function, x, rule, w, given):
    """Sums (2, B, K) and, given a gradient on them, slopes (B, N)."""
    x = x.detach().requires_grad_()
    cf = torch.stack(function(x, rule.nodes.to(x.device), rule.step, w))
    return cf.detach(), torch.autograd.grad(cf, x, given)[0]


def formula(x, nodes, step, w):
    angle = x[..., None] * nodes
    share = 1 / x.shape[1] if w is None else w[..., None]
    return (angle.cos() * share).sum(1), (angle.sin() * share).sum(1)


def torch_alone(*args):
    """What runs where there are no kernels; the backward pass asks again, so both are one step."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(empirical, "has_kernels", lambda x: False)
        return found_by(empirical_cf, *args)


def assert_close(found, exact, x, rule, times=1.0):
    """Within the rounding of angles in float32, one of which is a unit at the largest."""
    unit = times * torch.finfo(torch.float32).eps * (8 + rule.last * x.abs().max().item())
    (sums, slopes), (exact_sums, exact_slopes) = found, exact
    assert (sums - exact_sums).abs().max() < unit
    assert (slopes - exact_slopes).norm() < unit * exact_slopes.norm()


@rules
@pytest.mark.parametrize(
    ("rows", "n", "weighted"), [(3, 1, False), (2, 261, True), (1, 130, False)]
)
def test_sums_and_slopes(kernels, rows, n, weighted, rule):
    x, w = drawn(rows, n, weighted)
    given = torch.randn(2, len(x), len(rule.nodes), device=DEVICE)
    found = found_by(empirical_cf, x, rule, w, given)
    assert [part.dtype for part in found] == [torch.float32] * 2
    assert_close(found, found_by(formula, x.double(), rule, w, given.double()), x, rule)
    assert_close(found, torch_alone(x, rule, w, given), x, rule, times=2)
    again = found_by(empirical_cf, x, rule, w, given)
    assert all(torch.equal(*pair) for pair in zip(found, again, strict=True))


def test_a_long_row_is_parted(kernels, monkeypatch):
    monkeypatch.setattr(kernels, "_LONGEST", 200)
    rule = RULES["17"]
    for n in (199, 513):
        x, w = drawn(2, n, weighted=True)
        given = torch.randn(2, 2, 17, device=DEVICE)
        exact = found_by(formula, x.double(), rule, w, given.double())
        assert_close(found_by(empirical_cf, x, rule, w, given), exact, x, rule)


def test_tensors_may_have_any_strides(kernels):
    x, w = drawn(7, 5, weighted=True)
    nodes, given = RULES["17"].nodes.to(DEVICE), torch.randn(1, 17, device=DEVICE).expand(7, -1)
    spread = nodes.repeat_interleave(2)[::2], True, w.float().T.contiguous().T
    dense = nodes, True, w.float()
    for call, more in ((kernels.sums, ()), (kernels.slopes, (given, given))):
        got = call(x.T.contiguous().T, *spread, *more)
        want = call(x, *dense, *(part.contiguous() for part in more))
        assert torch.equal(torch.stack([*got]), torch.stack([*want]))


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of the interpreter
def test_what_is_no_number_stays_in_its_row(kernels):
    x, _ = drawn(3, 9)
    x[0, 2], x[1, 3] = torch.nan, torch.inf
    real, imaginary = empirical_cf(x, RULES["17"].nodes.to(DEVICE), RULES["17"].step)
    assert real[:2].isnan().all()
    assert imaginary[:2].isnan().all()
    assert real[2].isfinite().all()
    x, _ = drawn(3, 9)
    x = (x * 1e30).requires_grad_()
    real, _ = empirical_cf(x, RULES["17"].nodes.to(DEVICE), RULES["17"].step)
    real.sum().backward()
    assert real.isfinite().all()
    assert x.grad.isfinite().all()


def test_the_compiler_takes_them_whole(kernels):
    torch.compiler.reset()
    compiled = torch.compile(empirical_cf, backend="aot_eager", fullgraph=True)
    for name, n, weighted in (("17", 30, True), ("17", 40, True), ("laguerre", 50, False)):
        x, w = drawn(2, n, weighted)
        rule = RULES[name]
        given = torch.randn(2, 2, 17, device=DEVICE)
        want = found_by(empirical_cf, x, rule, w, given)
        got = found_by(compiled, x, rule, w, given)
        assert all(torch.equal(*pair) for pair in zip(got, want, strict=True))


def test_operators_keep_their_promises(kernels):
    (x, w), nodes = drawn(2, 30, weighted=True), RULES["17"].nodes.to(DEVICE)
    given = torch.randn(2, 2, 17, device=DEVICE)
    torch.library.opcheck(kernels.sums, (x, nodes, True, w.float()))
    torch.library.opcheck(kernels.slopes, (x, nodes, True, None, *given))


@pytest.mark.parametrize("masked", [False, True])
def test_the_prior_and_its_gradient(kernels, masked):
    g = torch.Generator().manual_seed(0)
    field = torch.randn(2, 6, 5, 4, generator=g).to(DEVICE)
    mask = (torch.rand(2, 6, 5, generator=g) < 0.9).to(DEVICE) if masked else None
    rotation = torch.linalg.qr(torch.randn(4, 4, generator=g)).Q.to(DEVICE)
    prior = LevyRegularizer(LAW).to(DEVICE)

    def of(field):
        field = field.requires_grad_()
        loss = prior(field, rotation=rotation.to(field), mask=mask)
        return loss.detach(), torch.autograd.grad(loss, field)[0]

    (loss, grad), (exact, slope) = of(field), of(field.double())
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(exact.item(), rel=1e-5)
    assert (grad - slope).norm() < 1e-5 * slope.norm()


@on_gpu
def test_the_host_does_not_wait(kernels):
    prior, field = LevyRegularizer(LAW).to(DEVICE), torch.randn(4, 8, 8, 16, device=DEVICE)
    mask = torch.rand(4, 8, 8, device=DEVICE) < 0.9
    for given in (None, mask, None, mask):
        x = field.clone().requires_grad_()
        prior(x, mask=given).backward()
        torch.cuda.set_sync_debug_mode("error")
    torch.cuda.set_sync_debug_mode("default")


@on_gpu
def test_one_launch_each_way(kernels):
    x, _ = drawn(3, 1000)
    rule = RULES["64"]
    nodes, given = rule.nodes.to(DEVICE), torch.randn(2, 3, 64, device=DEVICE)
    x.requires_grad_()

    def step():
        torch.autograd.grad(wave_sums(x, nodes, rule.step), x, tuple(given))

    step()
    with torch.profiler.profile() as profile:
        step()
        torch.cuda.synchronize()
    launched = [e.name for e in profile.events() if e.device_type.name == "CUDA"]
    assert launched == ["_sums", "_slopes"]


@on_gpu
def test_float64_does_without(kernels):
    assert empirical.has_kernels(torch.zeros(1, device="cuda"))
    assert not empirical.has_kernels(torch.zeros(1, device="cuda", dtype=torch.float64))


@pytest.mark.skipif(INTERPRETED, reason="it runs beside")
def test_importing_leaves_triton_alone():
    asked = "import sys, torch; before = set(sys.modules); import levyjepa.ecf;"
    asked += "assert 'triton' not in set(sys.modules) - before"
    subprocess.run([sys.executable, "-c", asked], check=True)


@pytest.mark.skipif(INTERPRETED, reason="it is running")
@pytest.mark.skipif(torch.cuda.is_available(), reason="the GPU runs them")
def test_by_the_interpreter():
    pytest.importorskip("triton", reason="Triton is not installed")
    asked = [sys.executable, "-m", "pytest", "-rs", __file__]
    child = subprocess.run(
        asked, env=os.environ | {"TRITON_INTERPRET": "1"}, capture_output=True, text=True
    )
    assert child.returncode == 0, child.stdout + child.stderr
    if " passed" not in child.stdout:
        pytest.skip(child.stdout[-500:])
