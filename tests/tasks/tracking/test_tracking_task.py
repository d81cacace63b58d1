import pytest
import torch
from PIL import Image
from torch import nn
from torch.nn.functional import pixel_unshuffle

from levyjepa.data.davis_layout import VideoSequence, open_davis, write_clips
from levyjepa.data.digit_clips import MovingDigits
from levyjepa.data.settings import DataSettings
from levyjepa.data.source import Source
from levyjepa.models import Encoder, Encoding
from levyjepa.tasks import Subject
from levyjepa.tasks.evaluation import evaluate
from levyjepa.tasks.tracking import Tracking, first_masks, score, score_results, track

ZERO, ONE = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)


class Patches(Encoder):
    """Pixels of 8 x 8 patches; of clips, means over `several` frames."""

    def __init__(self, several: int | None = None, fixed: tuple[int, ...] | None = None) -> None:
        super().__init__()
        self.several, self.fixed_size = several, fixed
        self.patch_size = (8, 8) if several is None else (several, 8, 8)
        self.width = self.embedding_dim = 192
        self.shapes: list[tuple[int, ...]] = []

    def forward(self, images: torch.Tensor) -> Encoding:
        self.shapes.append(tuple(images.shape))
        tokens = pixel_unshuffle(images, 8).movedim(-3, -1)
        if self.several is not None:
            tokens = tokens.unflatten(1, (-1, self.several)).mean(2)
        return Encoding(tokens.flatten(1, -2).mean(1), tokens)


class Blind(Patches):
    def forward(self, images: torch.Tensor) -> Encoding:
        tokens = torch.ones_like(super().forward(images).tokens)
        return Encoding(tokens.flatten(1, -2).mean(1), tokens)


@pytest.fixture(scope="module")
def sequences(tmp_path_factory) -> tuple[VideoSequence, ...]:
    root = tmp_path_factory.mktemp("davis")
    digits = MovingDigits("test", 3, frames=8)
    write_clips([digits[index] for index in range(3)], root)
    return open_davis(root)


def run(encoders: dict[str, nn.Module], sequences, folder=None, frames=None):
    clips = frames is not None
    source = Source("digits", [], mean=ZERO, std=ONE, sequences=tuple(sequences), clips=clips)
    return evaluate(
        [Subject(name, encoder) for name, encoder in encoders.items()],
        source,
        DataSettings(source="davis", image_size=32, frames=frames),
        tasks=["tracking"],
        folder=folder,
    )


def value(found, name: str, subject: str = "trained") -> float:
    result = found.get(f"tracking/{name}", subject)
    assert result is not None
    return result.value


def test_scores_and_masks_are_those_of_the_protocol(sequences, tmp_path):
    decoded = []

    class Counted(VideoSequence):
        def frames(self):
            decoded.append(self.name)
            return super().frames()

    counted = [Counted(one.name, one.images, one.annotations) for one in sequences]
    found = run({"trained": Patches(), "untrained": Blind()}, counted, tmp_path)
    assert not found.failures
    assert sorted(decoded) == ["00000", "00001", "00002"]  # once for both subjects
    objects = []
    for one in sequences:
        masks = track(
            one.frames(),
            first_masks(one.masks()),
            lambda frames: pixel_unshuffle(frames.float(), 8).movedim(1, -1),
        )
        objects += score(one.read_masks(), masks, one.name)
    expected = Tracking(tuple(objects))
    assert value(found, "j_and_f") == pytest.approx(expected.j_and_f)
    assert value(found, "j_recall") == pytest.approx(expected.region.recall)
    assert value(found, "sequence/00001") == pytest.approx(expected.sequences["00001"])
    written = score_results(tmp_path / "tracking" / "trained", sequences)
    assert written.j_and_f == pytest.approx(expected.j_and_f)
    assert value(found, "j_and_f", "untrained") < value(found, "j_and_f")
    assert [score.name for score in found.headlines()] == ["j_and_f"]
    assert {picture.subject for picture in found.pictures} == {"trained", "untrained"}


def test_an_encoder_of_clips_that_mixes_no_frames_follows_as_one_of_images(sequences):
    clips, images = Patches(1), Patches()
    one = run({"trained": clips}, sequences, frames=3)  # eight frames are no multiple
    other = run({"trained": images}, sequences)
    assert clips.shapes[0] == (1, 3, 3, 64, 64)
    for score_ in other.scores:
        assert value(one, score_.name) == pytest.approx(score_.value)


def test_an_encoder_bound_to_a_size_sees_frames_at_that_size(sequences, tmp_path):
    encoder, other = Patches(2, fixed=(4, 32, 32)), Patches(2)
    found = run({"trained": encoder, "pixels": other}, sequences, tmp_path, frames=4)
    assert not found.failures
    assert set(encoder.shapes) == set(other.shapes) == {(1, 4, 3, 32, 32)}
    masks = Image.open(tmp_path / "tracking" / "trained" / "00000" / "00007.png")
    assert masks.size == (64, 64)


def test_without_annotations_masks_are_written_and_nothing_is_scored(sequences, tmp_path):
    first = sequences[0]
    paths = (first.annotations[0], *(tmp_path / f"{t}.png" for t in range(1, 8)))
    withheld = VideoSequence(first.name, first.images, paths)
    found = run({"trained": Patches()}, [withheld], tmp_path)
    assert "annotation of every frame" in found.failures[0].reason
    assert len(list((tmp_path / "tracking" / "trained" / "00000").iterdir())) == 8
