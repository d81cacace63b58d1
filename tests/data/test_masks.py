from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torch
from PIL import Image

from levyjepa.data import DataSettings, Source, open_source, whole
from levyjepa.data.images import CorruptImageError
from levyjepa.data.masks import fit_mask


def write(folder: Path, split: str, stem: str, mask: np.ndarray, palette: bool = False) -> None:
    """Write a mask and an image whose red is ten times the mask's ids."""
    for kind in ("images", "masks"):
        (folder / split / kind).mkdir(parents=True, exist_ok=True)
    image = np.zeros((*mask.shape, 3), np.uint8)
    image[..., 0] = 10 * mask
    Image.fromarray(image).save(folder / split / "images" / f"{stem}.png")
    file = Image.fromarray(mask.astype(np.uint8))
    if palette:
        file.putpalette([n % 256 for n in range(0, 3 * 256 * 7, 7)])
    file.save(folder / split / "masks" / f"{stem}.png")


def halves(height: int = 12, width: int = 8) -> np.ndarray:
    """Id 0 above, 1 below on the left, 2 below on the right."""
    mask = np.zeros((height, width), int)
    mask[height // 2 :, : width // 2] = 1
    mask[height // 2 :, width // 2 :] = 2
    return mask


def opened(folder: Path, **values: Any) -> Source:
    values = {"path": str(folder), "test_split": "val", "source": "segmentation"} | values
    return open_source(DataSettings(**values))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path, "train", "b", halves())
    write(tmp_path, "train", "a", np.full((12, 8), 2), palette=True)
    write(tmp_path, "val", "c", halves())
    return tmp_path


def test_camvid_is_read_with_its_void(shared_data: Path) -> None:
    names = [f"class {n}" for n in range(11)]
    source = opened(shared_data / "camvid", classes=names, void=11)
    assert (len(source.train), len(source.test), len(source.mask_classes)) == (367, 101, 11)
    assert (source.classes, source.truth, source.ordered) == ((), "masks", True)
    image, label = source.test[7]
    ids = source.test.truth(7)
    assert (image.size, label, ids.shape) == ((240, 180), -1, (180, 240))
    stored = np.array(Image.open(source.test.masks[7])).astype(int)
    np.testing.assert_array_equal(ids, np.where(stored == 11, -1, stored))


def test_image_and_mask_match_at_every_size(folder: Path) -> None:
    source = opened(folder)
    assert source.mask_classes == ("class 0", "class 1", "class 2")
    assert source.name == folder.name
    np.testing.assert_array_equal(source.train.truth(1), halves())  # b comes after a
    assert (source.train.truth(0) == 2).all()  # mode P: its ids, not its palette
    for size in (4, 8, 16):
        image = whole(source.train[1][0], size)
        mask = fit_mask(source.train.truth(1), size)
        assert (mask.shape, mask.dtype) == ((size, size), torch.int64)
        assert torch.equal(mask, torch.from_numpy(halves(size, size)))
        corners = image[0].long()[:: size - 1, :: size - 1]  # away from the blur
        assert torch.equal(corners, 10 * mask[:: size - 1, :: size - 1])


def test_held_out_masks_stay_with_their_images_in_whole_stretches(tmp_path: Path) -> None:
    for n in range(20):
        write(tmp_path, "train", f"{n:02}", np.full((4, 4), n))
    write(tmp_path, "val", "0", halves(4, 4))
    source = opened(tmp_path, holdout=0.2, limit=3)
    assert (len(source.train), len(source.test)) == (3, 3)
    for part in (source.train, source.test):
        for i in range(3):
            assert np.asarray(part[i][0])[0, 0, 0] == 10 * part.truth(i)[0, 0]
    source = opened(tmp_path, holdout=0.2)
    ids = [source.test.truth(i)[0, 0] for i in range(len(source.test))]
    assert ids == [4, 9, 14, 19]  # the last fifth of each stretch
    assert source.test.name(0).endswith("04.png")


def test_a_table_of_images_and_masks(folder: Path) -> None:
    (folder / "table").mkdir()
    for split in ("train", "val"):
        images = [
            [Image.open(path) for path in sorted((folder / split / kind).iterdir())]
            for kind in ("images", "masks")
        ]
        table = datasets.Dataset.from_dict(dict(zip(("pixels", "mask"), images, strict=True)))
        table.to_parquet(str(folder / "table" / f"{split}.parquet"))
    source, expected = opened(folder / "table", image_column="pixels"), opened(folder)
    assert source.mask_classes == expected.mask_classes
    for mine, its in ((source.train, expected.train), (source.test, expected.test)):
        assert len(mine) == len(its)
        for n in range(len(its)):
            assert mine[n][0].tobytes() == its[n][0].tobytes()
            np.testing.assert_array_equal(mine.truth(n), its.truth(n))


def test_bad_masks_are_named(folder: Path) -> None:
    masks = folder / "train" / "masks"
    for mask, mode, message in (
        (np.zeros((8, 12)), "L", r"b.png must be as large as its image, 8 x 12, got 12 x 8"),
        (np.zeros((12, 8)), "RGB", r"b.png must hold ids in mode P or L, got RGB"),
        (np.full((12, 8), 7), "L", r"b.png must hold ids below 3 or 5 for void, got 7"),
    ):
        Image.fromarray(mask.astype(np.uint8)).convert(mode).save(masks / "b.png")
        source = opened(folder, classes=["x", "y", "z"], void=5)
        with pytest.raises(ValueError, match=message):
            source.train.truth(1)
    (masks / "b.png").write_text("no image")
    with pytest.raises(ValueError, match=r"mask of .*b.png can't be decoded"):
        opened(folder)
    (folder / "train" / "images" / "a.png").write_text("no image")
    with pytest.raises(CorruptImageError, match=r"a\.png"):
        source.train[0]
    with pytest.raises(ValueError, match=r"image .*a.png can't be decoded"):
        source.train.truth(0)


def test_a_rotated_photograph_has_the_size_of_its_mask(folder: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    Image.new("RGB", (12, 8)).save(folder / "train" / "images" / "b.png", exif=exif)
    source = opened(folder)
    assert source.train[1][0].size == (8, 12)
    assert source.train.truth(1).shape == (12, 8)


def test_bad_folders_are_named(folder: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"`data.path` must be a folder"):
        opened(folder / "absent")
    with pytest.raises(ValueError, match=r"train/images and train/masks, or train\*.parquet"):
        opened(folder / "val")
    with pytest.raises(ValueError, match=r"images in test, got none"):
        opened(folder, test_split="test")
    with pytest.raises(ValueError, match=r"`data.classes` must name at least one class"):
        opened(folder, classes=[])
    (folder / "train" / "masks" / "b.png").unlink()
    with pytest.raises(ValueError, match=r"a mask for each image, got none in .* for b\."):
        opened(folder)


def test_bad_columns_are_named(tmp_path: Path) -> None:
    images = [Image.new("RGB", (8, 8))]
    table = {"image": images, "mask": images, "depth": images, "id": [1]}
    for split in ("train", "val"):
        datasets.Dataset.from_dict(table).to_parquet(str(tmp_path / f"{split}.parquet"))
    for column in (None, "id"):
        message = rf"`data.mask_column` must be one of .*depth, got {column}"
        with pytest.raises(ValueError, match=message):
            opened(tmp_path, mask_column=column)
