"""The loss terms, compared with the original's values and closed forms."""

import json
import math

import numpy as np
import pytest
import torch

from levyjepa.lattice import box, diamond, line, sample_sheet
from levyjepa.laws import Brownian, CompoundPoisson, IndependentCoordinates, LaplaceJumps
from levyjepa.objectives import LeJEPA, LevyRegularizer, SIGReg, invariance
from levyjepa.objectives.levy import random_rotation

LAW = Brownian(0.125) + CompoundPoisson(2.0, LaplaceJumps(1.0))


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def original(shared_data):
    arrays = np.load(shared_data / "reference" / "reference.npz")
    values = json.loads((shared_data / "reference" / "reference.json").read_text())
    return {name: torch.from_numpy(arrays[name]) for name in arrays}, values


def test_original_terms(original):
    arrays, values = original
    z = arrays["projections"]
    assert SIGReg()(z, directions=arrays["directions"]).item() == pytest.approx(
        values["sigreg"], rel=1e-10
    )
    assert invariance(z).item() == pytest.approx(values["invariance"], rel=1e-10)
    for case in values["within"]:
        law = case["law"]
        term = LevyRegularizer.reference(law["alpha"], law["sigma"], law["lam"])
        got = term(arrays["within_field"], rotation=arrays["within_rotation"]).item()
        assert got == pytest.approx(case["loss"], rel=1e-6)  # the original computed u_max to 1e-6


def test_prior_is_smallest_on_a_sheet_of_its_own_law():
    term = LevyRegularizer(LAW, (box(2),))
    sheet = sample_sheet(LAW, box(2), (16, 16), 8, 8, generator())
    smooth = Brownian(2.0)
    noise = sample_sheet(smooth, box(2), (16, 16), 8, 8, generator())
    assert term(sheet, generator=generator()) < 0.3 * term(noise, generator=generator())
    assert term(sheet, generator=generator()) < 0.01 * term(torch.zeros_like(sheet))


def test_descent_makes_increments_follow_the_law():
    """From white noise of a fifth of the scale, to the noise floor of the statistic."""
    field = torch.nn.Parameter(0.2 * torch.randn(4, 12, 12, 8, generator=generator()))
    term, optimizer = LevyRegularizer(LAW), torch.optim.Adam([field], lr=0.05)
    start = term(field, generator=generator()).item()
    for step in range(200):
        optimizer.zero_grad()
        loss = term(field, generator=generator(step))
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.02 * start


@pytest.mark.parametrize(
    ("stencils", "grid"),
    [
        ((line(),), (30,)),
        ((box(2), diamond(), line(2, 0)), (9, 7)),
        ((box(3, spacing=(0.5, 1, 1)),), (4, 6, 5)),
    ],
    ids=["sequence", "image", "video"],
)
def test_sequences_images_and_videos(stencils, grid):
    field = torch.randn(2, *grid, 6, generator=generator(), requires_grad=True)
    loss = LevyRegularizer(LAW, stencils)(field)
    loss.backward()
    assert loss.ndim == 0
    assert field.grad is not None
    assert field.grad.abs().sum() > 0


def test_same_generator_same_loss():
    field, z = torch.randn(2, 6, 6, 4), torch.randn(2, 20, 8)
    for term, x in ((LevyRegularizer(LAW), field), (SIGReg(), z)):
        assert term(x, generator=generator(3)) == term(x, generator=generator(3))
        assert term(x, generator=generator(3)) != term(x, generator=generator(4))


def test_calls_do_not_change_the_global_generator():
    field = torch.randn(2, 6, 6, 4)
    state = torch.get_rng_state()
    LevyRegularizer(LAW)(field, generator=generator())
    assert torch.equal(state, torch.get_rng_state())


def test_autocast_does_not_touch_the_statistics():
    field, z = torch.randn(2, 9, 9, 8), torch.randn(2, 64, 16)
    for term, x in ((LevyRegularizer(LAW), field), (SIGReg(), z)):
        want = term(x, generator=generator())
        with torch.autocast("cpu", torch.bfloat16):
            assert term(x, generator=generator()) == want
            assert term(x.bfloat16(), generator=generator()).dtype == torch.float32


