import json
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from torch.utils.data import Subset

from levyjepa.conf.schema import DataConfig, ModelConfig, ViewsConfig
from levyjepa.data import Source, load_source, normalise
from levyjepa.data import test_loader as loader_of
from levyjepa.evaluation import Gallery, evaluate, gallery, jump_map
from levyjepa.evaluation.masks import judge_by_masks
from levyjepa.evaluation.segmentation import held_out
from levyjepa.lattice import box, diamond, increments
from levyjepa.laws import Brownian, CompoundPoisson, LaplaceJumps, Stable
from levyjepa.models import Network

DATA = DataConfig(source="mnist5k", batch_size=64)
MODEL = ModelConfig(
    patch_size=7,
    embedding_dim=32,
    projection_hidden=16,
    patch_projection_hidden=16,
    patch_projection_dim=4,
    overrides={"embed_dim": 48, "depth": 1, "num_heads": 3},
)
LAW = Brownian(0.125) + CompoundPoisson(2.0, LaplaceJumps(1.0))


@pytest.fixture(scope="module")
def source() -> Source:
    whole = load_source(DATA)
    assert whole.test is not None
    return replace(whole, test=Subset(whole.test, range(0, 1000, 3)))  # they are sorted by class


@pytest.fixture(scope="module")
def network() -> Network:
    torch.manual_seed(0)
    return Network(MODEL, 28, 10, prior=True)


TESTED = {"box(2)": (box(2), LAW), "diamond()": (diamond(), LAW)}


@pytest.fixture(scope="module")
def seen(network, source) -> Gallery:
    return gallery(network, source, DATA, LAW, seed=4)


def test_the_leaves_of_an_evaluation(network, source):
    told = []
    found = evaluate(
        network,
        source,
        DATA,
        seed=3,
        limit=300,
        tested=TESTED,
        views=ViewsConfig(),
        progress=told.append,
    )
    assert told[0].startswith("network: ")
    assert len(told) == len(set(told))
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    scores = {"linear_probe", "knn"}
    more = {"mean_token", "low_shot", "representation"}
    assert set(found) == scores | more | {"random_encoder", "pixels"}
    assert set(found["random_encoder"]) == scores | more
    assert set(found["pixels"]) == scores
    for group in (found, found["mean_token"], found["random_encoder"], found["pixels"]):
        for leaf in (group["linear_probe"], group["knn"]):
            assert set(leaf) == {"accuracy", "correct", "n", "low", "high"}
            assert leaf["n"] == 334
            assert leaf["accuracy"] == leaf["correct"] / 334
            assert leaf["low"] < leaf["accuracy"] < leaf["high"]
    assert found["pixels"]["knn"]["accuracy"] > 0.75  # 300 labelled digits
    few = found["low_shot"]
    assert few["10_percent"]["labels"] in range(25, 36)
    assert few["5_per_class"]["labels"] == 50
    assert (few["5_per_class"]["n"], few["5_per_class"]["draws"]) == (334, 3)
    assert found["representation"]["images"] == 334
    assert set(found["representation"]["levy"]) == {"box(2)", "diamond()"}
    assert found["representation"]["alignment"] > 0


def test_an_untrained_network_is_worth_a_random_encoder(network, source):
    found = evaluate(network.untrained(3), source, DATA, seed=3, limit=100)
    again = evaluate(network.untrained(3), source, DATA, seed=3, limit=100)
    assert again == found
    known = {"random_encoder": found["random_encoder"], "pixels": found["pixels"]}
    assert evaluate(network.untrained(3), source, DATA, seed=3, limit=100, baselines=known) == found
    assert "1_percent" not in found["low_shot"]  # one of 100 digits
    for key in ("linear_probe", "knn", "low_shot", "representation"):
        assert found["random_encoder"][key] == found[key]


def test_every_image_is_embedded_once_for_all_classifiers(network, source, monkeypatch):
    seen = []
    forward = network.encoder.forward
    monkeypatch.setattr(network.encoder, "forward", lambda x: seen.append(len(x)) or forward(x))
    evaluate(network, source, DATA, limit=100)
    assert sum(seen) == 100 + 334 + 334  # train, test, and the test images' health


