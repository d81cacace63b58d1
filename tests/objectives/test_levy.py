"""Options of the prior: cells, samples, directions, masks and learnable laws.

Statistical tests: 5 sigma bands, fixed seeds.
"""

import numpy as np
import pytest
import torch

from levyjepa.ecf import equispaced, statistic
from levyjepa.inference import jump_probability
from levyjepa.lattice import box, diamond, increments, line, room, sample_sheet, tilings
from levyjepa.laws import Brownian, CompoundPoisson, IndependentCoordinates, LaplaceJumps, Pinned
from levyjepa.objectives import LevyRegularizer

LAW = Brownian(0.125) + CompoundPoisson(2.0, LaplaceJumps(1.0))
EYE = torch.eye(4, dtype=torch.float64)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def sheets(stencil, count, channels=4, grid=(9, 8), law=LAW):
    return sample_sheet(law, stencil, grid, channels, count, generator(), torch.float64)


@pytest.mark.parametrize(
    "stencil", [diamond(), box(2, 2), line(2, 1, 3)], ids=["diamond", "box", "line"]
)
@pytest.mark.parametrize("cells", ["overlapping", "one", "every"])
@pytest.mark.parametrize("pool", ["image", "channel", "batch"])
def test_cells_and_pools_define_the_samples(stencil, cells, pool):
    field = torch.randn(3, 9, 8, 4, dtype=torch.float64, generator=generator())
    rule = equispaced(LAW, volume=stencil.volume)
    moves = increments(field, stencil)
    parts = [np.arange(moves.shape[1])]
    if cells != "overlapping":
        parts = tilings(stencil, room(stencil, (9, 8)))[: 1 if cells == "one" else None]
    want = []
    for part in parts:
        rows = {"image": 3, "channel": 12, "batch": 1}[pool]
        samples = moves[:, part].movedim(2, 1).reshape(rows, -1)  # image, channel, position
        want.append(statistic(samples, LAW, stencil.volume, rule).mean())
    got = LevyRegularizer(LAW, (stencil,), cells=cells, pool=pool, unbiased=False)(field, EYE)
    assert got.item() == pytest.approx(torch.stack(want).mean().item(), rel=1e-10)


def plain_and_calibrated(law, **kw):
    return LevyRegularizer(law, unbiased=False, **kw), LevyRegularizer(law, calibrated=True, **kw)


def null_of(calibrated, plain, grid, channels, batch, **kw):
    """Null mean and deviation of a calibrated prior, which is linear in the uncalibrated one."""
    noise = torch.randn(batch, *grid, channels, dtype=torch.float64, generator=generator())
    far = [0.3 * noise, 0 * noise]
    (a, b), (x, y) = ([term(f, **kw).item() for f in far] for term in (plain, calibrated))
    std = (b - a) / (y - x)
    return a - std * x, std


@pytest.mark.parametrize(
    ("pool", "cells", "stencil", "channels", "batch"),
    [
        ("image", "one", diamond(), 4, 1),
        ("image", "every", box(2, 2), 4, 1),
        ("channel", "overlapping", box(2, 2), 1, 1),
        ("channel", "every", diamond(), 1, 1),
        ("batch", "overlapping", diamond(), 4, 5),
        ("batch", "one", box(2, 2), 4, 5),
        ("batch", "every", box(2, 2), 4, 5),
    ],
)
def test_calibration_matches_the_samples(pool, cells, stencil, channels, batch):
    trials = 300
    kw = {"stencils": (stencil,), "cells": cells, "pool": pool}
    plain, calibrated = plain_and_calibrated(LAW, **kw)
    turn = {"rotation": torch.eye(channels, dtype=torch.float64)}
    mean, std = null_of(calibrated, plain, (9, 8), channels, batch, **turn)
    fields = sheets(stencil, trials * batch, channels).split(batch)
    losses = torch.stack([plain(field, **turn) for field in fields])
    assert abs(losses.mean() - mean) < 5 * losses.std() / trials**0.5
    if cells == "every":  # a bound, as tilings are partly independent
        assert 0.4 < losses.std() / std < 1.1
    else:
        assert losses.std().item() == pytest.approx(std, rel=0.25)


def test_calibrated_independent_coordinates_in_every_pool():
    laws = IndependentCoordinates(LAW)
    fields = sheets(box(2), 1200, 4, law=laws).split(4)
    for pool in ("image", "channel", "batch"):
        plain, calibrated = plain_and_calibrated(laws, stencils=(box(2),), pool=pool)
        losses = torch.stack([plain(field) for field in fields])
        mean, _ = null_of(calibrated, plain, (9, 8), 4, 4)
        assert abs(losses.mean() - mean) < 5 * losses.std() / 300**0.5


