"""Maps of jumps: which corner, which edge, which pixel."""

import pytest
import torch

from levyjepa.inference import jump_probability
from levyjepa.lattice import box, line, sample_sheet
from levyjepa.laws import Brownian, CompoundPoisson, LaplaceJumps, StudentTJumps
from levyjepa.tasks.jump_maps import (
    expected_jumps,
    increment_map,
    increment_pixels,
    jump_map,
    jump_pixels,
    lay,
)

RARE = Brownian(sigma=0.1) + CompoundPoisson(rate=0.05, jumps=LaplaceJumps(alpha=1.0))


def one_jump(row: int, column: int) -> torch.Tensor:
    """(2, 6, 9, 4): two Brownian fields; the first jumps at one corner of its patches."""
    draw = torch.Generator().manual_seed(0)
    field = sample_sheet(Brownian(0.1), box(2), (6, 9), channels=4, batch=2, generator=draw)
    field[0, row + 1 :, column + 1 :] += torch.tensor([1.0, -2.0, 0.5, 1.0])
    return field


@pytest.mark.parametrize("at", [(0, 0), (4, 7)])
def test_a_planted_jump_is_at_its_corner_and_nowhere_else(at):
    probability = jump_map(one_jump(*at), RARE)
    assert probability.shape == (2, 5, 8)
    assert probability[0][at] > 0.999
    probability[0][at] = 0
    assert probability.max() < 0.5
    assert probability.mean() < 0.05


def test_the_map_is_the_probability_of_each_mixed_difference():
    field = one_jump(2, 5)
    mixed = field[:, 1:, 1:] - field[:, 1:, :-1] - field[:, :-1, 1:] + field[:, :-1, :-1]
    expected = jump_probability(mixed, RARE, 1.0, isotropic=True)
    torch.testing.assert_close(jump_map(field, RARE), expected)


def test_rescaled_maps_do_not_know_the_field_s_scale():
    field = one_jump(2, 5)
    expected = jump_map(field, RARE, rescale=True)
    torch.testing.assert_close(jump_map(300 * field, RARE, rescale=True), expected)
    assert not torch.allclose(jump_map(300 * field, RARE), expected)


def test_bad_fields_and_laws_are_named():
    with pytest.raises(ValueError, match=r"\(B, h, w, C\)"):
        jump_map(torch.randn(6, 9, 4), RARE)
    with pytest.raises(ValueError, match=r"\(2, 2\).*\(1, 9\)"):
        jump_map(torch.randn(2, 1, 9, 4), RARE)
    with pytest.raises(ValueError, match="must vary"):
        jump_map(torch.ones(2, 6, 9, 4), RARE, rescale=True)
    heavy = Brownian(0.1) + CompoundPoisson(0.1, StudentTJumps(1.5))
    with pytest.raises(ValueError, match="`nu` must be above 2"):
        jump_map(torch.randn(2, 6, 9, 4), heavy, rescale=True)


def step(axis: int, at: int = 4) -> torch.Tensor:
    """(1, 6, 8, 4): noise, and a straight edge before patch `at` of an axis."""
    field = 0.02 * torch.randn(1, 6, 8, 4, generator=torch.Generator().manual_seed(0))
    field.movedim(axis + 1, 0)[at:] += torch.tensor([1.0, -2.0, 0.5, 1.0])
    return field


@pytest.mark.parametrize("axis", [0, 1])
def test_lines_see_the_straight_edge_to_which_the_mixed_difference_is_blind(axis):
    field, stencils = step(axis), (box(2), line(2, 0), line(2, 1))
    blind = jump_pixels(field, RARE, (48, 64), (box(2),), trained=stencils)
    assert blind.max() < 0.1
    values = jump_pixels(field, RARE, (48, 64), trained=stencils)
    assert values.shape == (1, 48, 64)
    across = values[0].mean(1 - axis)
    torch.testing.assert_close(across[31:33], torch.full((2,), 1 - 0.5 / 8), atol=0.01, rtol=0)
    assert across[[31, 32]].min() > across[[30, 33]].max()
    assert across[[0, 20, 44]].max() < 0.1  # a patch and a half away and more


def test_the_largest_of_the_maps_is_taken_and_only_untrained_ones_are_rescaled():
    field, law = 7 * one_jump(2, 5), RARE
    maps = [
        lay(jump_map(field, law, scaled, stencil), stencil, (6, 9), (12, 18))
        for stencil, scaled in ((box(2), False), (line(2, 0), True))
    ]
    values = jump_pixels(field, law, (12, 18), (box(2), line(2, 0)), trained=(box(2),))
    torch.testing.assert_close(values, torch.maximum(*maps))


def test_lines_are_read_at_edges():
    field = one_jump(2, 5)
    expected = jump_probability(field[:, 1:] - field[:, :-1], RARE, 1.0, isotropic=True)
    torch.testing.assert_close(jump_map(field, RARE, stencil=line(2, 0)), expected)
    assert jump_map(field, RARE, stencil=line(2, 1, length=2)).shape == (2, 6, 7)


def test_maps_lie_where_their_stencils_do():
    ramp = torch.tensor([0.0, 1.0])
    corners = lay(ramp.expand(1, 2, 2), box(2), (3, 3), (12, 12))
    at = (torch.arange(12) + 0.5 - 4) / 4  # corners lie at pixels 4 and 8
    torch.testing.assert_close(corners, at.clamp(0, 1).expand(1, 12, 12))
    edges = lay(ramp[:, None].expand(1, 2, 3), line(2, 0), (3, 3), (12, 12))
    torch.testing.assert_close(edges, at.clamp(0, 1)[:, None].expand(1, 12, 12))
    centers = lay(ramp.expand(1, 3, 2), line(2, 0), (4, 2), (16, 8))  # columns of patches
    at = (torch.arange(8) + 0.5 - 2) / 4
    torch.testing.assert_close(centers, at.clamp(0, 1).expand(1, 16, 8))
    alone = lay(torch.full((1, 1, 1), 0.3), box(2), (2, 2), (4, 4))
    torch.testing.assert_close(alone, torch.full((1, 4, 4), 0.3))


def test_increments_are_measured_in_their_own_root_mean_square():
    field = torch.zeros(1, 2, 2, 3)
    field[0, 1, 1] = torch.tensor([2.0, 2.0, 1.0])
    values = increment_pixels(field, (2, 2), (line(2, 1),))
    expected = torch.tensor([[0.0, 0.0], [2**0.5, 2**0.5]])[None]  # norms 0 and 3: rms 3 / sqrt 2
    torch.testing.assert_close(values, expected)
    torch.testing.assert_close(increment_pixels(100 * field, (2, 2), (line(2, 1),)), values)


def test_a_map_of_increments_has_mean_square_one_and_ranks_as_the_probability_does():
    field = one_jump(2, 5) + 0.1 * torch.randn(
        2, 6, 9, 4, generator=torch.Generator().manual_seed(1)
    )
    values = increment_map(field)
    assert values.shape == (2, 5, 8)
    torch.testing.assert_close(values.square().mean(), torch.tensor(1.0))
    torch.testing.assert_close(increment_map(100 * field), values)
    order = jump_map(field.double(), RARE).flatten()[values.flatten().argsort()]
    assert (order.diff() >= 0).all()
    with pytest.raises(ValueError, match="must vary"):
        increment_map(torch.ones(2, 6, 9, 4))


def test_the_law_expects_jumps_in_a_share_of_cells():
    assert expected_jumps(RARE) == pytest.approx(0.04877, abs=1e-5)  # 1 - exp(-.05)
    assert expected_jumps(Brownian(1.0)) is None
