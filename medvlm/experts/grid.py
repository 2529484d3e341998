"""From the grid of a series to the working grid of a network, and back.

The working grid has the series' own axes in the closest RAS+ order, a fixed spacing, and only the part of the volume
that matters. Because both grids share their axes, resampling is one small weight matrix an axis: exact, quick, and
anti-aliased where the working grid is coarser. Nothing is rotated, so a mask comes back without a second blur.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage

from medvlm.errors import MedVLMError
from medvlm.experts.input import InputSpec
from medvlm.imaging.study import Volume

# Soft tissue and denser; air, lung and most of the table's foam are below it.
BODY_THRESHOLD_HU = -400.0
# The body is looked for on about this spacing: coarse enough to be instant, fine enough for a margin of one step.
BODY_SEARCH_MM = 6.0


@dataclass(frozen=True)
class Axis:
    """One axis of the map: working index `w` is at native index `start + (w + 0.5) * step - 0.5`."""

    native: int
    working: int
    start: float
    step: float

    def to_native(self, working: np.ndarray | float) -> np.ndarray:
        return self.start + (np.asarray(working) + 0.5) * self.step - 0.5

    def to_working(self, native: np.ndarray | float) -> np.ndarray:
        return (np.asarray(native) - self.start + 0.5) / self.step - 0.5

    def down_weights(self) -> torch.Tensor:
        """`[working, native]`: linear interpolation, widened to one working step where that is the coarser grid."""
        centres = self.to_native(np.arange(self.working))
        width = max(1.0, self.step)
        weights = np.clip(1.0 - np.abs(centres[:, None] - np.arange(self.native)[None]) / width, 0.0, None)
        total = weights.sum(axis=1, keepdims=True)
        # Rows beyond the volume stay zero: padding has the lowest intensity (air).
        return torch.from_numpy((weights / np.where(total > 0, total, 1.0)).astype(np.float32))

    def up_weights(self, first: int, last: int, low: int, high: int) -> np.ndarray:
        """`[last - first, high - low]` linear interpolation from working `low:high` to native `first:last`."""
        position = np.clip(self.to_working(np.arange(first, last)), low, high - 1)
        return np.clip(1.0 - np.abs(position[:, None] - np.arange(low, high)[None]), 0.0, None).astype(np.float32)


@dataclass(frozen=True)
class WorkingGrid:
    """Where the working grid of one volume lies, and the way back."""

    axes: tuple[Axis, Axis, Axis]
    orientation: np.ndarray
    native_shape: tuple[int, int, int]
    affine: np.ndarray

    @property
    def shape(self) -> tuple[int, int, int]:
        x, y, z = (axis.working for axis in self.axes)
        return x, y, z

    def labels_to_canonical(self, labels: np.ndarray) -> np.ndarray:
        """`[X, Y, Z]` labels on the working grid → the canonical native grid (nearest neighbour, 0 outside)."""
        canonical = np.zeros([axis.native for axis in self.axes], labels.dtype)
        kept, sources = [], []
        for axis in self.axes:
            source = np.floor(axis.to_working(np.arange(axis.native)) + 0.5).astype(int)
            inside = np.flatnonzero((source >= 0) & (source < axis.working))
            kept.append(slice(inside[0], inside[-1] + 1))
            sources.append(source[inside])
        canonical[tuple(kept)] = labels[sources[0]][:, sources[1]][:, :, sources[2]]
        return canonical

    def from_canonical(self, array: np.ndarray) -> np.ndarray:
        """Undo the axis order: closest RAS+ order → the series' own order."""
        from nibabel.orientations import apply_orientation, axcodes2ornt, ornt_transform

        ras = axcodes2ornt(("R", "A", "S"))
        return np.ascontiguousarray(apply_orientation(array, ornt_transform(ras, self.orientation)))

    def region_to_native(self, values: np.ndarray, box: tuple[slice, ...]) -> tuple[np.ndarray, tuple[slice, ...]]:
        """Interpolate working-grid values in a box to the canonical native grid.

        Args:
            values: `[X, Y, Z]` float on the working grid.
            box: the part to interpolate, in working indices.

        Returns:
            The values `[i, j, k]` and the slices of the canonical native array that they belong to.
        """
        part = values[box].astype(np.float32)
        slices = []
        for number, (axis, cut) in enumerate(zip(self.axes, box, strict=True)):
            first = max(0, int(np.ceil(axis.to_native(cut.start - 0.5))))
            last = min(axis.native, int(np.floor(axis.to_native(cut.stop - 0.5))) + 1)
            weights = axis.up_weights(first, last, cut.start, cut.stop)
            part = np.moveaxis(np.tensordot(weights, part, axes=(1, number)), 0, number)
            slices.append(slice(first, last))
        return part, tuple(slices)


