"""`levyjepa diagnose`: what it writes and says of a timm ViT, a run and a transformers model."""

import csv
import json
import math
import os
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch

from levyjepa.cli import main
from levyjepa.evaluation.diagnose import diagnose
from levyjepa.lattice import box, sample_sheet
from levyjepa.laws import Brownian, CompoundPoisson, LaplaceJumps
from levyjepa.report.diagnosis import (
    follows,
    lead,
    parameters,
    record,
    short_table,
    write_diagnosis,
)
from levyjepa.training.diagnosis import Diagnosis

FAST = ("data.limit=12", "data.image_size=64", "objective.stencils=[box(2)]")
TINY = (
    "model=tiny",
    "model.overrides.depth=2",
    "model.overrides.embed_dim=48",
    "data.limit=160",
    "data.batch_size=32",
    "trainer.max_steps=2",
    "trainer.max_epochs=1",
    "trainer.accelerator=cpu",
    "trainer.progress=false",
)


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.fixture(scope="module")
def sheet() -> Diagnosis:
    """A layer that is an exact Lévy sheet, and one of white noise."""
    generator = torch.Generator().manual_seed(0)
    law = Brownian(0.3) + CompoundPoisson(0.6, LaplaceJumps(1.1))
    exact = sample_sheet(law, box(2), (10, 10), 16, 32, generator)
    noise = torch.randn(exact.shape, generator=generator)
    findings = diagnose({"layer 1": exact, "layer 2": noise}, (box(2),))
    shown = np.random.default_rng(0).integers(0, 256, (6, 40, 40, 3), dtype=np.uint8)
    return Diagnosis("exact & known", "sheets", 32, 40, 0, Path("out"), findings, shown)


