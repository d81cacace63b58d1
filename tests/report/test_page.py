"""The pages: whole, self-contained, honest, and readable from incomplete folders."""

import base64
import io
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from scipy import stats

from levyjepa.evaluation import Overlays
from levyjepa.evaluation.filmstrip import Filmstrips
from levyjepa.report import compare_report, experiment_report, run_report
from levyjepa.report.cells import data_name, grouped
from levyjepa.report.drawing import strengths
from levyjepa.report.figures import PALETTE
from levyjepa.report.filmstrip import GAP
from levyjepa.report.folder import read_run
from levyjepa.report.lead import difference_sentence
from levyjepa.report.tried import tried
from levyjepa.training.comparison import Difference

BASE, PRIOR = (0.921, 0.925, 0.93), (0.926, 0.924, 0.938)


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


def test_an_experiment_s_page_names_every_cell_and_prints_its_numbers(page):
    for gamma, probes, seen in (("gamma=0", BASE, "90.7 %"), ("gamma=1", PRIOR, "91.3 %")):
        assert f"{gamma} n = 3 seeds {100 * np.mean(probes):.1f} %" in page.text
        interval = stats.ttest_1samp(probes, 0).confidence_interval()
        assert f"{100 * interval.low:.1f} to {100 * interval.high:.1f}" in page.text
        assert seen in page.text  # published
    paired = stats.ttest_rel(PRIOR, BASE)
    bounds = [f"{100 * bound:+.1f}".replace("-", "−") for bound in paired.confidence_interval()]
    effect = f"d_z {paired.statistic / 3**0.5:+.1f}"
    shown = f"gamma=1 minus gamma=0 n = 3 pairs +0.4 {' to '.join(bounds)} {effect}"
    assert "Differences: gamma" in page.text
    assert shown in page.text
    assert "90.5 %" in page.text  # raw pixels
    assert "85.0 %" in page.text  # the random encoder, mean over seeds .84, .85 and .86


def test_every_part_of_the_page_is_there(page):
    for part in ("Every run", "Learning curves", "Increments against the law", "Where the model"):
        assert part in page.text
    for part in ("Nearest neighbours", "Settings", "rescaled to the law’s variance"):
        assert part in page.text
    assert page.tags.index("table") < page.tags.index("svg")
    assert page.tags.count("svg") == 6 + 4 + 4
    assert page.tags.count("details") == 3  # every run, what differs, the settings
    assert "projection_hidden: 2048" in page.text


def test_both_gammas_keep_their_colour_everywhere(page):
    assert not any(colour in page.source.split("</style>")[1] for colour in PALETTE)
    body = page.source.split("<h2>Increments")[1]
    first, second = body.split("<h4>gamma=1")[0], body.split("<h4>gamma=1", 1)[1]
    assert "stroke: var(--c0)" in first
    assert "stroke: var(--c1)" not in first
    assert "stroke: var(--c1)" in second


def row(mean, low, high, n):
    return Difference("gamma", "gamma=1", "gamma=0", "linear_probe", n, mean, low, high, 1.3)


def test_the_lead_claims_no_more_than_the_interval_allows():
    covers = difference_sentence(row(0.004, -0.005, 0.013, 3))
    assert "+0.4 percentage points" in covers
    assert "3 pairs of seeds give a 95 % interval of −0.5 to +1.3" in covers
    assert "no difference can be claimed" in covers
    clear = difference_sentence(row(-0.02, -0.03, -0.01, 8))
    assert "−2.0 percentage points" in clear
    assert "can be claimed" not in clear
    assert "an effect size d_z of 1.3" in clear
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


def test_a_map_shows_where_the_change_is_largest_though_a_jump_is_everywhere(make_run):
    run = make_run()
    with np.load(run / "gallery.npz") as arrays:
        gallery = dict(arrays)
    shape = gallery["jump_probability"].shape
    gallery["jump_probability"] = np.ones(shape)
    np.savez(run / "gallery.npz", **gallery)
    flat = pictured_jumps(run)
    gallery["jump_size"] = np.ones(shape)
    gallery["jump_size"][0, 2, 3] = 4
    np.savez(run / "gallery.npz", **gallery)
    sized = pictured_jumps(run)
    assert sized[0] != flat[0]
    np.testing.assert_allclose(strengths(gallery)[0, 2, 3], 1)
    assert strengths(gallery)[0, 0, 0] < 0.6
    assert (
        "1.00 on average with gamma=1, above one half at 100 % of corners"
        in Page(run_report(run)).text
    )


