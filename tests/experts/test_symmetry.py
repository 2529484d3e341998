"""Left against right, on shapes with known answers."""

import numpy as np
import pytest

from medvlm.experts.symmetry import asymmetry, mirror_plane
from medvlm.experts.to_findings import is_cut
from medvlm.imaging.study import Volume


def ellipsoids(right: float, left: float, tilt: float = 0.0) -> tuple[np.ndarray, Volume]:
    """Two half ellipsoids back to back, of half widths `right` and `left`, turned about z."""
    shape = (90, 100, 80)
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    affine[:3, 3] = -np.array(shape) + 1.0
    x, y, z = np.moveaxis(np.stack(np.indices(shape), -1) * 2.0 + affine[:3, 3], -1, 0)
    across, along = x * np.cos(tilt) + y * np.sin(tilt), -x * np.sin(tilt) + y * np.cos(tilt)
    width = np.where(across > 0, right, left)
    return (across / width) ** 2 + (along / 70) ** 2 + (z / 50) ** 2 <= 1, Volume(np.zeros(shape, np.int16), affine)


@pytest.mark.parametrize("tilt", [0.0, 0.15])
def test_equal_halves_have_no_asymmetry_however_the_head_is_turned(tilt: float) -> None:
    mask, volume = ellipsoids(60, 60, tilt)
    assert asymmetry(mask, volume) == pytest.approx(0.0, abs=0.004)
    normal, offset = mirror_plane(mask, volume)
    assert np.degrees(np.arccos(normal @ [np.cos(tilt), np.sin(tilt), 0])) < 1.5
    assert abs(offset) < 0.5


def test_a_bite_out_of_the_left_side_makes_the_right_one_larger() -> None:
    mask, volume = ellipsoids(60, 60)
    whole = mask.sum()
    bitten = mask.copy()
    bitten[:30, 30:70, 20:60] = False
    lost = 1 - bitten.sum() / whole
    # A bite of a share b of the whole leaves 0.5 on the right and 0.5 - b on the left: 2 b / (1 - b). The plane of best
    # symmetry moves a little towards what is left, so the answer is smaller, never of the other sign.
    assert 0.7 * 2 * lost / (1 - lost) < asymmetry(bitten, volume) < 1.05 * 2 * lost / (1 - lost)
    assert asymmetry(bitten[::-1], volume) < 0


def test_a_cut_counts_unless_the_structure_may_leave_there() -> None:
    mask = np.zeros((10, 10, 10), bool)
    mask[4:6, 4:6, :5] = True
    volume = Volume(np.zeros(mask.shape, np.int16), np.diag([10.0, 10.0, 10.0, 1.0]))
    # Four voxels of 1 cm² lie in the lowest plane.
    assert is_cut(mask, volume, {})
    assert is_cut(mask, volume, {"inferior": 3.9})
    assert not is_cut(mask, volume, {"inferior": 4.01})
    assert is_cut(mask[:, :, ::-1], volume, {"inferior": 4.01})
    assert is_cut(mask, Volume(volume.array, volume.affine, oriented=False), {"inferior": 4.01})
