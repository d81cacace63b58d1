"""Paired differences: which cells meet, what is measured, and what an interval says."""

import pytest
from scipy import stats

from levyjepa.training.comparison import FIRST, Measured, cell_name, compare, scores, title

ALL = {"knn": 0.5}


def runs(*settings: dict, seeds=(0, 1)) -> list[Measured]:
    return [Measured(cell_name(s), s, seed, ALL) for s in settings for seed in seeds]


def pairs(measured: list[Measured]) -> list[tuple[str, str, str]]:
    return [(row.side, row.a, row.b) for row in compare(measured).differences]


def test_every_metric_of_an_evaluation_is_found_and_no_count():
    leaf = {"accuracy": 0.9, "correct": 9, "n": 10, "low": 0.6, "high": 1.0}
    evaluation = {
        "labelled": True,
        "linear_probe": leaf,
        "random_encoder": {"knn": leaf},
        "low_shot": {"1 %": {"accuracy": 0.4, "labels": 20, "deviation": 0.01}},
        "segmentation": {"miou": 0.3, "decay": 0.1, "classes": {"sky": {"iou": 0.9, "pixels": 3}}},
        "boundaries": {"jumps": {"best_f": 0.2, "threshold": 0.5, "average_precision": 0.1}},
        "representation": {"effective_rank": 12.5, "images": 256, "levy": {"box": 3.0}},
        "tracking": {"j_and_f": 0.4, "j_mean": 0.3, "gone": None, "cuts": {"there": 0.5}},
        "jumps": {"tokens": {"frames": {"f1": 0.7, "chance": 0.1, "n": 9}}},
    }
    assert scores(evaluation, online_last=0.8) == {
        "linear_probe": 0.9,
        "random_encoder/knn": 0.9,
        "low_shot/1 %": 0.4,
        "segmentation/miou": 0.3,
        "boundaries/jumps/best_f": 0.2,
        "boundaries/jumps/average_precision": 0.1,
        "representation/effective_rank": 12.5,
        "representation/levy/box": 3.0,
        "tracking/j_and_f": 0.4,
        "tracking/cuts/there": 0.5,
        "jumps/tokens/frames/f1": 0.7,
        "online_last": 0.8,
    }
    assert title("segmentation/miou") == "Segmentation, mIoU"


def test_differences_are_those_of_a_paired_t_test_whatever_the_metric():
    base, prior = [11.0, 12.5, 10.0], [13.0, 13.5, 11.0]
    measured = [
        Measured(f"gamma={gamma}", {"gamma": gamma}, seed, {"representation/rank": value})
        for gamma, values in ((0, base), (1, prior))
        for seed, value in enumerate(values)
    ]
    (row,) = compare(measured).differences
    interval = stats.ttest_rel(prior, base).confidence_interval()
    assert (row.low, row.high) == pytest.approx((interval.low, interval.high))
    assert row.n == 3
    assert row.d_z == pytest.approx(stats.ttest_rel(prior, base).statistic / 3**0.5)


def test_differences_that_are_all_the_same_have_no_effect_size():
    assert [row.d_z for row in compare(runs({"g": 0}, {"g": 1})).differences] == [None]


def test_settings_that_always_change_together_are_one_side():
    together = pairs(runs({"law": "a", "lr": 1, "k": 1}, {"law": "b", "lr": 2, "k": 1}))
    assert together == [("law and lr", "law=b, lr=2, k=1", "law=a, lr=1, k=1")]


def test_cells_of_no_full_grid_are_compared_with_the_first_too():
    found = pairs(runs({"g": 0, "h": "wide"}, {"g": 1, "h": "wide"}, {"g": 1, "h": "none"}))
    assert found == [
        ("g", "g=1, h=wide", "g=0, h=wide"),
        ("h", "g=1, h=none", "g=1, h=wide"),
        (FIRST, "g=1, h=none", "g=0, h=wide"),
    ]


def test_seeds_that_only_one_cell_has_are_no_pair():
    measured = runs({"g": 0}, seeds=(0, 1)) + runs({"g": 1}, seeds=(1, 2))
    assert [row.n for row in compare(measured).differences] == [1]
    measured = runs({"g": 0}, seeds=(0,)) + runs({"g": 1}, seeds=(1,))
    assert compare(measured).differences == []


def test_names_are_short():
    settings = {"objective.gamma": 1.0, "objective.stencils": ["box(2)", "diamond()"]}
    assert cell_name(settings) == "gamma=1, stencils=box(2) + diamond()"
    assert cell_name({"trainer.compile": True, "data.limit": None}) == "compile=true, limit=none"


def test_names_tell_settings_apart():
    space = {"objective.time.weight": 0.0, "objective.spacetime.weight": 0.0}
    assert cell_name(space) == "time.weight=0, spacetime.weight=0"
    assert cell_name({"objective.law": "a", "objective.time.law": "b"}) == "law=a, time.law=b"
    assert cell_name({"one.new": 1, "other.new": 2}) == "one.new=1, other.new=2"
    close = [cell_name({"optimizer.lr": rate}) for rate in (0.00012345678, 0.00012345679)]
    assert close[0] != close[1]
    assert [row[0] for row in pairs(runs(space, space | {"objective.time.weight": 1.0}))] == [
        "time.weight"
    ]


def test_two_settings_of_one_name_are_refused():
    measured = [Measured("same", {"g": g}, 0, ALL) for g in (0, 1)]
    with pytest.raises(ValueError, match="`runs` must give each setting a name of its own, got"):
        compare(measured)