def plan_grid(volume: Volume, spec: InputSpec) -> WorkingGrid:
    """Where the working grid of a volume lies: its crop, steps and padding."""
    from nibabel.orientations import io_orientation

    assert spec.spacing is not None
    orientation = io_orientation(volume.affine)
    canonical = volume.to_canonical()
    shape = canonical.array.shape[:3]
    box = body_box(canonical) if spec.crop == "body" else tuple((0, size) for size in shape)
    axes = []
    for size, (first, last), spacing, target, multiple in zip(
        shape, box, canonical.spacing, spec.spacing, spec.multiple, strict=True
    ):
        step = target / spacing
        needed = max(1, int(np.ceil((last - first) / step - 1e-6)))
        working = -(-needed // multiple) * multiple
        # The padding is shared by both ends, so that the anatomy stays in the middle.
        axes.append(Axis(size, working, first - (working * step - (last - first)) / 2, step))
    affine = canonical.affine.copy()
    affine[:3, :3] = canonical.affine[:3, :3] * np.array([axis.step for axis in axes])
    affine[:3, 3] = canonical.to_patient(np.array([float(axis.to_native(0)) for axis in axes]))
    return WorkingGrid((axes[0], axes[1], axes[2]), orientation, volume.array.shape[:3], affine)


def resample(volume: Volume, grid: WorkingGrid, spec: InputSpec) -> torch.Tensor:
    """`[1, X, Y, Z]` float32 in 0..1 on the working grid."""
    canonical = volume.to_canonical().array
    cut = []
    weights = []
    for axis in grid.axes:
        matrix = axis.down_weights()
        used = torch.nonzero(matrix.any(dim=0)).flatten()
        first, last = int(used[0]), int(used[-1]) + 1
        cut.append(slice(first, last))
        weights.append(matrix[:, first:last])
    values = torch.from_numpy(np.ascontiguousarray(canonical[tuple(cut)], dtype=np.float32))
    values = values.sub_(spec.low)
    i, j, k = values.shape
    values = (weights[0] @ values.reshape(i, j * k)).reshape(-1, j, k)
    values = torch.matmul(weights[1], values)
    values = values @ weights[2].T
    return values.div_(spec.high - spec.low).clamp_(0.0, 1.0)[None]


def resample_labels(volume: Volume, grid: WorkingGrid) -> np.ndarray:
    """`[X, Y, Z]` labels of a label-map volume on a working grid (nearest neighbour; 0 outside)."""
    canonical = volume.to_canonical().array
    if canonical.shape != tuple(axis.native for axis in grid.axes):
        raise MedVLMError(f"a mask of shape {canonical.shape} does not lie on the grid of its series.")
    indices, outside = [], []
    for axis in grid.axes:
        nearest = np.floor(axis.to_native(np.arange(axis.working)) + 0.5).astype(int)
        outside.append((nearest < 0) | (nearest >= axis.native))
        indices.append(np.clip(nearest, 0, axis.native - 1))
    labels = canonical[indices[0]][:, indices[1]][:, :, indices[2]].copy()
    labels[outside[0]] = 0
    labels[:, outside[1]] = 0
    labels[:, :, outside[2]] = 0
    return labels


def body_box(canonical: Volume) -> tuple[tuple[int, int], ...]:
    """First and last + 1 index along each canonical axis of the largest dense object (the body).

    The whole volume where nothing is dense: the applicability check is the place to refuse it.
    """
    steps = [max(1, int(BODY_SEARCH_MM // spacing)) for spacing in canonical.spacing]
    coarse = canonical.array[tuple(slice(None, None, step) for step in steps)] > BODY_THRESHOLD_HU
    # Opening cuts the thin bridges between the body and the table.
    labels, count = ndimage.label(ndimage.binary_opening(coarse))
    if count == 0:
        return tuple((0, size) for size in canonical.array.shape)
    largest = int(np.argmax(np.bincount(labels.ravel())[1:])) + 1
    found = ndimage.find_objects(labels)[largest - 1]
    return tuple(
        (max(0, (cut.start - 1) * step), min(size, (cut.stop + 1) * step))
        for cut, step, size in zip(found, steps, canonical.array.shape, strict=True)
    )
