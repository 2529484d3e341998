"""One slice of a volume as a picture, with the way back to the patient."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import Image

from medvlm.errors import MedVLMError
from medvlm.imaging.study import Volume

Plane = Literal["axial", "coronal", "sagittal"]
# Canonical (RAS+) axis that is sliced; the axes of the picture's columns and rows. Pictures are radiological: the
# patient's right is on the left, anterior (axial) or superior (coronal, sagittal) is on top; sagittal looks left.
AXES: dict[Plane, tuple[int, int, int]] = {"axial": (2, 0, 1), "coronal": (1, 0, 2), "sagittal": (0, 1, 2)}
SIDES: dict[Plane, tuple[str, str]] = {"axial": ("R", "L"), "coronal": ("R", "L"), "sagittal": ("A", "P")}


@dataclass(frozen=True, eq=False)
class Slice:
    """A 2-D cut `[H, W]` or `[H, W, 3]` in display order, and where its pixels lie.

    Attributes:
        origin: RAS+ mm of the centre of pixel (0, 0).
        right: `[3]` mm of one step to the right.
        down: `[3]` mm of one step down.
    """

    pixels: np.ndarray
    origin: np.ndarray
    right: np.ndarray
    down: np.ndarray

    @property
    def size_mm(self) -> tuple[float, float]:
        """Width and height."""
        height, width = self.pixels.shape[:2]
        return width * float(np.linalg.norm(self.right)), height * float(np.linalg.norm(self.down))


def cut(canonical: Volume, plane: Plane, index: int) -> Slice:
    """A slice of a canonical volume, in radiological display.

    Raises:
        MedVLMError: there is no such slice.
    """
    axis = AXES[plane][0]
    count = canonical.array.shape[axis]
    if not 0 <= index < count:
        raise MedVLMError(f"no {plane} slice {index}; there are {count}, counted from 0.")
    # Indexing gives a view; `np.take` would first copy the whole volume where it is not in order.
    pixels = canonical.array[(slice(None),) * axis + (index,)]
    return flat(canonical, pixels, plane, index)


def flat(canonical: Volume, pixels: np.ndarray, plane: Plane, index: float) -> Slice:
    """A Slice from values `[across, along]` on the grid of a canonical volume's plane (a slice or a projection)."""
    axis, across, along = AXES[plane]
    shape = canonical.array.shape
    corner = np.zeros(3)
    corner[axis], corner[across], corner[along] = index, shape[across] - 1, shape[along] - 1
    columns = canonical.affine[:3, across]
    rows = canonical.affine[:3, along]
    turned = np.swapaxes(pixels, 0, 1)[::-1, ::-1]
    return Slice(turned, canonical.to_patient(corner), -columns, -rows)


def slice_at(volume: Volume, plane: Plane, point: Sequence[float]) -> int:
    """The slice (index along the canonical axis) that is nearest to a RAS+ point in millimetres.

    Raises:
        MedVLMError: the point lies outside the volume.
    """
    canonical = volume.to_canonical()
    axis = AXES[plane][0]
    index = np.linalg.solve(canonical.affine, [*point, 1.0])[axis]
    count = canonical.array.shape[axis]
    if not -0.5 <= index <= count - 0.5:
        raise MedVLMError(f"the point {tuple(round(float(value), 1) for value in point)} lies outside the volume.")
    return min(max(int(np.floor(index + 0.5)), 0), count - 1)


def project(canonical: Volume, plane: Plane, how: Literal["max", "min", "mean"]) -> Slice:
    """All slices of a canonical volume in one picture: maximum, minimum or mean along the axis."""
    axis = AXES[plane][0]
    array = canonical.array
    pixels = array.mean(axis=axis, dtype=np.float32) if how == "mean" else getattr(array, how)(axis=axis)
    return flat(canonical, pixels, plane, (array.shape[axis] - 1) / 2)


def as_stored(volume: Volume, frame: int) -> Slice:
    """One frame of an image without orientation, as it is in the file."""
    pixels = np.swapaxes(volume.array[:, :, frame], 0, 1)
    return Slice(pixels, volume.to_patient(np.array([0, 0, frame])), volume.affine[:3, 0], volume.affine[:3, 1])


def fit(picture: Slice, grey: np.ndarray, box: tuple[int, int, int, int], nearest: bool = False) -> FittedSlice:
    """Scale a picture into a pixel box `(left, top, right, bottom)`, keeping its proportions in millimetres.

    Args:
        picture: gives the geometry.
        grey: uint8 `[H, W]` or `[H, W, 3]` of the picture's size.
        nearest: keep labels instead of interpolating.
    """
    left, top, right, bottom = box
    width_mm, height_mm = picture.size_mm
    scale = min((right - left) / width_mm, (bottom - top) / height_mm)
    width = max(1, min(right - left, int(width_mm * scale + 0.5)))
    height = max(1, min(bottom - top, int(height_mm * scale + 0.5)))
    method = Image.Resampling.NEAREST if nearest else Image.Resampling.BILINEAR
    resized = np.asarray(Image.fromarray(np.ascontiguousarray(grey)).resize((width, height), method))
    x, y = left + (right - left - width) // 2, top + (bottom - top - height) // 2
    step_x = picture.right * picture.pixels.shape[1] / width
    step_y = picture.down * picture.pixels.shape[0] / height
    # Pixel centres: the outer edges of source and target coincide.
    start = picture.origin - (picture.right + picture.down) / 2 + (step_x + step_y) / 2
    return FittedSlice(resized, Panel((x, y, x + width, y + height), start, step_x, step_y))


@dataclass(frozen=True, eq=False)
class Panel:
    """A rectangle of a View and the affine from its pixels to the patient.

    Attributes:
        box: `(left, top, right, bottom)` in pixels of the View.
        origin: RAS+ mm of the centre of the panel's first pixel.
        right: `[3]` mm of one pixel to the right.
        down: `[3]` mm of one pixel down.
        title: what it shows (`axial 31`).
    """

    box: tuple[int, int, int, int]
    origin: np.ndarray
    right: np.ndarray
    down: np.ndarray
    title: str = ""

    def to_patient(self, x: float, y: float) -> np.ndarray:
        """RAS+ mm of a pixel of the View."""
        return self.origin + (x - self.box[0]) * self.right + (y - self.box[1]) * self.down

    def to_pixel(self, point: np.ndarray) -> tuple[float, float]:
        """The pixel of the View nearest to a RAS+ point, projected onto the panel's plane."""
        basis = np.stack([self.right, self.down], axis=1)
        solution, *_ = np.linalg.lstsq(basis, np.asarray(point, dtype=float) - self.origin, rcond=None)
        return self.box[0] + float(solution[0]), self.box[1] + float(solution[1])


@dataclass(frozen=True, eq=False)
class FittedSlice:
    """Scaled pixels and the Panel that places them."""

    pixels: np.ndarray
    panel: Panel
