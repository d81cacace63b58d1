"""Images with masks: a class for each pixel."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from levyjepa.data.images import Images
from levyjepa.data.masks import MaskedImages, read_ids
from levyjepa.data.registry import register_source
from levyjepa.data.settings import DataSettings
from levyjepa.data.source import Source
from levyjepa.data.sources.folder import existing, image_files
from levyjepa.data.sources.hub import hub_tables, parquet_tables, pick_column, undecoded

Pair = tuple[Images, Sequence[Any]]  # images and their masks


@register_source("segmentation")
def segmentation(settings: DataSettings) -> Source:
    """Images with masks, in order of name or of the table; trained on without labels.

    `data.path` is a folder of {train,val}/{images,masks}, where files of one stem belong together;
    a folder of train*.parquet and val*.parquet with a column of images and one of masks; or the id
    of such a data set on the hub.
    """
    if settings.path is None:
        raise ValueError("`data.path` must be a folder or a hub id, got none.")
    root, splits = Path(settings.path).expanduser(), (settings.train_split, settings.test_split)
    if (root / splits[0] / "images").is_dir():
        pairs = [_files(root, split) for split in splits]
    elif not (root.is_dir() or root.is_absolute() or settings.path.startswith(".")):
        pairs = _columns(hub_tables(settings), settings)
    elif any(existing(settings).glob("*.parquet")):
        pairs = _columns(parquet_tables(root, settings), settings)
    else:
        wanted = "{0}/images and {0}/masks, or {0}*.parquet".format(*splits)
        raise ValueError(f"`data.path` must hold {wanted}; got neither in {root}.")
    for split, (images, _) in zip(splits, pairs, strict=True):
        if not len(images):
            raise ValueError(f"`data.path` must hold images in {split}, got none in {root}.")
    classes = settings.classes
    if classes is None:
        images, masks = pairs[0]
        named = ((mask, images.name(i)) for i, mask in enumerate(masks))
        ids = {n for mask in named for n in np.unique(read_ids(*mask)).tolist()}
        classes = [f"class {n}" for n in range(max(ids - {settings.void}, default=-1) + 1)]
    if not classes:
        raise ValueError("`data.classes` must name at least one class, got none.")
    train, test = (MaskedImages(*pair, len(classes), settings.void) for pair in pairs)
    return Source(root.name, train, test, truth="masks", mask_classes=tuple(classes), ordered=True)


def _files(root: Path, split: str) -> Pair:
    """Images and the masks of the same stems."""
    images, masks = (
        {file.relative_to(side).with_suffix(""): file for file in image_files(side)}
        for side in (root / split / "images", root / split / "masks")
    )
    if alone := sorted(map(str, images.keys() - masks.keys())):
        names = ", ".join(alone[:3]) + (f" and {len(alone) - 3} more" if alone[3:] else "")
        where = f"{root / split / 'masks'} for {names}"
        raise ValueError(f"`data.path` must hold a mask for each image, got none in {where}.")
    return Images(list(images.values())), [masks[stem] for stem in images]


def _columns(tables: dict[str, Any], settings: DataSettings) -> list[Pair]:
    """The column of images and the column of masks of each split."""
    from datasets import Image

    splits = settings.train_split, settings.test_split
    features = tables[splits[0]].features
    usable = [key for key, feature in features.items() if isinstance(feature, Image)]
    image = pick_column(settings, "image", usable, ["image"] if "image" in usable else usable[:1])
    mask = pick_column(settings, "mask", usable, [key for key in usable if key != image])
    return [
        (
            Images(undecoded(tables[split], image, Image), what=f"{split} image"),
            undecoded(tables[split], mask, Image),
        )
        for split in splits
    ]
