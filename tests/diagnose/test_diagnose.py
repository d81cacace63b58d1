"""Fields whose law is known, and what a diagnosis says of them.

Seeds are fixed; bands of three to five standard errors keep false alarms below 1 %.
"""

import json
import math
from copy import deepcopy
from dataclasses import replace

import pytest
import torch

from levyjepa.diagnose import Diagnosis, diagnose
from levyjepa.diagnose.families import FAMILIES, GAUSSIAN, choose
from levyjepa.diagnose.measure import stencil_name
from levyjepa.lattice import box, diamond, line, sample_sheet
from levyjepa.laws import Brownian, CompoundPoisson, LaplaceJumps, NormalInverseGaussian

JUMPING = Brownian(0.3) + CompoundPoisson(0.6, LaplaceJumps(1.1))


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def measured(field, stencil=box(2)):  # noqa: B008
    (row,) = diagnose({"a": field}, (stencil,)).rows
    return row


def near(estimate, value, slack=0.0):
    return abs(estimate["value"] - value) < 5 * estimate["error"] + slack


def white_noise():
    return torch.randn(32, 10, 10, 16, generator=seeded(1))


@pytest.fixture(scope="module")
def known() -> Diagnosis:
    """A layer that is an exact Lévy sheet, and one of white noise."""
    exact = 7.0 * sample_sheet(JUMPING, box(2), (10, 10), 16, 32, seeded())
    images = torch.randint(0, 256, (32, 3, 40, 40), dtype=torch.uint8, generator=seeded(2))
    fields = {"layer 1": exact, "layer 2": white_noise()}
    return diagnose(fields, (box(2),), images=images, model="exact & known", data="sheets")


def test_the_law_of_a_sheet_is_recovered_with_its_parameters(known):
    row = known.rows[0]
    chosen, width = row["chosen"], float(JUMPING.variance()) ** 0.5  # scaled to variance 1
    assert chosen["family"] == "Laplace jumps"
    true = {"laws.0.sigma": 0.3 / width, "laws.1.rate": 0.6, "laws.1.jumps.alpha": 1.1 * width}
    for name, value in true.items():
        assert near(chosen["parameters"][name], value)
        assert chosen["parameters"][name]["error"] < 0.15 * value
    assert chosen["gain"]["value"] > 5 * chosen["gain"]["error"]
    assert row["goodness"]["p_value"] > 0.01 > row["goodness_of_gaussian"]["p_value"]
    assert abs(row["goodness"]["deviations"]) < 3
    for side, values in row["sides"].items():
        assert near(values["kurtosis"], JUMPING.kurtosis(int(side) ** 2))


def test_jumps_are_counted_and_strike_all_directions(known):
    jumps = known.rows[0]["jumps"]
    assert jumps["share"] == pytest.approx(1 - math.exp(-0.6), abs=0.04)
    assert jumps["together"]["value"] > 0.3
    assert near(jumps["together"], jumps["isotropic"], 0.02)
    assert near(jumps["channels"], jumps["isotropic"], 0.02)


def test_independent_channels_do_not_jump_together():
    one = sample_sheet(JUMPING, box(2), (7, 7), 1, 16 * 12, seeded())
    jumps = measured(one.view(16, 12, 7, 7).movedim(1, -1))["jumps"]
    assert near(jumps["channels"], 0)
    assert 5 * jumps["channels"]["error"] < 0.15
    assert jumps["isotropic"] > 0.1


def test_cells_of_a_sheet_are_independent_at_every_side():
    law = NormalInverseGaussian(1.0, 1.0)
    row = measured(sample_sheet(law, diamond(), (14, 14), 8, 10, seeded()), diamond())
    assert row["stencil"] == "diamond"
    assert list(row["sides"]) == ["1", "2", "4"]
    for side in row["sides"].values():
        assert near(side["variance"], 1, 1e-9)
        assert near(side["neighbors"], 0)
        assert near(side["energies"], 0)


def test_gaussian_tokens_prefer_no_jumps_whatever_the_seed():
    """A rule of two errors misses 2.3 % of the time; two misses of 10 are rarer than 3 %."""
    few = {name: FAMILIES[name] for name in (GAUSSIAN, "normal inverse Gaussian")}
    families = []
    for seed in range(10):
        train, test = torch.randn(2, 20, 100, generator=seeded(seed), dtype=torch.float64)
        families.append(choose(train, test, 1.0, few)[0].family)
    assert families.count(GAUSSIAN) >= 9


def test_white_noise_is_no_levy_sheet(known):
    """Neighbors share half of their tokens, with opposite signs: they correlate by -1/2."""
    row = known.rows[1]
    assert row["chosen"]["family"] == GAUSSIAN
    assert row["chosen"]["gain"]["value"] == 0
    assert row["goodness"]["p_value"] > 0.01
    assert near(row["kurtosis"], 0)
    assert near(row["sides"]["1"]["neighbors"], -0.5)
    assert row["sides"]["2"]["variance"]["value"] == pytest.approx(0.25, rel=0.1)


def test_controls_say_what_the_method_makes_of_known_increments(known):
    """The Gaussian control has the tokens' covariance and nothing else; shuffling leaves noise."""
    row = known.rows[0]
    assert abs(row["gaussian"]["kurtosis"]["value"]) < 0.1 < row["kurtosis"]["value"]
    assert row["gaussian"]["gain"]["value"] < 0.001
    assert near(row["gaussian"]["neighbors"], 0)
    assert near(row["shuffled"]["neighbors"], -0.5)


