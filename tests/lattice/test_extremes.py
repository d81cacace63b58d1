"""Extreme and invalid arguments of the lattice: finite results, or errors that say why."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from levyjepa.lattice import (
    Stencil,
    box,
    centers,
    diamond,
    increments,
    line,
    on_tokens,
    overlaps,
    parse_stencils,
    room,
    sample_sheet,
    tilings,
    whole_cells,
)
from levyjepa.laws import Brownian, CompoundPoisson, LaplaceJumps

LAW = Brownian(0.5) + CompoundPoisson(0.7, LaplaceJumps(1.0))


def quick(n):
    return settings(max_examples=n, deadline=None, derandomize=True, database=None)


stencils = st.sampled_from(
    [box(1), box(2), box(3, 2), box(2, 3, spacing=(1e-3, 1e3)), diamond(2), line(), line(3, 1, 2)]
)
dtypes = st.sampled_from([torch.float64, torch.float32, torch.float16, torch.bfloat16])
powers = st.floats(-30, 30)
anything = st.one_of(
    st.sampled_from([-1, 0, 1, 2.5, -1.0, math.nan, math.inf, 10**40, True, None, "2", 1j, ()]),
    st.sampled_from([(1, 1), (0, 2), (-1.0, 1), (math.nan, 1), (1e-30, 1e30), ("1", 1), (1, 1, 1)]),
    st.sampled_from([torch.ones(2), np.ones(2), torch.ones((), requires_grad=True)]),
)


def grids(stencil):
    return st.tuples(*(st.integers(e + 1, e + 3) for e in stencil.extent))


@quick(100)
@given(stencils, dtypes, powers, st.data())
def test_finite_fields_of_any_size_have_increments_and_gradients(stencil, dtype, power, data):
    grid = data.draw(grids(stencil))
    scale = min(10.0**power, torch.finfo(dtype).max / 100)
    field = torch.randn(
        2, *grid, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64
    )
    field = (field * scale).to(dtype).requires_grad_()
    moves = increments(field, stencil)
    assert moves.dtype == dtype
    assert moves.isfinite().all()
    back = on_tokens(moves[..., 0], stencil, grid)
    assert back.shape == (2, *grid)
    (grad,) = torch.autograd.grad(moves.sum() + back.nan_to_num().sum(), field)
    assert grad.isfinite().all()
    shape = room(stencil, grid)
    assert len(centers(stencil, grid)) == moves.shape[1] == overlaps(stencil, shape)[1.0]
    assert sum(map(len, tilings(stencil, shape))) == moves.shape[1]
    sheet = sample_sheet(LAW, stencil, grid, 2, 1, torch.Generator().manual_seed(0), dtype)
    assert sheet.dtype == dtype
    assert sheet.isfinite().all()


@quick(300)
@given(st.sampled_from([box, diamond, line]), st.lists(anything, max_size=4))
def test_any_arguments_make_a_stencil_or_a_clear_error(make, arguments):
    try:
        stencil = make(*arguments)
    except (ValueError, TypeError) as error:
        assert str(error)  # noqa: PT017
    else:
        assert 0 < stencil.volume < math.inf


@quick(200)
@given(anything, anything, anything, anything)
def test_any_data_is_a_stencil_or_a_clear_error(offsets, signs, volume, steps):
    for value in (steps, ()):
        with pytest.raises((ValueError, TypeError)):
            Stencil(offsets, signs, volume, value)
    with pytest.raises((ValueError, TypeError)):
        Stencil.from_steps(steps, volume)


@quick(200)
@given(stencils, anything, anything, anything)
def test_any_grid_gives_a_sheet_or_a_clear_error(stencil, grid, channels, batch):
    for call in (
        lambda: sample_sheet(LAW, stencil, grid, 2, 2),
        lambda: sample_sheet(LAW, stencil, (4,) * stencil.ndim, channels, 2),
        lambda: sample_sheet(LAW, stencil, (4,) * stencil.ndim, 2, batch),
        lambda: centers(stencil, grid),
        lambda: on_tokens(torch.ones(1, 4), stencil, grid),
    ):
        try:
            call()
        except (ValueError, TypeError) as error:
            assert str(error)  # noqa: PT017
        except (MemoryError, RuntimeError) as error:
            assert 10**40 in (grid, channels, batch) and "overflow" in str(error)  # noqa: PT017, PT018


ONE = torch.ones(2, 4, 4, 3)


@pytest.mark.parametrize(
    ("field", "error", "match"),
    [
        (ONE.long(), TypeError, "`field` must be a floating-point tensor, got torch.int64"),
        (ONE.bool(), TypeError, "`field` must be a floating-point tensor, got torch.bool"),
        (ONE * 1j, TypeError, "`field` must be a floating-point tensor, got torch.complex64"),
        (ONE.numpy(), TypeError, "`field` must be a tensor, got ndarray"),
        (None, TypeError, "`field` must be a tensor, got NoneType"),
        (ONE[:0], ValueError, "`field` must not be empty"),
        (ONE[..., :0], ValueError, "`field` must not be empty"),
        (ONE[0], ValueError, r"`field` must be \(B, \*, \*, C\)"),
        (ONE[0, 0, 0, 0], ValueError, r"`field` must be \(B, \*, \*, C\)"),
        (ONE[:, :1], ValueError, r"grid of at least \(2, 2\)"),
    ],
)
def test_a_field_is_a_floating_point_tensor(field, error, match):
    with pytest.raises(error, match=match):
        increments(field, box(2))


@pytest.mark.parametrize(
    ("mask", "error", "match"),
    [
        (ONE[..., 0], TypeError, "`mask` must be a bool tensor, got torch.float32"),
        (None, TypeError, "`mask` must be a bool tensor, got NoneType"),
        (ONE.bool(), ValueError, r"`mask` must be \(B, \*grid\)"),
        (ONE[0, 0, 0].bool(), ValueError, r"`mask` must be \(B, \*grid\)"),
        (ONE[:, :1, :, 0].bool(), ValueError, r"grid of at least \(2, 2\)"),
    ],
)
def test_a_mask_is_bool_and_a_grid(mask, error, match):
    with pytest.raises(error, match=match):
        whole_cells(mask, box(2))


@quick(100)
@given(st.one_of(st.text(max_size=20), st.text("boxline(2,3)=side[].-", max_size=20), anything))
def test_any_text_is_a_stencil_or_a_clear_error(text):
    try:
        parse_stencils(text)
    except (ValueError, TypeError) as error:
        assert str(error)  # noqa: PT017
