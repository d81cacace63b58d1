"""Exponent, moments, sampler and text of every law are consistent.

Statistical tests have fixed seeds and the false-alarm rate of `tests/conftest.py`.
"""

import math

import numpy as np
import pytest
import torch
from scipy import integrate, special, stats

from levyjepa.laws import (
    ALL_LAWS,
    Brownian,
    CompoundPoisson,
    GaussianJumps,
    IndependentCoordinates,
    LaplaceJumps,
    NormalInverseGaussian,
    Pinned,
    Scaled,
    Stable,
    StudentTJumps,
    VarianceGamma,
    VarianceGammaJumps,
    parse_law,
)

every_law = pytest.mark.parametrize("law", ALL_LAWS, ids=repr)
U = torch.tensor([0.1, 0.5, 1.0, 2.5, 7.0], dtype=torch.float64)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@every_law
def test_exponent_is_that_of_a_symmetric_law(law):
    assert law.exponent(torch.zeros(2, 3, dtype=torch.float64)).abs().max() < 1e-12
    assert torch.equal(law.exponent(U), law.exponent(-U))
    assert (law.exponent(U).diff() < 0).all()
    assert law.exponent(U.float()).dtype == torch.float32
    assert torch.allclose(law.exponent(U.float()).double(), law.exponent(U), rtol=1e-5)


@every_law
def test_cells_add(law):
    joined = law.characteristic_function(U, 0.7) * law.characteristic_function(U, 1.3)
    assert torch.allclose(joined, law.characteristic_function(U, 2.0), rtol=1e-12)


def exists(moment):
    try:
        return moment() > -1
    except ValueError:
        return False


HEAVY = [  # without a fourth moment, or a second
    CompoundPoisson(rate=1.0, jumps=StudentTJumps(nu=3.0)),
    CompoundPoisson(rate=1.0, jumps=StudentTJumps(nu=1.5)),
    Brownian(0.5) + Stable(1.7),
]


@pytest.mark.parametrize("law", [*ALL_LAWS, *HEAVY], ids=repr)
def test_moments_are_derivatives_of_the_exponent(law):
    u = torch.tensor([1e-5, 1e-3], dtype=torch.float64)
    smaller, larger = -2 * law.exponent(u) / u**2
    if not exists(law.variance):
        assert smaller > 1.5 * larger > 0  # without a limit at 0
        return
    assert larger.item() == pytest.approx(float(law.variance()), rel=5e-3)
    h = torch.tensor([1e-2, 2e-2], dtype=torch.float64)
    near, far = (law.exponent(h) + law.variance() * h**2 / 2) / h**4 * 24
    if not exists(law.kurtosis):
        assert near > 1.5 * far > 0
        return
    fourth = (4 * near - far).item() / 3  # the error is of order h^4
    kurtosis = fourth / float(law.variance()) ** 2
    assert kurtosis == pytest.approx(float(law.kurtosis()), rel=3e-2, abs=1e-3)


@every_law
@pytest.mark.parametrize("volume", [0.5, 3.0])
def test_samples_follow_the_characteristic_function(law, volume, false_alarm):
    n = 100_000
    x = law.sample((n,), volume, generator=generator(), dtype=torch.float64)
    gap = (x[:, None] * U).cos().mean(0) - law.characteristic_function(U, volume)
    assert gap.abs().max() < false_alarm.sigmas(len(U)) * n**-0.5
    if exists(law.variance):
        assert x.var().item() == pytest.approx(float(law.variance(volume)), rel=0.1)


@every_law
def test_vectors_are_isotropic_with_a_common_jump(law, false_alarm):
    n = 100_000
    x = law.sample((n,), dim=3, generator=generator(), dtype=torch.float64)
    band = false_alarm.sigmas(3 * len(U) + 1) * n**-0.5
    for direction in ([1.0, 0, 0], [0.6, 0, 0.8], [3**-0.5] * 3):
        along = x @ torch.tensor(direction, dtype=torch.float64)
        gap = (along[:, None] * U).cos().mean(0) - law.characteristic_function(U)
        assert gap.abs().max() < band
    joint = (x[:, 0] + x[:, 1]).cos().mean() - law.characteristic_function(U[:1] * 0 + 2**0.5)
    assert joint.abs() < band


@every_law
def test_parsing_the_printed_law_gives_the_same_law(law):
    again = parse_law(repr(law))
    assert repr(again) == repr(law)
    assert torch.equal(again.exponent(U), law.exponent(U))


