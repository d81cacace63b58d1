"""Log densities to a thousand deviations and more, against closed forms, series and quadrature."""

import numpy as np
import pytest
import torch
from scipy import integrate, special, stats

from levyjepa.inference import log_density
from levyjepa.laws import (
    Brownian,
    CompoundPoisson,
    GaussianJumps,
    LaplaceJumps,
    NormalInverseGaussian,
    Scaled,
    ScaledJumps,
    Stable,
    StudentTJumps,
    VarianceGamma,
    VarianceGammaJumps,
)

VOLUMES = [1e-6, 1e-3, 1.0, 100.0]


def far(width, decades=4, n=161):
    """Increments from 0 to 10^`decades` widths."""
    return torch.cat([torch.zeros(1), torch.logspace(-1, decades, n)]).double() * width


def compare(x, law, volume, want, relative=1e-3):
    got = log_density(x, law, volume).numpy()
    error = np.abs(got - want) / np.maximum(np.abs(want), 1)
    assert error.max() < relative, f"{error.max()} at {x[error.argmax()]}"


@pytest.mark.parametrize("volume", VOLUMES)
def test_brownian(volume):
    width = 0.7 * volume**0.5
    x = far(width, 6)
    compare(x, Brownian(0.7), volume, stats.norm(scale=width).logpdf(x.numpy()))
    compare(x, Stable(2.0, 0.7 * 2**-0.5), volume, stats.norm(scale=width).logpdf(x.numpy()))


def log_nig(x, alpha, delta):
    r = np.hypot(delta, x)
    return np.log(alpha * delta / np.pi / r * special.k1e(alpha * r)) + alpha * (delta - r)


@pytest.mark.parametrize("volume", VOLUMES)
def test_normal_inverse_gaussian(volume):
    x = far(max(volume * 0.8, (volume * 0.8 / 1.5) ** 0.5), 5)
    want = log_nig(x.numpy(), 1.5, 0.8 * volume)
    if volume == 1:
        assert np.allclose(want[:80], stats.norminvgauss(1.2, 0, scale=0.8).logpdf(x[:80].numpy()))
    compare(x, NormalInverseGaussian(1.5, 0.8), volume, want)


@pytest.mark.parametrize("volume", [1.0, 10.0, 100.0])
@pytest.mark.parametrize("scale", [1.0, 1e-3])
def test_variance_gamma(volume, scale):
    """A normal variance mixture over a gamma clock has a Bessel function as density."""
    k, beta = 1.1 * volume, 0.8
    x = far((k / beta) ** 0.5, 4)[1:]
    z, order = x.numpy() * (2 * beta) ** 0.5, k - 0.5
    bessel = np.log(special.kve(order, z)) - z
    constant = k * np.log(beta) - special.gammaln(k) - 0.5 * np.log(np.pi / 2)
    want = constant + order * np.log(x.numpy() / (2 * beta) ** 0.5) + bessel
    compare(x * scale, Scaled(scale, VarianceGamma(1.1, 0.8)), volume, want - np.log(scale), 2e-4)


@pytest.mark.parametrize("volume", VOLUMES)
def test_cauchy(volume):
    x = far(0.5 * volume, 8)
    want = stats.cauchy(scale=0.5 * volume).logpdf(x.numpy())
    compare(x, Stable(1.0, 0.5), volume, want, 1e-5)


@pytest.mark.parametrize("alpha", [0.7, 1.4, 1.9])
@pytest.mark.parametrize("volume", [1e-3, 1.0, 100.0])
def test_stable(alpha, volume):
    """Against a contour of scipy's, and the series in powers of x^-alpha where it has converged."""
    width = 0.7 * volume ** (1 / alpha)
    x = torch.logspace(-1, 8, 37, dtype=torch.float64)
    n = np.arange(1, 40)[:, None]
    log_size = special.gammaln(alpha * n + 1) - special.gammaln(n + 1)
    sizes = np.exp(np.minimum(log_size - (alpha * n + 1) * np.log(x.numpy()), 600)) / np.pi
    terms = -((-1.0) ** n) * np.sin(np.pi * n * alpha / 2) * sizes
    series = np.array(
        [t[: max(s.argmin(), 1)].sum() for t, s in zip(terms.T, sizes.T, strict=True)]
    )
    converged = sizes.min(0) < 1e-6 * np.abs(series)
    assert converged.sum() > 20
    body = stats.levy_stable(alpha, 0).logpdf(x.numpy()[:8])
    compare(x[:8] * width, Stable(alpha, 0.7), volume, body - np.log(width), 1e-3)
    want = np.log(series[converged] / width)
    compare(x[torch.from_numpy(converged)] * width, Stable(alpha, 0.7), volume, want)


