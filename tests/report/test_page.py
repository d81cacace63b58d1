"""The pages: whole, self-contained, honest, and readable from incomplete folders."""

import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from levyjepa.report import compare_report, experiment_report, run_report
from levyjepa.report.figures import PALETTE
from levyjepa.report.table import difference_sentence


class Page(HTMLParser):
    """A parsed page: its text, its headings and the addresses it refers to."""

    def __init__(self, path):
        super().__init__()
        self.source = path.read_text("utf-8")
        self.words: list[str] = []
        self.addresses: list[str] = []
        self.tags: list[str] = []
        self.feed(self.source)
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.addresses += [v for k, v in attrs if k in ("src", "href", "xlink:href")]

    def handle_data(self, data):
        if self.lasttag != "style":
            self.words.append(data)


@pytest.fixture(scope="module")
def page(experiment):
    return Page(experiment_report(experiment))


def test_an_experiment_s_page_needs_nothing_from_outside(page):
    assert page.addresses
    assert all(address.startswith(("#", "data:image/")) for address in page.addresses)
    assert not {"script", "link", "iframe"} & set(page.tags)
    assert "@import" not in page.source
    assert "url(http" not in page.source


def test_an_experiment_s_page_names_every_cell_and_prints_its_numbers(page, experiment):
    found = json.loads((experiment / "experiment.json").read_text("utf-8"))
    for row in found["table"]:
        assert row["cell"] in page.text
        for number in (row["mean"], row["published"]):
            assert f"{100 * number:.1f} %" in page.text
        assert f"{100 * row['low']:.1f} to {100 * row['high']:.1f}" in page.text
    assert "gamma=1 minus gamma=0" in page.text
    assert "3 pairs" in page.text
    assert "90.5 %" in page.text  # raw pixels
    assert "85.0 %" in page.text  # the random encoder, mean over seeds .84, .85 and .86


def test_every_part_of_the_page_is_there(page):
    for part in ("Learning curves", "Increments against the law", "Where the model sees jumps"):
        assert part in page.text
    for part in ("Nearest neighbours", "Settings", "rescaled to the law’s variance"):
        assert part in page.text
    assert page.tags.index("table") < page.tags.index("svg")
    assert page.tags.count("svg") == 6 + 4
    assert page.tags.count("details") == 2
    assert "projection_hidden: 2048" in page.text


def test_both_gammas_keep_their_colour_everywhere(page):
    assert not any(colour in page.source.split("</style>")[1] for colour in PALETTE)
    body = page.source.split("<h2>Increments")[1]
    first, second = body.split("<h4>gamma=1")[0], body.split("<h4>gamma=1", 1)[1]
    assert "stroke: var(--c0)" in first
    assert "stroke: var(--c1)" not in first
    assert "stroke: var(--c1)" in second


def row(mean, low, high, n):
    a_b = {"a": "gamma=1", "b": "gamma=0", "metric": "linear_probe"}
    return {**a_b, "mean": mean, "low": low, "high": high, "n": n}


def test_the_lead_claims_no_more_than_the_interval_allows():
    covers = difference_sentence(row(0.004, -0.005, 0.013, 3))
    assert "+0.4 percentage points" in covers
    assert "3 pairs of seeds give a 95 % interval of −0.5 to +1.3" in covers
    assert "no difference can be claimed" in covers
    clear = difference_sentence(row(-0.02, -0.03, -0.01, 8))
    assert "−2.0 percentage points" in clear
    assert "can be claimed" not in clear
    assert "first sign" not in clear
    assert "first sign" in difference_sentence(row(0.02, 0.01, 0.03, 2))


@pytest.mark.parametrize("bound", [None, float("nan")])
def test_one_pair_of_runs_claims_nothing(bound):
    sentence = difference_sentence(row(0.02, bound, bound, 1))
    assert "one pair of runs" in sentence
    assert "no difference can be claimed" in sentence


def test_an_experiment_names_its_failed_cells(make_run, tmp_path):
    make_run("demo/a", gamma=0.0)
    failed = {
        "run_dir": "runs/demo/b",
        "overrides": {"objective.gamma": 1, "seed": 0},
        "status": "failed",
        "error": "`train/levy` became nan at step 7.",
    }
    (tmp_path / "demo" / "experiment.json").write_text(json.dumps({"cells": [failed]}), "utf-8")
    text = Page(experiment_report(tmp_path / "demo")).text
    assert "gamma=1, seed 0: failed. `train/levy` became nan at step 7." in text
    assert "93.0 %" in text


