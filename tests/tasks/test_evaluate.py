"""Tasks over one feature cache: what is computed once, what fails alone, what is cached."""

import logging
from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.tasks.conftest import LAW, PATCH, SIZE

from levyjepa.data import ViewsSettings
from levyjepa.data.images import CorruptImageError
from levyjepa.data.source import Rows
from levyjepa.lattice import box, diamond
from levyjepa.tasks import Score, evaluate, register_task
from levyjepa.tasks.features import FeatureCache
from levyjepa.tasks.registry import TASKS

LAWS = {"box(2)": (box(2), LAW), "diamond()": (diamond(), LAW)}
LABELED = ["linear_probe", "knn", "low_shot"]


@pytest.fixture
def own_tasks():
    """A place for tasks that is emptied again."""
    TASKS.entries()
    before = dict(TASKS._entries)
    yield
    TASKS._entries.clear()
    TASKS._entries.update(before)


def test_each_image_is_decoded_once_and_goes_once_through_each_encoder(squares, settings, subjects):
    source = squares()
    evaluate(subjects, source, settings, tasks=["linear_probe", "knn", "health"])
    for split in (source.train, source.test):
        assert split.decoded == dict.fromkeys(range(len(split)), 1)
    assert [subject.encoder.encoded for subject in subjects] == [64, 64, 64]
    assert subjects[0].encoder.training  # it got its mode back


def test_every_task_that_the_data_allows_runs_on_its_subjects(squares, settings, subjects):
    found = evaluate(subjects, squares(truth="masks", mask_classes=("ground", "square")), settings,
                     laws=LAWS, views=ViewsSettings(), prior=True)  # fmt: skip
    assert not found.failures
    tasks = ["linear_probe", "knn", "low_shot", "neighbors", "segmentation", "boundaries", "jumps"]
    assert list(dict.fromkeys(p.task for p in found.pictures)) == tasks[3:]
    assert {s.task for s in found.headlines()} == {*tasks, "health"} - {"neighbors"}
    assert {s.subject for s in found.scores if s.task == "low_shot"} == {"trained", "untrained"}
    by_knn = {s.subject for s in found.scores if s.task == "knn"}
    assert by_knn == {"trained", "untrained", "pixels"}
    assert all(picture.png.startswith(b"\x89PNG") for picture in found.pictures)
    probe = found.get("linear_probe/accuracy")
    assert probe is not None
    assert probe.n == 24
    assert probe.value > 0.8
    assert probe.chance is not None
    assert 0.5 <= probe.chance < 0.8
    miou = found.get("segmentation/miou")
    assert miou is not None
    assert miou.value > 0.5
    for score in found.scores:
        assert score.title
        assert score.n


def test_pictures_and_scores_are_the_same_again(squares, settings, subjects):
    wanted = {"tasks": ["neighbors", "jumps"], "laws": LAWS}
    first, second = (evaluate(subjects[:1], squares(), settings, **wanted) for _ in range(2))
    assert first == second


def test_a_task_that_fails_is_named_and_the_others_go_on(
    squares, settings, subjects, own_tasks, caplog
):
    @register_task("broken", subjects=("trained",))
    def broken(context):
        raise AttributeError("no such thing")

    @register_task("twice", subjects=("trained",))
    def twice(context):
        return [Score("a", 1.0), Score("a", 2.0)]

    @register_task("nan", subjects=("trained",))
    def nan(context):
        return [Score("a", float("nan"))]

    @register_task("brightness")
    def brightness(context):
        context.picture("gray", np.zeros((4, 4, 3), np.uint8))
        return [Score("mean", context.test.images.float().mean().item(), unit="")]

    names = ["broken", "twice", "nan", "brightness"]
    found = evaluate(subjects, squares(), settings, tasks=names)
    assert {f.task: f.subject for f in found.failures} == dict.fromkeys(names[:3], "trained")
    reasons = {f.task: f.reason for f in found.failures}
    assert reasons["broken"] == "no such thing"
    assert "a twice" in reasons["twice"]
    assert "finite" in reasons["nan"]
    assert [s.subject for s in found.scores] == ["trained", "untrained", "pixels"]
    assert all(name in caplog.text for name in names[:3])
    assert found.pictures[0].task == "brightness"


def test_data_that_cannot_be_read_fails_every_task_after_one_try(squares, settings, subjects):
    source = squares()
    source.train.__class__ = type(
        "Broken", (type(source.train),), {"__getitem__": lambda s, i: 1 / 0}
    )
    told = []
    found = evaluate(subjects, source, settings, tasks=LABELED, progress=told.append)
    assert {f.task for f in found.failures} == set(LABELED)
    assert sum("features" in text for text in told) == 1


def test_baselines_are_cached_by_settings_and_tasks(squares, settings, subjects, tmp_path):
    file = tmp_path / "baselines.json"
    wanted = {"tasks": ["knn", "jumps"], "laws": LAWS}
    first = evaluate(subjects, squares(), settings, **wanted, baselines=(file, "a"))
    before = [subject.encoder.encoded for subject in subjects]
    second = evaluate(subjects, squares(), settings, **wanted, baselines=(file, "a"))
    assert second == first
    assert [s.encoder.encoded for s in subjects] == [before[0] + 64, before[1], before[2]]
    for changed in ({"baselines": (file, "b")}, {"baselines": (file, "a"), "tasks": ["knn"]}):
        before = subjects[1].encoder.encoded
        found = evaluate(subjects, squares(), settings, **{**wanted, **changed})
        assert subjects[1].encoder.encoded > before
        assert {s.task for s in found.scores} == set(changed.get("tasks", wanted["tasks"]))
    file.write_text("cut sho")
    assert evaluate(subjects, squares(), settings, **wanted, baselines=(file, "a")) == first


