from pathlib import Path

import pytest

from levyjepa.conf.schema import DataConfig
from levyjepa.data import load_source
from levyjepa.data.davis import write_clips
from levyjepa.data.moving_digits import MovingDigits


@pytest.fixture
def root(tmp_path: Path) -> Path:
    clips = MovingDigits("test", 5, frames=6)
    write_clips([clips[index] for index in range(5)], tmp_path)
    for subset, names in (("train", ("00000", "00001")), ("val", ("00002", "00003", "00004"))):
        listed = tmp_path / "ImageSets" / "2017" / f"{subset}.txt"
        listed.write_text("".join(f"{name}\n" for name in names))
    return tmp_path


def config(root: Path, **settings) -> DataConfig:
    return DataConfig(source="davis", path=str(root), test_split="val", image_size=32, **settings)


def test_frames_of_one_list_are_learned_and_sequences_of_the_other_followed(root):
    source = load_source(config(root))
    train, test = (
        [Path(part.records[n]).parent.name for n in range(len(part))]  # pyright: ignore
        for part in (source.train, source.test)
    )
    assert train == ["00000"] * 6 + ["00001"] * 6
    assert set(test) == {"00002", "00003", "00004"}
    assert source.sequences is not None
    assert [one.name for one in source.sequences] == ["00002", "00003", "00004"]
    assert source.classes == ()


def test_clips_where_frames_are_asked_for(root):
    source = load_source(config(root, frames=4, limit=2))
    video, label = source.train[1]
    assert (len(video), label) == (6, -1)
    assert source.sequences is not None
    assert len(source.sequences) == 2


def test_no_part_of_the_training_list_is_held_out(root):
    with pytest.raises(ValueError, match=r"`data.holdout` must be 0 for data=davis, got 0.2"):
        load_source(config(root, holdout=0.2))
    (root / "ImageSets" / "2017" / "train.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"train.txt"):
        load_source(config(root))