def test_a_law_that_names_no_jumps_has_maps_and_no_probabilities(make_run):
    run = make_run()
    with np.load(run / "gallery.npz") as arrays:
        gallery = dict(arrays)
    gallery["jump_size"] = gallery["jump_probability"]
    gallery["jump_probability"] = np.full(gallery["jump_size"].shape, np.nan)
    np.savez(run / "gallery.npz", **gallery)
    assert len(pictured_jumps(run)) == 4
    assert "sees a jump with probability" not in Page(run_report(run)).text


def pictured_jumps(run):
    """The addresses of a page's maps."""
    part = Page(run_report(run)).source.split("Where the model sees")[1].split("</section>")[0]
    return re.findall(r'src="([^"]*)" alt="gamma=1"', part)


@pytest.mark.parametrize("sizes", [np.zeros((2, 3, 3)), np.full((2, 3, 3), 0.7)])
def test_changes_that_are_all_the_same_are_no_error(sizes):
    found = strengths({"jump_size": sizes})
    assert found.shape == sizes.shape
    assert ((found >= 0) & (found <= 1)).all()


def test_masks_stand_beside_what_each_setting_tells_with_void_in_grey(make_run, tmp_path):
    images = np.zeros((2, 8, 8, 3), np.uint8)
    truth = np.zeros((2, 8, 8), np.int16)
    truth[:, :4], truth[:, :, 6:] = 1, -1
    for gamma in (0.0, 1.0):
        run = make_run(f"grid/{gamma}", gamma=gamma)
        Overlays(images, truth, np.full_like(truth, int(gamma)), np.array(["road", "a & b"])).save(
            run / "segmentation.npz"
        )
    page = Page(experiment_report(tmp_path / "grid"))
    assert "road a & b void" in page.text
    part = page.source.split("Classes told from tokens")[1].split("</section>")[0]
    assert re.findall(r'alt="([^"]*)"', part) == 2 * ["image", "truth", "gamma=0", "gamma=1"]
    first, second, void = re.findall(r"background:(#\w+)", part)
    _, truth_tile, base, prior = map(pixels, re.findall(r'src="([^"]*)"', part)[:4])
    colours = {tuple(truth_tile[y, x]) for y, x in ((6, 0), (0, 0), (0, 7))}
    assert colours == {dimmed(colour) for colour in (first, second, void)}
    assert {tuple(p) for p in base.reshape(-1, 3)} == {dimmed(first)}
    assert {tuple(p) for p in prior.reshape(-1, 3)} == {dimmed(second)}


def pixels(address):
    """(H, W, 3) of a data URL."""
    content = base64.b64decode(address.partition(",")[2])
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB")).astype(int)


def dimmed(colour):
    """A class's colour over a black picture."""
    return tuple(int(0.7 * int(colour[i : i + 2], 16)) for i in (1, 3, 5))


def test_masks_of_one_run_need_no_other(make_run):
    run = make_run()
    truth = np.zeros((1, 8, 8), np.int16)
    Overlays(np.zeros((1, 8, 8, 3), np.uint8), truth, truth, np.array(["road"])).save(
        run / "segmentation.npz"
    )
    assert "Classes told from tokens" in Page(run_report(run)).text


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


def test_a_collapsed_run_says_so(make_run):
    run = make_run()
    assert "has collapsed" not in Page(run_report(run)).text
    found = json.loads((run / "evaluation.json").read_text("utf-8"))
    found["representation"] = {"effective_rank": 1.0, "collapsed": True}
    (run / "evaluation.json").write_text(json.dumps(found), "utf-8")
    assert (
        "run has collapsed: its embeddings lie on a point or a line" in Page(run_report(run)).text
    )


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


def test_runs_of_several_folders_are_paired_by_seed(make_run, tmp_path):
    for seed, (base, prior) in enumerate(zip(BASE, PRIOR, strict=True)):
        make_run(f"one/{seed}", gamma=0.0, seed=seed, probe=base)
        make_run(f"two/deep/{seed}", gamma=1.0, seed=seed, probe=prior)
    page = Page(compare_report([tmp_path / "one", tmp_path / "two"], tmp_path / "all.html"))
    assert "gamma=1 minus gamma=0 n = 3 pairs +0.4" in page.text
    assert "gamma=0 n = 3 seeds 92.5 %" in page.text
    assert "Every run" in page.text