def poisson_weights(expected, largest):
    n = np.arange(largest)
    return n, n * np.log(expected) - expected - special.gammaln(n + 1)


def log_normal(x, variance):
    return -0.5 * (x**2 / variance + np.log(2 * np.pi * variance))


@pytest.mark.parametrize("volume", VOLUMES)
@pytest.mark.parametrize("sigma", [0.02, 0.3, 5.0])
def test_gaussian_jumps(volume, sigma):
    """Merton's series."""
    n, weight = poisson_weights(2 * volume, 20_000)
    variance = 0.09 * volume + sigma**2 * n
    width = (np.exp(weight) @ variance) ** 0.5 + 0.3 * volume**0.5
    x = far(width, np.log10(min(1e3 * width, 2000 * sigma) / width), 60)
    want = special.logsumexp(weight + log_normal(x[:, None].numpy(), variance), axis=1)
    compare(x, Brownian(0.3) + CompoundPoisson(2.0, GaussianJumps(sigma)), volume, want)


@pytest.mark.parametrize("volume", VOLUMES)
@pytest.mark.parametrize(
    ("jumps", "k", "beta"),
    [
        (LaplaceJumps(1.0), 1.0, 0.5),
        (ScaledJumps(10.0, LaplaceJumps(1.0)), 1.0, 0.005),
        (VarianceGammaJumps(0.6, 0.9), 0.6, 0.9),
        (VarianceGammaJumps(3.0, 0.9), 3.0, 0.9),
    ],
    ids=repr,
)
@pytest.mark.parametrize("sigma", [0.05, 3.0])
def test_jumps_with_a_gamma_clock(volume, jumps, k, beta, sigma):
    """n jumps have the clock Gamma(k n, beta), integrated by the trapezoid rule in log time."""
    n, weight = poisson_weights(0.7 * volume, 1500)
    variance = sigma**2 * volume
    log_time = np.linspace(np.log(1e-10 / beta), np.log(1e4 / beta), 2001)
    time = np.exp(log_time)
    clock = np.full_like(time, -np.inf)
    for count, log_weight in zip(n[1:], weight[1:], strict=True):
        shape = count * k
        log_gamma = shape * np.log(beta * time) - beta * time - special.gammaln(shape)
        clock = np.logaddexp(clock, log_weight + log_gamma + np.log(log_time[1] - log_time[0]))
    width = (variance + 0.7 * volume * k / beta) ** 0.5
    x = far(width, np.log10(min(1e3 * width, 1500 * beta**-0.5) / width), 60)
    x = torch.cat([x, far(variance**0.5, 1.3, 20)])
    one = x[:, None].numpy()
    jumped = special.logsumexp(clock + log_normal(one, variance + time), axis=1)
    want = np.logaddexp(jumped, weight[0] + log_normal(x.numpy(), variance))
    compare(x, Brownian(sigma) + CompoundPoisson(0.7, jumps), volume, want)