def test_random_directions_may_be_more_than_the_channels():
    fields = sheets(box(2), 400)
    kw = {"stencils": (box(2),), "pool": "channel", "directions": 9}
    plain, calibrated = plain_and_calibrated(LAW, **kw)
    losses = torch.stack([plain(f[None], generator=generator(n)) for n, f in enumerate(fields)])
    unit = torch.nn.functional.normalize(torch.randn(4, 9, dtype=torch.float64), dim=0)
    mean, _ = null_of(calibrated, plain, (9, 8), 4, 1, rotation=unit)
    assert abs(losses.mean() - mean) < 5 * losses.std() / 400**0.5
    noise = sheets(box(2), 400, law=Brownian(2.0))
    assert plain(noise, generator=generator()) > 3 * plain(fields, generator=generator())
    field = fields[:1]
    parts = [
        LevyRegularizer(LAW, (box(2),), directions=1, unbiased=False)(field, unit[:, [n]])
        for n in range(9)
    ]
    assert plain(field, unit).item() == pytest.approx(torch.stack(parts).mean().item(), rel=1e-10)
    with pytest.raises(ValueError, match="`directions` must be None for independent coordinates"):
        LevyRegularizer(LAW, calibrated=True, directions=9)
    with pytest.raises(ValueError, match="`directions` must be None for independent coordinates"):
        LevyRegularizer(IndependentCoordinates(LAW), directions=9)
    with pytest.raises(ValueError, match="`directions` must be at least 2"):
        LevyRegularizer(LAW, directions=1)
    with pytest.raises(ValueError, match=r"`rotation` must be \(4, 9\), got \(4, 4\)"):
        plain(field, EYE)


@pytest.mark.parametrize("pool", ["image", "channel", "batch"])
@pytest.mark.parametrize("cells", ["overlapping", "every"])
def test_images_without_a_whole_cell_are_left_out(pool, cells):
    term = LevyRegularizer(LAW, (box(2), diamond()), pool=pool, cells=cells)
    field = torch.randn(4, 7, 6, 4, dtype=torch.float64, generator=generator())
    mask = torch.ones(4, 7, 6, dtype=torch.bool)
    mask[1] = False
    mask[3, ::2] = False  # whole rows, but no whole cell
    garbage = field.where(mask[..., None], torch.nan).requires_grad_()
    loss = term(garbage, EYE, mask=mask)
    assert loss.item() == pytest.approx(term(field[[0, 2]], EYE).item(), rel=1e-10)
    (grad,) = torch.autograd.grad(loss, garbage)
    assert grad.isfinite().all()
    assert grad[[1, 3]].abs().max() == 0
    assert term(field, EYE, mask=mask.long()) == loss
    with pytest.warns(UserWarning, match="leave no pair of whole cells"):
        assert term(field, EYE, mask=torch.zeros_like(mask)) == 0
    with pytest.raises(TypeError, match="`mask` must be a bool tensor"):
        term(field, EYE, mask=mask.double())
    with pytest.raises(ValueError, match="`mask` must be 0 and 1, got 2"):
        term(field, EYE, mask=2 * mask.long())


WIDE = Brownian(0.3) + CompoundPoisson(1.0, LaplaceJumps(1.0))


def scale_of(x):
    """1 / the frequency at which the empirical characteristic function falls to 1/e."""
    u = torch.logspace(-3, 2, 1000)
    cf = torch.stack([(x * at).cos().mean() for at in u])
    return 1 / u[(cf < np.exp(-1)).nonzero()[0, 0]].item()


