"""The distance of characteristic functions, against integrals, the original and plain formulas."""

import json

import numpy as np
import pytest
import torch
from scipy import integrate

from levyjepa.ecf import (
    Quadrature,
    empirical_cf,
    equispaced,
    exponential_weight,
    frequency_range,
    gauss_laguerre,
    gaussian_weight,
    statistic,
)
from levyjepa.laws import ALL_LAWS, Brownian, CompoundPoisson, LaplaceJumps

LAW = Brownian(0.125) + CompoundPoisson(2.0, LaplaceJumps(1.0))
every_law = pytest.mark.parametrize("law", ALL_LAWS, ids=repr)
rules = pytest.mark.parametrize(
    "rule",
    [equispaced(LAW, 17), equispaced(LAW, 64), gauss_laguerre(LAW, 17)],
    ids=["17", "64", "laguerre"],
)


def plain(x, law, volume, rule):
    angle = x[..., None] * rule.nodes.to(x)
    gap = (angle.cos().mean(-2) - law.characteristic_function(rule.nodes, volume)) ** 2
    return 2 * ((gap + angle.sin().mean(-2) ** 2) * rule.weights).sum(-1)


def samples(std=1.0, rows=3, n=50, dtype=torch.float64):
    drawn = torch.randn(rows, n, generator=torch.Generator().manual_seed(0), dtype=dtype)
    return (std * drawn).requires_grad_()


def test_original_statistic(shared_data):
    saved = torch.from_numpy(np.load(shared_data / "reference" / "reference.npz")["increments"])
    cases = json.loads((shared_data / "reference" / "reference.json").read_text())["levy_statistic"]
    for case in cases:
        p = case["law"]
        law = Brownian(p["sigma"]) + CompoundPoisson(p["lam"], LaplaceJumps(p["alpha"]))
        rule = Quadrature(*(torch.tensor(case[k], dtype=torch.float64) for k in "uw"))
        log_cf = case["volume"] * law.exponent(rule.nodes)
        assert np.allclose(log_cf.numpy(), case["log_cf"], rtol=1e-10)
        got = statistic(saved, law, case["volume"], rule).numpy()
        assert np.allclose(got, case["loss"], rtol=1e-10, atol=0)
        ours = gauss_laguerre(law)  # the original found u_max to 1e-6
        assert torch.allclose(ours.nodes, rule.nodes, rtol=1e-6)
        assert torch.allclose(ours.weights, rule.weights, rtol=1e-6)


@rules
def test_value_and_gradient_equal_the_plain_formula(rule):
    x = samples()
    got, want = statistic(x, LAW, 2.0, rule), plain(x, LAW, 2.0, rule)
    assert torch.allclose(got, want, rtol=1e-12)
    (ours,), (theirs,) = (torch.autograd.grad(s.square().sum(), x) for s in (got, want))
    assert torch.allclose(ours, theirs, rtol=1e-10, atol=1e-14)


@rules
def test_gradcheck(rule):
    assert torch.autograd.gradcheck(lambda x: statistic(x, LAW, 1.0, rule), samples(rows=2, n=6))


