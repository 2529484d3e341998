"""The voxel grid seen from the anatomy: coordinates that broadcast, local boxes and soft edges.

Arrays are slice-major, `[K, J, I]`, as they are written. Where a coordinate does not change along an axis that axis has
length 1, so that for an untilted scan most formulas touch two dimensions only; a tilted scan runs through the
same code with full arrays.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from medvlm.phantom.scanner import Acquisition

Box = tuple[slice, slice, slice]


@dataclass(frozen=True, eq=False)
class Grid:
    """Anatomy coordinates (mm) of all voxel centres; see `make_grid`.

    Attributes:
        shape: `(K, J, I)`.
        x, y, z: float32, each broadcastable to `shape`.
        to_index: `[3, 4]` anatomy mm → `(i, j, k)`.
        step: `[3, 3]` anatomy mm of one step along i, j, k (columns).
        edge: width in mm over which an edge fades (partial volume and blur).
    """

    shape: tuple[int, int, int]
    x: np.ndarray
    y: np.ndarray
    z: np.ndarray
    to_index: np.ndarray
    step: np.ndarray
    edge: float

    @property
    def voxel_volume(self) -> float:
        """mm³."""
        return float(abs(np.linalg.det(self.step)))

    def index(self, points: np.ndarray) -> np.ndarray:
        """`[..., 3]` anatomy mm → `[..., 3]` continuous `(k, j, i)`."""
        return (points @ self.to_index[:, :3].T + self.to_index[:, 3])[..., ::-1]

    def box(self, low: np.ndarray, high: np.ndarray) -> Box:
        """The voxels of the anatomy-aligned box `low..high` (mm), clipped to the grid; may be empty."""
        centre, half = self.index((low + high) / 2), (high - low) / 2
        reach = (np.abs(self.to_index[:, :3]) @ half)[::-1] + 1
        first = np.maximum(np.floor(centre - reach), 0).astype(int)
        last = np.minimum(np.ceil(centre + reach) + 1, self.shape).astype(int)
        k, j, i = (slice(a, max(a, b)) for a, b in zip(first, last))
        return k, j, i

    def local(self, box: Box) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """`x, y, z` inside a box."""
        return take(self.x, box), take(self.y, box), take(self.z, box)

    def soft(self, distance: np.ndarray) -> np.ndarray:
        """Signed distance in mm (positive inside) → share of the voxel that is inside, 0..1."""
        share = distance * np.float32(1 / self.edge)
        share += np.float32(0.5)
        return np.clip(share, 0, 1, out=share)


def take(array: np.ndarray, box: Box) -> np.ndarray:
    """A box of an array that may have axes of length 1."""
    return array[tuple(part if size > 1 else slice(None) for part, size in zip(box, array.shape))]


def make_grid(acquisition: Acquisition) -> Grid:
    """The grid of an acquisition, in the anatomy frame of its patient."""
    matrix = np.linalg.inv(acquisition.pose) @ acquisition.affine
    matrix[np.abs(matrix) < 1e-9] = 0
    columns, rows, slices = acquisition.shape
    steps = (
        np.arange(columns)[None, None, :],
        np.arange(rows)[None, :, None],
        np.arange(slices)[:, None, None],
    )
    axes = []
    for line in matrix[:3]:
        axis = np.full((1, 1, 1), line[3])
        for factor, step in zip(line[:3], steps):
            if factor:
                axis = axis + factor * step
        axes.append(axis.astype(np.float32))
    step = matrix[:3, :3]
    in_plane = float(np.linalg.norm(step[:, 0]))
    edge = in_plane * (1.0 if acquisition.sharp else 1.4)
    inverse = np.linalg.inv(matrix)[:3]
    return Grid((slices, rows, columns), axes[0], axes[1], axes[2], inverse, step, edge)


def blend(target: np.ndarray, share: np.ndarray, value: np.ndarray | float) -> None:
    """In place: replace `share` (0..1) of each voxel of `target` by `value`."""
    target += share * (np.float32(value) if isinstance(value, float | int) else value) - share * target