def trained(term):
    """The scale of the increments of a small network that is trained by this loss only."""
    torch.manual_seed(0)
    network = torch.nn.Sequential(
        torch.nn.Linear(8, 32), torch.nn.Tanh(), torch.nn.Linear(32, 4, bias=False)
    )
    optimizer = torch.optim.Adam([*network.parameters(), *term.parameters()], lr=0.03)
    decay = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.01, 200)
    for _ in range(200):
        loss = term(network(torch.randn(32, 4, 4, 8)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        decay.step()
    with torch.no_grad():
        return scale_of(increments(network(torch.randn(64, 12, 12, 8)), box(2)))


def test_a_learned_law_does_not_shrink_with_its_network():
    term = LevyRegularizer(WIDE, (box(2),), learnable=True)
    start = 1 / term.law.at
    assert trained(term) == pytest.approx(start, rel=0.08)
    loose = LevyRegularizer(WIDE.learnable_copy(), (box(2),), unbiased=False)
    assert trained(loose) < 0.7 * start


@pytest.mark.parametrize("calibrated", [False, True])
def test_a_learned_law_finds_the_shape_of_another_law(calibrated):
    term = LevyRegularizer(WIDE, (box(2),), calibrated=calibrated, pool="batch", learnable=True)
    other = Brownian(0.15) + CompoundPoisson(0.5, LaplaceJumps(0.5))
    truth = Pinned(other, at=term.law.at).constant_copy()  # of one scale with WIDE
    field = sample_sheet(truth, box(2), (32, 32), 8, 8, generator())
    optimizer = torch.optim.Adam(term.parameters(), lr=0.05)
    for _ in range(100):
        loss = term(field, torch.eye(8))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    smooth, jumps = term.law.constant_copy().laws
    assert jumps.rate == pytest.approx(0.5, rel=0.1)
    size = jumps.jumps.tau_moments()[0] ** 0.5
    assert size == pytest.approx(truth.laws[1].jumps.tau_moments()[0] ** 0.5, rel=0.1)
    assert smooth.sigma == pytest.approx(truth.laws[0].sigma, rel=0.1)
    u = torch.tensor([term.law.at], dtype=torch.float64)
    assert term.law.exponent(u).item() == pytest.approx(-1, rel=1e-9)
    probability = jump_probability(torch.tensor([0.0, 9.0]), term.law)
    assert probability[0] < 0.5
    assert probability[1] > 0.99
    assert term.law.variance().item() == pytest.approx(truth.variance(), rel=0.2)


def test_the_null_follows_a_law_in_training():
    """After training, the calibrated prior equals that of the new law."""
    for learnable in (True, False):
        law = WIDE if learnable else WIDE.learnable_copy()
        term = LevyRegularizer(law, (box(2),), calibrated=True, learnable=learnable)
        field = torch.randn(3, 9, 8, 4, dtype=torch.float64)
        before = term(field, EYE).item()
        with torch.no_grad():
            for parameter in term.parameters():
                parameter.sub_(0.5)
        now = LevyRegularizer(
            term.law.constant_copy(),
            (box(2),),
            lambda law, volume: equispaced(WIDE, volume=volume),
            calibrated=True,
        )
        assert term(field, EYE).item() == pytest.approx(now(field, EYE).item(), rel=1e-5)
        assert term(field, EYE).item() != pytest.approx(before, rel=1e-2)


def test_independent_laws_are_learned_at_their_own_scales():
    laws = IndependentCoordinates(WIDE, Brownian(1.5))
    term = LevyRegularizer(laws, (box(2), diamond()), learnable=True)
    term(torch.randn(2, 6, 6, 4)).backward()
    assert [law.at for law in term.law.laws] == pytest.approx([Pinned(WIDE).at, 2**0.5 / 1.5])
    grads = [parameter.grad for parameter in term.parameters()]
    assert len(grads) == 4
    assert all(grad is not None and grad.isfinite() for grad in grads)


def test_a_law_of_rare_jumps_only_cannot_be_learned():
    with pytest.raises(ValueError, match="`law` must have an exponent that falls below -1"):
        LevyRegularizer(CompoundPoisson(0.7, LaplaceJumps(1.0)), learnable=True)


@pytest.mark.parametrize(
    "options",
    [{"cells": "every", "pool": "batch"}, {"learnable": True, "pool": "channel", "directions": 6}],
    ids=str,
)
def test_compiled_equals_eager(options):
    field, mask = torch.randn(2, 6, 6, 4), torch.ones(2, 6, 6, dtype=torch.bool)
    mask[0, :2] = False
    rotation = torch.linalg.qr(torch.randn(4, 4))[0].repeat(1, 2)[:, : options.get("directions", 4)]
    term = LevyRegularizer(LAW, quadrature=lambda law, v: equispaced(law, 4, v), **options)
    want = term(field, rotation, mask=mask)
    compiled = torch.compile(term, backend="aot_eager")
    assert torch.allclose(compiled(field, rotation, mask=mask), want, rtol=1e-5)


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"cells": "all"}, ValueError, "`cells` must be one of .*, got 'all'"),
        ({"pool": None}, ValueError, "`pool` must be one of .*, got None"),
        ({"directions": 2.5}, TypeError, "`directions` must be an integer"),
        ({"scale": "token"}, ValueError, "`scale` must be one of .*, got 'token'"),
        ({"stencils": ()}, TypeError, "`stencils` must be one Stencil or more"),
    ],
    ids=str,
)
def test_errors_name_invalid_options(options, error, match):
    with pytest.raises(error, match=match):
        LevyRegularizer(LAW, **options)