def test_failures_of_baselines_are_cached_too(squares, settings, subjects, tmp_path):
    class Broken(type(subjects[1].encoder)):
        """An encoder whose tokens are not finite."""

        def forward(self, images):
            encoding = super().forward(images)
            return replace(encoding, embedding=encoding.embedding * torch.nan)

    subjects[1] = replace(subjects[1], encoder=Broken(1))
    baselines = tmp_path / "b.json", "a"
    for _ in range(2):
        found = evaluate(subjects, squares(), settings, tasks=["knn"], baselines=baselines)
        assert [(f.task, f.subject) for f in found.failures] == [("knn", "untrained")]
        assert len(found.scores) == 3  # trained: two features; pixels: one


def test_a_task_that_lacks_something_is_refused_by_name_and_left_out_otherwise(
    squares, settings, subjects, caplog
):
    with pytest.raises(ValueError, match="'segmentation' needs masks"):
        evaluate(subjects, squares(), settings, tasks=["segmentation"])
    with pytest.raises(ValueError, match="did you mean 'knn'"):
        evaluate(subjects, squares(), settings, tasks=["kn"])
    found = evaluate(subjects[:1], squares(test=None), settings)
    assert {s.task for s in found.scores} == {"health"}
    assert "data.holdout" in caplog.text


def test_without_a_test_split_the_training_split_is_looked_at_once(squares, settings, subjects):
    source = squares(train=20, test=None, classes=())
    found = evaluate(subjects[:1], source, settings, laws=LAWS, views=ViewsSettings())
    assert not found.failures
    assert set(source.train.decoded.values()) == {1}
    assert found.get("health/alignment") is not None
    assert "neighbors" in {p.task for p in found.pictures}


def test_features_follow_the_order_of_the_data_and_name_what_is_corrupt(
    squares, settings, subjects, caplog
):
    source = squares()

    class Hole(type(source.test)):
        """Two images can't be decoded."""

        def __getitem__(self, index):
            if index in (3, 8):
                raise CorruptImageError(f"hole {index}")
            return super().__getitem__(index)

    source.test.__class__ = Hole
    kept = [i for i in range(24) if i not in (3, 8)]
    source = replace(source, test=Rows(source.test, range(24)), truth="masks")
    cache = FeatureCache(subjects, source, settings, device=torch.device("cpu"))
    with caplog.at_level(logging.WARNING):
        features = cache.read("test", "trained")
    assert "hole 3, hole 8" in caplog.text
    squares_ = source.test.dataset
    assert features.labels.tolist() == squares_.labels[kept].tolist()
    assert features.rows.tolist() == list(range(22))
    assert np.array_equal(features.images.movedim(1, -1).numpy(), squares_.images[kept])
    assert np.array_equal(features.masks.numpy(), squares_.masks[kept])
    assert features.tokens.shape == (22, SIZE // PATCH, SIZE // PATCH, 12)
    torch.testing.assert_close(features.mean_token, features.tokens.mean((1, 2)))
    assert features.projection.shape == (22, 4)
    assert features.field.shape == (22, 4, 4, 4)
    assert cache.read("test", "pixels").field is None
    pixels = cache.normalize(features.images)
    with torch.inference_mode():
        expected = subjects[0].encoder.eval()(pixels).embedding
    torch.testing.assert_close(features.embedding, expected)


def test_only_a_sample_keeps_pixels_the_same_for_every_seed(
    squares, settings, subjects, monkeypatch
):
    monkeypatch.setattr("levyjepa.tasks.features.DENSE", 10)
    views = ViewsSettings()
    caches = [
        FeatureCache(
            subjects, squares(), settings, device=torch.device("cpu"), seed=seed, views=views
        ).read("test", "trained")
        for seed in (0, 1)
    ]
    assert torch.equal(caches[0].rows, caches[1].rows)
    assert caches[0].images.shape == (10, 3, SIZE, SIZE)
    assert caches[0].embedding.shape == (24, 8)
    assert caches[0].views.shape == (10, 2, 8)
    assert not torch.equal(caches[0].views, caches[1].views)


def test_workers_give_the_same_features(squares, settings, subjects):
    source = squares(truth="masks")
    few, many = (
        FeatureCache(
            subjects,
            source,
            settings.replace(workers=workers),
            device=torch.device("cpu"),
            views=ViewsSettings(),
        ).read("test", "trained")
        for workers in (0, 2)
    )
    assert many.names == few.names
    for name in ("embedding", "labels", "rows", "images", "tokens", "masks", "views"):
        assert torch.equal(getattr(many, name), getattr(few, name))


def test_a_source_without_statistics_is_named(squares, settings, subjects):
    with pytest.raises(ValueError, match="must have mean and std"):
        evaluate(subjects, squares(mean=None), settings, tasks=["knn"])
