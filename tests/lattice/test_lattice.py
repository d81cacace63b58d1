"""Stencils, increments and sheets.

Statistical tests have fixed seeds and the false-alarm rate of `tests/conftest.py`.
"""

import numpy as np
import pytest
import torch

from levyjepa.lattice import (
    Stencil,
    box,
    centers,
    diamond,
    increments,
    line,
    on_tokens,
    parse_stencils,
    room,
    sample_sheet,
    tiling,
    tilings,
)
from levyjepa.laws import Brownian, CompoundPoisson, LaplaceJumps

LAW = Brownian(0.5) + CompoundPoisson(0.7, LaplaceJumps(1.0))
STENCILS = {
    "box(1)": (box(1), (40,)),
    "box(2)": (box(2), (12, 15)),
    "box(2, 3)": (box(2, 3), (12, 15)),
    "box(3)": (box(3), (6, 7, 8)),
    "box(3, 2, spacing)": (box(3, 2, spacing=(0.5, 1, 1)), (6, 7, 8)),
    "diamond()": (diamond(), (12, 15)),
    "diamond(2)": (diamond(2), (12, 15)),
    "line(1)": (line(), (40,)),
    "line(2, 1, 3)": (line(2, 1, 3), (12, 15)),
    "line(3, 0)": (line(3, 0), (6, 7, 8)),
}
every_stencil = pytest.mark.parametrize(("stencil", "grid"), STENCILS.values(), ids=STENCILS)


def test_volumes():
    assert [box(1).volume, box(2, 3).volume, box(3, 2).volume] == [1, 9, 8]
    assert [diamond().volume, diamond(3).volume, line(3, 1, 4).volume] == [2, 18, 4]
    assert box(3, 2, spacing=(0.5, 1, 1)).volume == 4
    assert line(2, 0, 3, spacing=(0.25, 1)).volume == 0.75
    assert line(2, 0, 3, spacing=(1e-20, 1e20)).volume == 3e-20


def test_increments_by_hand():
    a = torch.randn(2, 5, 6, 3, dtype=torch.float64)
    x, y = 2, 3
    mixed = a[:, x + 1, y + 1] - a[:, x + 1, y] - a[:, x, y + 1] + a[:, x, y]
    assert torch.allclose(increments(a, box(2)).view(2, 4, 5, 3)[:, x, y], mixed)
    rotated = a[:, x - 1, y] - a[:, x, y - 1] - a[:, x, y + 1] + a[:, x + 1, y]
    assert torch.allclose(increments(a, diamond()).view(2, 3, 4, 3)[:, x - 1, y - 1], rotated)
    assert torch.allclose(
        increments(a, line(2, 1, 2)).view(2, 5, 4, 3)[:, x, y], a[:, x, y + 2] - a[:, x, y]
    )


@pytest.mark.parametrize("stencil", [box(2), diamond(2), line(2, 1, spacing=(1, 0.5))])
def test_a_lifted_stencil_applies_to_every_frame(stencil):
    clip = torch.randn(2, 3, 6, 7, 2)
    frames = increments(clip.flatten(0, 1), stencil).unflatten(0, (2, 3))
    assert torch.equal(increments(clip, stencil.lifted), frames.flatten(1, 2))
    assert stencil.lifted.volume == stencil.volume


def test_original_increments(shared_data):
    saved = np.load(shared_data / "reference" / "reference.npz")
    field = torch.from_numpy(saved["field"])
    for stencil, name in ((box(2), "field_axis"), (diamond(), "field_diagonal")):
        assert np.abs(increments(field, stencil).abs().numpy() - np.abs(saved[name])).max() < 1e-14


@every_stencil
def test_a_larger_box_is_a_sum_of_small_ones(stencil, grid):
    field = torch.randn(1, *grid, 1, dtype=torch.float64)
    constant = torch.ones_like(field)
    assert increments(field + 5 * constant, stencil).allclose(increments(field, stencil))
    if stencil == box(2, 3):
        small = increments(field, box(2)).view(1, 11, 14).unfold(1, 3, 1).unfold(2, 3, 1)
        assert small.sum((-1, -2)).flatten().allclose(increments(field, stencil).flatten())


