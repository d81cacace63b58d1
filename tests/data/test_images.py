import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from levyjepa.data import CorruptImageError, Images, Tally, TooManyCorruptError


def encoded(format: str, mode: str = "RGB", **options: object) -> bytes:
    stream = io.BytesIO()
    Image.new(mode, (12, 8), 1).save(stream, format, **options)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("format", "mode"), [("PNG", "L"), ("PNG", "P"), ("PNG", "RGBA"), ("JPEG", "CMYK")]
)
def test_every_image_becomes_rgb(format: str, mode: str) -> None:
    image, label = Images([{"bytes": encoded(format, mode), "path": None}])[0]
    assert (image.mode, image.size, label) == ("RGB", (12, 8), -1)


@pytest.mark.parametrize("format", ["PNG", "TIFF"])
def test_sixteen_bits_become_eight(format: str) -> None:
    deep, stream = np.arange(0, 65536, 1024, dtype=np.uint16).reshape(8, 8), io.BytesIO()
    Image.fromarray(deep).save(stream, format)
    image, _ = Images([{"bytes": stream.getvalue(), "path": None}])[0]
    np.testing.assert_array_equal(np.asarray(image), (deep // 256)[..., None].repeat(3, 2))


def test_a_camera_held_upright_gives_an_upright_image() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: turned by a quarter
    image, _ = Images([{"bytes": encoded("JPEG", exif=exif)}], [4])[0]
    assert image.size == (8, 12)


@pytest.mark.parametrize(
    "record",
    [
        {"bytes": encoded("PNG")[:45], "path": None},
        {"bytes": encoded("JPEG")[:-40], "path": None},
        {"bytes": encoded("TIFF", "F"), "path": None},  # floats, of no stated range
        {"bytes": None, "path": None},
        np.zeros((2, 2, 7), np.uint8),
    ],
)
def test_what_cannot_be_decoded_is_named(record: object) -> None:
    images = Images([None, record], what="train image")
    with pytest.raises(CorruptImageError, match="train image 1"):
        images[1]


def test_a_file_is_named_by_its_path(tmp_path: Path) -> None:
    with pytest.raises(CorruptImageError, match=r"gone\.png"):
        Images([tmp_path / "gone.png"])[0]


def test_more_than_one_in_a_hundred_corrupt_images_is_an_error() -> None:
    tally = Tally(200)
    tally.add(["a.png", "b.png"])
    tally.add(["b.png", "a.png"])
    assert str(tally) == "a.png, b.png"
    with pytest.raises(TooManyCorruptError, match=r"3 of 200 .* a\.png, b\.png, c\.png"):
        tally.add(["c.png"])
