"""Images with masks: a class for each pixel."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from levyjepa.data.folders import existing, image_files
from levyjepa.data.images import Images
from levyjepa.data.masks import MaskedImages, read_ids
from levyjepa.data.registry import register_source
from levyjepa.data.settings import DataSettings
from levyjepa.data.source import Source
from levyjepa.data.tables import Column, check_splits, hub_tables, parquet_tables

Pairs = tuple[Images, Sequence[Any]]  # images and their masks


@register_source("segmentation")
def segmentation(settings: DataSettings) -> Source:
    """Images with masks, in order of name or of the table; trained on without labels.

    `data.path` is a folder of {train,val}/{images,masks}, where files of one stem belong together;
    a folder of train*.parquet and val*.parquet with a column of images and one of masks; or the id
    of such a data set on the hub.
    """
    if settings.path is None:
        raise ValueError(
            "`data.path` must be a folder or a hub id for data=segmentation, got none."
        )
    folder, splits = Path(settings.path).expanduser(), (settings.train_split, settings.test_split)
    if (folder / splits[0] / "images").is_dir():
        pairs = [_files(folder, split) for split in splits]
    elif folder.is_dir() or folder.is_absolute() or settings.path.startswith("."):
        pairs = _columns(_parquet(settings), settings)
    else:
        pairs = _columns(hub_tables(settings.path, settings.subset), settings)
    for split, (images, _) in zip(splits, pairs, strict=True):
        if not len(images):
            raise ValueError(f"`data.path` must hold images in {split}, got none in {folder}.")
    classes = _ids(*pairs[0], settings.void) if settings.classes is None else settings.classes
    if not classes:
        raise ValueError("`data.classes` must name at least one class, got none.")
    train, test = (MaskedImages(*pair, len(classes), settings.void) for pair in pairs)
    return Source(
        folder.name, train, test, truth="masks", mask_classes=tuple(classes), ordered=True
    )


def _ids(images: Images, masks: Sequence[Any], void: int | None) -> list[str]:
    """Names of the ids of all masks."""
    ids = {
        int(n) for i in range(len(images)) for n in np.unique(read_ids(masks[i], images.name(i)))
    }
    return [f"class {n}" for n in range(max(ids - {void}, default=-1) + 1)]


def _files(folder: Path, split: str) -> Pairs:
    """Images and the masks of the same stems."""
    sides = [folder / split / kind for kind in ("images", "masks")]
    images, masks = (
        {file.relative_to(side).with_suffix(""): file for file in image_files(side)}
        for side in sides
    )
    if alone := sorted(map(str, images.keys() - masks.keys())):
        more = f" and {len(alone) - 3} more" if len(alone) > 3 else ""
        raise ValueError(
            f"`data.path` must hold a mask for each image, got none in {sides[1]} "
            f"for {', '.join(alone[:3])}{more}."
        )
    return Images(list(images.values())), [masks[stem] for stem in images]


def _parquet(settings: DataSettings) -> Any:
    train, root = settings.train_split, existing(settings)
    if not any(root.glob("*.parquet")):
        raise ValueError(
            f"`data.path` must hold {train}/images and {train}/masks, or {train}*.parquet; "
            f"got neither in {root}."
        )
    return parquet_tables(root, settings)


def _columns(tables: Any, settings: DataSettings) -> list[Pairs]:
    """The column of images and the column of masks of each split."""
    from datasets import Image as ImageFeature

    check_splits(tables, settings)
    splits = settings.train_split, settings.test_split
    features = tables[splits[0]].features
    usable = [key for key, feature in features.items() if isinstance(feature, ImageFeature)]
    image = settings.image_column or ("image" if "image" in usable else next(iter(usable), ""))
    rest = [key for key in usable if key != image]
    mask = settings.mask_column or (rest[0] if len(rest) == 1 else "")
    for what, column in (("image", image), ("mask", mask)):
        if column not in usable:
            raise ValueError(
                f"`data.{what}_column` must be one of the columns of images, "
                f"{', '.join(usable) or 'of which there are none'}, got {column or None}."
            )
    return [
        (
            Images(Column(tables[split], image, ImageFeature), what=f"{split} image"),
            Column(tables[split], mask, ImageFeature),  # pyright: ignore
        )
        for split in splits
    ]
