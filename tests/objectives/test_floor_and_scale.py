"""The noise floor, and the units of the prior: what a user relies on when the loss is dropped in.

Statistical tests: 5 sigma bands, fixed seeds.
"""

import warnings

import pytest
import torch

from levyjepa.ecf import equispaced
from levyjepa.ecf.pairs import pair_sums
from levyjepa.lattice import box, diamond, increments, line, sample_sheet
from levyjepa.laws import ALL_LAWS, Brownian, CompoundPoisson, LaplaceJumps, Stable
from levyjepa.objectives import LevyRegularizer, SIGReg, VideoRegularizer
from levyjepa.objectives.scale import correlated_variance, deviations, units

RARE = Brownian(0.25) + CompoundPoisson(0.3, LaplaceJumps(1.0))
OFTEN = Brownian(0.125) + CompoundPoisson(2.0, LaplaceJumps(1.0))
EYE = torch.eye(4, dtype=torch.float64)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def random_mask(batch, grid, kept, seed=1):
    """Tokens kept at random, as by a masked autoencoder, in 2 x 2 blocks so that cells remain."""
    blocks = torch.rand(batch, *((n + 1) // 2 for n in grid), generator=generator(seed)) < kept
    return blocks.repeat_interleave(2, 1).repeat_interleave(2, 2)[:, : grid[0], : grid[1]]


def assert_zero_on_average(losses):
    losses = torch.stack(losses).double()
    assert abs(losses.mean()) < 5 * losses.std() / len(losses) ** 0.5


@pytest.mark.parametrize("law", ALL_LAWS, ids=repr)
def test_every_law_scores_0_on_average(law):
    one = [LevyRegularizer(law, (stencil,)) for stencil in (box(2), diamond())]
    for term, stencil in zip(one, (box(2), diamond()), strict=True):
        sheets = sample_sheet(law, stencil, (8, 7), 4, 200, generator(), torch.float64)
        assert_zero_on_average([term(sheet[None], EYE) for sheet in sheets])


@pytest.mark.parametrize("stencil", [box(2), diamond(), box(2, 2), line(2, 1)], ids=str)
@pytest.mark.parametrize("pool", ["image", "channel", "batch"])
@pytest.mark.parametrize("kept", [None, 0.25, 0.6])
def test_the_law_scores_0_on_every_grid_mask_and_pool(stencil, pool, kept):
    """Where the floor is left in, the same samples score above 0."""
    for grid in ((7, 7), (14, 10)):
        sheets = sample_sheet(OFTEN, stencil, grid, 4, 600, generator(), torch.float64)
        mask = None if kept is None else random_mask(600, grid, kept)
        scores = {True: [], False: []}
        for unbiased in scores:
            term = LevyRegularizer(OFTEN, (stencil,), pool=pool, unbiased=unbiased)
            for n in range(0, 600, 4):
                own = None if mask is None else mask[n : n + 4]
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # masks without a pair
                    scores[unbiased].append(term(sheets[n : n + 4], EYE, mask=own))
        assert_zero_on_average(scores[True])
        floor = torch.stack(scores[False])
        assert kept or floor.mean() > 5 * floor.std() / len(floor) ** 0.5


@pytest.mark.parametrize("cells", ["overlapping", "one", "every"])
def test_every_kind_of_a_clip_scores_0_on_average(cells):
    """Histories and frames of independent processes, of which `sample_sheet` makes fields."""
    kinds = {
        "spacetime": box(3, spacing=(0.5, 1, 1)),
        "space": box(2).lifted,
        "time": line(3, 0, spacing=(0.5, 1, 1)),
    }
    for kind, stencil in kinds.items():
        term = VideoRegularizer({kind: OFTEN}, (box(2),), time_step=0.5, cells=cells)
        clips = sample_sheet(OFTEN, stencil, (5, 6, 7), 4, 200, generator(), torch.float64)
        assert_zero_on_average([term(clip[None], EYE) for clip in clips])


def departure(grid, count, smooth=2.0):
    """Gaussian sheets, whose increments have the variance of the law and no jumps."""
    return sample_sheet(Brownian(smooth), box(2), grid, 4, count, generator(), torch.float64)


def test_one_departure_scores_the_same_on_every_grid_and_under_masks():
    """A gamma chosen on one grid holds on another; see the exact integral for the value."""
    term = LevyRegularizer(OFTEN, (box(2),))
    rule = equispaced(OFTEN)
    gap = Brownian(2.0).characteristic_function(rule.nodes) - OFTEN.characteristic_function(
        rule.nodes
    )
    want = 2 * (rule.weights * gap**2).sum()
    for grid in ((7, 7), (14, 14), (28, 28)):
        sheets = departure(grid, 19600 // (grid[0] * grid[1]) * 4)
        assert term(sheets, EYE).item() == pytest.approx(want.item(), rel=0.05)
        mask = random_mask(len(sheets), grid, 0.7)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert term(sheets, EYE, mask=mask).item() == pytest.approx(want.item(), rel=0.15)


def test_under_heavy_masks_the_law_is_preferred_to_noise():
    term, biased = (LevyRegularizer(OFTEN, (box(2),), unbiased=u) for u in (True, False))
    grid, count = (14, 14), 400
    mask = torch.rand(count, *grid, generator=generator(1)) < 0.25
    sheets = sample_sheet(OFTEN, box(2), grid, 4, count, generator(), torch.float64)
    noise = torch.randn(count, *grid, 4, dtype=torch.float64, generator=generator(2))
    assert biased(sheets, EYE, mask=mask) > biased(noise, EYE, mask=mask)
    assert term(sheets, EYE, mask=mask) < term(noise, EYE, mask=mask)


def test_the_mean_gradient_is_0_where_the_law_holds():
    """The derivative with respect to the field's scale; with the floor it is far from 0."""
    sheets = sample_sheet(OFTEN, box(2), (4, 4), 4, 20000, generator(), torch.float64)
    for unbiased in (True, False):
        term = LevyRegularizer(OFTEN, (box(2),), unbiased=unbiased)
        scale = torch.ones(len(sheets), 1, 1, 1, dtype=torch.float64, requires_grad=True)
        slopes = torch.autograd.grad(len(sheets) * term(scale * sheets, EYE), scale)[0].flatten()
        error = slopes.std() / len(slopes) ** 0.5
        assert (abs(slopes.mean()) < 5 * error) == unbiased


def correlated(rho, grid, count, channels=4):
    """Gaussian tokens of variance 1 with the correlation rho^(|a| + |b|)."""
    field = torch.randn(count, *grid, channels, dtype=torch.float64, generator=generator())
    for axis, n in enumerate(grid, 1):
        lag = (torch.arange(n)[:, None] - torch.arange(n)).abs()
        root = torch.linalg.cholesky(torch.tensor(rho, dtype=torch.float64) ** lag)
        field = torch.tensordot(field, root, ([axis], [1])).movedim(-1, axis)
    return field


@pytest.mark.parametrize("rho", [0.2, 0.6, 0.9])
def test_in_units_of_tokens_the_variance_of_a_law_is_the_smoothness(rho):
    """Gaussian tokens follow Brownian(2 (1 - rho)): a score of 0 up to 1 / N, at any scale."""
    stencils = (box(2), diamond(), line(2, 0))
    factor = torch.tensor([0.1, 1.0, 3.0, 30.0], dtype=torch.float64)  # of channels
    law = Brownian(2 * (1 - rho))
    field = correlated(rho, (12, 12), 300) * factor + 5 * factor
    rotation = torch.linalg.qr(torch.randn(4, 4, dtype=torch.float64, generator=generator()))[0]
    options = {"scale": "tokens", "pool": "batch"}  # one image holds dependent increments
    right = LevyRegularizer(law, stencils, **options)(field, rotation)
    for other in (0.5 * law.sigma, 2 * law.sigma):
        wrong = LevyRegularizer(Brownian(other), stencils, **options)(field, rotation)
        assert abs(right) < 0.02 * wrong


def test_variances_of_stencils_under_a_correlation():
    field = correlated(0.7, (40, 40), 50)
    for stencil in (box(2), diamond(), line(2, 1), box(2, 2)):
        variance = increments(field, stencil).var().item()
        assert correlated_variance(stencil, 0.7) == pytest.approx(variance, rel=0.05)
    assert units((box(2), box(2, 4), diamond()), 4 * 0.3**2) == pytest.approx(
        [1.0, 1.0, (4 * (1 - 0.7**2) / 2 / (4 * 0.3**2)) ** 0.5]
    )


@pytest.mark.parametrize("scale", ["tokens", "free"])
@pytest.mark.parametrize("pool", ["image", "batch"])
def test_the_loss_does_not_depend_on_the_scale_of_the_field(scale, pool):
    term = LevyRegularizer(RARE, scale=scale, pool=pool)
    field = correlated(0.5, (9, 8), 3).requires_grad_()
    mask = random_mask(3, (9, 8), 0.9)
    loss = term(field, EYE, mask=mask)
    (grad,) = torch.autograd.grad(loss, field)
    for factor in (1e-3, 10.0, 1e4):
        larger = (factor * field.detach()).requires_grad_()
        again = term(larger, EYE, mask=mask)
        assert again.item() == pytest.approx(loss.item(), rel=1e-9)
        assert torch.allclose(torch.autograd.grad(again, larger)[0] * factor, grad, rtol=1e-6)
    assert (grad * field).sum().abs() < 1e-9 * (grad.abs() * field.abs()).sum()


def test_a_constant_channel_has_a_finite_gradient_in_units_of_tokens():
    field = torch.randn(4, 6, 6, 4, generator=generator())
    field[..., 0] = 3.0
    for bare in (field, torch.full_like(field, 2.0)):
        for scale in ("tokens", "free"):
            x = bare.clone().requires_grad_()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                loss = LevyRegularizer(RARE, scale=scale)(x, generator=generator())
            (grad,) = torch.autograd.grad(loss, x)
            assert loss.isfinite()
            assert grad.isfinite().all()
    assert deviations(field, None)[0] < 2e-3 * deviations(field, None)[1]


@pytest.mark.parametrize("scale", ["tokens", "free"])
@pytest.mark.parametrize("deviation", [1e-3, 1.0, 1e4])
def test_a_free_field_reaches_the_law_from_any_deviation(scale, deviation):
    """From white noise, by Adam with a learning rate in proportion."""
    term = LevyRegularizer(RARE, (box(2),), scale=scale)
    field = torch.nn.Parameter(deviation * torch.randn(8, 10, 10, 8, generator=generator()))
    optimizer = torch.optim.Adam([field], lr=0.03 * deviation)
    start = term(field, generator=generator()).item()
    for step in range(150):
        optimizer.zero_grad()
        term(field, generator=generator(step)).backward()
        optimizer.step()
    assert term(field, generator=generator(1000)).item() < 0.03 * start


def test_a_field_out_of_range_of_a_fixed_scale_is_warned_of_once():
    for factor, text in ((300.0, "too large"), (1e-5, "too small")):
        term = LevyRegularizer(RARE)
        field = factor * torch.randn(2, 8, 8, 4, generator=generator())
        with pytest.warns(UserWarning, match=f"{text} for the frequencies"):
            term(field)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            term(field)
            LevyRegularizer(RARE, scale="tokens")(field)
            LevyRegularizer(RARE)(torch.randn(2, 8, 8, 4, generator=generator()))


def test_errors_say_which_laws_have_a_unit():
    cauchy = Stable(1.0)
    LevyRegularizer(cauchy, (box(2),), scale="tokens")
    with pytest.raises(ValueError, match="`law` must have a variance for scale='tokens' with"):
        LevyRegularizer(cauchy, scale="tokens")
    with pytest.raises(ValueError, match="`law` must have a variance for scale='free', got Sta"):
        LevyRegularizer(cauchy, scale="free")


QUICK = {"quadrature": lambda law, volume: equispaced(law, 4, volume)}


@pytest.mark.parametrize("scale", ["fixed", "tokens", "free"])
@pytest.mark.parametrize("unbiased", [True, False])
@pytest.mark.parametrize("cells", ["overlapping", "every"])
def test_gradients_of_gradients(scale, unbiased, cells):
    term = LevyRegularizer(RARE, scale=scale, unbiased=unbiased, cells=cells, **QUICK)
    field = torch.randn(2, 5, 4, 2, dtype=torch.float64, generator=generator(), requires_grad=True)
    mask = torch.ones(2, 5, 4, dtype=torch.bool)
    mask[0, 0] = False
    eye = torch.eye(2, dtype=torch.float64)
    for present in (None, mask):
        assert torch.autograd.gradgradcheck(lambda x, m=present: term(x, eye, mask=m), (field,))


def test_hessian_products_equal_finite_differences():
    field = torch.randn(2, 6, 6, 4, dtype=torch.float64, generator=generator())
    z = torch.randn(2, 12, 4, dtype=torch.float64, generator=generator())
    directions = torch.nn.functional.normalize(torch.randn(4, 9, dtype=torch.float64), dim=0)
    learned = LevyRegularizer(RARE, learnable=True)
    cases = [
        (lambda x: LevyRegularizer(RARE)(x, EYE), field),
        (lambda x: learned(x, EYE), field),
        (lambda x: SIGReg()(x, directions), z),
    ]
    for loss, x in cases:
        v = torch.randn(x.shape, dtype=torch.float64, generator=generator(1))
        _, product = torch.autograd.functional.hvp(loss, x, v)
        grad = torch.func.grad(loss)
        step = 1e-5
        want = (grad(x + step * v) - grad(x - step * v)) / (2 * step)
        assert torch.allclose(product, want, rtol=1e-5, atol=1e-9)
        _, slope = torch.func.jvp(loss, (x,), (v,))
        assert slope.item() == pytest.approx((grad(x) * v).sum().item(), rel=1e-9)
        leaf = x.clone().requires_grad_()
        (first,) = torch.autograd.grad(loss(leaf), leaf, create_graph=True)
        (second,) = torch.autograd.grad(first.square().sum(), leaf)  # a gradient penalty
        _, twice = torch.autograd.functional.hvp(loss, x, 2 * first.detach())
        assert torch.allclose(second, twice, rtol=1e-9)


@pytest.mark.parametrize("options", [{}, {"cells": "every"}, {"pool": "batch"}], ids=str)
def test_compiled_gradients_equal_eager_ones(options):
    term = LevyRegularizer(RARE, scale="tokens", **QUICK, **options)
    field, rotation = torch.randn(2, 7, 6, 4), torch.eye(4)

    def grad(loss):
        x = field.clone().requires_grad_()
        return torch.autograd.grad(loss(x, rotation), x)[0]

    compiled = torch.compile(term, backend="aot_eager", fullgraph=True)
    assert torch.allclose(grad(compiled), grad(term), rtol=1e-4, atol=1e-7)


def test_modules_built_on_the_meta_device_have_their_tables():
    z, field = torch.randn(2, 30, 4), torch.randn(2, 6, 6, 4)
    with torch.device("meta"):
        built = SIGReg(9), LevyRegularizer(RARE), LevyRegularizer("Brownian(0.5)", "box(2)")
        learned = LevyRegularizer(OFTEN, learnable=True, scale="tokens")
    directions = torch.nn.functional.normalize(torch.randn(4, 9), dim=0)
    sigreg, levy, text = (module.to_empty(device="cpu") for module in built)
    assert sigreg(z, directions) == SIGReg(9)(z, directions) > 0
    assert levy(field, EYE) == LevyRegularizer(RARE)(field, EYE) > 0
    assert text(field, EYE) == LevyRegularizer(Brownian(0.5), box(2))(field, EYE)
    saved = LevyRegularizer(OFTEN, learnable=True, scale="tokens")
    learned.to_empty(device="cpu").load_state_dict(saved.state_dict())
    assert learned(field, EYE) == saved(field, EYE)


def test_increments_given_directly():
    """Increments along the rows of a field, which a line stencil takes."""
    field = torch.randn(3, 9, 4, dtype=torch.float64, generator=generator())
    levy = LevyRegularizer(RARE, line(), scale="free")
    direct = LevyRegularizer.of_increments(RARE, scale="free")
    assert direct(field.diff(dim=1), EYE).item() == pytest.approx(levy(field, EYE).item())
    mask = torch.ones(3, 8, dtype=torch.bool)
    mask[:, 5:] = False
    cut = direct(field[:, :6].diff(dim=1), EYE).item()
    assert direct(field.diff(dim=1), EYE, mask=mask).item() == pytest.approx(cut)


@pytest.mark.parametrize("count", [200, 4000])
def test_a_backward_pass_under_autocast_keeps_its_precision(count):
    x = torch.randn(8, 6, count, generator=generator(), requires_grad=True)
    rule = equispaced(RARE)
    target = RARE.characteristic_function(rule.nodes)
    total = torch.stack(pair_sums(x, None, target, rule.nodes, rule.step, 0)).sum()
    (want,) = torch.autograd.grad(total, x, retain_graph=True)
    with torch.autocast("cpu", torch.bfloat16):
        (grad,) = torch.autograd.grad(total, x)
    assert torch.equal(grad, want)