@every_law
def test_a_multiple_is_the_law_over_another_volume(law, false_alarm):
    for made in (2.5 * law, law * 2.5, 5 * (0.5 * law), law.learnable_copy() * 2.5):
        assert torch.allclose(made.exponent(U), 2.5 * law.exponent(U), rtol=1e-5)
        assert repr(parse_law(repr(made))) == repr(made)
        assert torch.allclose(made.constant_copy().exponent(U), made.exponent(U), rtol=1e-5)
    assert repr(parse_law(f"2.5 * ({law!r})")) == repr(2.5 * law)
    if exists(law.variance):
        assert float((3 * law).variance()) == pytest.approx(float(law.variance(3.0)))
    if exists(law.kurtosis):
        assert float((3 * law).kurtosis()) == pytest.approx(float(law.kurtosis(3.0)))
    x = (2.5 * law).sample((50_000,), generator=generator(), dtype=torch.float64)
    gap = (x[:, None] * U).cos().mean(0) - law.characteristic_function(U, 2.5)
    assert gap.abs().max() < false_alarm.sigmas(len(U)) * len(x) ** -0.5
    trained = law.learnable_copy()
    assert {*(2 * trained).parameters()} == {*trained.parameters()}
    with pytest.raises(ValueError, match="`volume` must be positive, got -1"):
        -1 * law
    with pytest.raises(TypeError, match="unsupported operand"):
        law * law


def test_a_multiple_is_a_plain_law_where_it_can_be():
    law = Brownian(1.0) + CompoundPoisson(1.5, LaplaceJumps(1.0))
    assert repr(4 * law) == "Brownian(sigma=2.0) + CompoundPoisson(rate=6.0, " + (
        "jumps=LaplaceJumps(alpha=1.0))"
    )


@every_law
def test_laws_add_up_by_sum(law):
    assert sum([law]) is law
    assert repr(sum([law, Brownian(1.0), law])) == f"{law!r} + {Brownian(1.0)!r} + {law!r}"


@every_law
def test_one_sample_is_a_scalar(law):
    assert law.sample((), generator=generator()).shape == ()
    assert law.sample((), dim=4, generator=generator()).shape == (4,)
    assert IndependentCoordinates(law, law).sample(()).shape == (2,)


@pytest.mark.parametrize(
    ("text", "law"),
    [
        ("Brownian(1/8)", Brownian(0.125)),
        ("Brownian((3 - 1) * 2**-2 + 0.5)", Brownian(1.0)),
        ("2 * Brownian(1/2) + Stable(1.5)", Brownian(2**-0.5) + Stable(1.5)),
        ("CompoundPoisson(2, LaplaceJumps(1)) * 2", CompoundPoisson(4.0, LaplaceJumps(1.0))),
        ("Pinned(Brownian(2), at=1/2)", Pinned(Brownian(2.0), at=0.5)),
        ("Pinned(Brownian(2.0) + Stable(1.5))", Pinned(Brownian(2.0) + Stable(1.5))),
        ("Scaled(1/2, Stable(1.5))", Scaled(0.5, Stable(1.5))),
    ],
)
def test_text_may_compute_numbers_and_multiply_laws(text, law):
    assert repr(parse_law(text)) == repr(law)
    assert repr(parse_law(repr(law))) == repr(law)


@pytest.mark.parametrize(
    "text",
    [
        "Brownian(9**9**9**9)",
        "Brownian((1,) * 10**9)",
        "Brownian(1) ** 2",
        "Brownian(1) - Brownian(1)",
        "Brownian(1) * Brownian(1)",
        "Brownian(1) / 2",
        "Brownian(1/0)",
        "Brownian((-8) ** 0.5)",
        "Brownian(1 // 8)",
        "Brownian(1 << 99)",
        "2 * 3",
        "-" * 9999 + "1",
    ],
)
def test_other_arithmetic_is_a_quick_error(text):
    with pytest.raises(ValueError, match="is not a law"):
        parse_law(text)


def test_parse_independent_coordinates():
    law = parse_law(
        "IndependentCoordinates(Brownian(0.5) + Stable(1.5), NormalInverseGaussian(1, 2))"
    )
    assert repr(parse_law(repr(law))) == repr(law)
    assert isinstance(law, IndependentCoordinates)
    assert law.sample((3,)).shape == (3, 2)
    with pytest.raises(ValueError, match="is not a law"):
        parse_law("IndependentCoordinates(LaplaceJumps(1))")
    with pytest.raises(ValueError, match="is not a law"):
        parse_law("IndependentCoordinates()")


DIFFERENTIABLE = [
    *ALL_LAWS,
    *(CompoundPoisson(1.0, StudentTJumps(nu)) for nu in (0.3, 1.0, 2.0, 50.0)),
]


