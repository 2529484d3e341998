"""Which frames form one volume, and where that volume lies in the patient."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from medvlm.errors import MedVLMError
from medvlm.imaging.dicom_header import STACK_KEYS, Frame

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
ORIENTATION_TOLERANCE = 1e-3


@dataclass(frozen=True)
class Stack:
    """Frames in the order of their slices, with geometry.

    Attributes:
        frames: ordered along +normal (row direction x column direction).
        affine: `[4, 4]` voxel (column, row, slice) → RAS+ mm; sheared where the gantry was tilted.
        notes: what had to be decided, one sentence each.
        calibrated: every spacing is known.
    """

    frames: tuple[Frame, ...]
    affine: np.ndarray
    notes: tuple[str, ...] = field(default=())
    calibrated: bool = True


def same_plane(frames: Sequence[Frame]) -> list[list[Frame]]:
    """Group frames that share size, colour, orientation and pixel spacing, in order of first appearance."""
    groups: list[list[Frame]] = []
    for frame in frames:
        for group in groups:
            if _matches(group[0], frame):
                group.append(frame)
                break
        else:
            groups.append([frame])
    return groups


def _matches(a: Frame, b: Frame) -> bool:
    sizes = [(f.layout.rows, f.layout.columns, f.layout.samples) for f in (a, b)]
    if sizes[0] != sizes[1] or (a.orientation is None) != (b.orientation is None):
        return False
    if a.orientation is not None and np.abs(a.orientation - b.orientation).max() > ORIENTATION_TOLERANCE:
        return False
    if a.spacing is None or b.spacing is None:
        return a.spacing is b.spacing
    return bool(np.allclose(a.spacing, b.spacing, rtol=1e-3))


def depths(frames: Sequence[Frame]) -> np.ndarray:
    """`[N]` millimetres of each frame along the normal of the first."""
    first = frames[0].orientation
    if first is None or any(frame.position is None for frame in frames):
        raise MedVLMError("frames without a position in the patient cannot be ordered.")
    normal = np.cross(first[:3], first[3:])
    return np.array([frame.position @ normal for frame in frames if frame.position is not None])


def split_stacks(frames: Sequence[Frame]) -> list[list[Frame]]:
    """Split frames of one plane into stacks: by echo, time, b-value, acquisition ... where those overlap in space.

    A key splits only if its values cover the same region: slices that each carry their own acquisition number, one
    after the other, stay one volume.
    """
    frames = list(frames)
    if len(frames) < 2:
        return [frames]
    place = depths(frames)
    repeated = len(np.unique(np.round(place, 2))) < len(frames)
    for key in STACK_KEYS:
        parts: dict[str, list[Frame]] = {}
        for frame in frames:
            parts.setdefault(frame.stack.get(key, ""), []).append(frame)
        if len(parts) < 2 or (not repeated and min(len(part) for part in parts.values()) < 3):
            continue
        if not repeated and key not in ("AcquisitionNumber", "ImageType", "EchoNumbers", "ConvolutionKernel"):
            continue
        if _overlap(list(parts.values())):
            return [stack for part in parts.values() for stack in split_stacks(part)]
    return _repetitions(frames, place) if repeated else [frames]


def _repetitions(frames: list[Frame], place: np.ndarray) -> list[list[Frame]]:
    """Every place occupied equally often, and no header value tells why: the n-th image at each place is stack n."""
    order = np.lexsort(([frame.index for frame in frames], [frame.number for frame in frames]))
    at: dict[float, list[Frame]] = {}
    for index in order:
        at.setdefault(round(float(place[index]), 2), []).append(frames[index])
    counts = {len(group) for group in at.values()}
    if len(counts) != 1:
        return [frames]
    return [[group[turn] for group in at.values()] for turn in range(counts.pop())]


def _overlap(parts: list[list[Frame]]) -> bool:
    spans = sorted((place.min(), place.max()) for place in (depths(part) for part in parts))
    return any(after[0] <= before[1] + 1e-3 for before, after in pairwise(spans))


def build_stack(frames: Sequence[Frame]) -> Stack:
    """Order frames along their normal and derive the affine.

    Raises:
        MedVLMError: a duplicate, missing or uneven slice, or an impossible orientation (says where).
    """
    first = frames[0]
    if first.orientation is None or first.spacing is None:
        raise MedVLMError("no orientation or pixel spacing.")
    row, column = first.orientation[:3], first.orientation[3:]
    if abs(np.linalg.norm(row) - 1) > 1e-2 or abs(np.linalg.norm(column) - 1) > 1e-2 or abs(row @ column) > 1e-2:
        raise MedVLMError("ImageOrientationPatient is not a pair of perpendicular unit vectors.")
    place = depths(frames)
    order = np.argsort(place, kind="stable")
    frames = [frames[index] for index in order]
    place = place[order]
    positions = np.array([frame.position for frame in frames])
    notes: list[str] = []
    thick = first.thickness is not None and first.thickness > 0
    if len(frames) == 1:
        step = np.cross(row, column) * (first.thickness if thick else 1.0)
        if not thick:
            notes.append("A single slice of unknown thickness: no size can be stated.")
    else:
        _check_even(place)
        step = (positions[-1] - positions[0]) / (len(frames) - 1)
        line = positions[0] + np.arange(len(frames))[:, None] * step
        wander = np.linalg.norm(positions - line, axis=1)
        if wander.max() > tolerance(float(np.linalg.norm(step))):
            raise MedVLMError(
                f"slice {int(wander.argmax()) + 1} lies {wander.max():.2f} mm beside the line of the others."
            )
        normal = np.cross(row, column)
        tilt = np.degrees(np.arccos(np.clip(step @ normal / np.linalg.norm(step), -1, 1)))
        if tilt > 45:
            raise MedVLMError(f"the slices are shifted sideways by {tilt:.0f} degrees: they do not form a volume.")
        if tilt > 0.3:
            notes.append(f"The gantry was tilted by {tilt:.1f} degrees; the sheared grid is kept as it is.")
    affine = np.eye(4)
    affine[:3, 0] = row * first.spacing[1]
    affine[:3, 1] = column * first.spacing[0]
    affine[:3, 2] = step
    affine[:3, 3] = positions[0]
    return Stack(tuple(frames), LPS_TO_RAS @ affine, tuple(notes), thick or len(frames) > 1)


def tolerance(step: float) -> float:
    """How far (mm) a slice may lie from its even place: rounding of the header, not a real gap."""
    return min(0.1, 0.1 * step)


def _check_even(place: np.ndarray) -> None:
    """`place`: sorted millimetres along the normal."""
    gaps = np.diff(place)
    step = float(np.median(gaps))
    if gaps.min() < 0.01:
        at = place[int(gaps.argmin())]
        count = int((gaps < 0.01).sum())
        plural = "s" if count > 1 else ""
        raise MedVLMError(f"{count} duplicate slice position{plural} (the first at {at:.2f} mm along the normal).")
    even = place[0] + np.arange(len(place)) * (place[-1] - place[0]) / (len(place) - 1)
    if np.abs(place - even).max() <= tolerance(step):
        return
    widest = int(gaps.argmax())
    multiples = gaps / step
    if np.abs(multiples - np.round(multiples)).max() < 0.1:
        missing = int(np.round(multiples).sum()) - len(gaps)
        slices = "slice is" if missing == 1 else "slices are"
        gap = f"a gap of {gaps[widest]:.2f} mm instead of {step:.2f} mm"
        raise MedVLMError(f"{missing} {slices} missing ({gap} after slice {widest + 1} at {place[widest]:.2f} mm).")
    raise MedVLMError(f"uneven slice spacing ({gaps.min():.2f} to {gaps.max():.2f} mm).")
