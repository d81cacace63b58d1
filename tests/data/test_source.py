import shutil
from collections import Counter
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
from datasets.exceptions import DatasetNotFoundError
from PIL import Image

from levyjepa.data import (
    DataSettings,
    Footage,
    MemoryVideo,
    Source,
    ViewsSettings,
    open_source,
    test_loader,
    train_loader,
)
from levyjepa.data.source import prepared
from levyjepa.training.config import compose


def test_digits_come_without_a_network_and_evenly_split(digits: Source) -> None:
    assert digits.classes == tuple("0123456789")
    assert Counter(digits.train.labels) == dict.fromkeys(range(10), 400)
    assert Counter(digits.test.labels) == dict.fromkeys(range(10), 100)
    image, label = digits.train[0]
    assert (image.size, image.mode, label) == ((28, 28), "RGB", digits.train.labels[0])
    images = {digits.train[i][0].tobytes() for i in range(0, 4000, 40)}
    assert images.isdisjoint(digits.test[i][0].tobytes() for i in range(1000))


def test_normalization_is_the_sources_own(digits: Source) -> None:
    pixels = np.stack([np.asarray(digits.train[i][0]) for i in range(4000)]) / 255
    np.testing.assert_allclose(digits.mean, pixels.mean((0, 1, 2)), atol=0.01)
    np.testing.assert_allclose(digits.std, pixels.std((0, 1, 2)), atol=0.01)


def test_parquet_brings_its_classes(shared_data: Path) -> None:
    found = open_source(DataSettings(source="parquet", path=str(shared_data / "cifar10")))
    assert (len(found.train), len(found.test)) == (10_000, 2_000)
    assert found.name == "cifar10"
    assert found.classes[:2] == ("airplane", "automobile")
    assert Counter(found.train.labels) == dict.fromkeys(range(10), 1000)
    image, label = found.test[3]
    assert (image.size, image.mode) == ((32, 32), "RGB")
    assert label == found.test.labels[3]
    np.testing.assert_allclose(found.mean, (0.4914, 0.4822, 0.4465), atol=0.02)
    np.testing.assert_allclose(found.std, (0.2470, 0.2435, 0.2616), atol=0.02)


def parquet(
    folder: Path, labels: list, column: str = "label", split: str = "train", images: int = 1
) -> None:
    """Write blank images with `labels`, in so many columns of images."""
    blank = [Image.new("RGB", (8, 8), (n * 10, 0, 0)) for n in range(len(labels))]
    table = {f"image{n or ''}": blank for n in range(images)} | {column: labels}
    kinds = {key: datasets.Image() for key in table if key != column}
    dataset = datasets.Dataset.from_dict(table)
    for key, kind in kinds.items():
        dataset = dataset.cast_column(key, kind)
    dataset.to_parquet(str(folder / f"{split}.parquet"))


def test_labels_may_be_words_or_numbers_and_some_may_be_missing(tmp_path: Path) -> None:
    parquet(tmp_path, ["cat", None, "ant", "cat"], "animal")
    parquet(tmp_path, ["ant"], "animal", "test")
    config = DataSettings(source="parquet", path=str(tmp_path), label_column="animal")
    source = open_source(config)
    assert source.classes == ("ant", "cat")
    assert [source.train[i][1] for i in range(4)] == [1, -1, 0, 1]

    parquet(tmp_path, [5, -1, 3])
    parquet(tmp_path, [3, 5], split="test")
    source = open_source(DataSettings(source="parquet", path=str(tmp_path)))
    assert source.classes == ("3", "5")
    assert source.train.labels == [1, -1, 0]


def test_columns_that_leave_a_choice_must_be_named(tmp_path: Path) -> None:
    parquet(tmp_path, [0, 1], images=2)
    parquet(tmp_path, [0], images=2, split="test")
    config = DataSettings(source="parquet", path=str(tmp_path))
    with pytest.raises(ValueError, match=r"`data.image_column` must be one of image, image1"):
        open_source(config)
    assert open_source(config.replace(image_column="image1")).train[1][0].getpixel((0, 0)) == (
        10,
        0,
        0,
    )


