"""`draw_jumps`: a disc stands at the corner whose change it shows."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from levyjepa.report import draw_jumps

BLACK = np.zeros((28, 28, 3), np.uint8)


def drawn(path: Path, image: np.ndarray, change: np.ndarray) -> np.ndarray:
    draw_jumps(image, change, path)
    return np.asarray(Image.open(path).convert("RGB")).astype(int)


def right_centre(change: np.ndarray) -> np.ndarray:
    """(row, column) of the centre of what changed in the right-hand picture."""
    half = change.shape[1] // 2 - 40
    rows, columns = np.nonzero(change[:, half:].sum(2) > 60)
    return np.array([rows.mean(), columns.mean() + half])


@pytest.mark.parametrize("corner", [(0, 0), (2, 4), (5, 1)])
def test_the_hot_corner_is_where_four_patches_meet(tmp_path, corner):
    cold = np.zeros((6, 6))
    hot, marked = cold.copy(), BLACK.copy()
    hot[corner] = 1
    row, column = 4 * (corner[0] + 1), 4 * (corner[1] + 1)
    marked[row - 1 : row + 1, column - 1 : column + 1] = 255
    plain = drawn(tmp_path / "plain.png", BLACK, cold)
    disc = np.abs(drawn(tmp_path / "hot.png", BLACK, hot) - plain)
    mark = np.abs(drawn(tmp_path / "marked.png", marked, cold) - plain)
    np.testing.assert_allclose(right_centre(disc), right_centre(mark), atol=2)


def test_the_picture_is_large_enough_to_read_and_keeps_an_image_s_shape(tmp_path):
    wide = np.zeros((60, 120, 3), np.uint8)
    height, width, _ = drawn(tmp_path / "wide.png", wide, np.zeros((5, 11))).shape
    assert width >= 1000
    assert height < width / 2


@pytest.mark.parametrize(
    ("image", "change", "message"),
    [
        (BLACK[..., 0], np.zeros((6, 6)), r"`image` must be \(H, W, 3\) of uint8"),
        (BLACK.astype(float), np.zeros((6, 6)), "got .* of float64"),
        (BLACK, np.zeros(6), r"`change` must be \(h, w\), got shape \(6,\)"),
        (BLACK, np.full((6, 6), -1.5), "must be at least 0 and finite, got values from -1.5"),
        (BLACK, np.full((6, 6), np.nan), "must be at least 0 and finite"),
    ],
)
def test_bad_input_is_named(tmp_path, image, change, message):
    with pytest.raises(ValueError, match=message):
        draw_jumps(image, change, tmp_path / "never.png")
