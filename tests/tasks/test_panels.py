"""Pictures that tasks draw."""

import io

import numpy as np
import pytest
from PIL import Image

from levyjepa.tasks.panels import Tile, class_colors, draw_jumps, paint, tiles


def read(figure) -> np.ndarray:
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=100)
    return np.array(Image.open(out).convert("RGBA"))


def test_rows_of_images_have_a_page_s_width_and_no_background():
    image = np.full((8, 8, 3), 200, np.uint8)
    row = [Tile(image, "a", frame="#ff0000"), Tile(image, "b", np.ones((3, 3)))]
    pixels = read(tiles([row, row], ["one", "two"], [("class", "#00ff00")]))
    assert pixels.shape[1] == 760
    assert (pixels[:, :, 3] == 0).any()
    for color in ((200, 200, 200), (255, 0, 0), (0, 255, 0)):
        assert (pixels[:, :, :3] == color).all(2).any()


@pytest.mark.parametrize("shape", [(32, 32), (40, 64)])
def test_the_largest_change_is_the_brightest_disc_at_its_corner(shape):
    change = np.zeros((3, 3))
    change[0, 2] = 5.0
    pixels = read(draw_jumps(np.zeros((*shape, 3), np.uint8), change))[:, :680].astype(int)
    bright = np.argwhere((pixels[:, :, :3].sum(2) > 600) & (pixels[:, :, 3] == 255))
    bright = bright[bright[:, 1] > 350]  # on the right
    middle = bright.mean(0) / pixels.shape[:2]
    assert middle == pytest.approx((0.06 + 0.94 / 4, 0.57 + 0.43 * 3 / 4), abs=0.03)


def test_masks_are_painted_in_their_class_s_color():
    colors = class_colors(30)
    assert len(set(colors)) == 19
    painted = paint(np.zeros((1, 2, 3), np.uint8), np.array([[0, -1]]), colors)
    assert painted[0, 1].tolist() == [107] * 3  # void: 70 % of gray
    assert painted[0, 0, 2] > painted[0, 0, 0]  # blue
