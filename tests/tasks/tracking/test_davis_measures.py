from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.ndimage import binary_dilation

from levyjepa.tasks.tracking import (
    FrameMeasure,
    Tracking,
    contour_accuracy,
    region_similarity,
    score,
)


def box(y: slice, x: slice, size: tuple[int, int] = (40, 40)) -> np.ndarray:
    mask = np.zeros((1, *size), bool)
    mask[0, y, x] = True
    return mask


def test_measures_agree_with_davis(shared_data: Path):
    reference = np.load(shared_data / "reference" / "davis_metrics.npz")
    pair = reference["annotation"], reference["prediction"]
    for measure in (region_similarity, contour_accuracy):
        expected = reference[measure.__name__]
        assert np.abs(measure(*pair) - expected).max() < 1e-9
        of_tensors = measure(*map(torch.from_numpy, pair))
        assert isinstance(of_tensors, torch.Tensor)
        assert np.array_equal(of_tensors, measure(*pair))


def test_boxes_by_hand():
    # tolerance: .008 * hypot(40, 40) = .45, rounded up to 1 pixel
    wide, shifted = box(slice(10, 20), slice(10, 20)), box(slice(10, 20), slice(11, 21))
    assert region_similarity(wide, shifted) == pytest.approx(90 / 110)
    assert contour_accuracy(wide, shifted) == 1
    far, empty = box(slice(10, 20), slice(30, 40)), np.zeros_like(wide)
    for pair in ((wide, far), (empty, wide), (wide, empty)):
        assert region_similarity(*pair) == contour_accuracy(*pair) == 0
    assert region_similarity(empty, empty) == contour_accuracy(empty, empty) == 1


@pytest.mark.parametrize("tolerance", [0.008, 0.05, 0.1])
def test_contours_agree_with_dilation(tolerance):
    random = np.random.default_rng(0)
    coarse = random.random((3, 6, 9, 14)) < np.array([0.5, 0.5, 0.1])[:, None, None, None]
    a, p, void = coarse.repeat(4, 2).repeat(4, 3)
    p = np.roll(a, 1, 2) ^ (p & (random.random(p.shape) < 0.3))
    radius = int(np.ceil(tolerance * np.hypot(36, 56)))
    at = np.arange(-radius, radius + 1)
    disk = at[:, None] ** 2 + at**2 <= radius**2
    for t, f in enumerate(contour_accuracy(a, p, void, tolerance)):
        edges = []
        for mask in (a[t] & ~void[t], p[t] & ~void[t]):
            edge = np.zeros_like(mask)
            edge[:, :-1] |= mask[:, :-1] ^ mask[:, 1:]
            edge[:-1] |= mask[:-1] ^ mask[1:]
            edge[:-1, :-1] |= mask[:-1, :-1] ^ mask[1:, 1:]
            edges.append(edge)
        true, predicted = edges
        precision = (predicted & binary_dilation(true, disk)).sum() / predicted.sum()
        recall = (true & binary_dilation(predicted, disk)).sum() / true.sum()
        assert f == pytest.approx(2 * precision * recall / (precision + recall), abs=1e-12)


def test_recall_and_decay_by_hand():
    # eight frames: DAVIS's quarters share their ends, frames 1-3 and 6-8
    measure = FrameMeasure.of(np.array([1, 0.9, 0.8, 0.5, 0.5, 0.6, 0.2, 0.1]))
    assert measure.mean == pytest.approx(4.6 / 8)
    assert measure.recall == 4 / 8
    assert measure.decay == pytest.approx(0.9 - 0.3)
    long = np.zeros(1000)  # DAVIS's own tool counts frames in eight bits
    long[:251] = 1
    assert FrameMeasure.of(long).decay == pytest.approx(1)
    assert FrameMeasure.of(np.array([0.7])) == FrameMeasure(0.7, 1, 0)


def test_objects_are_scored_from_the_frame_after_their_first():
    annotation = torch.zeros(6, 20, 20, dtype=torch.uint8)
    annotation[:, 2:6, 2:6] = 1
    annotation[2:, 10:14, 10:14] = 7
    annotation[5, 15:, 15:] = 9  # only in the last frame: left out
    annotation[3, :, 8] = 255
    prediction = torch.where(annotation == 255, 7, annotation)  # void is not evaluated
    prediction[:, 2:6, 4:6] = 0  # half of object 1
    prediction[[0, 5]] = 0  # not evaluated
    first, later = score(annotation, prediction, "here")
    assert (first.object, later.object) == (1, 7)
    assert first.region == FrameMeasure(0.5, 0, 0)
    assert later.region == later.contour == FrameMeasure(1, 1, 0)
    both = Tracking((first, later))
    assert both.region == FrameMeasure(0.75, 0.5, 0)
    expected = (first.j_and_f + later.j_and_f) / 2
    assert both.j_and_f == pytest.approx(expected)
    assert both.visible == pytest.approx((4 * first.j_and_f + 2 * later.j_and_f) / 6)  # by frames
    assert both.absent is None
    assert both.sequences == {"here": pytest.approx(expected)}


def test_frames_without_the_object_are_right_without_a_pixel_of_it():
    annotation = torch.zeros(8, 20, 20, dtype=torch.uint8)
    annotation[[0, 1, 2, 7], 2:6, 2:6] = 1
    prediction = annotation.clone()
    prediction[2] = 0
    prediction[4, 9, 9] = 1
    found = Tracking(score(annotation, prediction))  # frames 1 to 6
    assert (found.visible, found.absent) == (1 / 2, 3 / 4)
    assert found.j_and_f == pytest.approx(4 / 6)


def test_bad_masks_are_named():
    mask = np.zeros((2, 4, 4), bool)
    with pytest.raises(TypeError, match="`prediction` must be bool, got uint8"):
        region_similarity(mask, mask.astype(np.uint8))  # pyright: ignore
    with pytest.raises(ValueError, match="`prediction` must have the shape"):
        contour_accuracy(mask, mask[:1])
    with pytest.raises(ValueError, match=r"`annotation` must be \(T, H, W\)"):
        contour_accuracy(mask[0], mask[0])
    with pytest.raises(ValueError, match=r"must both be \(T, H, W\)"):
        score(torch.zeros(2, 3, 3), torch.zeros(2, 3, 4))
    with pytest.raises(ValueError, match="at least one object, got none"):
        _ = Tracking(()).j_and_f
