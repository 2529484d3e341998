"""Which quadrant of the abdomen or of a breast a point lies in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from medvlm.findings.codes import code
from medvlm.findings.finding import Code
from medvlm.imaging.study import Volume


def abdominal_quadrant(point: Sequence[float], umbilicus: Sequence[float], volume: Volume) -> Code | None:
    """The quadrant of the abdomen, by the planes through the umbilicus; None where the orientation is unknown.

    Args:
        point, umbilicus: RAS+ millimetres.
        volume: what they were measured in.
    """
    if not volume.oriented:
        return None
    side = "right" if point[0] > umbilicus[0] else "left"
    return code(f"{side}_{_height(point, umbilicus)}_quadrant")


def breast_quadrant(
    point: Sequence[float], nipple: Sequence[float], breast: Literal["left", "right"], volume: Volume
) -> Code | None:
    """The quadrant of a breast, by the planes through the nipple; None where the orientation is unknown.

    Args:
        point, nipple: RAS+ millimetres.
        breast: which one; its inner half lies towards the other.
        volume: what they were measured in.
    """
    if not volume.oriented:
        return None
    to_the_right = point[0] > nipple[0]
    depth = "outer" if to_the_right == (breast == "right") else "inner"
    return code(f"{_height(point, nipple)}_{depth}_quadrant")


def _height(point: Sequence[float], origin: Sequence[float]) -> str:
    return "upper" if point[2] > origin[2] else "lower"
