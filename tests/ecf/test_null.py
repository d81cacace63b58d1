"""Null mean and deviation of the statistic, against simulated sheets, from fixed seeds."""

import pytest
import torch

from levyjepa.ecf import equispaced, null, statistic
from levyjepa.lattice import box, diamond, increments, line, overlaps, sample_sheet
from levyjepa.laws import Brownian, CompoundPoisson, LaplaceJumps

LAW = Brownian(0.125) + CompoundPoisson(2.0, LaplaceJumps(1.0))
CASES = {
    "box": (box(2), (12, 10), 4),
    "overlapping boxes": (box(2, 2), (10, 10), 3),
    "diamonds": (diamond(), (12, 10), 4),
    "lines": (line(2, 0, 2), (10, 6), 2),
    "cubes": (box(3), (5, 6, 5), 2),
    "a sequence": (line(), (80,), 1),
}


@pytest.mark.parametrize(("stencil", "grid", "channels"), CASES.values(), ids=CASES)
def test_closed_form_equals_simulation(stencil, grid, channels, false_alarm):
    rows = 600
    sheet = sample_sheet(LAW, stencil, grid, channels, rows, torch.Generator().manual_seed(0))
    rule = equispaced(LAW, 64, stencil.volume)
    d = statistic(increments(sheet, stencil).flatten(1), LAW, stencil.volume, rule)
    shape = tuple(n - e for n, e in zip(grid, stencil.extent, strict=True))
    want = null(LAW, stencil.volume, rule, overlaps(stencil, shape), channels)
    assert abs(d.mean() - want.mean) < false_alarm.sigmas() * want.std / rows**0.5
    assert d.std().item() == pytest.approx(want.std.item(), rel=0.25)


def test_overlaps_count_every_pair():
    found = overlaps(diamond(), (5, 6))
    assert found == {1.0: 30, 0.25: 2 * (4 * 6 + 5 * 5)}
    assert overlaps(box(2, 2), (4, 4))[0.5] == 2 * 2 * (3 * 4)


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="`overlaps` must count positions"):
        null(LAW, 1.0, equispaced(LAW), {})
