"""Left against right of a structure that spans the midline."""

from __future__ import annotations

import numpy as np
from scipy import ndimage, optimize

from medvlm.imaging.study import Volume

# The plane is searched on voxels of about this size; a tilt of a degree moves the edge of a brain by 1.5 mm.
COARSE_MM = 4.0
LARGEST_SHIFT_MM = 16.0
# Where the search starts from: about five degrees and four millimetres around the upright plane.
SIMPLEX = np.array([[0.0, 0.0, 0.0], [0.09, 0.0, 0.0], [0.0, 0.09, 0.0], [0.0, 0.0, 4.0]])


def asymmetry(mask: np.ndarray, volume: Volume) -> float:
    """`2 (right - left) / (right + left)` of the volumes on the two sides of the plane of best mirror symmetry.

    Args:
        mask: boolean `[I, J, K]` of one structure on the grid of `volume`, not empty.
        volume: gives the geometry; right and left must be known.

    Returns:
        0 for equal sides, positive where the right one is larger; -2..2.
    """
    normal, offset = mirror_plane(mask, volume)
    # Slabs along the first axis, so that the coordinates of a large mask never exist at once.
    right = 0.0
    total = int(mask.sum())
    for index in np.flatnonzero(mask.any(axis=(1, 2))):
        inside = np.argwhere(mask[index])
        points = np.column_stack([np.full(len(inside), index), inside])
        distance = (volume.to_patient(points) @ normal - offset) / float(np.abs(normal @ volume.affine[:3, :3]).max())
        # A voxel that the plane cuts counts in proportion.
        right += float(np.clip(distance + 0.5, 0.0, 1.0).sum())
    return 2.0 * (2.0 * right - total) / total


def mirror_plane(mask: np.ndarray, volume: Volume) -> tuple[np.ndarray, float]:
    """The plane about which a structure mirrors itself best.

    Returns:
        Unit normal `[3]` in RAS (towards the right) and the offset in millimetres: `x @ normal = offset` on the plane.
    """
    steps = tuple(slice(None, None, max(1, round(COARSE_MM / spacing))) for spacing in volume.spacing)
    coarse = ndimage.gaussian_filter(mask.astype(np.float32), [step.step / 2 for step in steps])[steps]
    affine = volume.affine.copy()
    affine[:3, :3] *= [step.step for step in steps]
    points = np.argwhere(coarse > 0.05) @ affine[:3, :3].T + affine[:3, 3]
    weights = coarse[coarse > 0.05]
    centre = (points * weights[:, None]).sum(axis=0) / weights.sum()
    back = np.linalg.inv(affine)

    def plane(parameters: np.ndarray) -> tuple[np.ndarray, float]:
        yaw, roll, shift = parameters
        normal = np.array([np.cos(yaw) * np.cos(roll), np.sin(yaw) * np.cos(roll), np.sin(roll)])
        return normal, float(centre @ normal + shift)

    def mismatch(parameters: np.ndarray) -> float:
        normal, offset = plane(parameters)
        mirrored = points - 2.0 * ((points @ normal) - offset)[:, None] * normal
        index = mirrored @ back[:3, :3].T + back[:3, 3]
        there = ndimage.map_coordinates(coarse, index.T, order=1, cval=0.0)
        # Absolute, not squared: a part that one side lacks must not pull the plane over.
        return float(np.abs(there - weights).sum() / weights.sum())

    start = min(
        (np.array([0.0, 0.0, shift]) for shift in np.arange(-LARGEST_SHIFT_MM, 0.1 + LARGEST_SHIFT_MM, 2.0)),
        key=mismatch,
    )
    found = optimize.minimize(
        mismatch,
        start,
        method="Nelder-Mead",
        options={"initial_simplex": start + SIMPLEX, "xatol": 1e-3, "fatol": 1e-5},
    )
    return plane(found.x)