def test_parquet_names_the_split_it_lacks(tmp_path: Path) -> None:
    parquet(tmp_path, [0, 1])
    with pytest.raises(ValueError, match=r"must hold test\*.parquet"):
        open_source(DataSettings(source="parquet", path=str(tmp_path)))
    (tmp_path / "test.parquet").write_bytes(b"nothing of the kind")
    with pytest.raises(ValueError, match="can't be read"):
        open_source(DataSettings(source="parquet", path=str(tmp_path)))


def test_class_folders_are_split_the_same_way_each_time(class_folders: Path) -> None:
    config = DataSettings(source="folder", path=str(class_folders))
    source = open_source(config)
    assert source.classes == ("seven", "three")
    assert Counter(source.train.labels) == {0: 8, 1: 8}
    assert Counter(source.test.labels) == {0: 2, 1: 2}
    assert not set(source.train.records) & set(source.test.records)
    assert open_source(config).test.records == source.test.records


def test_class_folders_below_train_and_test(class_folders: Path, tmp_path: Path) -> None:
    shutil.copytree(class_folders, tmp_path / "train")
    config = DataSettings(source="folder", path=str(tmp_path))
    with pytest.raises(ValueError, match="must hold test/ or val/ beside train/"):
        open_source(config)
    shutil.copytree(class_folders / "three", tmp_path / "test" / "three")
    source = open_source(config)
    assert Counter(source.train.labels) == {0: 10, 1: 10}
    assert Counter(source.test.labels) == {1: 10}
    (tmp_path / "test" / "eight").mkdir()
    with pytest.raises(ValueError, match="eight, no class of train/"):
        open_source(config)


def test_imagenette_is_read_from_its_extracted_archive(class_folders: Path, tmp_path: Path) -> None:
    for split in ("train", "val"):
        shutil.copytree(class_folders / "three", tmp_path / split / "n01440764")
        shutil.copytree(class_folders / "seven", tmp_path / split / "n03888257")
    config = DataSettings(source="imagenette", path=str(tmp_path), test_split="validation")
    source = open_source(config)
    assert source.classes == ("tench", "parachute")
    assert source.mean == (0.485, 0.456, 0.406)
    assert (len(source.train), len(source.test)) == (20, 20)


def test_unlabelled_frames_of_any_folder(shared_data: Path) -> None:
    folder = shared_data / "camvid" / "val" / "images"
    source = open_source(DataSettings(source="unlabelled", path=str(folder)))
    assert source.classes == ()
    assert len(source.train) + len(source.test) == 101
    image, label = source.train[0]
    assert (image.size, label) == ((240, 180), -1)
    assert all(0.2 < each < 0.6 for each in (*source.mean, *source.std))


@pytest.mark.parametrize("source", ["parquet", "folder", "unlabelled"])
def test_a_folder_must_be_there_and_hold_something(source: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"must be a folder for data={source}, got none"):
        open_source(DataSettings(source=source))
    with pytest.raises(FileNotFoundError, match=r"there is none at .*nowhere"):
        open_source(DataSettings(source=source, path=str(tmp_path / "nowhere")))
    with pytest.raises(ValueError, match=r"`data.path` must hold"):
        open_source(DataSettings(source=source, path=str(tmp_path)))


def test_images_without_class_folders_are_sent_to_the_unlabelled_source(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "one.png")
    with pytest.raises(ValueError, match="data=unlabelled"):
        open_source(DataSettings(source="folder", path=str(tmp_path)))


@pytest.fixture
def hub(digits: Source, monkeypatch: pytest.MonkeyPatch) -> dict:
    """Stand in for the hub's one data set, of digits; it records its arguments."""
    features = datasets.Features(
        {
            "picture": datasets.Image(),
            "digit": datasets.ClassLabel(names=[f"number {n}" for n in range(10)]),
            "tags": datasets.List(datasets.Value("int64")),
            "weight": datasets.Value("float32"),
        }
    )

    def split(chosen: range) -> datasets.Dataset:
        pictures, labels = zip(*(digits.train[i] for i in chosen), strict=True)
        rest = {"tags": [[n] for n in labels], "weight": [0.5] * len(labels)}
        table = {"picture": list(pictures), "digit": list(labels)} | rest
        return datasets.Dataset.from_dict(table, features=features)

    calls = {}
    tables = datasets.DatasetDict(train=split(range(20)), validation=split(range(20, 25)))

    def load(*args: object, **options: object) -> datasets.DatasetDict:
        calls["args"], calls["options"] = args, options
        return tables

    monkeypatch.setattr(datasets, "load_dataset", load)
    return calls