def test_labels_need_test_images(network, source):
    with pytest.raises(ValueError, match="`source` must have test images"):
        evaluate(network, replace(source, test=None), DATA)


def test_without_labels_the_representation_s_health_is_left(network, source):
    few = replace(source, classes=(), train=Subset(source.train, range(50)), test=None)
    found = evaluate(network, few, DATA)
    assert set(found) == {"representation", "random_encoder"}
    assert found["representation"]["levy"] == {}
    assert found["representation"]["images"] == 50


@pytest.fixture(scope="module")
def streets(shared_data, tmp_path_factory) -> tuple[DataConfig, Network]:
    """A few frames of each split, with a network to judge by them."""
    folder = tmp_path_factory.mktemp("camvid")
    for split, step in (("train", 12), ("val", 8)):
        for kind in ("images", "masks"):
            (folder / split / kind).mkdir(parents=True)
            for file in sorted((shared_data / "camvid" / split / kind).iterdir())[::step]:
                (folder / split / kind / file.name).symlink_to(file)
    config = DataConfig(
        source="segmentation", path=str(folder), test_split="val", void=11, image_size=32
    )
    torch.manual_seed(0)
    return config, Network(replace(MODEL, patch_size=4), 32, 0, prior=True)


def test_masks_judge_segmentation_and_boundaries(streets):
    config, network = streets
    learned, shown = LAW.learnable_copy(), {}
    found = evaluate(
        network,
        load_source(config),
        config,
        law=learned,
        tested=TESTED,
        prior=True,
        show=shown.setdefault,
    )
    assert set(shown) == {"network", "random_encoder", "pixels"}
    assert shown["network"].images.shape == (6, 32, 32, 3)
    assert np.array_equal(shown["network"].truth, shown["pixels"].truth)
    assert not np.array_equal(shown["network"].prediction, shown["pixels"].prediction)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert set(found) == {
        "representation",
        "segmentation",
        "boundaries",
        "random_encoder",
        "pixels",
    }
    for group in (found, found["random_encoder"], found["pixels"]):
        assert 0 < group["segmentation"]["miou"] < group["segmentation"]["pixel_accuracy"] < 1
        assert group["segmentation"]["images"] == 13
        assert len(group["segmentation"]["classes"]) == 11
        for leaf in group["boundaries"].values():
            assert leaf["best_f"] >= leaf["chance_f"] - 1e-9
            assert leaf["images"] == 13
    assert set(found["boundaries"]) == {"jumps", "increments", "tokens"}
    assert set(found["pixels"]["boundaries"]) == {"sobel", "sobel_patches"}
    sobel = found["pixels"]["boundaries"]["sobel"]
    assert sobel["average_precision"] > sobel["chance"] + 0.1


def test_a_holdout_leaves_the_validation_split_unseen(streets):
    config, network = streets
    source = load_source(config)
    assert source.masks is not None
    opened = source.masks((32, 32))
    judge = partial(
        judge_by_masks,
        {"network": network},
        normalise=partial(normalise, mean=source.mean, std=source.std),
        holdout=True,
    )
    found = judge(replace(opened, val=None), pixels=False)
    assert set(found) == {"network"}
    assert found["network"]["segmentation"]["images"] == int(held_out(31).sum())
    assert set(found["network"]["boundaries"]) == {"increments", "tokens"}  # no law, no jumps


def test_a_field_that_is_constant_has_no_boundaries_and_says_why(streets):
    config, network = streets
    flat = network.untrained(0)
    torch.nn.init.zeros_(flat.patch_projection[-2].weight)
    found = evaluate(flat, load_source(config), config, law=LAW, tested=TESTED)
    assert "must vary" in found["boundaries"]["jumps"]["missing"]
    assert found["representation"]["levy_rescaled"]["box(2)"] is None
    assert found["boundaries"]["tokens"]["images"] == 13


