from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.utils.data import Subset

from levyjepa.conf.schema import DataConfig, ModelConfig
from levyjepa.data import Source, load_source, normalise
from levyjepa.data import test_loader as loader_of
from levyjepa.evaluation import Gallery, evaluate, gallery, jump_map
from levyjepa.laws import Brownian, CompoundPoisson, LaplaceJumps
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


@pytest.fixture(scope="module")
def seen(network, source) -> Gallery:
    return gallery(network, source, DATA, LAW, seed=4)


def test_the_leaves_of_an_evaluation(network, source):
    found = evaluate(network, source, DATA, seed=3, limit=500)
    assert set(found) == {"linear_probe", "knn", "random_encoder", "pixels"}
    for group in (found, found["random_encoder"], found["pixels"]):
        for leaf in (group["linear_probe"], group["knn"]):
            assert set(leaf) == {"accuracy", "correct", "n", "low", "high"}
            assert leaf["n"] == 334
            assert leaf["accuracy"] == leaf["correct"] / 334
            assert leaf["low"] < leaf["accuracy"] < leaf["high"]
    assert found["pixels"]["knn"]["accuracy"] > 0.8  # 500 labelled digits


def test_an_untrained_network_is_worth_a_random_encoder(network, source):
    found = evaluate(network.untrained(3), source, DATA, seed=3, limit=200)
    assert found["random_encoder"]["linear_probe"] == found["linear_probe"]
    assert found["random_encoder"]["knn"] == found["knn"]
    assert evaluate(network.untrained(3), source, DATA, seed=3, limit=200) == found


def test_without_labels_or_test_images_there_is_nothing_to_evaluate(network, source):
    with pytest.raises(ValueError, match="`source` must be labelled"):
        evaluate(network, replace(source, classes=()), DATA)
    with pytest.raises(ValueError, match="`source` must have test images"):
        evaluate(network, replace(source, test=None), DATA)


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
    assert seen.increments.shape == seen.increments_before.shape == (256 * 3 * 3 * 4,)
    assert not np.array_equal(seen.increments, seen.increments_before)


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