HUB = DataSettings(source="hub", path="some/numbers", test_split="validation")


def test_a_hub_data_set_brings_its_images_and_classes(hub: dict, digits: Source) -> None:
    source = open_source(HUB.replace(subset="small"))
    assert hub["args"] == ("some/numbers", "small")
    assert (source.name, len(source.train), len(source.test)) == ("numbers", 20, 5)
    assert source.classes == tuple(f"number {n}" for n in range(10))
    for i in range(5):
        (image, label), (expected, digit) = source.test[i], digits.train[20 + i]
        assert (label, image.mode) == (digit, "RGB")
        np.testing.assert_array_equal(np.asarray(image), np.asarray(expected))


def test_a_name_of_ours_asks_the_hub_for_its_id(hub: dict) -> None:
    source = open_source(DataSettings(source="imagenette", subset="160px", test_split="validation"))
    assert hub["args"] == ("frgfm/imagenette", "160px")
    assert source.mean == (0.485, 0.456, 0.406)


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("test_split", "test", "`data.test_split` must be one of train, validation, got test"),
        ("image_column", "digit", "`data.image_column` must be one of picture, got digit"),
        ("label_column", "weight", "`data.label_column` must be one of digit, got weight"),
    ],
)
def test_a_split_or_column_that_is_not_there_is_an_error(
    hub: dict, setting: str, value: str, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        open_source(HUB.replace(**{setting: value}))


def test_a_data_set_that_is_a_script_is_read_from_the_hubs_conversion(
    hub: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = datasets.load_dataset

    def load(*args: object, **options: object) -> datasets.DatasetDict:
        if "revision" not in options:
            raise RuntimeError("Dataset scripts are no longer supported, but found numbers.py")
        return plain(*args, **options)

    monkeypatch.setattr(datasets, "load_dataset", load)
    assert len(open_source(HUB.replace(subset="small")).train) == 20
    assert hub["options"] == {"data_dir": "small", "revision": "refs/convert/parquet"}


@pytest.mark.parametrize(
    ("raised", "expected", "message"),
    [
        (ConnectionError("no route"), ConnectionError, r"some/numbers .*no route\); data=mnist5k"),
        (DatasetNotFoundError("No 'some/numbers'"), ValueError, "must be the id of a hub data set"),
        (RuntimeError("out of luck"), RuntimeError, "out of luck"),
    ],
)
def test_what_the_hub_refuses_is_an_error(
    monkeypatch: pytest.MonkeyPatch, raised: Exception, expected: type, message: str
) -> None:
    def load(*args: object, **options: object) -> None:
        raise raised

    monkeypatch.setattr(datasets, "load_dataset", load)
    with pytest.raises(expected, match=message):
        open_source(HUB)


def test_an_unknown_source_is_an_error() -> None:
    with pytest.raises(ValueError, match="no source 'mnist5'; did you mean 'mnist5k'"):
        open_source(DataSettings(source="mnist5"))


def test_a_held_out_part_of_the_training_images_is_tested_on_and_never_trained_on() -> None:
    whole, source = open_source(DataSettings()), open_source(DataSettings(holdout=0.25))
    assert sorted([*source.train.indices, *source.test.indices]) == list(range(len(whole.train)))
    labels = [whole.train[i][1] for i in source.test.indices]
    assert [labels.count(digit) for digit in range(10)] == [100] * 10
    assert open_source(DataSettings(holdout=0.25)).test.indices == source.test.indices
    assert source.mean == whole.mean


def test_a_limit_takes_the_same_images_each_time() -> None:
    source, again = (open_source(DataSettings(limit=30)) for _ in range(2))
    assert len(source.train) == len(source.test) == 30
    assert [x[1] for x in source.train] == [x[1] for x in again.train]


@pytest.mark.parametrize("source", ["folder", "parquet", "unlabelled", "segmentation"])
@pytest.mark.parametrize("name", ["archive (1) 日本語", "a=b", "C# it's", "x{1} y[1]"])
def test_real_folders_open_from_the_command_line(tmp_path: Path, source: str, name: str) -> None:
    folder = tmp_path / name
    for path in ("one/0.png", "one/1.png", "one/2.png", "train/images/0.png", "train/masks/0.png"):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8)).save(folder / path)
    shutil.copytree(folder / "train", folder / "val")
    if source == "folder":
        shutil.rmtree(folder / "train")
    parquet(folder, [0, 1])
    parquet(folder, [0, 1], split="test")
    words = [f"data={source}", f"data.path={folder}"]
    assert open_source(compose(words).data).name == name