def test_settings_that_always_change_together_name_a_cell_by_the_shortest(make_run, tmp_path):
    for seed in (0, 1):
        make_run(f"a/{seed}", gamma=0.0, kappa=0.0, seed=seed, probe=0.9)
        make_run(f"b/{seed}", gamma=1.0, kappa=1.0, seed=seed, probe=0.9 + 0.01 * seed)
        path = tmp_path / "b" / str(seed) / "config.yaml"
        path.write_text(path.read_text().replace("rate=2.0", "rate=1.0"))
    text = Page(compare_report([tmp_path / "a", tmp_path / "b"], tmp_path / "all.html")).text
    assert "gamma=1, kappa=1 minus gamma=0, kappa=0 n = 2 pairs +0.5" in text
    assert "Differences: gamma and kappa" in text


def test_of_many_settings_names_say_what_differs_from_the_first(make_run, tmp_path):
    changes = {"base": ("", ""), "base-alone": ("kappa: 1.0", "kappa: 0.0")}
    changes |= {"flip": ("flip: 0.5", "flip: 0.1"), "gray": ("gray: 0.2", "gray: 0.9")}
    changes |= {"wide": ("mlp", "linear")}
    for name, (old, new) in changes.items():
        path = make_run(f"many/{name}/seed-0", probe=0.9, finished=name != "wide") / "config.yaml"
        path.write_text(path.read_text().replace(old, new))
    text = Page(experiment_report(tmp_path / "many")).text
    for pair in ("kappa=0 minus base", "flip=0.1 minus base", "gray=0.9 minus base"):
        assert f"{pair} n = 1 pair" in text
    base = "“base” has flip=0.5, gray=0.2, patch_projection=mlp, kappa=1;"
    assert f"{base} the other names say what differs" in text
    assert "wide/seed-0 is unfinished" in text


def test_kinds_of_increments_are_cells_of_their_own(make_run, tmp_path):
    kinds = ("space", "time", "spacetime")
    left = {"off": kinds, "full": kinds, "space": ("space",), "time": ("time",)}
    for number, (name, some) in enumerate(left.items()):
        for seed in (0, 1):
            run = make_run(f"grid/{name}/seed-{seed}", gamma=float(name != "off"), seed=seed)
            settings = yaml.safe_load((run / "config.yaml").read_text("utf-8"))
            for kind in kinds:
                settings["objective"][kind]["weight"] = float(kind in some)
            (run / "config.yaml").write_text(yaml.safe_dump(settings), "utf-8")
            found = {"linear_probe": {"accuracy": 0.1 * (1 + number)}}
            (run / "evaluation.json").write_text(json.dumps(found), "utf-8")
    text = Page(experiment_report(tmp_path / "grid")).text
    space, time = (f"{other}.weight=0, spacetime.weight=0" for other in ("time", "space"))
    told = {"gamma=0": 10, "gamma=1": 20, f"gamma=1, {space}": 30, f"gamma=1, {time}": 40}
    for name, share in told.items():
        assert f" {name} n = 2 seeds {share}.0 %" in text
    assert f"gamma=1, {space} minus gamma=0 n = 2 pairs +20.0" in text


def test_without_a_shared_seed_nothing_is_paired(make_run, tmp_path):
    runs = [make_run("a", gamma=0.0, seed=1), make_run("b", gamma=1.0, seed=2)]
    text = Page(compare_report([*runs], tmp_path / "all.html")).text
    assert "No two settings share a seed" in text
    assert "minus" not in text


def test_a_run_given_twice_counts_once(make_run, tmp_path):
    runs = [make_run("a", gamma=0.0), make_run("b", gamma=1.0), make_run("again", gamma=0.0)]
    text = Page(compare_report([*runs], tmp_path / "all.html")).text
    assert "again has the settings and seed of" in text
    assert "gamma=0 n = 1 seed" in text


def test_runs_that_differ_beyond_the_grid_are_said_and_kept_apart(make_run, tmp_path):
    cells = [{"overrides": {"objective.gamma": 0, "seed": 0}, "run_dir": "grid/a"}]
    make_run("grid/a", gamma=0.0)
    make_run("grid/b", gamma=1.0, kappa=0.5)
    (tmp_path / "grid" / "experiment.json").write_text(json.dumps({"cells": cells}), "utf-8")
    text = Page(experiment_report(tmp_path / "grid")).text
    assert "differ beyond the experiment’s grid: in objective.kappa." in text
    assert "gamma=1, kappa=0.5" in text


