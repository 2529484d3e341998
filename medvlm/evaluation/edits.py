"""Edited studies: a lesion taken out or moved, slices dropped, the wrong window; everything else as it was.

A lesion is erased by giving its voxels values of the tissue right around it. It is moved by putting the difference
between it and that tissue at another place of the same surroundings.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal, get_args

import numpy as np
from scipy import ndimage

from medvlm.errors import MedVLMError
from medvlm.imaging.study import Series, Volume

Edit = Literal["erased", "moved", "dropped_slices", "wrong_window"]
EDITS: tuple[Edit, ...] = get_args(Edit)
# Voxels from the lesion's edge whose values count as the tissue around it; the first ones are blurred by the lesion.
NEAR, FAR = 2, 5


def erase(array: np.ndarray, lesion: np.ndarray, avoid: np.ndarray, seed: int = 0) -> np.ndarray:
    """The voxels with a lesion replaced by draws from the tissue around it.

    Args:
        array: `[I, J, K]` intensities.
        lesion: `[I, J, K]` bool.
        avoid: `[I, J, K]` bool, voxels that are no tissue of the surroundings (other lesions).
        seed: of the draws.

    Raises:
        MedVLMError: nothing is around the lesion.
    """
    edited = array.copy()
    rng = np.random.default_rng(seed)
    parts, _ = ndimage.label(lesion, np.ones((3, 3, 3)))
    for number, box in enumerate(ndimage.find_objects(parts), start=1):
        grown = tuple(slice(max(part.start - FAR, 0), part.stop + FAR) for part in box)
        own = parts[grown] == number
        # One voxel of the edge is blurred by the lesion and goes with it.
        gone = ndimage.binary_dilation(own, iterations=1)
        ring = _grow(own, FAR) & ~_grow(own, NEAR) & ~avoid[grown] & ~lesion[grown]
        values = array[grown][ring]
        if not values.size:
            raise MedVLMError("a lesion fills its surroundings: there is no tissue to replace it by.")
        # Around a lesion at the border of two tissues the one that most of the ring is made of.
        near = values[np.abs(values - np.median(values)) <= max(2 * _spread(values), 1)]
        edited[grown][gone] = rng.choice(near, int(gone.sum()))
    return edited


def move(array: np.ndarray, lesion: np.ndarray, allowed: np.ndarray, seed: int = 0) -> np.ndarray:
    """A lesion taken to another place.

    Args:
        array: `[I, J, K]` intensities.
        lesion: `[I, J, K]` bool, one or several parts that keep their distances.
        allowed: `[I, J, K]` bool, where its voxels may come to lie.
        seed: of the place.

    Raises:
        MedVLMError: there is no such place.
    """
    where = np.argwhere(lesion)
    low, high = where.min(0), where.max(0)
    rng = np.random.default_rng(seed)
    centre = (low + high) // 2
    targets = np.argwhere(allowed)
    for target in targets[rng.permutation(len(targets))[:2000]]:
        shift = target - centre
        moved = where + shift
        if (moved < 0).any() or (moved >= array.shape).any() or np.abs(shift).max() < (high - low).max():
            continue
        if allowed[tuple(moved.T)].all():
            edited = erase(array, lesion, np.zeros_like(lesion), seed)
            edited[tuple(moved.T)] = array[tuple(where.T)]
            return edited
    raise MedVLMError("the lesion does not fit anywhere else.")


def edit_series(series: Series, mask: np.ndarray, label: int, edit: Edit, around: tuple[int, ...], seed: int) -> Series:
    """The series with one edit.

    Args:
        series: what is edited.
        mask: `[I, J, K]` labels on its grid.
        label: the lesion's number in the mask.
        edit: see the module; the last two leave the lesion alone.
        around: labels of the tissue that the lesion may be moved to.
        seed: of draws and places.

    Raises:
        MedVLMError: the mask is on another grid, or the edit is not possible.
    """
    volume = series.volume
    array = volume.array
    if mask.shape != array.shape[:3]:
        raise MedVLMError(f"the mask {mask.shape} is not on the grid of the series {array.shape[:3]}.")
    lesion = mask == label
    if edit == "erased":
        array = erase(array, lesion, np.zeros_like(lesion), seed)
    elif edit == "moved":
        array = move(array, lesion, np.isin(mask, around), seed)
    elif edit == "dropped_slices":
        # The slices with the lesion go; the others move together.
        array = np.delete(array, np.flatnonzero(lesion.any(axis=(0, 1))), axis=2)
    else:
        # Narrow and far off: what a bone window does to a lung.
        array = np.clip(array, 300, 1300) if volume.unit == "HU" else array.max() - array
    changed = Volume(array, volume.affine, volume.unit, volume.calibrated, volume.oriented)
    return replace(series, load=lambda: changed, grid=None)


def _grow(mask: np.ndarray, steps: int) -> np.ndarray:
    return ndimage.binary_dilation(mask, iterations=steps)


def _spread(values: np.ndarray) -> float:
    """A robust standard deviation."""
    return float(1.4826 * np.median(np.abs(values - np.median(values))))
