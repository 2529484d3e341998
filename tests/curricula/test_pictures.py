"""Turned, cropped and spoilt copies of pictures."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medvlm.curricula.pictures import turned_pictures


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """20 x 40 pixels, dark but for rows 20 to 29, whose left half is the brighter one."""
    (tmp_path / "images").mkdir()
    pixels = np.zeros((40, 20, 3), np.uint8)
    pixels[20:30, :10] = 250
    pixels[20:30, 10:] = 150
    Image.fromarray(pixels).save(tmp_path / "images" / "one.png")
    return tmp_path


def read(folder: Path, name: str) -> np.ndarray:
    return np.asarray(Image.open(folder / name).convert("L"), dtype=int)


def test_one_picture_is_shown_as_it_is(picture: Path) -> None:
    assert turned_pictures(picture, "images/one.png", "no") == ("images/one.png",)


def test_a_mirrored_copy_has_left_and_right_exchanged(picture: Path) -> None:
    first, second = turned_pictures(picture, "images/one.png", "mirrored")
    assert np.array_equal(read(picture, first)[:, ::-1], read(picture, second))


def test_a_square_has_eight_sides_that_all_differ(picture: Path) -> None:
    names = turned_pictures(picture, "images/one.png", "square")
    assert len({read(picture, name).tobytes() + bytes(read(picture, name).shape) for name in names}) == 8


def test_cropping_keeps_the_bright_rows_and_some_margin(picture: Path) -> None:
    (name,) = turned_pictures(picture, "images/one.png", "no", cropped=True)
    cut = read(picture, name)
    assert cut.shape[1] == 20
    assert 10 <= cut.shape[0] < 40
    assert cut.sum() == read(picture, "images/one.png").sum()


def test_a_spoilt_copy_is_flat_and_the_same_every_time(picture: Path) -> None:
    (name,) = turned_pictures(picture, "images/one.png", "no", spoilt="one-spoilt")
    first = read(picture, name)
    assert first.std() < 0.8 * read(picture, "images/one.png").std()
    (picture / name).unlink()
    turned_pictures(picture, "images/one.png", "no", spoilt="one-spoilt")
    assert np.array_equal(first, read(picture, name))