@every_stencil
def test_increments_of_a_sheet_follow_the_law(stencil, grid, false_alarm):
    batch = 3000
    field = sample_sheet(
        LAW, stencil, grid, 2, batch, torch.Generator().manual_seed(0), torch.float64
    )
    x = increments(field, stencil)[:, ::7]
    u = torch.tensor([0.3, 1.0, 2.0], dtype=torch.float64)
    gap = (x[..., None] * u).cos().mean(0) - LAW.characteristic_function(u, stencil.volume)
    assert gap.abs().max() < false_alarm.sigmas(gap.numel()) * batch**-0.5


@every_stencil
def test_tiled_cells_are_disjoint_and_fill_the_lattice(stencil, grid, false_alarm):
    shape = tuple(4 * (e + 1) for e in stencil.extent)
    chosen = tiling(stencil, shape)
    steps = round(abs(np.linalg.det(stencil.basis)))
    assert len(chosen) == pytest.approx(np.prod(shape) / steps, rel=0.3)
    if len(stencil.steps) == stencil.ndim:
        law = Brownian(1.0)
        field = sample_sheet(law, stencil, grid, 1, 4000, torch.Generator().manual_seed(1))
        x = increments(field, stencil, disjoint=True)[..., 0].double()
        assert x.shape[1] < increments(field, stencil).shape[1] or stencil.volume <= 1
        correlation = torch.corrcoef(x[:, :12].T) - torch.eye(min(12, x.shape[1]))
        assert correlation.abs().max() < false_alarm.sigmas(66) * 4000**-0.5


@every_stencil
def test_every_tiling_is_disjoint_and_together_they_are_all_positions(stencil, grid):
    shape = room(stencil, grid)
    parts = tilings(stencil, shape)
    assert np.array_equal(parts[0], tiling(stencil, shape))
    assert sorted(np.concatenate(parts).tolist()) == list(range(np.prod(shape)))
    middles = centers(stencil, grid)
    for cells in parts:
        distance = (middles[cells][:, None] - middles[cells]).abs()
        across = torch.tensor([step != 0 for step in np.abs(stencil.steps).sum(0)])
        level = distance[..., ~across].sum(-1) == 0  # cells of other rows are disjoint anyway
        size = max(map(max, stencil.steps))
        if stencil.offsets == diamond(size).offsets:
            shared = distance.sum(-1) < 2 * size
        else:
            shared = (distance[..., across] < size).all(-1) & level
        assert torch.equal(shared, torch.eye(len(cells), dtype=torch.bool))


@pytest.mark.parametrize(
    ("stencil", "grid", "count"),
    [
        (box(2), (6, 6), 1),
        (box(2, 2), (6, 6), 4),
        (box(2, 4), (6, 6), 4),  # 16, but the grid has only 2 x 2 positions
        (box(3, 2), (5, 5, 5), 8),
        (diamond(), (6, 6), 2),
        (diamond(2), (9, 9), 8),
        (line(1, 0, 3), (9,), 3),
        (line(2, 1, 3), (2, 9), 3),
    ],
)
def test_how_many_tilings(stencil, grid, count):
    assert len(tilings(stencil, room(stencil, grid))) == count


def touches(stencil, tokens, middles):
    """Which tokens (rows) lie in which closed cells (columns), by formulas for the shapes."""
    gap = (tokens[:, None] - middles).abs()
    size = max(map(max, stencil.steps))
    if stencil.offsets == diamond(size).offsets:
        return gap.sum(-1) <= size
    half = torch.tensor([size / 2 if any(axis) else 0.0 for axis in np.transpose(stencil.steps)])
    return (gap <= half).all(-1)


@every_stencil
def test_values_of_cells_are_averaged_over_the_tokens_that_they_touch(stencil, grid):
    middles = centers(stencil, grid)
    n = len(middles)
    assert increments(torch.zeros(1, *grid, 1), stencil).shape[1] == n
    tokens = torch.from_numpy(np.indices(grid).reshape(len(grid), -1).T).double()
    share = touches(stencil, tokens, middles).double()
    values = torch.randn(2, n, dtype=torch.float64, requires_grad=True)
    want = (values @ share.T / share.sum(1)).view(2, *grid)
    got = on_tokens(values, stencil, grid)
    assert torch.equal(got.isnan(), (share.sum(1) == 0).view(grid).expand(2, *grid))
    torch.testing.assert_close(got, want, equal_nan=True)
    (grad,) = torch.autograd.grad(got.nansum(), values)
    assert grad.isfinite().all()


