import pytest
import torch

from levyjepa.evaluation import jump_map
from levyjepa.inference import jump_probability
from levyjepa.lattice import box, sample_sheet
from levyjepa.laws import Brownian, CompoundPoisson, LaplaceJumps, StudentTJumps

RARE = Brownian(sigma=0.1) + CompoundPoisson(rate=0.05, jumps=LaplaceJumps(alpha=1.0))


def one_jump(row: int, column: int) -> torch.Tensor:
    """(2, 6, 9, 4): two Brownian fields; the first jumps at one corner of its patches."""
    draw = torch.Generator().manual_seed(0)
    field = sample_sheet(Brownian(0.1), box(2), (6, 9), channels=4, batch=2, generator=draw)
    field[0, row + 1 :, column + 1 :] += torch.tensor([1.0, -2.0, 0.5, 1.0])
    return field


@pytest.mark.parametrize("at", [(0, 0), (2, 5), (4, 7)])
def test_a_planted_jump_is_found_at_its_corner_and_nowhere_else(at):
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


def test_rescaling_leaves_a_field_that_has_the_law_s_variance():
    draw = torch.Generator().manual_seed(0)
    law = Brownian(0.125) + CompoundPoisson(2.0, LaplaceJumps(1.0))
    field = sample_sheet(law, box(2), (33, 33), channels=16, batch=8, generator=draw)
    difference = jump_map(field, law, rescale=True) - jump_map(field, law)
    assert difference.abs().max() < 0.1


def test_bad_fields_and_laws_are_named():
    with pytest.raises(ValueError, match=r"\(B, h, w, C\)"):
        jump_map(torch.randn(6, 9, 4), RARE)
    with pytest.raises(ValueError, match=r"\(2, 2\).*\(1, 9\)"):
        jump_map(torch.randn(2, 1, 9, 4), RARE)
    with pytest.raises(ValueError, match="must vary"):
        jump_map(torch.ones(2, 6, 9, 4), RARE, rescale=True)
    heavy = Brownian(0.1) + CompoundPoisson(0.1, StudentTJumps(1.5))
    with pytest.raises(ValueError, match="needs `nu` above 2"):
        jump_map(torch.randn(2, 6, 9, 4), heavy, rescale=True)