@pytest.mark.parametrize(("nu", "volume"), [(0.8, 2.0), (2.5, 1e-4), (5.5, 0.1), (30.0, 2.0)])
def test_student_t_jumps_by_convolution(nu, volume):
    """Convolutions on a grid have positive terms only, hence full relative accuracy in tails."""
    sigma, rate, step, size = 0.3, 1.0, 0.02, 2000
    spread = max(sigma * volume**0.5, 4 * step)  # which the grid resolves
    sigma = spread / volume**0.5
    grid = step * np.arange(-size, size + 1)
    jump = stats.t.pdf(grid, nu) * step
    density, want = stats.norm.pdf(grid, scale=spread), np.zeros_like(grid)
    _, weight = poisson_weights(rate * volume, 16)
    for log_weight in weight:
        want += np.exp(log_weight) * density
        density = np.convolve(density, jump, "same")
    inner = slice(size, size + size // 4, 10)
    law = Brownian(sigma) + CompoundPoisson(rate, StudentTJumps(nu))
    compare(torch.from_numpy(grid[inner]), law, volume, np.log(want[inner]), 1e-3)


@pytest.mark.parametrize(("nu", "volume"), [(2.5, 1.0), (5.5, 1e-4), (5.5, 1e4), (30.0, 100.0)])
def test_student_t_jumps_far_out(nu, volume):
    """One large jump beside a total of small ones: its density, smoothed by their variance."""
    law = Brownian(0.3) + CompoundPoisson(1.0, StudentTJumps(nu))
    variance = float(law.variance(volume)) if nu > 2 else 0.0
    x = torch.logspace(2, 6, 30, dtype=torch.float64) * nu * max(1, variance**0.5)
    smoothing = variance / 2 * (nu + 1) * (nu + 2) / x.numpy() ** 2
    want = stats.t.logpdf(x.numpy(), nu) + np.log(volume) + np.log1p(smoothing)
    compare(x, law, volume, want, 2e-4)


def test_student_t_jumps_where_the_normal_law_ends():
    """At 10 deviations of many jumps, against quadrature on the real and imaginary axes."""
    nu, volume, sigma = 5.5, 1000.0, 0.3
    law = Brownian(sigma) + CompoundPoisson(1.0, StudentTJumps(nu))
    x, a = 11 * float(law.variance(volume)) ** 0.5, nu / 2

    def log_cf(t):  # at it
        y = nu**0.5 * t
        factor = np.pi * np.exp(a * np.log(y / 2) - special.gammaln(a))
        real = -factor * special.yv(a, y) - 1 + (sigma * t) ** 2 / 2
        return volume * real, -volume * factor * special.jv(a, y)

    def cut(log_t):
        t = np.exp(log_t)
        real, imaginary = log_cf(t)
        return -np.exp(real - t * x) * np.sin(imaginary) * t / np.pi

    end = x / float(law.variance(volume)) / 1.05  # near the saddlepoint of the normal part
    heavy = integrate.quad(cut, np.log(1e-9), np.log(end), limit=500, epsabs=0)[0]
    assert abs(log_cf(end)[1]) < 1  # so that the integrand has one sign
    normal = stats.norm.pdf(x, scale=float(law.variance(volume)) ** 0.5)
    assert heavy > 100 * normal
    got = log_density(torch.tensor([x], dtype=torch.float64), law, volume).item()
    assert got == pytest.approx(np.log(heavy), rel=1e-2)


DIFFERENTIABLE = [
    Brownian(1.0),
    Stable(1.4, 0.7),
    NormalInverseGaussian(1.2, 0.9),
    VarianceGamma(1.1, 0.8),
    Brownian(0.3) + CompoundPoisson(0.5, LaplaceJumps(1.0)),
    Brownian(0.3) + CompoundPoisson(0.5, GaussianJumps(1.0)),
    Brownian(0.3) + CompoundPoisson(0.5, ScaledJumps(0.7, StudentTJumps(3.5))),
]


@pytest.mark.parametrize("law", DIFFERENTIABLE, ids=repr)
def test_gradients_in_the_tails_equal_finite_differences(law):
    x = torch.tensor([40.0], dtype=torch.float64, requires_grad=True)
    trained = law.learnable_copy().double()
    inputs, h = [x, *trained.parameters()], 1e-5
    gradients = torch.autograd.grad(log_density(x, trained).sum(), inputs)
    for value, gradient in zip(inputs, gradients, strict=True):
        ends = []
        for step in (h, -2 * h):
            value.data += step
            ends.append(log_density(x, trained).sum().item())
        value.data += h
        slope = (ends[0] - ends[1]) / (2 * h)
        assert gradient.sum().item() == pytest.approx(slope, rel=1e-3, abs=1e-3)


def test_a_law_that_takes_real_frequencies_only_is_extrapolated():
    class Real(Brownian):
        def psi(self, u):
            return -0.5 * torch.hypot(self.sigma * u, 0 * u) ** 2

    class Modulus(Brownian):
        def psi(self, u):
            return -0.5 * (self.sigma * u).abs() ** 2

    x = torch.tensor([1.0, 4.0, 30.0], dtype=torch.float64)
    for kind in (Real, Modulus):
        values = log_density(x, kind(1.0))
        assert torch.allclose(values[:2], log_density(x[:2], Brownian(1.0)), atol=1e-6)
        assert values[2] < -100
