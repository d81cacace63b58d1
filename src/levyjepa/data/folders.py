"""How images in folders are listed and split."""

from collections.abc import Callable, Sequence
from pathlib import Path

from levyjepa.data.settings import DataSettings

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm"}


def existing(settings: DataSettings) -> Path:
    """Return the folder that `data.path` names.

    Raises:
        ValueError: It names none, or a file.
        FileNotFoundError: There is no such folder.
    """
    if settings.path is None:
        raise ValueError(f"`data.path` must be a folder for data={settings.source}, got none.")
    folder = Path(settings.path).expanduser()
    if folder.is_file():
        raise ValueError(f"`data.path` must be a folder, got the file {folder}.")
    if not folder.is_dir():
        raise FileNotFoundError(f"`data.path` must be a folder, but there is none at {folder}.")
    return folder


def image_files(folder: Path) -> list[Path]:
    """Return the images below a folder, by name."""
    return sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())


def class_names(folder: Path) -> tuple[str, ...]:
    """Return the names of a folder's own folders.

    Raises:
        ValueError: There are none.
    """
    folders = (p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
    if names := tuple(sorted(path.name for path in folders)):
        return names
    raise ValueError(
        f"`data.path` must hold a folder for each class, got none in {folder}; "
        "images without labels are read by data=unlabelled."
    )


def labeled_files(folder: Path, classes: Sequence[str]) -> tuple[list[Path], list[int]]:
    """Return the images in the folders of classes, and their labels.

    Raises:
        ValueError: There are no images.
    """
    pairs = [(path, n) for n, name in enumerate(classes) for path in image_files(folder / name)]
    if not pairs:
        raise ValueError(f"`data.path` must hold images, got none in {folder}.")
    return [path for path, _ in pairs], [n for _, n in pairs]


def split_folders(
    settings: DataSettings, classes: Callable[[Path], tuple[str, ...]]
) -> tuple[Path, Path, tuple[str, ...]] | None:
    """Return the folders of the training and the test split, and the classes of the first.

    Args:
        settings: `path`, `train_split` and `test_split`; test/ and val/ are looked for too.
        classes: Gives the names of the classes in a folder.

    Returns:
        None if the folder is not split.

    Raises:
        ValueError: There is a training folder and no test folder, or that has other classes.
    """
    root = existing(settings)
    train = root / settings.train_split
    if not train.is_dir():
        return None
    tests = [root / name for name in (settings.test_split, "test", "val") if (root / name).is_dir()]
    if not tests:
        raise ValueError(f"`data.path` must hold test/ or val/ beside train/, got {root}.")
    known = classes(train)
    if unknown := set(classes(tests[0])) - set(known):
        raise ValueError(f"{tests[0]} holds {', '.join(sorted(unknown))}, no class of train/.")
    return train, tests[0], known
