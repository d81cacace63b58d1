"""Measures of a representation against values known by theory."""

import math

import pytest
import torch
from scipy.special import iv

from levyjepa.lattice import box, diamond, line, sample_sheet
from levyjepa.laws import Brownian, CompoundPoisson, LaplaceJumps, StudentTJumps
from levyjepa.tasks import evaluate
from levyjepa.tasks.builtin.health import (
    alignment,
    effective_rank,
    gaussian_misfit,
    levy_misfit,
    spread,
    uniformity,
)

LAW = Brownian(0.125) + CompoundPoisson(2.0, LaplaceJumps(1.0))


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def circle(n: int, turn: float = 0.0) -> torch.Tensor:
    angle = 2 * math.pi * (torch.arange(n).double() / n) + turn
    return torch.stack([angle.cos(), angle.sin()], 1)


@pytest.mark.parametrize("rank", [1, 3, 10])
def test_equal_singular_values_have_their_number_for_a_rank(rank):
    frame = torch.linalg.qr(normal(50, rank)).Q @ torch.linalg.qr(normal(20, rank, seed=1)).Q.T
    assert effective_rank(7 * frame) == pytest.approx(rank, rel=1e-5)


def test_the_rank_of_unequal_singular_values_by_hand():
    x = torch.diag(torch.tensor([2.0, 1.0, 1.0, 0.0]))  # p = 1/2, 1/4, 1/4: entropy 1.5 log 2
    assert effective_rank(x) == pytest.approx(2**1.5)
    assert effective_rank(torch.zeros(3, 4)) == 0


def test_a_gaussian_of_rank_r_has_nearly_rank_r():
    assert 7.9 < effective_rank(normal(20_000, 8) @ torch.linalg.qr(normal(30, 8)).Q.T) <= 8


def test_points_on_a_circle_are_uniform_as_bessel_says():
    n = 400
    mean = math.exp(-4) * iv(0, 4)  # mean of exp(-4 + 4 cos t) over the circle
    pairs = (n * mean - 1) / (n - 1)  # less each point with itself
    assert uniformity(5 * circle(n)) == pytest.approx(math.log(pairs), abs=1e-9)
    assert uniformity(torch.tensor([[1.0, 0.0], [-3.0, 0.0]])) == pytest.approx(-8)
    assert uniformity(torch.ones(9, 4)) == pytest.approx(0, abs=1e-6)
    high = uniformity(normal(1500, 64))  # log E exp(-4 + 4t), t normal of variance 1/64
    assert high == pytest.approx(-4 + 8 / 64, abs=0.01)


def test_turned_views_are_aligned_as_the_angle_says():
    assert alignment(circle(10), 3 * circle(10, 0.4)) == pytest.approx(2 - 2 * math.cos(0.4))
    assert alignment(circle(10), circle(10)) == 0


def test_gaussians_score_0_and_others_do_not():
    """False alarm of a score above 4 null deviations: below 1 in 1,000 each."""
    scores = torch.tensor([gaussian_misfit(normal(300, 8, seed=s), seed=s) for s in range(5)])
    assert scores.abs().max() < 4
    assert abs(scores.mean()) < 1.5
    x = normal(300, 8)
    assert gaussian_misfit(1.4 * x) > 10
    assert gaussian_misfit(x + 1) > 10
    assert gaussian_misfit(x * torch.tensor([1.0] * 4 + [0.0] * 4)) > 10


@pytest.mark.parametrize("stencil", [box(2), diamond(), line(2, 1)])
def test_sheets_of_the_law_score_0_on_any_grid(stencil):
    """The mean of 64 images is within 4 of its deviations 1/8: false alarm below 1 in 1,000."""
    draw = torch.Generator().manual_seed(0)
    for grid in ((6, 9), (12, 12)):
        field = sample_sheet(LAW, stencil, grid, channels=8, batch=64, generator=draw)
        assert abs(levy_misfit(field, LAW, stencil)) < 0.5
        assert levy_misfit(3 * field, LAW, stencil) > 3
        assert abs(levy_misfit(30 * field, LAW, stencil, rescale=True)) < 0.75
        smooth = sample_sheet(Brownian(1.0), stencil, grid, 8, 64, draw)
        assert levy_misfit(smooth, LAW, stencil, rescale=True) > 0.5


def test_spread_is_the_share_of_variance():
    assert spread(torch.tensor([[1.0, 2.0], [1.0, 4.0]])) == pytest.approx(0.5 / 5.5)
    assert spread(torch.zeros(3, 2)) == 0


@pytest.mark.parametrize("kind", ["point", "line", "offset"])
def test_a_collapse_is_a_warning_and_a_score(kind, squares, settings, subjects, caplog):
    encoder = subjects[0].encoder
    offset = normal(1, 8)
    with torch.no_grad():
        if kind == "point":  # nearly: the scores see shares, whatever the scale
            encoder.embed.weight *= 1e-4
            encoder.embed.bias.copy_(offset[0])
        if kind == "line":
            encoder.embed.weight.copy_(normal(8, 1) @ encoder.embed.weight[:1])
        if kind == "offset":
            encoder.embed.bias += 3 * offset[0]
    found = evaluate(subjects[:1], squares(), settings, tasks=["health"])
    collapsed = found.get("health/collapsed")
    assert collapsed is not None
    assert collapsed.value == (kind != "offset")
    assert ("collapsed" in caplog.text) == (kind != "offset")


def test_misfits_that_cannot_be_rescaled_are_left_out(squares, settings, subjects):
    heavy = Brownian(0.1) + CompoundPoisson(0.1, StudentTJumps(1.5))
    laws = {"box(2)": (box(2), LAW), "line(2, 0)": (line(2, 0), heavy)}
    found = evaluate(subjects[:1], squares(), settings, tasks=["health"], laws=laws)
    misfits = {s.name for s in found.scores if s.name.startswith("levy")}
    assert misfits == {"levy/box(2)", "levy_rescaled/box(2)", "levy/line(2, 0)"}
