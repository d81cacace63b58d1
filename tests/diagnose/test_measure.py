"""Fields whose law is known: its parameters, its independence, its controls.

Random seeds are fixed; thresholds of three to five standard errors keep false alarms below 1 %.
"""

import math

import pytest
import torch

from levyjepa.diagnose import diagnose
from levyjepa.diagnose.families import FAMILIES, GAUSSIAN, choose
from levyjepa.lattice import box, diamond, line, sample_sheet
from levyjepa.laws import Brownian, CompoundPoisson, LaplaceJumps, NormalInverseGaussian

JUMPING = Brownian(0.3) + CompoundPoisson(0.6, LaplaceJumps(1.1))


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def sheet(law, stencil=box(2), images: int = 48, grid=(12, 12), scale: float = 1.0):  # noqa: B008
    field = sample_sheet(law, stencil, grid, 24, images, seeded())
    (finding,) = diagnose({"sheet": scale * field}, (stencil,)).findings
    return finding


@pytest.fixture(scope="module")
def jumping():
    return sheet(JUMPING, scale=7.0)


@pytest.fixture(scope="module")
def smooth():
    return sheet(Brownian(1.0))


def test_the_law_of_a_sheet_is_recovered_with_its_parameters(jumping):
    chosen = jumping.choice.chosen
    assert chosen.family == "Laplace jumps"
    width = float(JUMPING.variance()) ** 0.5  # a layer is brought to variance 1
    for name, true in (
        ("laws.0.sigma", 0.3 / width),
        ("laws.1.rate", 0.6),
        ("laws.1.jumps.alpha", 1.1 * width),
    ):
        estimate = chosen.parameters[name]
        assert abs(estimate.value - true) < 4 * estimate.error
        assert estimate.error < 0.15 * true
    assert chosen.gain.value > 10 * chosen.gain.error


def test_the_law_of_a_sheet_is_not_rejected_and_the_gaussian_is(jumping):
    assert jumping.goodness.p_value > 0.01
    assert abs(jumping.goodness.deviations) < 3
    assert jumping.goodness_of_gaussian.p_value < 0.01


def test_kurtosis_of_a_sheet_is_its_laws(jumping):
    for side in jumping.sides:
        assert abs(side.kurtosis.value - JUMPING.kurtosis(side.side**2)) < 5 * side.kurtosis.error


def test_jumps_are_counted_and_strike_all_directions(jumping):
    assert jumping.jumps.share == pytest.approx(1 - math.exp(-0.6), abs=0.02)
    together = jumping.jumps.together
    assert abs(together.value - jumping.jumps.isotropic) < 5 * together.error + 0.02
    assert together.value > 0.3


def test_independent_channels_do_not_jump_together(jumping):
    one = sample_sheet(JUMPING, box(2), (8, 8), 1, 32 * 16, seeded())
    (apart,) = diagnose({"a": one.view(32, 16, 8, 8).movedim(1, -1)}, (box(2),)).findings
    channels = apart.jumps.channels
    assert abs(channels.value) < 5 * channels.error < 0.1
    assert apart.jumps.isotropic > 0.1
    channels = jumping.jumps.channels  # of an isotropic sheet
    assert abs(channels.value - jumping.jumps.isotropic) < 5 * channels.error + 0.02


@pytest.mark.parametrize("stencil", [diamond(), line(2, 0)], ids=["diamond", "lines"])
def test_cells_of_a_sheet_are_independent_at_every_side(stencil):
    finding = sheet(NormalInverseGaussian(1.0, 1.0), stencil, 24, (14, 14))
    assert len(finding.sides) == 3
    for side in finding.sides:
        assert abs(side.variance.value - 1) < 5 * side.variance.error + 1e-9
        for each in (side.neighbors, side.energies):
            assert abs(each.value) < 5 * each.error


def test_gaussian_tokens_prefer_no_jumps(smooth):
    assert smooth.choice.chosen.family == GAUSSIAN
    assert smooth.choice.chosen.gain.value == 0
    assert smooth.goodness.p_value > 0.01
    assert abs(smooth.kurtosis.value) < 4 * smooth.kurtosis.error


def test_gaussian_tokens_prefer_no_jumps_whatever_the_seed():
    """A rule of two errors misses 2.3 % of the time; two misses of 20 are rarer than 8 %."""
    missed = 0
    few = {name: FAMILIES[name] for name in (GAUSSIAN, "normal inverse Gaussian")}
    for seed in range(20):
        train, test = torch.randn(2, 20, 200, generator=seeded(seed), dtype=torch.float64)
        missed += choose(train, test, 1.0, few).chosen.family != GAUSSIAN
    assert missed <= 1