def test_without_test_images_training_images_are_shown_and_are_not_their_own_neighbours(
    network, source
):
    few = Subset(source.train, range(0, 4000, 100))
    seen = gallery(network, replace(source, train=few, test=None, classes=()), DATA, LAW)
    assert seen.images.shape == (12, 28, 28, 3)
    shown = {image.tobytes() for image in seen.images}
    assert not shown & {image.tobytes() for row in seen.neighbours for image in row}


def test_a_gallery_shows_every_class_and_its_nearest_neighbours(network, source, seen):
    assert seen.images.shape == (12, 28, 28, 3)
    assert seen.images.dtype == np.uint8
    assert set(seen.labels) == set(range(10))
    assert [str(name) for name in seen.classes] == [str(name) for name in source.classes]
    assert seen.neighbours.shape == (12, 5, 28, 28, 3)
    assert seen.neighbour_labels.shape == (12, 5)

    def embed(images: np.ndarray) -> torch.Tensor:
        prepared = normalise(torch.from_numpy(images).movedim(-1, -3), source.mean, source.std)
        with torch.inference_mode():
            return torch.nn.functional.normalize(network.eval().encoder(prepared).embedding)

    drawn = {}
    for batch in loader_of(source.train, DATA):
        for image, label in zip(batch.images, batch.labels, strict=True):
            drawn[image.permute(1, 2, 0).numpy().tobytes()] = int(label)
    for image, neighbours, labels in zip(
        seen.images, seen.neighbours, seen.neighbour_labels, strict=True
    ):
        cosine = embed(neighbours) @ embed(image[None])[0]
        assert (cosine.diff() <= 1e-6).all()
        assert [drawn[neighbour.tobytes()] for neighbour in neighbours] == labels.tolist()


def test_neighbours_are_the_nearest_of_all(network, source):
    small = replace(source, train=Subset(source.train, range(40)))
    seen = gallery(network, small, DATA, LAW)
    images = torch.cat([batch.images for batch in loader_of(small.train, DATA)])
    shown = torch.from_numpy(seen.images).permute(0, 3, 1, 2)
    with torch.inference_mode():
        train, test = (
            network.eval().encoder(normalise(each, source.mean, source.std)).embedding
            for each in (images, shown)
        )
    cosine = torch.nn.functional.cosine_similarity(test[:, None], train[None], dim=-1)
    expected = images[cosine.topk(5).indices].permute(0, 1, 3, 4, 2)
    assert np.array_equal(seen.neighbours, expected.numpy())


def test_jumps_and_increments_are_the_projected_field_s(network, source, seen):
    images = normalise(torch.from_numpy(seen.images).permute(0, 3, 1, 2), source.mean, source.std)
    with torch.inference_mode():
        field = network.eval()(images).field
        assert field is not None
        expected = jump_map(field, LAW)
    np.testing.assert_allclose(seen.jump_probability, expected.numpy(), atol=1e-4)
    norms = increments(field, box(2)).norm(dim=-1).flatten()
    ratio = seen.jump_size.flatten() / norms.numpy()
    np.testing.assert_allclose(ratio, ratio[0], rtol=1e-3)
    assert seen.increments.shape == seen.increments_before.shape == (256 * 3 * 3 * 4,)
    assert not np.array_equal(seen.increments, seen.increments_before)


def test_a_law_that_names_no_jumps_leaves_the_sizes_of_changes(network, source, seen):
    found = gallery(network, source, DATA, Stable(1.5, 0.1), seed=4)
    assert np.isnan(found.jump_probability).all()
    assert np.array_equal(found.jump_size, seen.jump_size)


def test_a_gallery_comes_back_from_its_file(seen, tmp_path):
    seen.save(tmp_path / "gallery.npz")
    loaded = Gallery.load(tmp_path / "gallery.npz")
    for name, value in vars(seen).items():
        assert np.array_equal(value, getattr(loaded, name)), name


def test_a_gallery_is_repeatable_and_gives_the_network_its_mode_back(network, source, seen):
    again = gallery(network.train(), source, DATA, LAW, seed=4)
    assert network.training
    for name, value in vars(seen).items():
        assert np.array_equal(value, getattr(again, name)), name
