"""Precision and recall of boundary maps, by hand and against other measures."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.spatial.distance import cdist

from levyjepa.data.loader import whole
from levyjepa.data.masks import fit_mask
from levyjepa.tasks.boundaries import find_boundaries, score_boundaries, sobel


def row(*values: float) -> torch.Tensor:
    return torch.tensor([[values]])


STEP = row(0, 0, 0, 0, 1, 1, 1, 1).long()  # its boundary is pixel 3


def test_boundaries_are_drawn_on_the_left_and_above_and_not_along_void():
    assert find_boundaries(STEP)[0, 0].tolist() == [False] * 3 + [True] + [False] * 4
    assert not find_boundaries(row(0, 0, -1, 1, 1).long()).any()
    corner = torch.tensor([[[0, 0, 0], [0, 0, 0], [0, 0, 5]]])
    expected = [[0, 0, 0], [0, 1, 1], [0, 1, 0]]
    assert find_boundaries(corner)[0].astype(int).tolist() == expected


@pytest.mark.parametrize(
    ("values", "best", "average"),
    [
        ((0, 0, 0, 1, 0, 0, 0, 0), (1, 1), 1),
        ((0, 0, 1, 0, 0, 0, 0, 0), (1, 1), 1),  # one pixel off: tolerated
        ((0, 0, 1, 1, 1, 0, 0, 0), (1, 1), 1),  # thick, within the tolerance
        ((0, 1, 0, 0, 0, 0, 0, 0), (3 / 8, 1), 3 / 8),  # two off
        ((0, 0, 0, 0.5, 0, 0, 0.9, 0), (1 / 2, 1), 1 / 2),  # .9: P 0, R 0; .5: P 1/2, R 1
        ((0, 0, 0, 0.9, 0, 0, 0.5, 0), (1, 1), 1),
        ((7, 7, 7, 7, 7, 7, 7, 7), (3 / 8, 1), 3 / 8),
    ],
)
def test_maps_worked_by_hand(values, best, average):
    found = score_boundaries(row(*values).double(), STEP, tolerance=0.1)
    assert found.tolerance == 1  # .1 of a diagonal of 8.06 pixels, rounded up
    assert found.chance == 3 / 8
    assert found.chance_f == pytest.approx(2 * 3 / 8 / (1 + 3 / 8))
    precision, recall = best
    assert (found.precision, found.recall) == pytest.approx(best)
    assert found.best_f == pytest.approx(2 * precision * recall / (precision + recall))
    assert found.average_precision == pytest.approx(average)


def test_void_and_what_is_beside_it_are_ignored():
    masks = row(0, 0, 0, 0, 1, 1, -1, -1).long()
    found = score_boundaries(row(0, 0, 0, 0.5, 0, 0.8, 0.9, 0), masks, tolerance=0.1)
    assert (found.precision, found.recall, found.threshold) == (1, 1, 0.5)
    assert found.chance == 3 / 5


@pytest.mark.parametrize("tolerance", [0.01, 0.2])
def test_curves_agree_with_distances_pixel_by_pixel(tolerance):
    draw = torch.Generator().manual_seed(0)
    masks = torch.randint(-1, 3, (3, 4, 5), generator=draw)
    masks = masks.repeat_interleave(3, 1).repeat_interleave(3, 2)
    maps = torch.randint(6, masks.shape, generator=draw).double() / 5
    maps[:, :7] *= 0.5
    found = score_boundaries(maps, masks, tolerance)
    truth = find_boundaries(masks)
    for threshold, precision, recall in found.curve:
        right = claims = hit = boundary = 0
        for m, t, ids in zip(maps.numpy() >= threshold, truth, masks.numpy(), strict=True):
            near = lambda a, b: (  # noqa: E731
                cdist(np.argwhere(a), np.argwhere(b)).min(1, initial=99) <= found.tolerance
            )
            claimed = m.copy()
            claimed[m] = ~near(m, ids == -1)
            right, claims = right + near(claimed, t).sum(), claims + claimed.sum()
            hit, boundary = hit + near(t, m).sum(), boundary + t.sum()
        assert precision == pytest.approx(right / claims)
        assert recall == pytest.approx(hit / boundary)
    assert set(found.curve[:, 0]) <= set(maps.unique().tolist())


def test_one_threshold_of_one_image_is_davis_contour_accuracy(shared_data: Path):
    arrays = np.load(shared_data / "reference" / "davis_metrics.npz")
    for annotation, prediction, expected in zip(
        arrays["annotation"], arrays["prediction"], arrays["contour_accuracy"], strict=True
    ):
        drawn = find_boundaries(torch.from_numpy(prediction[None]).long())
        masks = torch.from_numpy(annotation[None]).long()
        if drawn.any() and find_boundaries(masks).any():
            found = score_boundaries(torch.from_numpy(drawn).float(), masks, tolerance=0.008)
            threshold, precision, recall = found.curve[0]
            assert threshold == 1
            f = 2 * precision * recall / (precision + recall) if precision + recall else 0
            assert f == pytest.approx(expected, abs=1e-9)


def test_curves_keep_their_ends_and_stay_small():
    draw = torch.Generator().manual_seed(0)
    masks = (torch.rand(4, 8, 8, generator=draw) > 0.5).long()
    masks = masks.repeat_interleave(8, 1).repeat_interleave(8, 2)
    found = score_boundaries(torch.rand(masks.shape, generator=draw), masks)
    assert len(found.curve) <= 200
    assert found.curve[-1, 2] == 1
    assert (np.diff(found.curve[:, 0]) < 0).all()
    assert found.average_precision == pytest.approx(found.chance, abs=0.05)
    assert found.best_f >= found.chance_f - 1e-9


def test_sobel_of_a_step_by_hand():
    images = torch.zeros(2, 3, 5, 6, dtype=torch.uint8)
    images[0, :, :, 3:] = 100
    images[1, 1, 2:] = 10  # green alone: .587 of the brightness
    found = sobel(images)
    assert found.shape == (2, 5, 6)
    torch.testing.assert_close(found[0, 2].float(), torch.tensor([0.0, 0, 400, 400, 0, 0]))
    torch.testing.assert_close(found[1, :, 2].float(), torch.tensor([0, 23.48, 23.48, 0, 0]))


def test_gradients_of_real_streets_are_above_chance(shared_data: Path):
    images, masks = [], []
    for file in sorted((shared_data / "camvid/val/images").iterdir())[::20]:
        images.append(whole(Image.open(file), 64))
        ids = np.array(
            Image.open(shared_data / "camvid/val/masks" / f"{file.stem}.png"), dtype=np.int64
        )
        masks.append(fit_mask(np.where(ids == 11, -1, ids), 64))
    images, masks = torch.stack(images), torch.stack(masks)
    found = score_boundaries(sobel(images), masks, tolerance=0.02)
    assert found.best_f > found.chance_f + 0.05
    assert found.average_precision > found.chance + 0.1
    perfect = score_boundaries(torch.from_numpy(find_boundaries(masks)).float(), masks)
    assert perfect.best_f == perfect.average_precision == 1


def test_bad_maps_are_named():
    maps = STEP.float()
    with pytest.raises(ValueError, match="`masks` must be as large"):
        score_boundaries(maps, STEP[..., :4])
    with pytest.raises(ValueError, match="`maps` must be finite"):
        score_boundaries(maps * torch.nan, STEP)
    with pytest.raises(ValueError, match="have a boundary"):
        score_boundaries(maps, STEP * 0)
    with pytest.raises(ValueError, match="farther than the tolerance from void"):
        score_boundaries(row(0.0, 1, 0), row(0, 1, -1).long(), tolerance=0.9)
    with pytest.raises(ValueError, match="`tolerance` must be positive"):
        score_boundaries(maps, STEP, tolerance=0)
    with pytest.raises(ValueError, match=r"`maps` must be \(N, H, W\)"):
        score_boundaries(maps[0], STEP)