def test_sigreg_of_a_gaussian_is_its_null_mean():
    """E over samples = integral of (1 - e^(-u^2)) e^(-u^2/2): 5 sigma of 64 directions' spread."""
    z = torch.randn(50, 200, 4, generator=generator(), dtype=torch.float64)
    u = torch.linspace(0, 3, 17, dtype=torch.float64)
    mean = 2 * torch.trapezoid((1 - torch.exp(-(u**2))) * torch.exp(-(u**2) / 2), u).item()
    scores = torch.stack(
        [SIGReg(64)(view[None], generator=generator(n)) for n, view in enumerate(z)]
    )
    assert abs(scores.mean().item() - mean) < 5 * scores.std().item() / 50**0.5
    assert SIGReg()(z * 3) > 10 * mean
    assert SIGReg()(z * 0) > 10 * mean


def test_views_are_kept_apart():
    """Two views that are Gaussian only together have a large loss."""
    z = torch.randn(1, 400, 2, generator=generator(), dtype=torch.float64)
    order = z[0, :, 0].argsort()
    halves = torch.stack([z[0, order[:200]], z[0, order[200:]]])
    assert SIGReg()(halves, generator=generator()) > 5 * SIGReg()(z, generator=generator())


def test_invariance_by_hand():
    z = torch.tensor([[[0.0, 0.0]], [[2.0, 0.0]], [[4.0, 6.0]]])
    assert invariance(z).item() == pytest.approx((4 + 0 + 4 + 4 + 4 + 16) / 6)
    assert invariance(z, num_global=2).item() == pytest.approx((1 + 0 + 1 + 0 + 9 + 36) / 6)


def test_weighted_sum():
    z, field = torch.randn(4, 32, 8), torch.randn(128, 6, 6, 4)
    loss = LeJEPA(LevyRegularizer(LAW), gamma=0.5, lamb=0.1, kappa=2.0)(z, field)
    want = 0.5 * loss.levy + 0.1 * loss.sigreg + 2.0 * 0.9 * loss.invariance
    assert torch.allclose(loss.total, want)
    parts = LeJEPA(LevyRegularizer(LAW))(z, [field[:64], field[64:]], generator=generator())
    assert parts.levy.isfinite()


@pytest.mark.parametrize("grid", [(8, 8), (16, 12)])
def test_calibrated_prior_is_in_null_deviations_and_0_where_the_law_holds(grid):
    term = LevyRegularizer(LAW, (box(2),), calibrated=True)
    sheets = sample_sheet(LAW, box(2), grid, 8, 400, generator())
    rotation = torch.eye(8)
    assert term(sheets, rotation) < 5 / 400**0.5
    scores = torch.stack([term(sheet[None], rotation) for sheet in sheets])
    assert 0.3 < (scores > 0).double().mean() < 0.6  # half are clamped
    assert scores.square().mean() < 2
    assert term(0.1 * torch.randn(4, *grid, 8, generator=generator())) > 20


def test_independent_coordinates_are_compared_with_their_own_laws_and_not_rotated():
    jumps = CompoundPoisson(0.5, LaplaceJumps(0.7)) + Brownian(0.2)
    laws = IndependentCoordinates(jumps, Brownian(1.5))
    term = LevyRegularizer(laws, (box(2),), calibrated=True)
    sheets = sample_sheet(laws, box(2), (12, 12), 8, 200, generator())
    assert term(sheets) < 5 / 200**0.5
    scores = torch.stack([term(sheet[None]) for sheet in sheets])  # of two kinds, clamped at 0
    assert 0.2 < scores.mean() < 0.7  # 0.4 for normal scores
    assert term(sheets.roll(1, -1)) > 20
    assert term(sheets @ random_rotation(8, sheets.dtype, sheets.device, generator())) > 20
    trained = LevyRegularizer(laws.learnable_copy(), (box(2), diamond()))
    trained(sheets).backward()
    assert all(parameter.grad.abs() > 0 for parameter in trained.parameters())
    with pytest.raises(ValueError, match="`rotation` must be None"):
        term(sheets, torch.eye(8))
    with pytest.raises(
        ValueError, match="at least 2 channels, one per pair of a law and a stencil, got 1"
    ):
        term(sheets[..., :1])