class Page(HTMLParser):
    """The text of a page, and whatever it would fetch."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text, self.fetched, self.images, self.rows = "", [], 0, 0
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.images += tag == "img"
        self.rows += tag == "tr"
        self.fetched += [v for k, v in attrs if k in ("src", "href") and v[:1] not in ("#", "d")]

    def handle_data(self, data):
        self.text += data


def test_an_exact_sheet_follows_a_levy_law_and_white_noise_does_not(sheet):
    assert [follows(finding) for finding in sheet.findings] == [True, False]
    first, second, third = lead(sheet)  # images have nothing in common, so nothing is said of it
    assert first.startswith("At 1 of 2 pairs of layer and stencil a law with jumps")
    assert "most often Laplace jumps" in first
    assert second.startswith("Held-out increments reject the chosen law at 0 ")
    assert "hold at 1 of 2" in third


def test_tokens_that_are_the_same_in_every_image_are_said(sheet):
    alike = replace(sheet, findings=[replace(sheet.findings[0], fixed=0.82)])
    assert "At layer 1, box, 82 % of the variance is the same in every image" in lead(alike)[-1]


def test_the_page_is_whole_and_shows_every_layer(sheet, tmp_path):
    page = Page(write_diagnosis(replace(sheet, folder=tmp_path / "d")).read_text("utf-8"))
    assert page.fetched == []
    assert page.text.count("box: ") == 2
    assert "exact & known" in page.text
    assert parameters(sheet.findings[0].choice.chosen) in page.text
    assert page.rows == 3 * (1 + 2 + 2)  # three tables: a head, two layers, two stencils
    jumping = sum(finding.jumps is not None for finding in sheet.findings)
    assert page.images == 6 * (1 + jumping)


def test_numbers_in_the_files_are_the_findings(sheet, tmp_path):
    folder = write_diagnosis(replace(sheet, folder=tmp_path / "d")).parent
    held = json.loads((folder / "diagnosis.json").read_text("utf-8"), parse_constant=pytest.fail)
    assert held["model"] == "exact & known"
    finding, told = sheet.findings[0], held["findings"][0]
    assert told["kurtosis"] == {"value": finding.kurtosis.value, "error": finding.kurtosis.error}
    assert told["choice"]["chosen"]["law"] == repr(finding.choice.chosen.law)
    assert len(told["choice"]["candidates"]) + len(told["choice"]["failed"]) == 6
    assert [side["side"] for side in told["sides"]] == [1, 2, 4]
    with (folder / "diagnosis.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["layer"] for row in rows] == ["layer 1", "layer 2"]
    assert float(rows[1]["side_1_neighbours"]) == sheet.findings[1].sides[0].neighbours.value
    assert rows[0].keys() == record(finding).keys()


def test_an_error_that_is_not_known_is_null(sheet, tmp_path):
    finding = sheet.findings[0]
    unknown = replace(finding, kurtosis=replace(finding.kurtosis, error=math.inf))
    changed = replace(sheet, findings=[unknown], folder=tmp_path / "d")
    folder = write_diagnosis(changed).parent
    held = json.loads((folder / "diagnosis.json").read_text("utf-8"), parse_constant=pytest.fail)
    assert held["findings"][0]["kurtosis"]["error"] is None
    assert "± ∞" in short_table(changed)


def test_a_timm_model_offline(capsys):
    assert main(["diagnose", "vit_tiny_patch16_224", *FAST, "layers=4,12", "run_dir=vit"]) == 0
    said = capsys.readouterr().out
    assert "The weights are random" in said
    assert "The weights are random" in Path("vit/diagnosis.html").read_text("utf-8")
    assert {"layer 4", "layer 12"} <= {line[:8].strip() for line in said.splitlines()}
    assert "report: vit/diagnosis.html" in said
    assert sorted(os.listdir("vit")) == ["diagnosis.csv", "diagnosis.html", "diagnosis.json"]
    held = json.loads(Path("vit/diagnosis.json").read_text("utf-8"))
    assert (held["images"], held["image_size"]) == (12, 64)
    assert held["findings"][0]["cells"] == 9


def test_a_run_of_ours_shows_what_its_prior_sees():
    assert main(["train", *TINY, "run_dir=run"]) == 0
    only = ["data.limit=12", "objective.stencils=[box(2)]", "layers=2", "run_dir=found"]
    assert main(["diagnose", "run/checkpoints/last.ckpt", *only]) == 0
    found = json.loads(Path("found/diagnosis.json").read_text("utf-8"))["findings"]
    assert [each["layer"] for each in found] == ["layer 2", "projected"]


def test_a_folder_of_transformers(capsys):
    transformers = pytest.importorskip("transformers")
    for kind in ("ViT", "Dinov2WithRegisters"):
        config = getattr(transformers, f"{kind}Config")(
            hidden_size=32,
            num_hidden_layers=3,
            num_attention_heads=2,
            intermediate_size=64,
            image_size=32,
            patch_size=8,
        )
        getattr(transformers, f"{kind}Model")(config).save_pretrained(kind)
        assert main(["diagnose", kind, *FAST[::2], "layers=3", f"run_dir=of-{kind}"]) == 0
        held = json.loads(Path(f"of-{kind}/diagnosis.json").read_text("utf-8"))
        assert held["image_size"] == 32
        assert held["findings"][0]["cells"] == 9  # boxes on 4 × 4 patches, no other token


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["vit_tinny_patch16_224"], "Near it: vit_tiny_patch16_224"),
        (["resnet18"], "must be a ViT"),
        (["missing.ckpt"], "got missing.ckpt, which is not there"),
        (["vit_tiny_patch16_224", "data.image_size=60"], "multiple of the patch size"),
        (["vit_tiny_patch16_224", "data.image_size=16"], r"grid of at least \(2, 2\) tokens"),
        (["vit_tiny_patch16_224", "data.limit=7"], "At least 8 images are needed, got 7"),
        (["vit_tiny_patch16_224", "layers=13"], "from 1 to 12, got 13"),
        (["vit_tiny_patch16_224", "layers=first"], "layers=4,8,12"),
        (["vit_tiny_patch16_224", "objective.gamma=0"], "no part in a diagnosis"),
        (["vit_tiny_patch16_224", "run_dir=file"], "must be a folder"),
    ],
    ids=lambda value: value[-1] if isinstance(value, list) else "",
)
def test_errors_are_clear_and_leave_no_folder(arguments, said, capsys):
    Path("file").touch()
    small = ["data.limit=8", "data.image_size=32", "objective.stencils=[box(2)]"]
    given = {line.partition("=")[0] for line in arguments}
    rest = [line for line in small if line.partition("=")[0] not in given]
    assert main(["diagnose", *arguments, *rest]) == 2
    message = capsys.readouterr().err
    assert re.search(said, message), message
    assert os.listdir() == ["file"]
