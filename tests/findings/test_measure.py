"""Measurements of digital shapes with known answers."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from medvlm.findings.measure import (
    cardiothoracic_ratio,
    components,
    distance,
    label_volumes,
    midline,
    side,
    superior_axis,
    surrounding_label,
)
from medvlm.imaging.study import Volume


def grid(shape, spacing=(1.0, 1.0, 1.0), rotation=(0.0, 0.0, 0.0), flip=(1, 1, 1)) -> Volume:
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", rotation, degrees=True).as_matrix() @ np.diag(
        np.multiply(spacing, flip)
    )
    affine[:3, 3] = (-30.0, 12.0, 7.0)
    return Volume(np.zeros(shape, np.int16), affine)


def ellipsoid(volume: Volume, radii, jitter=(0.0, 0.0, 0.0), turn=(0.0, 0.0, 0.0)) -> np.ndarray:
    """Voxels whose centre lies in an ellipsoid (half axes in mm along RAS, turned) around the middle of the grid."""
    shape = volume.array.shape
    index = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)
    middle = volume.to_patient((np.array(shape) - 1) / 2 + jitter)
    offset = (volume.to_patient(index) - middle) @ Rotation.from_euler("xyz", turn, degrees=True).as_matrix()
    return (((offset / radii) ** 2).sum(axis=-1) <= 1).astype(np.uint8)


SPHERES = [
    (4.0, (1.0, 1.0, 1.0), 0),
    (6.0, (0.7, 0.7, 2.5), 0),
    (8.0, (0.8, 1.2, 3.0), 15),
    (10.0, (1.0, 1.0, 1.0), 0),
    (14.0, (0.7, 0.7, 1.25), 20),
    (25.0, (1.0, 1.0, 3.0), 0),
]


@pytest.mark.parametrize(("diameter", "spacing", "angle"), SPHERES)
def test_a_sphere_has_its_diameter_and_volume_on_average_over_sub_voxel_shifts(diameter, spacing, angle):
    random = np.random.default_rng(0)
    volume = grid([int(diameter * 1.5 / edge) + 4 for edge in spacing], spacing, (0, 0, angle))
    longs, volumes = [], []
    for _ in range(12):
        (found,) = components(ellipsoid(volume, [diameter / 2] * 3, random.uniform(-0.5, 0.5, 3)), volume)
        longs.append(found.long_axis)
        volumes.append(found.volume)
        # One voxel is the most that a grid can hide or add.
        assert abs(found.long_axis - diameter) < np.hypot(spacing[0], spacing[1])
    assert np.mean(longs) == pytest.approx(diameter, abs=0.35)
    assert np.mean(volumes) == pytest.approx(np.pi / 6 * diameter**3 / 1000, rel=0.06)


@pytest.mark.parametrize("turn", [0, 20, 45, 70])
def test_an_ellipsoid_in_the_axial_plane_has_its_two_axes_whatever_its_direction(turn):
    volume = grid((60, 60, 20), (0.8, 0.8, 2.0))
    (found,) = components(ellipsoid(volume, (15.0, 8.0, 10.0), turn=(0, 0, turn)), volume)
    assert found.long_axis == pytest.approx(30.0, abs=0.5)
    assert found.short_axis == pytest.approx(16.0, abs=0.5)
    # Volume 4/3 pi abc.
    assert found.volume == pytest.approx(4 / 3 * np.pi * 15 * 8 * 10 / 1000, rel=0.02)


def test_the_longest_diameter_in_3d_is_not_the_axial_one():
    volume = grid((30, 30, 60))
    (found,) = components(ellipsoid(volume, (5.0, 5.0, 20.0)), volume)
    assert found.long_axis == pytest.approx(10.0, abs=0.6)
    assert found.diameter == pytest.approx(40.0, abs=0.6)


@pytest.mark.parametrize("rotation", [(0, 0, 0), (10, 5, 20), (0, 90, 0), (90, 0, 0)])
def test_oblique_and_permuted_grids_give_the_same_centroid_box_and_volume(rotation):
    volume = grid((40, 44, 48), (1.0, 1.0, 1.0), rotation)
    mask = ellipsoid(volume, (9.0, 9.0, 9.0))
    (found,) = components(mask, volume)
    middle = volume.to_patient((np.array(mask.shape) - 1) / 2)
    assert np.allclose(found.centroid, middle, atol=0.05)
    assert found.volume == pytest.approx(mask.sum() / 1000)  # voxels of 1 mm3
    low, high = np.array(found.box[:3]), np.array(found.box[3:])
    assert (low <= middle - 8.9).all()
    assert (high >= middle + 8.9).all()


def test_the_best_slice_counts_from_the_feet_even_where_the_array_runs_down():
    up = grid((20, 20, 30))
    mask = np.zeros((20, 20, 30), np.uint8)
    mask[5:10, 5:10, 3] = 1
    mask[5:15, 5:15, 4] = 1
    assert components(mask, up)[0].slice == 4
    down = grid((20, 20, 30), flip=(1, 1, -1))
    # Array slice 4 of 30, counted from the other end: 30 - 1 - 4.
    assert components(mask, down)[0].slice == 25
    assert superior_axis(down.affine) == (2, True)


def test_components_are_ordered_by_size_and_noise_is_dropped():
    volume = grid((30, 30, 30))
    mask = np.zeros((30, 30, 30), np.uint8)
    mask[2:4, 2:4, 2:4] = 1  # 8 mm3
    mask[10:15, 10:15, 10:15] = 1  # 125 mm3
    mask[20, 20, 20] = 1  # 1 mm3
    found = components(mask, volume, minimum_ml=0.005)
    assert [(part.number, part.voxels) for part in found] == [(1, 125), (2, 8)]
    assert [part.voxels for part in components(mask, volume)] == [125, 8, 1]
    assert components(mask, volume, label=2) == []


def test_anatomy_cut_by_the_border_gets_no_size():
    volume = grid((20, 20, 20))
    mask = np.zeros((20, 20, 20), np.uint8)
    mask[8:12, 8:12, 0:3] = 1
    (cut,) = components(mask, volume)
    assert cut.touches_border
    assert cut.measurements() == ()
    assert label_volumes(mask, volume, {1: "thing"}) == {}
    mask[...] = 0
    mask[8:12, 8:12, 8:12] = 1
    (whole,) = components(mask, volume)
    assert {row.code.meaning for row in whole.measurements()} == {"Long axis", "Short axis", "Volume"}
    assert label_volumes(mask, volume, {1: "thing"}) == {"thing": pytest.approx(0.064)}


def test_uncalibrated_pixels_give_no_millimetres_and_unknown_orientation_no_side():
    volume = Volume(np.zeros((20, 20, 1), np.uint8), np.eye(4), calibrated=False, oriented=False)
    mask = np.zeros((20, 20, 1), np.uint8)
    mask[5:9, 5:9] = 1
    (found,) = components(mask, volume)
    assert (found.volume, found.long_axis, found.short_axis, found.diameter) == (None, None, None, None)
    assert found.measurements() == ()
    assert side(found.centroid, 0.0, volume) is None
    assert cardiothoracic_ratio(mask, volume, {1}, {1}) is None


def test_intensity_of_a_component_is_that_of_its_own_voxels():
    array = np.full((10, 10, 10), -800, np.int16)
    array[4:6, 4:6, 4:6] = [[[30, 50]]]
    mask = (array > 0).astype(np.uint8)
    (found,) = components(mask, Volume(array, np.eye(4)))
    assert found.mean == pytest.approx(40.0)
    assert found.deviation == pytest.approx(10.0)


def test_side_is_judged_from_the_midline_of_the_body():
    volume = grid((40, 20, 10), flip=(-1, 1, 1))  # i runs to the left, as in most CT
    body = np.zeros((40, 20, 10), np.uint8)
    body[4:36] = 1
    middle = midline(body > 0, volume)
    assert middle == pytest.approx(-30.0 - 19.5)  # x of index 19.5
    lesion = np.zeros_like(body)
    lesion[8:10, 5:7, 5:7] = 1
    (found,) = components(lesion, volume)
    assert side(found.centroid, middle, volume).meaning == "Right"


def test_the_location_is_what_surrounds_the_lesion():
    mask = np.zeros((30, 30, 30), np.uint8)
    mask[2:28, 2:28, 2:14] = 3  # lower lobe
    mask[2:28, 2:28, 14:28] = 4  # upper lobe
    mask[10:14, 10:14, 15:19] = 7  # nodule, mostly within the upper lobe
    volume = grid((30, 30, 30))
    (nodule,) = components(mask, volume, label=7)
    assert surrounding_label(nodule, mask, {3, 4}) == 4
    assert surrounding_label(nodule, mask, {9}) is None


def test_the_distance_to_a_landmark_is_in_millimetres_along_any_axis():
    mask = np.zeros((30, 20, 20), np.uint8)
    mask[2:5, 5:8, 5:8] = 1
    mask[15:20, 5:8, 5:8] = 2
    volume = grid((30, 20, 20), (0.5, 1.0, 2.0), (10, 20, 30))
    (lesion,) = components(mask, volume, 1)
    # From index 4 to index 15 along i: 11 steps of 0.5 mm.
    assert distance(lesion, mask, 2, volume) == pytest.approx(5.5)
    assert distance(lesion, mask, 3, volume) is None
    assert distance(lesion, np.full_like(mask, 2), 2, volume) == 0.0


@pytest.mark.parametrize("flip", [(1, 1, 1), (-1, -1, 1)])
def test_the_cardiothoracic_ratio_compares_the_two_largest_widths(flip):
    volume = grid((60, 40, 20), (2.0, 2.0, 4.0), flip=flip)
    mask = np.zeros((60, 40, 20), np.uint8)
    mask[5:55, 5:35, 2:18] = 1  # lungs: 50 voxels of 2 mm = 100 mm
    mask[20:40, 10:30, 3:8] = 2  # heart: 20 voxels = 40 mm
    mask[35:45, 10:30, 5:9] = 2  # ... and 5 more at other levels: 50 mm
    found = cardiothoracic_ratio(mask, volume, heart={2}, thorax={1, 2})
    assert found is not None
    assert (found.heart, found.thorax) == (pytest.approx(50.0), pytest.approx(100.0))
    assert found.ratio == pytest.approx(0.5)


def test_mask_and_volume_must_share_a_grid():
    with pytest.raises(ValueError, match="grids"):
        components(np.zeros((3, 3, 3), np.uint8), grid((4, 4, 4)))
