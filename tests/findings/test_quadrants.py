"""Quadrants by hand: RAS+, so x grows to the patient's right and z to the head."""

from __future__ import annotations

import numpy as np
import pytest

from medvlm.findings import code
from medvlm.findings.quadrants import abdominal_quadrant, breast_quadrant
from medvlm.imaging import Volume

VOLUME = Volume(np.zeros((2, 2, 2), np.int16), np.eye(4))
UNKNOWN = Volume(np.zeros((2, 2, 2), np.int16), np.eye(4), oriented=False)


@pytest.mark.parametrize(
    ("point", "key"),
    [
        ((10, 0, 10), "right_upper_quadrant"),
        ((-10, 0, 10), "left_upper_quadrant"),
        ((10, 0, -10), "right_lower_quadrant"),
        ((-10, 0, -10), "left_lower_quadrant"),
    ],
)
def test_the_quadrant_of_the_abdomen(point: tuple[float, ...], key: str):
    assert abdominal_quadrant(point, (0, 0, 0), VOLUME) == code(key)


@pytest.mark.parametrize(
    ("breast", "point", "key"),
    [
        ("right", (90, 0, 20), "upper_outer_quadrant"),
        ("right", (70, 0, 20), "upper_inner_quadrant"),
        ("left", (-90, 0, -20), "lower_outer_quadrant"),
        ("left", (-70, 0, -20), "lower_inner_quadrant"),
    ],
)
def test_the_inner_half_of_a_breast_lies_towards_the_other(breast, point: tuple[float, ...], key: str):
    nipple = (80, 0, 0) if breast == "right" else (-80, 0, 0)
    assert breast_quadrant(point, nipple, breast, VOLUME) == code(key)


def test_no_quadrant_from_an_unknown_orientation():
    assert abdominal_quadrant((1, 0, 1), (0, 0, 0), UNKNOWN) is None
    assert breast_quadrant((1, 0, 1), (0, 0, 0), "left", UNKNOWN) is None