def test_directions_of_unequal_strength_show_in_the_gaussian_control():
    """Two strong channels of sixteen: directions differ, so a mixture of Gaussians is read."""
    field = sample_sheet(Brownian(1.0), box(2), (10, 10), 16, 24, seeded())
    row = measured(field * torch.tensor([8.0, 8.0] + [0.1] * 14))
    assert row["chosen"]["family"] != GAUSSIAN
    assert not row["jumps_clear"]
    assert min(row["spread"], row["kurtosis"]["value"]) > 0.3
    assert abs(row["gaussian"]["kurtosis"]["value"] - row["kurtosis"]["value"]) < 0.3


def test_what_all_images_share_is_told_apart():
    """A pattern of the same variance as what differs is half of the variance."""
    fields = sample_sheet(Brownian(1.0), box(2), (10, 10), 16, 17, seeded())
    assert measured(fields[:1] + fields[1:])["fixed"] == pytest.approx(0.5, abs=0.06)


def test_standard_errors_take_images_for_independent():
    """Gaussian increments whose size differs by image: the error of sigma in closed form.

    sigma^2 is the mean of the images' mean squares, so its error is theirs by the root of images;
    half of it over sigma is sigma's (up to the bias of one image in 40).
    """
    sizes = 0.5 + torch.rand(40, 1, generator=seeded(), dtype=torch.float64)
    x = sizes * torch.randn(40, 500, generator=seeded(1), dtype=torch.float64)
    sigma = choose(x, x, 1.0, {GAUSSIAN: Brownian(1.0)})[0].parameters["sigma"]
    value, error = sigma["value"], sigma["error"]
    squares = x.square().mean(1)
    assert value == pytest.approx(float(squares.mean().sqrt()), rel=1e-4)
    assert error == pytest.approx(float(squares.std() / 40**0.5 / (2 * value)), rel=0.01)
    assert error > 3 * value / (2 * x.numel()) ** 0.5  # independent increments' error


def test_a_layer_is_a_function_of_its_tokens_and_the_seed(known):
    again = diagnose({"layer 2": white_noise()}, (box(2),)).numbers
    assert again.iloc[0].equals(known.numbers.iloc[1][again.columns])


@pytest.mark.parametrize(
    ("stencil", "name"),
    [(box(2, 2), "box × 2"), (line(2, 0), "lines down"), (line(2, 1), "lines across")],
)
def test_stencils_have_names(stencil, name):
    assert stencil_name(stencil) == name


@pytest.mark.parametrize(
    ("field", "message"),
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
def test_fields_that_cannot_be_measured_are_refused(field, message):
    with pytest.raises(ValueError, match=message):
        diagnose({"layer 1": field}, (box(2), diamond()))


def changed(diagnosis: Diagnosis, **values) -> Diagnosis:
    """The first layer alone, with other numbers."""
    row, data = diagnosis.results[0]
    return replace(diagnosis, results=[(deepcopy(row) | values, data)])


def test_the_verdict_says_which_law_how_sure_and_on_how_many_images(known):
    keys = ("jumps_clear", "independent", "follows")
    assert [[row[key] for key in keys] for row in known.rows] == [[True] * 3, [False] * 3]
    assert list(known.table["jumps"]) == list(known.table["Lévy"]) == ["yes", "no"]
    verdict = known.verdict
    assert verdict.startswith("Jumps at 1 of 2 pairs")
    for part in ("Laplace jumps", "standard errors", "holds at 1 of 2", "32 images of sheets"):
        assert part in verdict
    assert "random" not in verdict
    assert "weights are random" in replace(known, random=True).verdict
    noise = replace(known, results=known.results[1:])
    assert noise.verdict.startswith("No jumps at the one pair of layer and stencil")
    assert "holds at 0 of 1" in noise.verdict


def test_notes_name_what_images_share_and_laws_that_failed(known):
    assert len(known.notes) == 2
    notes = changed(known, fixed=0.82, failed=["stable"]).notes
    assert "At layer 1, box, 82 % of the variance is the same" in notes[2]
    assert "too large to fit stable" in notes[3]


def test_the_file_holds_the_numbers_and_null_for_an_error_that_is_not_known(known):
    file = json.loads(json.dumps(known.as_dict(), allow_nan=False))
    assert (file["model"], file["images"], file["image_size"]) == ("exact & known", 32, 40)
    assert file["verdict"] == known.verdict
    row, stored, numbers = known.rows[0], file["findings"][0], known.numbers
    assert stored["kurtosis"] == row["kurtosis"]
    assert len(stored["candidates"]) + len(stored["failed"]) == 6
    assert list(numbers["layer"]) == ["layer 1", "layer 2"]
    neighbors = known.rows[1]["sides"]["1"]["neighbors"]["value"]
    assert numbers["sides.1.neighbors.value"][1] == neighbors
    unknown = changed(known, kurtosis={"value": 1.0, "error": math.inf})
    assert unknown.as_dict()["findings"][0]["kurtosis"]["error"] is None
    assert unknown.table["kurtosis"].item() == "1.00 ± ∞"


def test_tables_and_pictures_show_every_layer(known):
    assert list(known.table.index) == ["layer 1, box", "layer 2, box"]
    assert [list(detail.table.index) for detail in known.details] == [list(known.table.index)] * 3
    assert "jump α" in known.details[0].table["law"].iloc[0]
    assert "16 images" in known.details[0].text
    names = [picture.name for picture in known.pictures]
    assert names == ["increments-layer-1", "increments-layer-2", "cells", "jumps"]
    assert sum(picture.headline for picture in known.pictures) == 1
    assert all(picture.png.startswith(b"\x89PNG") for picture in known.pictures)