def test_kappa_splits_the_panels_and_gamma_colours_them(make_run, tmp_path):
    for kappa in (0.0, 1.0):
        for gamma in (0.0, 1.0):
            make_run(f"grid/{gamma}-{kappa}", gamma=gamma, kappa=kappa)
    page = Page(experiment_report(tmp_path / "grid"))
    assert page.source.count("<h3>kappa=0</h3>") == page.source.count("<h3>kappa=1</h3>") == 4
    assert "gamma=1, kappa=0" in page.text


def test_a_run_s_page_says_how_it_stands_beside_the_baselines(make_run):
    run = make_run(probe=0.93)
    page = Page(run_report(run))
    assert run / "report.html" == run_report(run)
    assert "gets 93.0 % of 1,000 test images of mnist5k right" in page.text
    assert "9.0 points above an untrained encoder’s 84.0 %" in page.text
    assert "2.5 points above raw pixels’ 90.5 %" in page.text
    assert "Online probe, best" in page.text
    assert "rescaled" not in page.text


def test_worse_than_raw_pixels_is_said(make_run):
    assert "10.5 points below raw pixels’" in Page(run_report(make_run(probe=0.8))).text


def test_a_map_with_jumps_everywhere_is_said_to_tell_little(make_run):
    run = make_run()
    assert "tells little" not in Page(run_report(run)).text
    with np.load(run / "gallery.npz") as arrays:
        gallery = dict(arrays)
    gallery["jump_probability"] = np.full_like(gallery["jump_probability"], 0.98)
    np.savez(run / "gallery.npz", **gallery)
    assert "gamma=1: 0.98 on average, a jump nearly everywhere" in Page(run_report(run)).text


def test_unlabelled_images_have_no_probe_section(make_run):
    page = Page(run_report(make_run(labelled=False)))
    assert "no labels" in page.text
    assert "table" not in page.tags
    assert "Test accuracy" not in page.text
    assert "✗" not in page.text.split("Nearest neighbours")[1].split("Settings")[0][120:]
    assert "Where the model sees jumps" in page.text


def test_an_unfinished_run_says_so(make_run):
    text = Page(run_report(make_run(finished=False))).text
    assert "run is unfinished: 2 epochs of 6 logged, and nothing evaluated." in text
    assert "Learning curves" in text
    assert "Increments" not in text


def test_a_folder_with_a_config_alone_still_makes_a_page(make_run):
    run = make_run(finished=False)
    (run / "metrics.csv").unlink()
    text = Page(run_report(run)).text
    assert "0 epochs of 6 logged" in text
    assert "Learning curves" not in text


def test_class_names_are_escaped(make_run):
    names = ("<script>alert(1)</script>", "a & b", *"23456789")
    page = Page(run_report(make_run(classes=names)))
    assert "script" not in page.tags
    assert "<script>alert(1)</script>" in page.text
    assert "a &amp; b" in page.source


def test_runs_are_compared_on_one_page(make_run, tmp_path):
    runs = [make_run("a", gamma=0.0, probe=0.921), make_run("b", gamma=1.0, probe=0.934)]
    out = compare_report([*runs], tmp_path / "both.html")
    text = Page(out).text
    assert "2 runs compared" in text
    assert "92.1 %" in text
    assert "93.4 %" in text


def test_an_experiment_folder_is_compared_by_its_runs(experiment, tmp_path):
    assert "6 runs compared" in Page(compare_report([experiment], tmp_path / "all.html")).text


def test_the_same_folder_gives_the_same_page(make_run):
    run = make_run()
    assert run_report(run).read_bytes() == run_report(run).read_bytes()


@pytest.mark.parametrize("report", [run_report, experiment_report])
def test_a_folder_without_runs_is_an_error(report, tmp_path):
    with pytest.raises(FileNotFoundError, match="run folder"):
        report(tmp_path)


def test_comparing_nothing_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="`dirs` must name at least one"):
        compare_report([], tmp_path / "out.html")


def test_columns_that_a_page_doesn_t_know_are_left_out(make_run):
    run = make_run()
    lines = (run / "metrics.csv").read_text("utf-8").splitlines()
    lines = [f"{lines[0]},train/new", *(f"{line},1.0" for line in lines[1:])]
    (run / "metrics.csv").write_text("\n".join(lines), "utf-8")
    assert not re.search("train/new", Page(run_report(run)).text)