def test_white_noise_is_no_levy_sheet():
    """Neighbours share half of their tokens, with opposite signs: they correlate by -1/2."""
    noise = torch.randn(32, 10, 10, 16, generator=seeded())
    for name, stencil in (("box", box(2)), ("line", line(2, 1))):
        (finding,) = diagnose({name: noise}, (stencil,)).findings
        side, double = finding.sides[:2]
        assert abs(side.neighbors.value + 0.5) < 5 * side.neighbors.error
        assert double.variance.value == pytest.approx(0.5 ** len(stencil.steps), rel=0.05)


def test_controls_say_what_the_method_makes_of_known_increments(jumping):
    """The Gaussian control has the tokens' covariance and nothing else; shuffling leaves noise."""
    gaussian, shuffled = jumping.gaussian, jumping.shuffled
    assert abs(gaussian.kurtosis.value) < 0.1 < jumping.kurtosis.value
    assert gaussian.gain.value < 0.001
    assert abs(gaussian.neighbors.value) < 5 * gaussian.neighbors.error
    assert abs(shuffled.neighbors.value + 0.5) < 5 * shuffled.neighbors.error


def test_directions_of_unequal_strength_show_in_the_gaussian_control():
    """Two strong channels of sixteen: directions differ, so a mixture of Gaussians is read."""
    field = sample_sheet(Brownian(1.0), box(2), (12, 12), 16, 32, seeded())
    (finding,) = diagnose({"a": field * torch.tensor([8.0, 8.0] + [0.1] * 14)}, (box(2),)).findings
    assert finding.choice.chosen.family != GAUSSIAN
    assert not finding.jumps_clear
    assert finding.spread > 0.3
    assert finding.kurtosis.value > 0.3
    assert abs(finding.gaussian.kurtosis.value - finding.kurtosis.value) < 0.3


def test_what_all_images_share_is_told_apart():
    """A pattern of the same variance as what differs is half of the variance."""
    fields = sample_sheet(Brownian(1.0), box(2), (12, 12), 16, 33, seeded())
    (finding,) = diagnose({"a": fields[:1] + fields[1:]}, (box(2),)).findings
    assert finding.fixed == pytest.approx(0.5, abs=0.05)


def test_standard_errors_take_images_for_independent():
    """Gaussian increments whose size differs by image: the error of sigma in closed form.

    sigma^2 is the mean of the images' mean squares, so its error is theirs by the root of images;
    half of it over sigma is sigma's (up to the bias of one image in 40).
    """
    sizes = 0.5 + torch.rand(40, 1, generator=seeded(), dtype=torch.float64)
    x = sizes * torch.randn(40, 500, generator=seeded(1), dtype=torch.float64)
    choice = choose(x, x, 1.0, {GAUSSIAN: Brownian(1.0)})
    sigma = choice.chosen.parameters["sigma"]
    squares = x.square().mean(1)
    assert sigma.value == pytest.approx(float(squares.mean().sqrt()), rel=1e-4)
    exact = float(squares.std() / 40**0.5 / (2 * sigma.value))
    assert sigma.error == pytest.approx(exact, rel=0.01)
    assert sigma.error > 3 * sigma.value / (2 * x.numel()) ** 0.5  # independent increments' error


def test_the_same_seed_gives_the_same_findings():
    field = torch.randn(8, 4, 4, 3, generator=seeded())
    first, second = (diagnose({"a": field}, (box(2),), seed=3).findings[0] for _ in range(2))
    assert first.kurtosis == second.kurtosis
    assert first.choice.chosen.gain == second.choice.chosen.gain
    assert first.goodness == second.goodness


@pytest.mark.parametrize(
    ("field", "said"),
    [
        (torch.randn(7, 4, 4, 3), "8 images"),
        (torch.randn(8, 2, 2, 3), r"grid of at least \(3, 3\)"),
        (torch.randn(8, 1, 1, 3).expand(8, 4, 4, 3), "must vary over its grid"),
        (torch.randn(8, 4, 1, 3).expand(8, 4, 4, 3), "must vary over the box"),
        (torch.full((8, 4, 4, 3), torch.nan), "finite"),
        (torch.randn(8, 16, 3), r"\(N, h, w, C\)"),
    ],
    ids=["few images", "small grid", "constant", "constant rows", "NaN", "no grid"],
)
def test_fields_that_cannot_be_measured_are_refused(field, said):
    with pytest.raises(ValueError, match=said):
        diagnose({"layer 1": field}, (box(2), diamond()))
