import pytest
import torch
from PIL import Image
from torch.nn.functional import pixel_unshuffle

from levyjepa.data.davis_layout import open_davis, write_clips, write_masks
from levyjepa.data.digit_clips import MovingDigits
from levyjepa.laws import Brownian, CompoundPoisson, LaplaceJumps
from levyjepa.tasks.tracking import (
    first_masks,
    protocol_size,
    score_results,
    step_probability,
    track,
)


def patches(frames: torch.Tensor) -> torch.Tensor:
    """Pixels of 4 x 4 patches."""
    return pixel_unshuffle(frames.float() / 255, 4).movedim(1, -1)


@pytest.fixture
def root(tmp_path):
    digits = MovingDigits("test", 3, frames=8)
    write_clips([digits[index] for index in range(3)], tmp_path / "davis")
    return tmp_path / "davis"


def test_pixels_follow_digits_better_than_a_mask_that_stays(root, tmp_path):
    sequences = open_davis(root)
    for one in sequences:
        first = first_masks(one.masks())
        followed = track(one.frames(), first, patches, size=(128, 128))
        one.write_masks(followed, tmp_path / "followed" / one.name)
        palette = Image.open(one.annotations[0]).getpalette()
        assert Image.open(tmp_path / "followed" / one.name / "00001.png").getpalette() == palette
        still = torch.zeros_like(followed)
        for t, mask in first.items():
            still[t:][:, mask > 0] = mask[mask > 0]
        one.write_masks(still, tmp_path / "still" / one.name)
    followed, still = (score_results(tmp_path / name, sequences) for name in ("followed", "still"))
    assert followed.j_and_f > still.j_and_f + 0.1
    perfect = score_results(root / "Annotations" / "480p", sequences)
    assert perfect.j_and_f == perfect.region.recall == 1


def test_cuts_stop_labels():
    digits = MovingDigits("test", 20, frames=8, cut=0.2)
    clip = next(clip for clip in map(digits.__getitem__, range(20)) if clip.events[0].kind == "cut")
    cut = clip.events[0].frame
    law = Brownian(sigma=0.02) + CompoundPoisson(rate=0.1, jumps=LaplaceJumps(alpha=4.0))
    masks = track(
        clip.frames,
        {0: first_masks(clip.masks)[0]},
        patches,
        jumps=lambda tokens: step_probability(tokens, law),
    )
    assert masks[cut - 1].any()
    assert not masks[cut:].any()


@pytest.mark.parametrize(
    ("frames", "patch", "size"),
    [
        ((480, 854), (16, 16), (480, 832)),
        ((854, 480), (8, 8), (832, 480)),
        ((720, 1280), (16, 16), (480, 832)),
        ((480, 854), (14, 14), (476, 840)),
        ((64, 64), (8, 8), (64, 64)),
        ((100, 150), (8, 8), (96, 144)),
    ],
)
def test_encoders_see_frames_at_480_pixels_or_as_large_as_they_are(frames, patch, size):
    assert protocol_size(frames, patch) == size


def test_frames_are_resized_and_encoded_in_batches():
    sizes = []

    def encode(frames: torch.Tensor) -> torch.Tensor:
        sizes.append(tuple(frames.shape))
        return torch.ones(len(frames), 2, 3, 1)

    masks = {0: torch.ones(20, 30, dtype=torch.uint8)}
    frames = torch.zeros(3, 3, 20, 30, dtype=torch.uint8)
    assert track(frames, masks, encode, size=(48, 64), batch=2).shape == (3, 20, 30)
    assert sizes == [(2, 3, 48, 64), (1, 3, 48, 64)]


def test_results_that_do_not_fit_are_named(root, tmp_path):
    sequences = open_davis(root)
    with pytest.raises(FileNotFoundError, match=r"no mask .*00000.png"):
        score_results(tmp_path, sequences)
    stems = [f"{t:05d}" for t in range(8)]
    write_masks(torch.zeros(8, 32, 32, dtype=torch.uint8), tmp_path / "00000", stems)
    with pytest.raises(ValueError, match=r"must be \(64, 64\), got \(32, 32\)"):
        score_results(tmp_path, sequences[:1])
