"""Video sequences with object masks, in the layouts of DAVIS 2017 and 2016, read and written."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from levyjepa.data.digit_clips import DigitClip
from levyjepa.data.images import CorruptImageError, Images
from levyjepa.data.masks import read_ids

RESOLUTION = "480p"
YEARS = "2017", "2016", RESOLUTION  # folders of ImageSets that may hold a list
VOID = 255


@dataclass(frozen=True)
class VideoSequence:
    """The files of one sequence."""

    name: str
    images: tuple[Path, ...]
    annotations: tuple[Path, ...]  # one for each image, whether the file exists or not

    def frames(self) -> Tensor:
        """Read the frames, (T, 3, H, W) uint8, or raise `ValueError`."""
        images = Images(self.images)
        try:
            frames = [F.pil_to_tensor(images[t][0]) for t in range(len(images))]
        except CorruptImageError as error:
            raise ValueError(f"The frame {error} can't be decoded.") from None
        return _stack(frames, self.name)

    def masks(self) -> dict[int, Tensor]:
        """Read the annotations that exist, (H, W) uint8 by frame: ids of objects, 255 for void.

        Raises `FileNotFoundError` if the first frame has none, `ValueError` if one can't be read.
        """
        if not (path := self.annotations[0]).is_file():
            where = f"{self.name} must have a mask of its first frame"
            raise FileNotFoundError(f"{where}; there is no {path}.")
        files = {t: path for t, path in enumerate(self.annotations) if path.is_file()}
        return {t: self._ids(path) for t, path in files.items()}

    def read_masks(self, folder: Path | None = None) -> Tensor:
        """Read a mask of every frame, (T, H, W) uint8.

        A folder holds files named as the annotations. Raises `FileNotFoundError` if one is missing,
        `ValueError` if one can't be read or their sizes differ.
        """
        paths = [path if folder is None else folder / path.name for path in self.annotations]
        return _stack([self._ids(path) for path in paths], str(paths[0].parent))

    def write_masks(self, masks: Tensor, folder: str | Path) -> None:
        """Write masks (T, H, W) uint8 with the file names, ids and colors of annotations."""
        palette = Image.open(self.annotations[0]).getpalette() or []
        ids = torch.where(masks > 0, VOID, 0).to(torch.uint8) if self.single_object else masks
        write_masks(ids, folder, [path.stem for path in self.images], palette)

    @cached_property
    def single_object(self) -> bool:
        """Whether 255 marks an object, not void, as in DAVIS 2016: masks hold no other id."""
        for path in filter(Path.is_file, self.annotations):
            if (ids := _read_mask(path)).any():
                return bool((ids[ids > 0] == VOID).all())
        return False

    def _ids(self, path: Path) -> Tensor:
        ids = _read_mask(path)
        return (ids > 0).to(torch.uint8) if self.single_object else ids


def open_davis(root: str | Path, subset: str = "val") -> tuple[VideoSequence, ...]:
    """Open the sequences of a folder in DAVIS's layout, in the order of its list.

    Args:
        root: Holds `JPEGImages/480p/SEQUENCE/*.jpg`, `Annotations/480p/SEQUENCE/*.png` and a list,
            the first there is of `ImageSets/2017/SUBSET.txt`, `ImageSets/2016/SUBSET.txt` and
            `ImageSets/480p/SUBSET.txt`. A line is the name of a sequence, or an image of one and
            its annotation, as in DAVIS 2016.
        subset: Which list.

    Raises:
        FileNotFoundError: The list or the images of a sequence are missing.
        ValueError: The list is empty.
    """
    root = Path(root).expanduser()
    lists = [root / "ImageSets" / year / f"{subset}.txt" for year in YEARS]
    path = next(filter(Path.is_file, lists), None)
    if path is None:
        raise FileNotFoundError(f"`root` must hold a list of sequences; there is no {lists[0]}.")
    lines = [line.split()[0] for line in path.read_text("utf-8").splitlines() if line.strip()]
    names = dict.fromkeys(Path(line).parent.name if "/" in line else line for line in lines)
    if not names:
        raise ValueError(f"{path} must name at least one sequence, got none.")
    sequences = []
    for name in names:
        folder, masks = (root / kind / RESOLUTION / name for kind in ("JPEGImages", "Annotations"))
        images = tuple(sorted(folder.glob("*.jpg")))
        if not images:
            raise FileNotFoundError(f"{name} must hold frames; there is no *.jpg in {folder}.")
        annotations = tuple(masks / f"{image.stem}.png" for image in images)
        sequences.append(VideoSequence(name, images, annotations))
    return tuple(sequences)


def write_clips(clips: Iterable[DigitClip], root: str | Path, subset: str = "val") -> None:
    """Write clips as sequences 00000, 00001, ... of a folder in DAVIS 2017's layout.

    Frames are JPEGs of quality 95 without chroma subsampling.
    """
    root, names = Path(root), []
    for number, clip in enumerate(clips):
        names.append(f"{number:05d}")
        stems = [f"{t:05d}" for t in range(len(clip.frames))]
        folder = root / "JPEGImages" / RESOLUTION / names[-1]
        folder.mkdir(parents=True, exist_ok=True)
        for stem, frame in zip(stems, clip.frames, strict=True):
            image = Image.fromarray(frame.permute(1, 2, 0).numpy())
            image.save(folder / f"{stem}.jpg", quality=95, subsampling=0)
        write_masks(clip.masks, root / "Annotations" / RESOLUTION / names[-1], stems)
    path = root / "ImageSets" / YEARS[0] / f"{subset}.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{name}\n" for name in names), "utf-8")


def write_masks(
    masks: Tensor, folder: str | Path, names: Iterable[str], palette: list[int] | None = None
) -> None:
    """Write masks (T, H, W) uint8 as PNGs of ids.

    Args:
        masks: Ids.
        folder: Created if it does not exist.
        names: Of the files, without suffix.
        palette: Red, green, blue of each id in turn; empty: gray; None: DAVIS's colors.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for name, mask in zip(names, masks, strict=True):
        image = Image.fromarray(mask.cpu().numpy())
        if palette is None or palette:
            image.putpalette(_palette() if palette is None else palette)
        image.save(folder / f"{name}.png")


@cache
def _palette() -> list[int]:
    """DAVIS's colors: the bits of an id, three by three, are red, green and blue, highest first."""
    bits = np.arange(256)[:, None] >> np.arange(9) & 1
    colors = np.stack([bits[:, c::3] @ (128, 64, 32) for c in range(3)], 1)
    return colors.flatten().tolist()


def _stack(images: Sequence[Tensor], name: str) -> Tensor:
    if len(sizes := {tuple(image.shape[-2:]) for image in images}) > 1:
        raise ValueError(f"{name} must hold images of one size, got {sorted(sizes)}.")
    return torch.stack(list(images))


def _read_mask(path: Path) -> Tensor:
    if not path.is_file():
        raise FileNotFoundError(f"There is no mask {path}.")
    return torch.from_numpy(read_ids(path, path.name))