def test_masked_tokens_are_ignored():
    term = LevyRegularizer(LAW, (box(2), diamond()))
    field = torch.randn(3, 8, 9, 4, generator=generator(), dtype=torch.float64)
    mask = torch.ones(3, 8, 9, dtype=torch.bool)
    mask[:, 6:] = False
    garbage = field.clone()
    garbage[:, 6:] = 1e3
    garbage.requires_grad_()
    rotation = torch.eye(4, dtype=torch.float64)
    loss = term(garbage, rotation, mask=mask)
    assert loss.item() == pytest.approx(term(field[:, :6], rotation).item(), rel=1e-10)
    (grad,) = torch.autograd.grad(loss, garbage)
    assert grad[:, 6:].abs().max() == 0
    with pytest.raises(ValueError, match="`mask` must be"):
        term(field, mask=mask[:, 1:])


def test_several_sides_detect_dependence_that_one_side_does_not():
    """Dependent increments with the right distribution: pairs of neighboring cells are equal."""
    sheet = sample_sheet(LAW, box(2), (16, 16), 8, 64, generator())
    cells = torch.zeros(64, 16, 16, 8)
    first = LAW.sample((64, 16, 8), dim=8, generator=generator())
    cells[:, :, 0::2] = cells[:, :, 1::2] = first
    dependent = cells.cumsum(1).cumsum(2)
    rotation = torch.eye(8)
    one = LevyRegularizer(LAW, (box(2),))
    several = LevyRegularizer(LAW, (box(2), box(2, 2), box(2, 4)), calibrated=True)
    alone = LevyRegularizer(LAW, (box(2),), calibrated=True)
    assert one(dependent, rotation) < 2e-3 * one(torch.zeros_like(sheet), rotation)
    assert alone(dependent, rotation) < 1.5
    assert several(dependent, rotation) > 5 * max(several(sheet, rotation), torch.tensor(0.2))


def test_gamma_zero_computes_nothing_of_the_prior():
    class Fails(LevyRegularizer):
        def forward(self, *args, **kwargs):
            raise AssertionError("computed")

    loss = LeJEPA(Fails(LAW), gamma=0.0)(torch.randn(2, 8, 4), torch.randn(16, 6, 6, 4))
    assert loss.levy is None


def test_compiled_equals_eager():
    field = torch.randn(2, 7, 7, 4)
    rotation = torch.linalg.qr(torch.randn(4, 4))[0]
    term = LevyRegularizer.reference()
    assert torch.allclose(torch.compile(term)(field, rotation), term(field, rotation), rtol=1e-5)


def test_errors_name_invalid_input():
    term = LevyRegularizer(LAW)
    with pytest.raises(ValueError, match="grid of at least"):
        term(torch.randn(2, 1, 1, 4))
    with pytest.raises(ValueError, match=r"looks like features \(B, C, H, W\)"):
        term(torch.randn(2, 192, 14, 14))
    with pytest.raises(ValueError, match="at least 2 channels, one per stencil, got 1"):
        term(torch.randn(2, 5, 5, 1))
    with pytest.raises(ValueError, match="for a stencil of 2 axes"):
        term(torch.randn(2, 25, 4))
    with pytest.raises(ValueError, match=r"`rotation` must be \(4, 4\)"):
        term(torch.randn(2, 5, 5, 4), rotation=torch.eye(3))
    with pytest.raises(ValueError, match=r"`projections` must be \(V, N, D\)"):
        SIGReg()(torch.randn(5, 4))
    with pytest.raises(ValueError, match=r"`directions` must be \(4, K\)"):
        SIGReg()(torch.randn(2, 5, 4), directions=torch.randn(3, 8))
    with pytest.raises(ValueError, match="`num_global` must be from 1 to 2"):
        invariance(torch.randn(2, 5, 4), num_global=3)
    with pytest.raises(TypeError, match="`law` must be a Law"):
        LevyRegularizer(0.5)  # pyright: ignore
    with pytest.raises(ValueError, match="`levy` must be given"):
        LeJEPA(gamma=1.0)
    for name, bad in (("gamma", -1.0), ("kappa", math.nan), ("lamb", 1.5)):
        with pytest.raises(ValueError, match=f"`{name}` must be"):
            LeJEPA(LevyRegularizer(LAW), **{name: bad})
    with pytest.raises(ValueError, match="the same number of axes"):
        LevyRegularizer(LAW, (box(2), box(3)))