def test_masks_few_labels_and_boundaries_have_tables_of_their_own(make_run, tmp_path):
    iou = {"sky": {"iou": 0.8, "pixels": 9}, "tree": {"iou": None, "pixels": 0}}
    for gamma, miou in ((0.0, 0.31), (1.0, 0.34)):
        run = make_run(f"grid/{gamma}", gamma=gamma)
        found = {
            "segmentation": {"miou": miou, "pixel_accuracy": 0.7, "decay": 0.1, "classes": iou},
            "boundaries": {"jumps": {"best_f": miou / 2, "average_precision": 0.12, "chance": 0.1}},
            "representation": {"effective_rank": 12.5, "images": 100},
            "random_encoder": {"segmentation": {"miou": 0.25}},
            "pixels": {"boundaries": {"sobel": {"best_f": 0.21, "average_precision": 0.11}}},
        }
        (run / "evaluation.json").write_text(json.dumps(found), "utf-8")
    text = Page(experiment_report(tmp_path / "grid")).text
    assert "Segmentation by a linear head on frozen tokens mIoU Pixel accuracy" in text
    assert "+3.0 percentage points of segmentation mIoU from one pair of runs" in text
    assert "Random encoder 25.0 %" in text
    assert "found without labels: best F Jumps Sobel" in text
    assert "Raw pixels – 21.0 %" in text
    assert "Effective rank gamma=0 n = 1 seed 12.5" in text
    assert "IoU of each class sky tree gamma=0 n = 1 seed 80.0 % – gamma=1 n = 1" in text


def test_tracking_and_jumps_of_clips_have_tables_of_their_own(make_run, tmp_path):
    for gamma, f1 in ((0.0, 0.31), (1.0, 0.34)):
        run = make_run(f"grid/{gamma}", gamma=gamma)
        jumps = {"frames": {"f1": f1, "average_precision": 0.2, "chance": 0.1, "n": 9}}
        track = {"j_and_f": 0.4, "there": 0.35, "gone": 0.9, "objects": 20}
        found = {
            "digits": {"accuracy": 0.19, "chance": 0.13, "n": 900},
            "tracking": track | {"cuts": track},
            "jumps": {"tokens": jumps, "field": jumps},
            "pixels": {"jumps": {"tokens": jumps}},
        }
        (run / "evaluation.json").write_text(json.dumps(found), "utf-8")
    text = Page(experiment_report(tmp_path / "grid")).text
    columns = "J&F J&F while there J&F while gone"
    cuts = columns.replace("J&F", "Nothing taken across cuts, J&F", 1)
    assert f"from their first mask {columns} {cuts.split(' J&F while')[0]}" in text
    assert (
        "by the size of a step: F1 Tokens, frames Field, frames gamma=0 n = 1 seed 31.0 %" in text
    )
    assert "by the size of a step: average precision Tokens, frames Field, frames" in text
    assert "Raw pixels 32.5 %" in text  # the mean of two runs
    assert "Digits, from tokens" in text
    assert "Chance 10.0 % 10.0 %" in text  # of average precision


def clip_run(make_run, name="run", **settings):
    """A run of clips with all that decides, of which one number has an interval."""
    run = make_run(name, **settings)
    config = yaml.safe_load((run / "config.yaml").read_text("utf-8"))
    config["data"]["frames"] = 8
    (run / "config.yaml").write_text(yaml.safe_dump(config), "utf-8")
    found = json.loads((run / "evaluation.json").read_text("utf-8"))
    ends = {"intervals": {"average_precision": [0.25, 0.41]}}
    for place, there, precision in ((found, 0.35, 0.33), (found["pixels"], 0.2, 0.18)):
        leaf = {"average_precision": precision, "f1": 0.3, "chance": 0.08, "chance_f1": 0.15}
        place["tracking"] = {"j_and_f": 0.4, "there": there, "gone": 0.9}
        place["jumps"] = {"tokens": {"objects": leaf | ends}}
    found["low_shot"] = {"1_percent": {"accuracy": 0.4, "deviation": 0.012, "draws": 3}}
    (run / "evaluation.json").write_text(json.dumps(found), "utf-8")
    return run