@every_law
def test_equispaced_nodes_meet_the_exact_integral(law):
    x = law.sample((1, 40), generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    u_max = frequency_range(law)

    def gap(u):
        phi = law.characteristic_function(torch.tensor([u], dtype=torch.float64)).item()
        z = np.exp(1j * u * x.numpy()).mean()
        return 2 * abs(z - phi) ** 2 * np.exp(-10 * u / u_max)

    exact = integrate.quad(gap, 0, u_max, limit=500)[0]
    assert statistic(x, law, 1.0, equispaced(law, 128)).item() == pytest.approx(exact, rel=2e-2)


@every_law
def test_range_is_where_the_law_falls_silent(law):
    u_max = frequency_range(law)
    floor = law.exponent(torch.tensor([1e100], dtype=torch.float64)).item()
    psi = law.exponent(torch.tensor([u_max], dtype=torch.float64)).item()
    assert psi == pytest.approx(max(-4, 0.99 * floor), rel=1e-9)


def test_gradient_sees_large_increments_where_the_original_aliases():
    """Cosine of the gradient with that of 4,096 nodes."""

    def gradient(std, rule):
        x = samples(std, rows=1, n=1800)
        return torch.autograd.grad(statistic(x, LAW, 1.0, rule).sum(), x)[0].flatten()

    def cosine(std, rule):
        exact = gradient(std, equispaced(LAW, 4096))
        return torch.cosine_similarity(gradient(std, rule), exact, 0).item()

    assert cosine(1.5, equispaced(LAW, 64)) > 0.9999
    assert cosine(4, equispaced(LAW, 64)) > 0.999
    assert cosine(8, equispaced(LAW, 96)) > 0.999
    assert cosine(8, gauss_laguerre(LAW, 17)) < 0.7


@pytest.mark.parametrize("weight", [exponential_weight, gaussian_weight])
@pytest.mark.parametrize("tolerance", [1e-2, 1e-4])
def test_nodes_for_a_tolerance_meet_it_and_fewer_do_not(weight, tolerance):
    rule = equispaced(LAW, weight=weight, tolerance=tolerance, size=4.0)
    fine = equispaced(LAW, 8192, weight=weight)
    least = 2 * tolerance * fine.weights.sum()
    g = torch.Generator().manual_seed(0)
    rows = [torch.full((1, 1), x, dtype=torch.float64) for x in (0.0, 1.0, 3.9)]
    rows += [8 * torch.rand(1, n, generator=g, dtype=torch.float64) - 4 for n in (2, 5, 50)]
    errors = [(statistic(x, LAW, 1.0, rule) - statistic(x, LAW, 1.0, fine)).abs() for x in rows]
    assert max(errors) < least
    coarse = equispaced(LAW, len(rule.nodes) // 2, weight=weight)
    worst = [(statistic(x, LAW, 1.0, coarse) - statistic(x, LAW, 1.0, fine)).abs() for x in rows]
    assert max(worst) > least / 4


def test_null_mean_is_the_closed_form(false_alarm):
    """Independent samples of the law: E D = 2 integral of (1 - phi^2) w / n."""
    rows, n = 400, 500
    x = LAW.sample((rows, n), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    rule = equispaced(LAW)
    d = statistic(x, LAW, 1.0, rule)
    phi = LAW.characteristic_function(rule.nodes)
    mean = (2 * ((1 - phi**2) * rule.weights).sum() / n).item()
    assert abs(d.mean().item() - mean) < false_alarm.sigmas() * d.std().item() / rows**0.5


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_statistics_are_float32_under_autocast(dtype):
    x = samples(0.3, 4, 1000)
    want = statistic(x, LAW)
    with torch.autocast("cpu", torch.bfloat16):
        got = statistic(x.detach().to(dtype).requires_grad_(), LAW)
    assert got.dtype == torch.float32
    exact = statistic(x.detach().to(dtype).double(), LAW)
    assert torch.allclose(got.double(), exact, rtol=2e-5)
    assert torch.allclose(got.double(), want, rtol=5e-2)


def test_float32_error_is_rounding():
    x = samples(0.05, 8, 2000)
    exact = statistic(x, LAW)
    (want,) = torch.autograd.grad(exact.sum(), x)
    y = x.detach().float().requires_grad_()
    got = statistic(y, LAW)
    (grad,) = torch.autograd.grad(got.sum(), y)
    assert torch.allclose(got.double(), exact, rtol=1e-5)
    assert (grad - want).norm() < 1e-5 * want.norm()


def of_one_by_one(count, weighted):
    """Samples, frequencies 0.3 k, weights, coefficients; the sum that they make, and its slope."""
    x, g = samples(rows=2, n=20), torch.Generator().manual_seed(1)
    w = torch.rand(2, 20, generator=g, dtype=torch.float64) if weighted else torch.ones(2, 20)
    w = w / w.sum(-1, keepdim=True)
    u = 0.3 * torch.arange(1, count + 1, dtype=torch.float64)
    waves = torch.stack([wave(x[..., None] * u) for wave in (torch.cos, torch.sin)])
    want = (waves * w[..., None]).sum(2)
    mixed = torch.randn(2, 2, count, generator=g, dtype=torch.float64)
    (slope,) = torch.autograd.grad((want * mixed).sum(), x)
    return x, u, w if weighted else None, mixed, want, slope


def follows(function, count, weighted, step):
    x, u, w, mixed, want, slope = of_one_by_one(count, weighted)
    got = torch.stack(function(x, u, step, w))
    (grad,) = torch.autograd.grad((got * mixed).sum(), x)
    return torch.allclose(got, want, atol=1e-12) and torch.allclose(grad, slope, atol=1e-12)


@pytest.mark.parametrize("step", [0.3, None])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("count", [1, 2, 3, 12, 17, 40, 100])
def test_every_number_of_nodes(count, weighted, step):
    assert follows(empirical_cf, count, weighted, step)


def test_every_number_of_nodes_as_the_compiler_traces_it():
    """The second trace of one function holds symbols for what the first took for numbers."""
    torch.compiler.reset()
    traced = torch.compile(empirical_cf, backend="aot_eager", fullgraph=True)
    assert follows(traced, 3, False, 0.3)
    assert follows(traced, 17, True, 0.3)
    assert follows(traced, 3, False, None)


def test_compiled_equals_eager():
    rule = equispaced(LAW, 17)
    x = samples()
    eager = statistic(x, LAW, 1.0, rule)
    compiled = torch.compile(lambda x: statistic(x, LAW, 1.0, rule), fullgraph=True)(x)
    assert torch.allclose(compiled, eager, rtol=1e-12)
    (ours,), (theirs,) = (torch.autograd.grad(s.sum(), x) for s in (compiled, eager))
    assert torch.allclose(ours, theirs, rtol=1e-10, atol=1e-14)


def test_memory_does_not_grow_with_the_nodes():
    """What is kept for the backward pass: the samples and the frequencies."""
    kept = []
    x = samples(n=5000, dtype=torch.float32)
    with torch.autograd.graph.saved_tensors_hooks(
        lambda t: kept.append(t.numel()) or t, lambda t: t
    ):
        empirical_cf(x, equispaced(LAW, 256).nodes, equispaced(LAW, 256).step)
    assert sum(kept) == x.numel() + 256


@rules
def test_weighted_samples_are_repeated_samples(rule):
    x = samples(rows=2, n=9).detach()
    counts = torch.tensor([[1, 2, 0, 3, 1, 1, 0, 1, 1], [1, 1, 1, 1, 1, 1, 1, 1, 2]])
    y = x.clone().requires_grad_()
    got = statistic(y, LAW, 1.0, rule, weights=counts.double())
    for row in range(2):
        want = statistic(x[row].repeat_interleave(counts[row])[None], LAW, 1.0, rule)
        assert got[row].item() == pytest.approx(want.item(), rel=1e-12)
    assert torch.autograd.gradcheck(lambda y: statistic(y, LAW, 1.0, rule, counts.double()), y)
    with pytest.raises(ValueError, match="`weights` must be finite and not negative"):
        statistic(x, LAW, weights=-counts.double())


def test_a_long_row_is_read_in_parts():
    x = torch.randn(1, 200_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    rule = equispaced(LAW, 17)
    assert torch.allclose(statistic(x, LAW, 1.0, rule), plain(x, LAW, 1.0, rule), rtol=1e-10)


def test_learnable_law_gets_a_gradient():
    law = LAW.learnable_copy()
    statistic(samples().detach(), law).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite() and p.grad != 0 for p in law.parameters())


@pytest.mark.parametrize("size", [1e-30, 1e-3, 1e3, 1e30])
def test_finite_input_gives_finite_loss_and_gradient(size):
    x = (samples(dtype=torch.float32).detach() * size).requires_grad_()
    loss = statistic(x, LAW)
    (grad,) = torch.autograd.grad(loss.sum(), x)
    assert loss.isfinite().all()
    assert grad.isfinite().all()


def test_bad_input_is_named():
    with pytest.raises(ValueError, match=r"`samples` must be \(B, N\), got shape \(3,\)"):
        statistic(torch.randn(3), LAW)
    with pytest.raises(ValueError, match="must not be empty"):
        statistic(torch.randn(3, 0), LAW)
    with pytest.raises(TypeError, match="floating-point"):
        statistic(torch.ones(3, 2, dtype=torch.int), LAW)
    with pytest.raises(ValueError, match="`volume` must be positive"):
        statistic(torch.randn(3, 4), LAW, volume=-1)
    nodes = torch.tensor([1.0, 2.0], dtype=torch.float64)
    for bad in (nodes.flip(0), nodes - 1, nodes * torch.nan, nodes[:1]):
        with pytest.raises(ValueError, match="`nodes`"):
            Quadrature(bad, nodes)
    with pytest.raises(ValueError, match="`weights` must not be negative"):
        Quadrature(nodes, -nodes)
    with pytest.raises(ValueError, match="multiples of `step`"):
        Quadrature(nodes, nodes, 0.5)
    with pytest.raises(ValueError, match="`nodes` must be at least 2"):
        equispaced(LAW, 1)
