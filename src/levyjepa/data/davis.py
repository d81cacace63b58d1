"""Folders in the layout of DAVIS 2017, read and written."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from levyjepa.conf.schema import DataConfig
from levyjepa.data.clip_sources import colours
from levyjepa.data.common import Source, existing, statistics
from levyjepa.data.images import CorruptImageError, Images
from levyjepa.data.segmentation import read_ids
from levyjepa.data.video import Videos

RESOLUTION = "480p"


class Clip(Protocol):
    """A clip whose masks are known."""

    @property
    def frames(self) -> Tensor:  # (T, 3, H, W) of uint8
        ...

    @property
    def masks(self) -> Tensor:  # (T, H, W) of uint8
        ...


@dataclass(frozen=True)
class VideoSequence:
    """The files of one sequence."""

    name: str
    images: tuple[Path, ...]
    annotations: tuple[Path, ...]  # where they would be, one for each image

    def frames(self) -> Tensor:
        """(T, 3, H, W) of uint8.

        Raises:
            ValueError: A frame can't be decoded, or their sizes differ.
        """
        images = Images(self.images)
        try:
            found = [F.pil_to_tensor(images[t][0]) for t in range(len(images))]
        except CorruptImageError as error:
            raise ValueError(f"The frame {error} can't be decoded.") from None
        return _stack(found, self.name)

    def masks(self) -> dict[int, Tensor]:
        """Those annotations (H, W) of uint8 that there are, by frame.

        Raises:
            FileNotFoundError: The first frame has none.
            ValueError: One can't be read.
        """
        if not self.annotations[0].is_file():
            raise FileNotFoundError(
                f"{self.name} must have a mask of its first frame, but there is none at "
                f"{self.annotations[0]}."
            )
        there = {t: path for t, path in enumerate(self.annotations) if path.is_file()}
        return {t: _read_mask(path) for t, path in there.items()}


def davis(config: DataConfig) -> Source:
    """Frames, or clips, of the training list's sequences; those of the test list are followed."""
    if config.holdout:
        raise ValueError(f"`data.holdout` must be 0 for data=davis, got {config.holdout:g}.")
    root = existing(config)
    lists = [open_davis(root, subset) for subset in (config.train_split, config.test_split)]
    if config.frames is None:
        images = [Images([path for one in some for path in one.images]) for some in lists]
        mean, std = statistics(images[0])
    else:
        size = 2 * config.image_size  # on the short side; crops are still taken from it
        images = [Videos([one.images[0].parent for one in some], size=size) for some in lists]
        mean, std = colours(images[0])
    return Source(root.name, images[0], images[1], (), mean, std, sequences=lists[1])


def open_davis(root: str | Path, subset: str = "val") -> tuple[VideoSequence, ...]:
    """The sequences of a folder in DAVIS 2017's layout, in the order of its list.

    Args:
        root: Holds `JPEGImages/480p/SEQUENCE/*.jpg`, `Annotations/480p/SEQUENCE/*.png` and
            `ImageSets/2017/SUBSET.txt`, a sequence in each line.
        subset: Which list.

    Raises:
        FileNotFoundError: The list or a sequence's images are missing.
        ValueError: The list is empty.
    """
    root = Path(root).expanduser()
    listed = _list(root, subset)
    if not listed.is_file():
        raise FileNotFoundError(f"`root` must hold a list of sequences, but there is no {listed}.")
    names = listed.read_text().split()
    if not names:
        raise ValueError(f"{listed} must name at least one sequence, got none.")
    return tuple(_sequence(root, name) for name in names)


def read_masks(paths: Sequence[Path]) -> Tensor:
    """(T, H, W) of uint8.

    Raises:
        FileNotFoundError: One is missing.
        ValueError: One can't be read, or their sizes differ.
    """
    return _stack([_read_mask(path) for path in paths], str(paths[0].parent))


def write_clips(clips: Iterable[Clip], root: str | Path, subset: str = "val") -> None:
    """Write clips as sequences 00000, 00001, ... of a folder in DAVIS 2017's layout.

    Frames are JPEGs of quality 95 without chroma subsampling.
    """
    root, names = Path(root), []
    for number, clip in enumerate(clips):
        sequence = f"{number:05d}"
        names.append(sequence)
        stems = [f"{t:05d}" for t in range(len(clip.frames))]
        folder = _images(root) / sequence
        folder.mkdir(parents=True, exist_ok=True)
        for stem, frame in zip(stems, clip.frames, strict=True):
            image = Image.fromarray(frame.permute(1, 2, 0).numpy())
            image.save(folder / f"{stem}.jpg", quality=95, subsampling=0)
        write_masks(clip.masks, _annotations(root) / sequence, stems)
    listed = _list(root, subset)
    listed.parent.mkdir(parents=True, exist_ok=True)
    listed.write_text("".join(f"{name}\n" for name in names))


def write_masks(
    masks: Tensor, folder: str | Path, names: Iterable[str], palette: list[int] | None = None
) -> None:
    """Write masks (T, H, W) of uint8 as PNGs of ids with a palette, one for each name.

    Args:
        masks: Ids.
        folder: Made if it is not there.
        names: Of the files, without suffix.
        palette: Red, green, blue, of each id in turn; DAVIS's colours if None.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for name, mask in zip(names, masks, strict=True):
        image = Image.fromarray(mask.cpu().numpy())
        image.putpalette(_palette() if palette is None else palette)
        image.save(folder / f"{name}.png")


@cache
def _palette() -> list[int]:
    """DAVIS's colours: an id's bits, three by three, are red, green and blue, the highest first."""
    bits = np.arange(256)[:, None] >> np.arange(9) & 1
    colours = np.stack([bits[:, c::3] @ (128, 64, 32) for c in range(3)], 1)
    return colours.flatten().tolist()


def _stack(images: Sequence[Tensor], name: str) -> Tensor:
    if len(sizes := {tuple(image.shape[-2:]) for image in images}) > 1:
        raise ValueError(f"{name} must hold images of one size, got {sorted(sizes)}.")
    return torch.stack(list(images))


def _read_mask(path: Path) -> Tensor:
    if not path.is_file():
        raise FileNotFoundError(f"There must be a mask at {path}, but there is none.")
    return torch.from_numpy(read_ids(path, path.name))


def _sequence(root: Path, name: str) -> VideoSequence:
    images = tuple(sorted((_images(root) / name).glob("*.jpg")))
    if not images:
        raise FileNotFoundError(
            f"{name} must hold frames, but there is no *.jpg in {_images(root) / name}."
        )
    masks = tuple(_annotations(root) / name / f"{path.stem}.png" for path in images)
    return VideoSequence(name, images, masks)


def _images(root: Path) -> Path:
    return root / "JPEGImages" / RESOLUTION


def _annotations(root: Path) -> Path:
    return root / "Annotations" / RESOLUTION


def _list(root: Path, subset: str) -> Path:
    return root / "ImageSets" / "2017" / f"{subset}.txt"