def test_a_run_of_clips_leads_with_objects_and_jumps(make_run):
    page = Page(run_report(clip_run(make_run)))
    there, jumps, probe = re.findall('<p class="lead">(.*?)</p>', page.source)
    assert "J&amp;F of 35.0\u00a0% in the frames that show them" in there
    assert "15.0 points above raw pixels’ 20.0\u00a0%" in there
    assert (
        "average precision of 33.0\u00a0% (95\u00a0% interval 25.0\u00a0% to 41.0\u00a0%)" in jumps
    )
    assert "25.0 points above chance 8.0\u00a0%" in jumps
    assert "93.0\u00a0% of 1,000 test clips" in probe
    table = page.text.split("In short")[1].split("Labels told")[0]
    assert "35.0 % 33.0 % 25.0 to 41.0 93.0 %" in table
    assert "Chance – 8.0 % –" in table
    assert "40.0 % ± 1.2" in page.text
    assert "images" not in page.text.split("Increments against")[0]


def test_settings_of_clips_are_compared_by_objects_and_jumps(make_run, tmp_path):
    for gamma in (0.0, 1.0):
        clip_run(make_run, f"grid/{gamma}", gamma=gamma)
    page = Page(experiment_report(tmp_path / "grid"))
    there, jumps = re.findall('<p class="lead">(.*?)</p>', page.source)
    assert "J&amp;F of objects followed, while they are there" in there
    assert "raw pixels 20.0\u00a0%." in there
    assert "chance 8.0\u00a0%." in jumps
    groups = grouped([read_run(path) for path in sorted((tmp_path / "grid").glob("*.0"))])
    found = tried([cell for group in groups for cell in group.cells])
    assert found is not None
    assert found.metrics == [
        "Objects followed, J&F while there",
        "Jumps at objects, average precision",
        "Linear probe",
    ]


def test_a_page_says_what_was_trained(make_run):
    run = clip_run(make_run, seed=3)
    text = Page(run_report(run)).text
    told = "Trained on mnist5k: about 4,800 training clips of 8 frames, 28 × 28 pixels; 6 epochs"
    assert f"{told} (300 steps of 96 clips); vit_small_patch8_224; seed 3." in text
    (run / "checkpoints").mkdir()
    weights = {"network.encoder.a": torch.zeros(30, 50), "network.probe.a": torch.zeros(9)}
    torch.save({"state_dict": weights}, run / "checkpoints" / "last.ckpt")
    assert "vit_small_patch8_224 with 1,500 parameters" in Page(run_report(run)).text
    (run / "checkpoints" / "last.ckpt").write_bytes(b"half written")
    assert "vit_small_patch8_224; seed 3" in Page(run_report(run)).text


def test_the_law_s_own_share_of_jumps_stands_beside_the_maps(page):
    assert "expects a jump at 86 % of corners (1 − exp(−2))" in page.text  # rate 2


def test_pictures_say_whose_run_they_show_and_which_are_rescaled(page):
    assert page.text.count("Shown is the run of seed 0 of each setting.") == 3
    assert "the probabilities of gamma=0 are read after bringing them to the law’s" in page.text


def test_a_run_of_few_steps_is_not_said_to_be_an_epoch_long(make_run):
    run = make_run(labelled=False)
    path = run / "config.yaml"
    path.write_text(path.read_text().replace("max_steps: -1", "max_steps: 300"))
    assert "trained for 300 steps." in Page(run_report(run)).text
    path.write_text(path.read_text().replace("max_steps: 300", "max_steps: 9000"))
    assert "trained for 6 epochs." in Page(run_report(run)).text


def test_neighbours_are_counted_over_the_images_shown(make_run):
    run = make_run()
    with np.load(run / "gallery.npz") as arrays:
        gallery = dict(arrays)
    for name in ("images", "labels", "jump_probability", "neighbours", "neighbour_labels"):
        gallery[name] = np.concatenate([gallery[name]] * 3)
    np.savez(run / "gallery.npz", **gallery)
    page = Page(run_report(run))
    assert "of 50 neighbours share the class" in page.text
    assert page.source.count('class="card"') == 10


@pytest.mark.parametrize("report", [run_report, experiment_report])
def test_a_missing_folder_is_named(report):
    with pytest.raises(FileNotFoundError, match="`DIR` must be a folder, but there is none at no"):
        report("nowhere")


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


