"""Sizes of nodules come from the shape: check them against formulas and against counted voxels."""

from __future__ import annotations

import numpy as np
import pytest

from medvlm.phantom.lesions import Shape, draw_shape, in_plane_diameter, shape_volume

AXIAL = np.eye(3)[:2]


def ellipsoid(a: float, b: float, c: float) -> Shape:
    return Shape(np.diag([1 / a, 1 / b, 1 / c]), np.zeros((1, 3)), depth=0.0)


def test_volume_of_an_ellipsoid_is_four_thirds_pi_abc() -> None:
    # 4/3 * pi * 5 * 4 * 3 mm³ = 251.33 mm³ = 0.25133 mL.
    assert shape_volume(ellipsoid(5, 4, 3)) == pytest.approx(0.25133, rel=2e-3)


def test_long_axis_is_the_longest_diameter_in_the_image_plane_only() -> None:
    # The longest axis (2 * 9 mm) points out of the plane; within it the longest is 2 * 5 mm.
    assert in_plane_diameter(ellipsoid(4, 5, 9), AXIAL) == pytest.approx(10.0)


def test_waves_scale_the_radius_in_every_direction() -> None:
    # With waves of zero frequency cos(0) = 1 everywhere: the radius grows by the factor 1 + depth.
    shape = Shape(np.eye(3) / 6, np.zeros((3, 3)), depth=0.25)
    assert in_plane_diameter(shape, AXIAL) == pytest.approx(2 * 6 * 1.25)


@pytest.mark.parametrize("seed", range(5))
def test_irregular_shapes_match_a_fine_voxel_count(seed: int) -> None:
    shape = draw_shape(np.random.default_rng(seed), 12.0, AXIAL)
    ticks = np.arange(-12, 12, 0.25) + 0.125
    points = np.stack(np.meshgrid(ticks, ticks, ticks, indexing="ij"), axis=-1)
    inside = shape.inside(points)
    # One voxel is 0.25³ mm³; counting errs by about the surface times an eighth of a voxel.
    assert shape_volume(shape) == pytest.approx(inside.sum() * 0.25**3 / 1000, rel=0.02)
    middle = points[:, :, 48][inside[:, :, 48]][:, :2]
    longest = max(np.linalg.norm(middle - point, axis=1).max() for point in middle[:: len(middle) // 200 + 1])
    assert longest == pytest.approx(12.0, abs=0.6)