def gray_squares(count: int) -> list[tuple[np.ndarray, int]]:
    """Dark squares of class 0 and bright ones of class 1."""
    return [(np.full((20, 20, 3), 100 * (n % 2) + 50, np.uint8), n % 2) for n in range(count)]


def test_lists_of_a_user_are_a_source() -> None:
    images = [(Image.fromarray(pixels[..., 0]), label) for pixels, label in gray_squares(10)]
    mine = Source("mine", train=gray_squares(30), test=images, classes=("dark", "bright"))
    data = DataSettings(batch_size=4, image_size=16, limit=20)
    source = prepared(mine, data)
    assert source.mean == pytest.approx((100 / 255,) * 3)
    assert source.std == pytest.approx((50 / 255,) * 3)
    batch = next(iter(train_loader(source, data, ViewsSettings(), seed=0)))
    assert batch.views[0].shape == (4, 4, 3, 16, 16)
    bright = batch.views[0].float().mean((0, 2, 3, 4)) > 100
    assert bright.long().tolist() == batch.labels.tolist()
    tests = list(test_loader(source.test, data))
    assert sum(len(batch.labels) for batch in tests) == 10
    held_out = prepared(Source("mine", mine.train, classes=mine.classes), data.replace(holdout=0.2))
    assert Counter(label for _, label in held_out.test) == {0: 3, 1: 3}


ONE = gray_squares(1)
VIDEO: Footage = MemoryVideo(torch.zeros(3, 3, 8, 8, dtype=torch.uint8))


@pytest.mark.parametrize(
    ("mine", "settings", "message"),
    [
        ("text", {}, "`data.source=mnist5k` must give a `Source`"),
        (Source("mine", []), {}, "`train` of mine must hold an item, got none"),
        (Source("mine", ONE, [], ("a",)), {}, "`test` of mine must hold an item.*test_split"),
        (Source("mine", [ONE[0][0]]), {}, r"image 0 of `train` .* must be \(image, label\)"),
        (Source("mine", [("a.png", -1)]), {}, "a PIL image or an array .*, got str"),
        (Source("mine", [(ONE[0][0] / 255, -1)]), {}, "of uint8, got .* float64"),
        (Source("mine", ONE), {}, "must be -1, as `classes` names none; got 0"),
        (Source("mine", gray_squares(8), None, ("a",)), {}, "image 1 of .* from 0 to 0.* got 1"),
        (Source("mine", [(ONE[0][0], "cat")], None, ("cat",)), {}, "must be an integer, got 'cat'"),
        (Source("mine", ONE, None, ("a",)), {"frames": 8}, "`data.frames` must be null"),
        (Source("mine", [(VIDEO, -1)], clips=True), {}, "`data.frames` must be a number"),
        (Source("mine", [(VIDEO, -1)]), {}, "must say `clips=True`"),
        (Source("mine", ONE, None, ("a",), clips=True), {"frames": 8}, "must be video"),
        (Source("mine", ONE, None, ("a",)), {"holdout": 0.5}, "`data.holdout` must be larger"),
    ],
)
def test_a_source_is_checked(mine: Source, settings: dict, message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        prepared(mine, DataSettings(**settings))
