"""The scale of a law is recovered over many decades, without moments."""

import math

import pytest
import torch
from scipy.optimize import brentq

from levyjepa.ecf import frequency_range
from levyjepa.inference import fit_scale
from levyjepa.laws import ALL_LAWS, Brownian, CompoundPoisson, GaussianJumps, LaplaceJumps, Stable

HARD = [
    Stable(0.5),
    Stable(1.0),
    Brownian(1e-3) + CompoundPoisson(0.1, LaplaceJumps(1.0)),
    CompoundPoisson(0.05, GaussianJumps(1.0)),
]


@pytest.mark.parametrize("law", [*ALL_LAWS, *HARD], ids=repr)
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e4])
@pytest.mark.parametrize("volume", [1.0, 3.0])
def test_recovers_the_scale(law, scale, volume, false_alarm):
    """The error is within sampling error: about 1 / sqrt(n) times that of a median's logarithm."""
    n = 20_000
    x = law.sample((n,), volume, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    fitted = fit_scale(scale * x, law.learnable_copy(), volume)
    u = torch.tensor(frequency_range(law, volume) / 4, dtype=torch.float64)
    target = fitted.exponent(u / scale)  # that of the law at u times the error of the scale
    error = brentq(lambda log: float(law.exponent(u * math.exp(log)) - target), -1, 1)
    moved = int((x != 0).sum())
    assert abs(error) < 2 * false_alarm.sigmas() * moved**-0.5  # that of a median is 1.2 to 1.7
    assert not list(fitted.parameters())


def test_any_shape_and_constant_factors():
    x = Brownian(2.0).sample((40, 50), generator=torch.Generator().manual_seed(0))
    fitted = fit_scale(x, Brownian(0.1))
    assert fitted.sigma == pytest.approx(float(x.std()), rel=0.05)
    assert fit_scale(1e-12 * x.double(), Brownian(0.1)).sigma == pytest.approx(
        1e-12 * fitted.sigma, rel=1e-4
    )


def test_errors_name_invalid_input():
    with pytest.raises(ValueError, match="`samples` must not all be 0"):
        fit_scale(torch.zeros(20), Brownian(1.0))
    with pytest.raises(ValueError, match="`samples` must be finite"):
        fit_scale(torch.full((20,), torch.nan), Brownian(1.0))
    with pytest.raises(TypeError, match="`law` must be a Law"):
        fit_scale(torch.ones(20), "Brownian(1)")  # pyright: ignore
    with pytest.raises(ValueError, match="`volume` must be positive"):
        fit_scale(torch.ones(20), Brownian(1.0), 0.0)
