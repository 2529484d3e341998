"""The working grid: positions, padding, and the way back."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medvlm.errors import MedVLMError
from medvlm.experts.grid import body_box, plan_grid, resample, resample_labels
from medvlm.experts.input import InputSpec
from medvlm.imaging.study import Volume

ORIENTATIONS = [np.diag([1, 1, 1]), np.diag([-1, -1, 1]), np.array([[0, 0, 1], [-1, 0, 0], [0, -1, 0]])]


def spec(**fields: object) -> InputSpec:
    settings_ = {"dims": 3, "spacing": (2.0, 2.0, 4.0), "low": -1000.0, "high": 1000.0, "multiple": (4, 4, 2)}
    return InputSpec(**(settings_ | fields))  # type: ignore[arg-type]


def ramp(turn: np.ndarray, spacing: tuple[float, float, float], shape: tuple[int, int, int]) -> Volume:
    """Intensity = x + 2 y + 3 z in millimetres, so that any misplaced voxel shows."""
    affine = np.eye(4)
    affine[:3, :3] = turn * np.array(spacing)
    affine[:3, 3] = (-20.0, -30.0, -40.0)
    place = np.stack(np.indices(shape), axis=-1) @ affine[:3, :3].T + affine[:3, 3]
    return Volume((place @ (1.0, 2.0, 3.0)).astype(np.float32), affine, unit="HU")


@pytest.mark.parametrize("turn", ORIENTATIONS)
def test_resampled_intensities_are_where_the_working_affine_says(turn: np.ndarray) -> None:
    volume = ramp(turn, (1.5, 1.5, 3.0), (24, 28, 20))
    grid = plan_grid(volume, spec())
    image = resample(volume, grid, spec())[0].numpy() * 2000 - 1000
    place = np.stack(np.indices(grid.shape), axis=-1) @ grid.affine[:3, :3].T + grid.affine[:3, 3]
    index = (place - volume.affine[:3, 3]) @ np.linalg.inv(volume.affine[:3, :3]).T
    # The anti-aliased average of a linear function is off by at most 0.03 of a native voxel (10.5 units here).
    inside = np.all((index > 1.5) & (index < np.array(volume.array.shape) - 2.5), axis=-1)
    assert inside.sum() > 500
    np.testing.assert_allclose(image[inside], (place @ (1.0, 2.0, 3.0))[inside], atol=0.3)


@pytest.mark.parametrize("turn", ORIENTATIONS)
def test_labels_come_back_to_the_voxels_they_came_from(turn: np.ndarray) -> None:
    # Native voxels are larger than working ones, so nearest neighbour there and back is the identity.
    volume = ramp(turn, (5.0, 5.0, 9.0), (12, 10, 8))
    labels = np.random.default_rng(0).integers(0, 9, volume.array.shape).astype(np.uint8)
    grid = plan_grid(volume, spec())
    there = resample_labels(Volume(labels, volume.affine), grid)
    assert np.array_equal(grid.from_canonical(grid.labels_to_canonical(there)), labels)


@settings(max_examples=30, deadline=None)
@given(st.tuples(*[st.floats(0.6, 7.0)] * 3), st.tuples(*[st.integers(3, 40)] * 3))
def test_every_working_axis_is_a_multiple_and_covers_the_volume(
    spacing: tuple[float, float, float], shape: tuple[int, int, int]
) -> None:
    grid = plan_grid(ramp(np.eye(3), spacing, shape), spec())
    for axis, multiple in zip(grid.axes, (4, 4, 2), strict=True):
        assert axis.working % multiple == 0
        assert axis.to_native(-0.5) <= -0.5 + 1e-6
        assert axis.to_native(axis.working - 0.5) >= axis.native - 0.5 - 1e-6


def test_padding_has_the_lowest_intensity() -> None:
    volume = Volume(np.full((5, 5, 5), 1000, np.int16), np.diag([2.0, 2.0, 4.0, 1.0]), unit="HU")
    image = resample(volume, plan_grid(volume, spec()), spec())[0]
    # 5 voxels padded to 8 (x, y) and 6 (z): half a voxel more at one end of z.
    assert image.shape == (8, 8, 6)
    assert float(image[0].max()) == 0.0
    assert float(image[4, 4, 3]) == 1.0


def test_coarser_working_voxels_average_so_that_noise_shrinks() -> None:
    noise = np.random.default_rng(1).normal(0, 100, (48, 48, 48)).astype(np.float32)
    volume = Volume(noise, np.diag([0.5, 0.5, 1.0, 1.0]), unit="HU")
    image = resample(volume, plan_grid(volume, spec()), spec())[0] * 2000 - 1000
    # A triangle of half width 4 averages over 1 / sum(w²) = 5.8 voxels an axis: 100 / 5.8^1.5 = 7.
    assert float(image[2:-2, 2:-2, 2:-2].std()) == pytest.approx(7, abs=1.5)


def test_the_body_box_leaves_the_air_and_the_table_out() -> None:
    array = np.full((60, 60, 20), -1000, np.int16)
    array[20:40, 15:45, 2:18] = 40
    array[5:55, 2, :] = 200  # a thin table
    box = body_box(Volume(array, np.diag([3.0, 3.0, 3.0, 1.0]), unit="HU"))
    for (first, last), (low, high) in zip(box, ((20, 40), (15, 45), (2, 18)), strict=True):
        assert low - 4 <= first <= low
        assert high <= last <= high + 4


def test_a_volume_without_body_keeps_its_whole_extent() -> None:
    empty = Volume(np.full((10, 10, 10), -1000, np.int16), np.diag([3.0, 3.0, 3.0, 1.0]), unit="HU")
    assert body_box(empty) == ((0, 10), (0, 10), (0, 10))


def test_a_mask_on_another_grid_is_refused() -> None:
    volume = ramp(np.eye(3), (2.0, 2.0, 4.0), (8, 8, 8))
    with pytest.raises(MedVLMError, match="does not lie on the grid"):
        resample_labels(Volume(np.zeros((4, 8, 8), np.uint8), volume.affine), plan_grid(volume, spec()))


def test_an_impossible_input_block_is_one_sentence() -> None:
    with pytest.raises(MedVLMError, match="'input' block"):
        InputSpec.from_json({"dims": 3, "low": 0, "high": 1})
    with pytest.raises(MedVLMError, match="'input' block"):
        InputSpec.from_json({"dims": 2, "low": 0, "high": 1, "size": [8, 8], "colour": True})


def test_resampling_is_float32_between_0_and_1() -> None:
    volume = ramp(np.eye(3), (2.0, 2.0, 4.0), (8, 8, 8))
    image = resample(volume, plan_grid(volume, spec(low=-10.0, high=10.0)), spec(low=-10.0, high=10.0))
    assert image.dtype == torch.float32
    assert 0.0 <= float(image.min()) <= float(image.max()) <= 1.0
