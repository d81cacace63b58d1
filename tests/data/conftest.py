from collections.abc import Iterator
from pathlib import Path

import datasets
import pytest

from levyjepa.data import Source, open_source
from levyjepa.data.settings import DataSettings


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Parquet files are converted in a folder of the tests, not in the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))
        yield


@pytest.fixture(scope="session")
def digits() -> Source:
    return open_source(DataSettings(source="mnist5k"))


@pytest.fixture(scope="session")
def class_folders(digits: Source, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Class folders of digits: 10 images of each of "three" and "seven"."""
    folder = tmp_path_factory.mktemp("digits")
    for name, digit in (("seven", 7), ("three", 3)):
        (folder / name).mkdir()
        chosen = [i for i, label in enumerate(digits.train.labels) if label == digit][:10]
        for i in chosen:
            digits.train[i][0].save(folder / name / f"{i}.png")
    return folder
