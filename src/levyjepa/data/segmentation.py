"""Images with masks: a class for each pixel."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as F

from levyjepa.checks import count
from levyjepa.data.common import files as below
from levyjepa.data.common import statistics
from levyjepa.data.hub import Column
from levyjepa.data.images import CorruptImageError, Images, _open

VOID = -1  # the class of pixels that count for nothing


@dataclass(frozen=True)
class SegmentationSource:
    """Images with masks, and what judging a network by them must know.

    A mask's number n means `classes[n]`; `mean` and `std` are of the training images' pixels in
    [0, 1], for each channel.
    """

    name: str
    train: "Masked"
    val: "Masked"
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]


class Masked(Dataset):
    """A map-style data set of (image (3, H, W) uint8, mask (H, W) int64, -1 where void).

    Both are resized to cover H x W, the image bilinearly and the mask to the nearest pixel, and
    their centre is cropped.

    Args:
        images: RGB images.
        masks: a sequence of files or of dicts of `bytes` or `path`: ids in mode P or L.
        size: (H, W) in pixels.
        classes: ids below it are known.
        ignore: the id of void; None for none.
    """

    def __init__(
        self, images: Images, masks: Any, size: tuple[int, int], classes: int, ignore: int | None
    ) -> None:
        self.images, self.masks, self.size = images, masks, size
        self.classes, self.ignore = classes, ignore

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """Read an image and its mask.

        Raises:
            ValueError: neither can be decoded, their sizes differ, or the mask holds another mode
                or an unknown id.
        """
        name = self.images.name(index)
        try:
            image = self.images[index][0]
        except CorruptImageError:
            raise ValueError(f"The image {name} can't be decoded.") from None
        ids = read_ids(self.masks[index], name)
        if ids.shape != (image.height, image.width):
            raise ValueError(
                f"The mask of {name} must be as large as its image, {image.width} x "
                f"{image.height}, got {ids.shape[1]} x {ids.shape[0]}."
            )
        mask = torch.from_numpy(ids.astype(np.int64))
        if self.ignore is not None:
            mask[mask == self.ignore] = VOID
        if (mask >= self.classes).any():
            void = "" if self.ignore is None else f" or {self.ignore} for void"
            raise ValueError(
                f"The mask of {name} must hold ids below {self.classes}{void}, "
                f"got {int(mask.max())}."
            )
        scale = max(self.size[0] / image.height, self.size[1] / image.width)
        cover = [
            max(side, round(scale * length))
            for side, length in zip(self.size, (image.height, image.width), strict=True)
        ]
        pixels: Any = F.resize(F.pil_to_tensor(image), cover, antialias=True)
        mask = F.resize(mask[None], cover, InterpolationMode.NEAREST_EXACT)[0]
        return F.center_crop(pixels, list(self.size)), F.center_crop(mask, list(self.size))


def load_segmentation(
    path: str | Path,
    size: int | tuple[int, int],
    classes: Sequence[str] | None = None,
    ignore: int | None = None,
    *,
    train_split: str = "train",
    val_split: str = "val",
    image_column: str | None = None,
    mask_column: str | None = None,
    subset: str | None = None,
) -> SegmentationSource:
    """Open images with masks, in order of name or of the table.

    Args:
        path: A folder of `{train,val}/{images,masks}`, files of one stem belonging together; a
            folder of `train*.parquet` and `val*.parquet` with a column of images and one of
            masks; or the id of such a data set on the hub.
        size: Pixels, one number or (H, W).
        classes: Their names, in order of ids; None reads the ids of all training masks.
        ignore: The id of void, whose pixels count for nothing.
        train_split, val_split: What the splits are called.
        image_column, mask_column: None finds them where there is no choice.
        subset: The hub data set's configuration.

    Raises:
        FileNotFoundError: There is no such folder.
        ValueError: A split is missing or empty, an image has no mask, a column is missing.
    """
    both = (size, size) if isinstance(size, int) else tuple(size)
    if len(both) != 2:
        raise ValueError(f"`size` must be one number or (H, W), got {size!r}.")
    height, width = (count("size", side) for side in both)
    folder, splits = Path(path).expanduser(), (train_split, val_split)
    if (folder / train_split / "images").is_dir():
        found = [_pairs(folder, split) for split in splits]
    elif folder.is_dir() or folder.is_absolute() or str(path).startswith("."):
        found = _tables(_parquet(folder, splits), splits, image_column, mask_column)
    else:
        found = _tables(_hub(str(path), subset), splits, image_column, mask_column)
    for split, (images, _) in zip(splits, found, strict=True):
        if not len(images):
            raise ValueError(f"`path` must hold images in {split}, got none in {path}.")
    images, masks = found[0]
    if classes is None:
        ids = {
            int(n)
            for i in range(len(images))
            for n in np.unique(read_ids(masks[i], images.name(i)))
        }
        classes = [f"class {n}" for n in range(max(ids - {ignore}, default=-1) + 1)]
    if not classes:
        raise ValueError(f"`classes` must name at least one class, got none for {path}.")
    train, val = (Masked(*pair, (height, width), len(classes), ignore) for pair in found)
    return SegmentationSource(folder.name, train, val, tuple(classes), *statistics(images))


def read_ids(record: Any, name: str) -> np.ndarray:
    """The ids (H, W) of a mask as they are stored; ValueError if it is no mask of ids."""
    try:
        mask = _open(record)
        ids = np.array(mask)
    except Exception as error:  # what Pillow raises has no common kind
        raise ValueError(f"The mask of {name} can't be decoded.") from error
    if mask.mode not in ("P", "L"):
        raise ValueError(f"The mask of {name} must hold ids in mode P or L, got {mask.mode}.")
    return ids


def _pairs(folder: Path, split: str) -> tuple[Images, Any]:
    """Images and the masks of the same stems."""
    sides = [folder / split / kind for kind in ("images", "masks")]
    images, masks = (
        {file.relative_to(side).with_suffix(""): file for file in below(side)} for side in sides
    )
    if alone := sorted(map(str, images.keys() - masks.keys())):
        more = f" and {len(alone) - 3} more" if len(alone) > 3 else ""
        raise ValueError(
            f"`path` must hold a mask for each image, got none in {sides[1]} "
            f"for {', '.join(alone[:3])}{more}."
        )
    return Images(list(images.values())), [masks[stem] for stem in images]


def _parquet(folder: Path, splits: Sequence[str]) -> Any:
    from datasets import load_dataset

    if not folder.is_dir():
        raise FileNotFoundError(f"`path` must be a folder, but there is none at {folder}.")
    files = {split: sorted(map(str, folder.glob(f"{split}*.parquet"))) for split in splits}
    if not all(files.values()):
        wanted = " and ".join(f"{split}*.parquet" for split in splits)
        raise ValueError(
            f"`path` must hold {splits[0]}/images and {splits[0]}/masks, or {wanted}, "
            f"got neither in {folder}."
        )
    return load_dataset("parquet", data_files=files)


def _hub(name: str, subset: str | None) -> Any:
    from datasets import load_dataset
    from datasets.exceptions import DatasetNotFoundError

    try:
        return load_dataset(name, subset)
    except DatasetNotFoundError as error:
        raise ValueError(f"`path` must be a folder or the id of a hub data set: {error}") from error
    except OSError as error:
        raise ConnectionError(
            f"The data set {name} can't be fetched from the hub ({error}), "
            "and there is no folder of this name."
        ) from error


def _tables(
    tables: Any, splits: Sequence[str], image_column: str | None, mask_column: str | None
) -> list[tuple[Images, Any]]:
    """Splits of Hugging Face's `datasets` with a column of images and one of masks."""
    from datasets import Image as ImageFeature

    for split in splits:
        if split not in tables:
            raise ValueError(f"`path` must hold a split {split}, got {', '.join(tables)}.")
    features = tables[splits[0]].features
    usable = [key for key, feature in features.items() if isinstance(feature, ImageFeature)]
    image = image_column or ("image" if "image" in usable else next(iter(usable), None))
    rest = [key for key in usable if key != image]
    mask = mask_column or (rest[0] if len(rest) == 1 else None)
    for what, column in (("image", image), ("mask", mask)):
        if column not in usable:
            raise ValueError(
                f"`{what}_column` must be one of the columns of images, "
                f"{', '.join(usable) or 'of which there are none'}, got {column}."
            )

    def records(split: str, column: Any) -> Column:
        return Column(tables[split].cast_column(column, ImageFeature(decode=False)), column)

    return [
        (Images(records(split, image), what=f"{split} image"), records(split, mask))
        for split in splits
    ]
