"""What a diagnosis says, and that its files hold what was measured."""

import json
import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from levyjepa.data.images import CorruptImageError
from levyjepa.data.source import Source
from levyjepa.diagnose import Diagnosis, diagnose, read_fields, sample_images
from levyjepa.lattice import box, sample_sheet
from levyjepa.laws import Brownian, CompoundPoisson, LaplaceJumps
from levyjepa.models import Encoder, Encoding, load_frozen


@pytest.fixture(scope="module")
def known() -> Diagnosis:
    """A layer that is an exact Lévy sheet, and one of white noise."""
    generator = torch.Generator().manual_seed(0)
    law = Brownian(0.3) + CompoundPoisson(0.6, LaplaceJumps(1.1))
    exact = sample_sheet(law, box(2), (10, 10), 16, 32, generator)
    noise = torch.randn(exact.shape, generator=generator)
    images = torch.randint(0, 256, (32, 3, 40, 40), dtype=torch.uint8, generator=generator)
    fields = {"layer 1": exact, "layer 2": noise}
    return diagnose(fields, (box(2),), images=images, model="exact & known", data="sheets")


def test_an_exact_sheet_follows_a_levy_law_and_white_noise_does_not(known):
    exact, noise = known.findings
    assert (exact.jumps_clear, exact.independent, exact.follows) == (True, True, True)
    assert (noise.jumps_clear, noise.independent, noise.follows) == (False, False, False)
    assert list(known.table["jumps"]) == ["yes", "no"]
    assert list(known.table["Lévy"]) == ["yes", "no"]


def test_the_verdict_says_which_law_how_sure_and_on_how_many_images(known):
    verdict = known.verdict
    assert verdict.startswith("Jumps at 1 of 2 pairs")
    for part in ("Laplace jumps", "standard errors", "holds at 1 of 2", "32 images of sheets"):
        assert part in verdict
    assert "random" not in verdict
    assert "weights are random" in replace(known, random=True).verdict
    noise = replace(known, findings=known.findings[1:])
    assert noise.verdict.startswith("No jumps at the one pair of layer and stencil")
    assert "holds at 0 of 1" in noise.verdict


def test_tokens_that_are_the_same_in_every_image_are_noted(known):
    assert not any("same in every image" in note for note in known.notes)
    alike = replace(known, findings=[replace(known.findings[0], fixed=0.82)])
    assert "At layer 1, box, 82 % of the variance is the same" in alike.notes[-1]


def test_numbers_in_the_file_are_the_findings(known):
    file = json.loads(json.dumps(known.as_dict(), allow_nan=False))
    assert (file["model"], file["images"], file["image_size"]) == ("exact & known", 32, 40)
    assert file["verdict"] == known.verdict
    finding, row = known.findings[0], file["findings"][0]
    assert row["kurtosis"] == {"value": finding.kurtosis.value, "error": finding.kurtosis.error}
    assert row["choice"]["chosen"]["law"] == repr(finding.choice.chosen.law)
    assert len(row["choice"]["candidates"]) + len(row["choice"]["failed"]) == 6
    assert [side["side"] for side in row["sides"]] == [1, 2, 4]
    numbers = known.numbers
    assert list(numbers["layer"]) == ["layer 1", "layer 2"]
    assert numbers["sides.1.neighbors.value"][1] == known.findings[1].sides[0].neighbors.value
    assert numbers["choice.gain.value"][0] == finding.choice.chosen.gain.value


def test_an_error_that_is_not_known_is_null(known):
    finding = known.findings[0]
    unknown = replace(finding, kurtosis=replace(finding.kurtosis, error=math.inf))
    changed = replace(known, findings=[unknown])
    assert changed.as_dict()["findings"][0]["kurtosis"]["error"] is None
    assert changed.table["kurtosis"].item().endswith("± ∞")


def test_tables_and_pictures_show_every_layer(known):
    assert list(known.table.index) == ["layer 1, box", "layer 2, box"]
    assert [list(detail.table.index) for detail in known.details] == [list(known.table.index)] * 3
    assert "jump α" in known.details[0].table["law"].iloc[0]
    names = [picture.name for picture in known.pictures]
    assert names == ["increments-layer-1", "increments-layer-2", "cells", "jumps"]
    assert sum(picture.headline for picture in known.pictures) == 1
    assert all(picture.png.startswith(b"\x89PNG") for picture in known.pictures)


def pixels(count: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 3, 32, 32), dtype=torch.uint8, generator=generator)


def test_layers_are_read_as_the_model_computes_them():
    frozen, images = load_frozen("vit_tiny_patch16_224", image_size=32), pixels(3)
    statistics = frozen.mean, frozen.std
    linear = nn.Linear(192, 4)
    fields = read_fields(frozen.encoder, images, *statistics, projection=linear)
    assert list(fields) == ["layer 3", "layer 6", "layer 9", "layer 12", "projected"]
    assert fields["layer 3"].shape == (3, 2, 2, 192)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in statistics)
    with torch.no_grad():
        last = frozen.encoder((images / 255 - mean) / std).tokens
        torch.testing.assert_close(fields["layer 12"], last, atol=1e-5, rtol=0)
        torch.testing.assert_close(fields["projected"], linear(last), atol=1e-5, rtol=0)
    with pytest.raises(ValueError, match="from 1 to 12, got 13"):
        read_fields(frozen.encoder, images, *statistics, [13])


class Linear(Encoder):
    """One layer of linear patches."""

    width, embedding_dim, patch_size = 8, 8, (8, 8)

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 8, stride=8)

    def forward(self, images):
        tokens = self.conv(images).movedim(1, -1)
        return Encoding(tokens.mean((1, 2)), tokens)


def test_an_encoder_without_layers_gives_its_tokens():
    fields = read_fields(Linear(), pixels(2), (0.5,) * 3, (0.5,) * 3)
    assert {name: field.shape for name, field in fields.items()} == {"layer 1": (2, 4, 4, 8)}


class Broken(list):
    """Images of which one can't be decoded."""

    def __getitem__(self, index):
        if index == 1:
            raise CorruptImageError("image 1")
        return super().__getitem__(index)


def test_images_are_drawn_from_the_test_split_first():
    dark = torch.zeros(32, 48, 3, dtype=torch.uint8).numpy()
    test, train = Broken([(dark, -1)] * 5), [(dark + 255, -1)] * 20
    source = Source("gray", train=train, test=test)
    images = sample_images(source, 16, 10)
    assert images.shape == (10, 3, 16, 16)
    assert (images.float().mean((1, 2, 3)) == 0).sum() == 4
    assert torch.equal(images, sample_images(source, 16, 10))
    with pytest.raises(ValueError, match="At least 8 images are needed, got 4 of few; 1 can't be"):
        sample_images(Source("few", train=[], test=test), 16)
    with pytest.raises(ValueError, match="few gives clips"):
        sample_images(Source("few", train=train, clips=True), 16)