def moved(run, **settings):
    """Change lines of a run's configuration."""
    path = run / "config.yaml"
    text = path.read_text("utf-8")
    for key, value in settings.items():
        text, count = re.subn(rf"(?m)^(\s+{key}:).*$", rf"\1 {value}", text)
        assert count == 1, key
    path.write_text(text, "utf-8")
    return run


def test_a_results_folder_tells_its_story_by_images_and_by_how_they_are_judged(make_run, tmp_path):
    for seed, (base, prior) in enumerate(((0.80, 0.85), (0.81, 0.87), (0.80, 0.86))):
        make_run(f"digits/base-{seed}", gamma=0.0, seed=seed, probe=base)
        make_run(f"digits/prior-{seed}", gamma=1.0, seed=seed, probe=prior)
    for gamma, probe in ((0.0, 0.5), (1.0, 0.6)):
        run = make_run(f"search/{gamma}", gamma=gamma, probe=probe)
        moved(run, holdout=0.2)
    for gamma in (0.0, 1.0):
        run = make_run(f"streets/{gamma}", gamma=gamma, kappa=0.0, probe=0.7)
        moved(run, source="segmentation", path="../data/streets")
    page = Page(compare_report([tmp_path], tmp_path / "all.html"))
    heads = re.findall(r"<h2>(mnist5k[^<]*|streets)</h2>", page.source)
    assert heads[0] == "mnist5k, judged on test images"  # that of most pairs
    assert set(heads[1:]) == {"mnist5k, judged on held-out training images", "streets"}
    assert "Of 1 comparison over 3 pairs of seeds, 1 is clearly better and none" in page.text
    assert "2 more comparisons rest on a single pair and can’t tell." in page.text
    low, high = stats.ttest_1samp((0.05, 0.06, 0.06), 0).confidence_interval()
    assert f"+5.7 better +{100 * low:.1f} to +{100 * high:.1f}, n = 3" in page.text
    assert "+10.0 one pair n = 1" in page.text
    assert "minus streets" not in page.text
    folded = 3 + 2 + 3  # a study's numbers fold; so do settings, and in each study every run
    assert page.tags.count("summary") == folded


def test_settings_of_the_prior_stand_beside_the_run_without_it_and_others_apart(make_run, tmp_path):
    for kappa in (0.0, 1.0):
        make_run(f"grid/base-{kappa}", gamma=0.0, kappa=kappa, probe=0.8)
        make_run(f"grid/prior-{kappa}", gamma=1.0, kappa=kappa, probe=0.8 + 0.01 * (1 + kappa))
        run = make_run(f"grid/linear-{kappa}", gamma=1.0, kappa=kappa, probe=0.79)
        moved(run, patch_projection="linear")
    groups = grouped([read_run(path) for path in sorted((tmp_path / "grid").iterdir())])
    found = tried([cell for group in groups for cell in group.cells])
    assert found is not None
    assert found.metrics == ["Linear probe", "kNN"]
    told = {block.reference: [trial.name for trial in block.trials] for block in found.blocks}
    names = ["gamma=1", "patch_projection=linear, gamma=1"]
    assert len(told) == 2
    assert all(each == names for each in told.values())  # the best first
    texts = [[trial.marks[0].text for trial in block.trials] for block in found.blocks]
    assert texts == [["+1.0", "−1.0"], ["+2.0", "−1.0"]]
    assert {cell.colour for cell in groups[0].cells} == set(PALETTE[:3])


def test_an_unevaluated_or_broken_number_pairs_with_nothing(make_run, tmp_path):
    for gamma in (0.0, 1.0):
        make_run(f"grid/{gamma}", gamma=gamma, finished=False)
    groups = grouped([read_run(path) for path in sorted((tmp_path / "grid").iterdir())])
    found = tried(groups[0].cells)
    assert found is not None
    assert found.metrics == ["Online probe, last"]
    broken = make_run("broken/1", gamma=1.0)
    (broken / "evaluation.json").write_text('{"linear_probe": {"accuracy": NaN}}', "utf-8")
    groups = grouped([read_run(make_run("broken/0", gamma=0.0)), read_run(broken)])
    found = tried(groups[0].cells)
    assert found is not None
    assert found.metrics == ["Online probe, last"]