def test_cells_of_a_jump_are_centered_on_it():
    field = torch.zeros(1, 6, 7, 1, dtype=torch.float64)
    field[:, 3:, 4:] = 1.0  # one jump of the sheet, at the corner between tokens 2, 3 and 3, 4
    for stencil in (box(2), box(2, 2)):
        where = increments(field, stencil)[..., 0] != 0
        middle = centers(stencil, (6, 7))[where[0]].mean(0)
        assert middle.tolist() == [2.5, 3.5]
        back = on_tokens(where.double(), stencil, (6, 7))[0]
        assert {tuple(at) for at in (back == back.max()).nonzero().tolist()} == {
            (2, 3),
            (2, 4),
            (3, 3),
            (3, 4),
        }
    corners = on_tokens(torch.ones(1, 12), diamond(), (5, 6))[0].isnan().nonzero()
    assert corners.tolist() == [[0, 0], [0, 5], [4, 0], [4, 5]]


def test_neighboring_diamonds_share_a_quarter():
    field = sample_sheet(
        Brownian(1.0), diamond(), (3, 4), 1, 20_000, torch.Generator().manual_seed(0)
    )
    x = increments(field, diamond())[..., 0]
    assert torch.corrcoef(x.T)[0, 1].item() == pytest.approx(0.25, abs=0.03)


def test_lines_detect_straight_edges_and_boxes_do_not():
    edge = torch.zeros(1, 8, 8, 1)
    edge[:, 4:] = 1
    assert increments(edge, box(2)).abs().max() == 0
    assert increments(edge, line(2, 0)).abs().max() == 1


def test_parse_stencils():
    assert parse_stencils("box(2, side=2)") == (box(2, 2),)
    with pytest.raises(ValueError, match="not a stencil"):
        parse_stencils("circle(2)")


def test_errors_name_invalid_input():
    with pytest.raises(ValueError, match=r"at least \(2, 2\) for this stencil, got \(1, 5\)"):
        increments(torch.randn(1, 1, 5, 2), box(2))
    with pytest.raises(ValueError, match="for a stencil of 2 axes"):
        increments(torch.randn(1, 5, 2), box(2))
    with pytest.raises(TypeError, match="floating-point"):
        increments(torch.ones(1, 5, 5, 2, dtype=torch.long), box(2))
    with pytest.raises(ValueError, match="sum to 0"):
        Stencil(((0,), (1,)), (1, 1), 1.0)
    with pytest.raises(ValueError, match="`volume` must be positive"):
        Stencil(((0,), (1,)), (-1, 1), -1.0)
    with pytest.raises(ValueError, match="`steps` must define"):
        Stencil(((0,), (1,)), (-1, 1), 1.0, ((2,),))
    with pytest.raises(ValueError, match="`grid` must be 2 positive sizes for this stencil"):
        centers(box(2), (3, 3, 3))
    with pytest.raises(ValueError, match="`grid` must be 2 positive sizes for this stencil"):
        sample_sheet(LAW, box(2), (0, 3))
    with pytest.raises(TypeError, match="`grid` must be an integer"):
        centers(box(2), (3, 3.0))  # pyright: ignore
    with pytest.raises(ValueError, match=r"`values` must be \(B, 4\)"):
        on_tokens(torch.ones(1, 5), box(2), (3, 3))
    with pytest.raises(ValueError, match="`steps` must be set"):
        on_tokens(torch.ones(1, 4), Stencil(((0,), (1,)), (-1, 1), 1.0), (5,))
    with pytest.raises(ValueError, match="`steps` must be set"):
        increments(torch.randn(1, 5, 2), Stencil(((0,), (1,)), (-1, 1), 1.0), disjoint=True)
    for bad in (0, -1):
        with pytest.raises(ValueError, match="at least 1"):
            box(2, bad)
    with pytest.raises(TypeError, match="integer"):
        diamond(1.5)  # pyright: ignore
    with pytest.raises(ValueError, match="`axis` must be below 2"):
        line(2, 2)