@pytest.mark.parametrize("law", DIFFERENTIABLE, ids=repr)
def test_gradients_in_frequencies_and_parameters(law):
    u = torch.tensor([-2.0, 1e-2, 0.4, 6.0], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(law.exponent, u)
    trained = law.learnable_copy().double()
    assert torch.autograd.gradcheck(lambda *_: trained.exponent(u), [u, *trained.parameters()])
    flat = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.grad(law.exponent(flat).sum(), flat)[0] == 0


@every_law
def test_a_learnable_copy_is_the_same_law_and_follows_its_gradient(law):
    learnable = law.learnable_copy()
    assert torch.allclose(learnable.exponent(U), law.exponent(U), rtol=1e-5)
    assert torch.allclose(parse_law(repr(learnable)).exponent(U), law.exponent(U), rtol=1e-5)
    assert parse_law(repr(learnable)).learnable_copy().state_dict().keys() == (
        learnable.state_dict().keys()
    )
    assert not list(law.parameters())
    before = learnable.exponent(U).sum()
    before.backward()
    torch.optim.SGD(learnable.parameters(), lr=1e-4).step()
    assert learnable.exponent(U).sum() < before
    assert not learnable.sample((3,), generator=generator()).requires_grad


@every_law
def test_same_seed_same_samples(law):
    assert torch.equal(
        law.sample((50,), generator=generator(7)), law.sample((50,), generator=generator(7))
    )


JUMPS = {
    LaplaceJumps(1.3): lambda x: stats.laplace.pdf(x, scale=1 / 1.3),
    VarianceGammaJumps(0.8, 2.0): None,
    StudentTJumps(3.0): lambda x: stats.t.pdf(x, 3.0),
    StudentTJumps(0.7): lambda x: stats.t.pdf(x, 0.7),
    GaussianJumps(0.6): lambda x: stats.norm.pdf(x, scale=0.6),
}


@pytest.mark.parametrize(
    ("jumps", "pdf"), JUMPS.items(), ids=lambda j: repr(j)[:30] if " at 0x" not in repr(j) else ""
)
def test_jump_characteristic_function_is_the_transform_of_its_density(jumps, pdf):
    if pdf is None:  # the gamma mixture, integrated
        k, beta = jumps.k, jumps.beta
        want = [
            integrate.quad(
                lambda t, u=u: stats.gamma.pdf(t, k, scale=1 / beta) * np.exp(-t * u * u / 2),
                0,
                np.inf,
            )[0]
            for u in U.tolist()
        ]
    else:
        want = [2 * integrate.quad(pdf, 0, np.inf, weight="cos", wvar=u)[0] for u in U.tolist()]
    assert np.allclose(jumps.characteristic_function(U).numpy(), want, atol=2e-7)


@pytest.mark.parametrize("nu", [0.3, 1.0, 2.5, 10.0, 60.0])
def test_student_t_equals_the_bessel_formula(nu):
    z = np.geomspace(1e-4, 30, 40)
    want = 2 * special.kv(nu / 2, z) * (z / 2) ** (nu / 2) / special.gamma(nu / 2)
    got = StudentTJumps(nu).characteristic_function(torch.from_numpy(z / nu**0.5)).numpy()
    assert np.allclose(got, want, rtol=1e-9)


@pytest.mark.parametrize("nu", [1e-4, 0.1, 2.0, 1e5])
def test_student_t_is_finite_and_differentiable_everywhere(nu):
    u = torch.tensor([0.0, 1e-30, 1e-3, 1.0, 1e3, 1e30], dtype=torch.float64, requires_grad=True)
    phi = StudentTJumps(nu).characteristic_function(u)
    (grad,) = torch.autograd.grad(phi.sum(), u)
    assert phi[0].item() == 1
    assert grad.isfinite().all()


def test_a_moment_that_does_not_exist_is_an_error():
    with pytest.raises(ValueError, match=r"`nu` must be above 2 .*, got 1\.5"):
        CompoundPoisson(1.0, StudentTJumps(1.5)).variance()
    with pytest.raises(ValueError, match=r"kurtosis of CompoundPoisson.* is infinite"):
        CompoundPoisson(1.0, StudentTJumps(4.0)).kurtosis()
    with pytest.raises(ValueError, match=r"`alpha` must be 2 .*, got 1\.7"):
        (Brownian(1.0) + Stable(1.7)).kurtosis()


@pytest.mark.parametrize("bad", [-1.0, 0.0, math.nan, math.inf, "1", None, True])
@pytest.mark.parametrize(
    "make",
    [
        Brownian,
        LaplaceJumps,
        StudentTJumps,
        GaussianJumps,
        lambda x: VarianceGammaJumps(1.0, x),
        lambda x: CompoundPoisson(x, LaplaceJumps(1.0)),
        lambda x: Brownian(1.0).sample((2,), volume=x),
    ],
)
def test_parameters_must_be_positive_numbers(make, bad):
    with pytest.raises((ValueError, TypeError), match="must be"):
        make(bad)


def test_errors_name_other_invalid_input():
    with pytest.raises(TypeError, match="`u` must be a floating-point tensor"):
        Brownian(1.0).exponent(torch.arange(3))
    with pytest.raises(TypeError, match="`jumps` must be a law of jumps"):
        CompoundPoisson(1.0, Brownian(1.0))  # pyright: ignore
    with pytest.raises(ValueError, match=r"`Cauchy\(1\)` is not one of Brownian"):
        parse_law("Cauchy(1)")
    with pytest.raises(ValueError, match="not a law"):
        parse_law("__import__('os')")


def test_stable_is_brownian_at_2_and_cauchy_at_1(false_alarm):
    assert torch.allclose(Stable(2.0, 0.5).exponent(U), Brownian(2**0.5 * 0.5).exponent(U))
    x = Stable(1.0, 2.0).sample((20_000,), generator=generator(), dtype=torch.float64)
    assert stats.kstest(x.numpy(), stats.cauchy(scale=2.0).cdf).pvalue > false_alarm.rate
    with pytest.raises(ValueError, match="`alpha` must be at most 2"):
        Stable(2.1)
    with pytest.raises(ValueError, match="to be learnable"):
        Stable(2.0, learnable=True)


def test_normal_inverse_gaussian_and_variance_gamma_against_scipy(false_alarm):
    x = NormalInverseGaussian(1.5, 0.8).sample((3_000,), 2.0, generator=generator())
    law = stats.norminvgauss(1.5 * 1.6, 0, scale=1.6)
    assert stats.kstest(x.numpy(), law.cdf).pvalue > false_alarm.rate
    gamma = VarianceGamma(1.0, 0.5).sample((20_000,), generator=generator())
    assert stats.kstest(gamma.numpy(), stats.laplace(scale=1.0).cdf).pvalue > false_alarm.rate


def test_tempered_mixtures_add():
    law = Stable(1.5, 0.3) + NormalInverseGaussian(1.0, 1.0) + Brownian(0.1)
    want = sum(part.exponent(U) for part in law.laws)
    assert torch.allclose(law.exponent(U), want)
    with pytest.raises(ValueError, match="Stable to have a variance"):
        law.variance()


def test_independent_coordinates_follow_the_sum_of_their_exponents(false_alarm):
    parts = Stable(1.5), CompoundPoisson(1.0, LaplaceJumps(1.0)), Brownian(1.0)
    law = IndependentCoordinates(*parts)
    n = 50_000
    x = law.sample((n,), 0.7, dim=5, generator=generator(), dtype=torch.float64)
    for u in [*torch.eye(5).tolist(), [0.3, -0.5, 0.8, 0.2, 0.4]]:
        u = torch.tensor(u, dtype=torch.float64)
        want = sum(parts[c % 3].exponent(u[c]) for c in range(5))
        assert law.exponent(u) == pytest.approx(float(want))
        function = law.characteristic_function(u, 0.7)
        assert abs((x @ u).cos().mean() - function) < false_alarm.sigmas(6) * n**-0.5
    assert law.sample((2,)).shape == (2, 3)
    assert law.exponent(torch.ones(4, 7, 5)).shape == (4, 7)
    with pytest.raises(ValueError, match=r"`u` must be \(\.\.\., D\)"):
        law.exponent(torch.tensor(1.0))


@every_law
def test_rotations_change_independent_coordinates_unless_gaussian(law):
    corner = torch.tensor([2**-0.5, 2**-0.5], dtype=torch.float64)
    axis = torch.tensor([1.0, 0.0], dtype=torch.float64)
    independent = IndependentCoordinates(law)
    invariant = torch.allclose(independent.exponent(corner), independent.exponent(axis), rtol=1e-6)
    assert invariant == (exists(law.kurtosis) and law.kurtosis() == 0)


def test_independent_coordinates_print_copy_and_train():
    law = IndependentCoordinates(Brownian(0.5), Stable(1.5, 2.0))
    names = {"Brownian": Brownian, "Stable": Stable, "IndependentCoordinates": type(law)}
    assert repr(eval(repr(law), names)) == repr(law)
    learnable = law.learnable_copy().double()
    assert len(list(learnable.parameters())) == 3
    u = torch.rand(4, 2, dtype=torch.float64, generator=generator())
    assert torch.autograd.gradcheck(lambda *_: learnable.exponent(u), [*learnable.parameters()])
