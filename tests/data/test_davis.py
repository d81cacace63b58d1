from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from levyjepa.data.davis_layout import open_davis, write_clips, write_masks
from levyjepa.data.digit_clips import MovingDigits
from levyjepa.data.settings import DataSettings
from levyjepa.data.source import open_source
from levyjepa.tasks.tracking import first_masks, score_results


@pytest.fixture(scope="module")
def clips() -> list:
    digits = MovingDigits("test", 5, frames=6, cut=0.05)
    return [digits[index] for index in range(5)]


@pytest.fixture
def root(clips, tmp_path: Path) -> Path:
    write_clips(clips, tmp_path / "davis")
    lists = {"train": ("00000", "00001"), "val": ("00002", "00003", "00004")}
    for subset, names in lists.items():
        path = tmp_path / "davis" / "ImageSets" / "2017" / f"{subset}.txt"
        path.write_text("".join(f"{name}\n" for name in names))
    return tmp_path / "davis"


def settings(root: Path, **values) -> DataSettings:
    return DataSettings(source="davis", path=str(root), test_split="val", image_size=32, **values)


def test_frames_of_one_list_are_learned_and_sequences_of_the_other_tracked(root):
    source = open_source(settings(root))
    train, test = (
        [Path(part.name(n)).parent.name for n in range(len(part))]
        for part in (source.train, source.test)
    )
    assert train == ["00000"] * 6 + ["00001"] * 6
    assert set(test) == {"00002", "00003", "00004"}
    assert [one.name for one in source.sequences] == ["00002", "00003", "00004"]
    assert source.classes == ()
    clips = open_source(settings(root, frames=4))
    video, label = clips.train[1]
    assert (len(video), label) == (6, -1)
    with pytest.raises(ValueError, match=r"`data.holdout` must be 0 for data=davis, got 0.2"):
        open_source(settings(root, holdout=0.2))


def test_clips_are_read_back(clips, root):
    for clip, sequence in zip(clips[2:], open_davis(root), strict=True):
        assert sequence.frames().shape == clip.frames.shape
        error = (sequence.frames().float() - clip.frames.float()).abs().mean()
        assert error < 5  # JPEG, of 255
        assert torch.equal(sequence.read_masks(), clip.masks)
        assert first_masks(sequence.masks()).keys() == first_masks(clip.masks).keys()


def test_masks_are_written_as_davis_reads_them(clips, root, tmp_path):
    image = Image.open(root / "Annotations" / "480p" / "00000" / "00003.png")
    assert image.mode == "P"
    assert np.array_equal(np.array(image), clips[0].masks[3].numpy())
    colors = np.array(image.getpalette()).reshape(-1, 3)
    pascal = [(0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0), (0, 0, 128), (128, 0, 128)]
    assert colors[:6].tolist() == [list(color) for color in pascal]
    own = [0, 0, 0, 9, 8, 7, 1, 2, 3] + [5] * 759
    write_masks(clips[0].masks[:1], tmp_path, ["00000"], own)
    assert Image.open(tmp_path / "00000.png").getpalette()[:9] == own[:9]  # pyright: ignore


PAIR = "/JPEGImages/480p/00001/{0}.jpg /Annotations/480p/00001/{0}.png"


@pytest.mark.parametrize("line", ["00001", PAIR])
def test_masks_of_2016_hold_one_object(clips, root, tmp_path, line):
    (root / "ImageSets" / "2017" / "val.txt").unlink()
    path = root / "ImageSets" / "2016" / "val.txt"
    path.parent.mkdir()
    path.write_text("".join(line.format(f"{t:05d}") + "\n" for t in range(6)))
    folder = root / "Annotations" / "480p" / "00001"
    for t, mask in enumerate(clips[1].masks):
        Image.fromarray((255 * (mask > 0)).to(torch.uint8).numpy()).save(folder / f"{t:05d}.png")
    (sequence,) = open_davis(root)
    expected = (clips[1].masks > 0).to(torch.uint8)
    assert sequence.single_object
    assert torch.equal(sequence.read_masks(), expected)
    sequence.write_masks(expected, tmp_path / "00001")
    written = Image.open(tmp_path / "00001" / "00000.png")
    original = Image.open(folder / "00000.png")
    assert written.mode == original.mode == "L"
    assert np.array_equal(written, original)
    assert score_results(tmp_path, [sequence]).j_and_f == 1


def test_void_beside_objects_stays_void(root):
    path = root / "Annotations" / "480p" / "00002" / "00001.png"
    void = np.full((64, 64), 255, np.uint8)
    Image.fromarray(void).save(path)
    (sequence, *_) = open_davis(root)
    assert not sequence.single_object
    assert (sequence.masks()[1] == 255).all()


def test_the_ten_sequences_open(shared_data: Path):
    sequences = open_davis(shared_data / "davis2016")
    assert len(sequences) == 10
    assert all(len(one.images) == len(one.annotations) > 40 for one in sequences)
    first = sequences[0].masks()[0]
    assert first.shape == (480, 854)
    assert first.unique().tolist() == [0, 1]


def test_missing_and_broken_files_are_named(root):
    with pytest.raises(FileNotFoundError, match=r"there is no .*test.txt"):
        open_davis(root, "test")
    sequences = open_davis(root)
    masks = root / "Annotations" / "480p" / "00002"
    (masks / "00003.png").unlink()
    assert 0 in sequences[0].masks()  # later masks may be missing
    with pytest.raises(FileNotFoundError, match=r"no mask .*00003.png"):
        sequences[0].read_masks()
    (masks / "00000.png").unlink()
    with pytest.raises(FileNotFoundError, match="00002 must have a mask of its first frame"):
        sequences[0].masks()
    images = root / "JPEGImages" / "480p"
    Image.new("RGB", (32, 32)).save(images / "00003" / "00002.jpg")
    with pytest.raises(ValueError, match="images of one size"):
        sequences[1].frames()
    (images / "00003" / "00002.jpg").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"The frame .*00002.jpg can't be decoded"):
        sequences[1].frames()
    path = root / "ImageSets" / "2017" / "val.txt"
    path.write_text("nowhere\n")
    with pytest.raises(FileNotFoundError, match="nowhere must hold frames"):
        open_davis(root)
    path.write_text("\n")
    with pytest.raises(ValueError, match="at least one sequence, got none"):
        open_davis(root)