def test_where_no_run_lacks_the_prior_settings_stand_beside_the_first(make_run, tmp_path):
    for kappa, probe in ((0.0, 0.8), (1.0, 0.9)):
        make_run(f"grid/{kappa}", kappa=kappa, probe=probe)
    groups = grouped([read_run(path) for path in sorted((tmp_path / "grid").iterdir())])
    found = tried([cell for group in groups for cell in group.cells])
    assert found is not None
    assert [block.reference for block in found.blocks] == ["kappa=0"]
    assert found.leading[0][1].text == "+10.0"
    assert tried(groups[0].cells[:1]) is None


def test_runs_without_the_prior_come_first_whatever_their_folders_are_called(make_run, tmp_path):
    make_run("grid/a", gamma=1.0, probe=0.9)
    make_run("grid/b", gamma=0.0, probe=0.8)
    text = Page(experiment_report(tmp_path / "grid")).text
    assert "gamma=1 minus gamma=0 n = 1 pair +10.0" in text


def test_a_source_is_called_by_its_images(make_run):
    run = make_run()
    assert data_name(read_run(run)) == "mnist5k"
    for source, path, name in (
        ("segmentation", "../shared/data/camvid", "camvid"),
        ("hub", "frgfm/imagenette", "imagenette"),
        ("cifar10", "data/elsewhere", "cifar10"),
    ):
        assert data_name(read_run(moved(run, source=source, path=path))) == name


def test_clips_show_true_events_objects_and_steps_of_every_setting(make_run, tmp_path):
    frames = np.zeros((2, 4, 12, 12, 3), np.uint8)
    masks = np.zeros((2, 4, 12, 12), np.uint8)
    masks[:, :, 2:10, 2:10] = 1
    nan = float("nan")
    for gamma in (0.0, 1.0):
        steps = np.zeros((2, 4, 3, 3))
        steps[0, 2, 1, 1], steps[1, 1] = 4 - gamma, 2
        events = np.array([[0, 2, 6, 6], [1, 1, nan, nan]])
        Filmstrips(frames, steps, masks, masks, events, np.array(["teleport", "cut"])).save(
            make_run(f"grid/{gamma}", gamma=gamma) / "clips.npz"
        )
    page = Page(experiment_report(tmp_path / "grid"))
    part = page.source.split("where tokens jump in time")[1].split("</section>")[0]
    assert part.count('class="film"') == 2
    assert re.findall(r"<span>(.*?)</span>", part.split('class="film"')[1]) == [
        *("", "", "teleport", "")
    ]
    labels = ["objects followed", "steps of tokens"]
    named = [f"gamma={gamma}: {label}" for gamma in (0, 1) for label in labels]
    assert re.findall(r'<img src="[^"]*" alt="([^"]*)"', part) == 2 * [
        "true objects and events",
        *named,
    ]
    strip = pixels(re.findall(r'<img src="([^"]*)"', part)[2])  # heat at gamma 0
    side = strip.shape[0]
    hot = strip[side // 2, 2 * (side + GAP) + side // 2]
    cold = strip[side // 2, side // 2]
    assert hot.sum() > 400
    assert cold.sum() < 60
    heights = [
        float(h) for h in re.findall(r'width="[\d.]+%" y="[\d.]+%" height="([\d.]+)%"', part)
    ]
    assert heights[:8] == [0, 0, 100, 0, 0, 0, 100, 0]  # each setting by its own largest
    assert "object 1" in page.text
    assert "object 2" not in page.text
    assert "random encoder: " not in page.text  # clips.npz of earlier versions lack it
    for gamma in (0.0, 1.0):
        with np.load(tmp_path / "grid" / str(gamma) / "clips.npz") as held:
            both = dict(held) | {"untrained_steps": held["steps"], "untrained_tracked": masks}
        np.savez(tmp_path / "grid" / str(gamma) / "clips.npz", **both)
    text = Page(experiment_report(tmp_path / "grid")).text
    assert text.count("random encoder: objects followed") == 2  # once for each clip


def test_clips_without_truth_show_frames_and_steps(make_run):
    run = make_run()
    nothing = np.zeros((0, 3, 8, 8), np.uint8)
    Filmstrips(
        np.zeros((1, 3, 8, 8, 3), np.uint8),
        np.zeros((1, 3, 2, 2)),
        nothing,
        nothing,
        np.zeros((0, 4)),
        np.array([], dtype=str),
    ).save(run / "clips.npz")
    text = Page(run_report(run)).text
    assert "gamma=1: steps of tokens" in text
    assert "objects followed" not in text
