from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
from PIL import Image

from levyjepa.conf.schema import DataConfig
from levyjepa.data import load_source
from levyjepa.data.segmentation import load_segmentation

CAMVID = ("sky", "building", "pole", "road", "pavement", "tree", "sign", "fence", "vehicle")
CAMVID += ("pedestrian", "bicyclist")


def write(folder: Path, split: str, stem: str, mask: np.ndarray, palette: bool = False) -> None:
    """An image whose red says its mask's ids, ten a step, and the mask."""
    for kind in ("images", "masks"):
        (folder / split / kind).mkdir(parents=True, exist_ok=True)
    image = np.zeros((*mask.shape, 3), np.uint8)
    image[..., 0] = 10 * mask
    Image.fromarray(image).save(folder / split / "images" / f"{stem}.png")
    held = Image.fromarray(mask.astype(np.uint8))
    if palette:
        held.putpalette([n % 256 for n in range(0, 3 * 256 * 7, 7)])
    held.save(folder / split / "masks" / f"{stem}.png")


def halves(height: int = 12, width: int = 8) -> np.ndarray:
    """Id 0 above, 1 below on the left, 2 below on the right."""
    mask = np.zeros((height, width), int)
    mask[height // 2 :, : width // 2] = 1
    mask[height // 2 :, width // 2 :] = 2
    return mask


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path, "train", "b", halves())
    write(tmp_path, "train", "a", np.full((12, 8), 2), palette=True)
    write(tmp_path, "val", "c", halves())
    return tmp_path


def test_camvid_is_read_with_its_void(shared_data: Path) -> None:
    source = load_segmentation(shared_data / "camvid", (64, 96), CAMVID, ignore=11)
    assert (len(source.train), len(source.val), len(source.classes)) == (367, 101, 11)
    image, mask = source.val[7]
    assert (image.shape, image.dtype) == ((3, 64, 96), torch.uint8)
    assert (mask.shape, mask.dtype) == ((64, 96), torch.int64)
    assert set(mask.unique().tolist()) <= set(range(-1, 11))
    stored = np.array(Image.open(source.val.masks[7]))
    share = np.bincount(stored[6:174].ravel(), minlength=12) / stored[6:174].size
    found = np.bincount(mask.numpy().ravel() + 1, minlength=12) / mask.numel()
    np.testing.assert_allclose(np.roll(found, -1), share, atol=0.02)  # rows 4 to 68 of 72
    for _ in range(2):
        assert torch.equal(source.val[7][0], image)


def test_image_and_mask_stay_on_each_other(folder: Path) -> None:
    source = load_segmentation(folder, (12, 8))
    assert source.classes == ("class 0", "class 1", "class 2")
    assert source.name == folder.name
    image, mask = source.train[1]  # b comes after a
    assert torch.equal(mask, torch.from_numpy(halves()))
    assert torch.equal(image[0].long(), 10 * mask)
    assert (source.train[0][1] == 2).all()  # mode P: its ids, not its palette
    for size, rows, columns in (((24, 16), 24, 16), ((6, 4), 6, 4), (4, 4, 4)):
        image, mask = load_segmentation(folder, size).train[1]
        assert image.shape[1:] == mask.shape == (rows, columns)
        assert torch.equal(mask, torch.from_numpy(halves(rows, columns)))
        flat = image[0].long()[:: rows - 1, :: columns - 1]  # corners, away from the blur
        assert torch.equal(flat, 10 * mask[:: rows - 1, :: columns - 1])


def test_void_is_minus_one(folder: Path) -> None:
    source = load_segmentation(folder, (12, 8), ignore=2)
    assert source.classes == ("class 0", "class 1")
    assert torch.equal(source.train[1][1] == -1, torch.from_numpy(halves() == 2))


def test_its_images_serve_unlabelled_training(folder: Path) -> None:
    path = str(folder / "train" / "images")
    assert len(load_source(DataConfig(source="unlabelled", path=path)).train) == 1  # 1 held out


@pytest.mark.parametrize("columns", [("image", "mask"), ("pixels", "annotation")])
def test_a_table_of_images_and_masks(folder: Path, columns: tuple[str, str]) -> None:
    (folder / "table").mkdir()
    for split in ("train", "val"):
        pictures = [
            [Image.open(path) for path in sorted((folder / split / kind).iterdir())]
            for kind in ("images", "masks")
        ]
        table = datasets.Dataset.from_dict(dict(zip(columns, pictures, strict=True)))
        table.to_parquet(str(folder / "table" / f"{split}.parquet"))
    found = load_segmentation(
        folder / "table", (12, 8), image_column=None if columns[0] == "image" else columns[0]
    )
    expected = load_segmentation(folder, (12, 8))
    assert found.classes == expected.classes
    for mine, its in ((found.train, expected.train), (found.val, expected.val)):
        assert len(mine) == len(its)
        for n in range(len(its)):
            assert torch.equal(mine[n][0], its[n][0])
            assert torch.equal(mine[n][1], its[n][1])


def test_bad_masks_are_named(folder: Path) -> None:
    masks = folder / "train" / "masks"
    for mask, mode, message in (
        (np.zeros((8, 12)), "L", r"b.png must be as large as its image, 8 x 12, got 12 x 8"),
        (np.zeros((12, 8)), "RGB", r"b.png must hold ids in mode P or L, got RGB"),
        (np.full((12, 8), 7), "L", r"b.png must hold ids below 3 or 5 for void, got 7"),
    ):
        Image.fromarray(mask.astype(np.uint8)).convert(mode).save(masks / "b.png")
        source = load_segmentation(folder, (12, 8), "xyz", ignore=5)
        with pytest.raises(ValueError, match=message):
            source.train[1]
    (masks / "b.png").write_text("no picture")
    with pytest.raises(ValueError, match=r"mask of .*b.png can't be decoded"):
        load_segmentation(folder, (12, 8))
    (folder / "train" / "images" / "a.png").write_text("no picture")
    with pytest.raises(ValueError, match=r"image .*a.png can't be decoded"):
        source.train[0]


def test_bad_folders_are_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="`path` must be a folder"):
        load_segmentation(folder / "absent", 8)
    with pytest.raises(ValueError, match=r"train/images and train/masks, or train\*.parquet"):
        load_segmentation(folder / "val", 8)
    with pytest.raises(ValueError, match=r"images in test, got none"):
        load_segmentation(folder, 8, val_split="test")
    with pytest.raises(ValueError, match="`size` must be at least 1, got 0"):
        load_segmentation(folder, (8, 0))
    with pytest.raises(ValueError, match="name at least one class"):
        load_segmentation(folder, 8, classes=())
    (folder / "train" / "masks" / "b.png").unlink()
    with pytest.raises(ValueError, match=r"a mask for each image, got none in .* for b\."):
        load_segmentation(folder, 8)
    for file in (folder / "val" / "images").iterdir():
        file.unlink()
    (folder / "train" / "images" / "b.png").unlink()
    with pytest.raises(ValueError, match="images in val, got none"):
        load_segmentation(folder, 8)


def test_bad_columns_are_named(tmp_path: Path) -> None:
    pictures = [Image.new("RGB", (8, 8))]
    table = {"image": pictures, "mask": pictures, "depth": pictures, "id": [1]}
    for split in ("train", "val"):
        held = datasets.Dataset.from_dict(table)
        held.to_parquet(str(tmp_path / f"{split}.parquet"))
    with pytest.raises(ValueError, match=r"`mask_column` must be one of .*depth, got None"):
        load_segmentation(tmp_path, 8)
    with pytest.raises(ValueError, match=r"`mask_column` must be one of .*depth, got id"):
        load_segmentation(tmp_path, 8, mask_column="id")
