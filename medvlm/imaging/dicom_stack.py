"""Which frames form one volume, and where that volume lies in the patient."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from medvlm.errors import MedVLMError
from medvlm.imaging.dicom_header import STACK_KEYS, Frame
from medvlm.imaging.slice_places import EXACT, SAME_PLACE, even_places, slices_between, tolerance, uneven

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
        between: where slices had to be interpolated: for each slice of the volume the number of the frame below it and
            how far (0..1) it lies towards the next; None where every slice is a frame.
    """

    frames: tuple[Frame, ...]
    affine: np.ndarray
    notes: tuple[str, ...] = field(default=())
    calibrated: bool = True
    between: tuple[tuple[int, float], ...] | None = None

    @property
    def slices(self) -> int:
        """Slices of the volume."""
        return len(self.frames) if self.between is None else len(self.between)

    @property
    def interpolated(self) -> float:
        """The share of slices that no frame shows."""
        if self.between is None:
            return 0.0
        return sum(EXACT < share < 1 - EXACT for _, share in self.between) / len(self.between)

    def fill(self, voxels: np.ndarray) -> np.ndarray:
        """`[i, j, frames]` → `[i, j, slices]`: as it is, or float32 interpolated along the slices."""
        if self.between is None:
            return voxels
        filled = np.empty((len(self.between), voxels.shape[1], voxels.shape[0]), np.float32).transpose(2, 1, 0)
        for number, (below, share) in enumerate(self.between):
            filled[..., number] = voxels[..., below]
            if share > 0:
                filled[..., number] += np.float32(share) * (voxels[..., below + 1] - filled[..., number])
        return filled


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


# Values by which even places may be two interleaved acquisitions rather than one.
_INTERLEAVED = ("AcquisitionNumber", "ImageType", "EchoNumbers", "ConvolutionKernel")


def split_stacks(frames: Sequence[Frame]) -> list[list[Frame]]:
    """Split frames of one plane into stacks: by echo, time, b-value, acquisition ... where those overlap in space.

    A value that divides the frames into whole volumes (the same places, each equally often) goes before one that does
    not; slices that each carry their own value, one after the other, stay one volume. Stacks come in the order of
    their first image.
    """
    stacks = _split(list(frames))
    return sorted(stacks, key=lambda stack: min((frame.number, frame.index) for frame in stack))


def _split(frames: list[Frame]) -> list[list[Frame]]:
    if len(frames) < 2:
        return [frames]
    place = depths(frames)
    order = np.argsort(place, kind="stable")
    # Number of the place of each frame: what lies closer together than the rounding of a header is one place.
    slot = np.empty(len(frames), int)
    slot[order] = np.cumsum(np.diff(place[order], prepend=place[order[0]]) >= SAME_PLACE)
    counts = np.bincount(slot)
    if counts.max() == 1:
        return _interleaved(frames, place)
    at = {id(frame): int(number) for frame, number in zip(frames, slot, strict=True)}
    divisions = [parts for key in STACK_KEYS if len(parts := _grouped(frames, key)) > 1]
    for parts in divisions:
        if all(_is_whole(part, at, len(counts)) for part in parts):
            return [stack for part in parts for stack in _split(part)]
    if counts.min() == counts.max():
        return _repetitions(frames, at)
    for parts in divisions:
        if _overlap(parts) and max(len(part) for part in parts) > 1:
            return [stack for part in parts for stack in _split(part)]
    return [frames]


def _grouped(frames: list[Frame], key: str) -> list[list[Frame]]:
    parts: dict[str, list[Frame]] = {}
    for frame in frames:
        parts.setdefault(frame.stack.get(key, ""), []).append(frame)
    return list(parts.values())


def _is_whole(part: list[Frame], at: Mapping[int, int], places: int) -> bool:
    """The part has an image at every place, equally often."""
    counts = np.bincount([at[id(frame)] for frame in part], minlength=places)
    return bool(counts.min() == counts.max())


def _interleaved(frames: list[Frame], place: np.ndarray) -> list[list[Frame]]:
    """Frames that are each alone at their place: one volume, unless only its parts are evenly spaced."""
    if uneven(np.sort(place)):
        for parts in (_grouped(frames, key) for key in _INTERLEAVED):
            whole = len(parts) > 1 and min(len(part) for part in parts) >= 3
            if whole and _overlap(parts) and not any(uneven(np.sort(depths(part))) for part in parts):
                return parts
    return [frames]


def _repetitions(frames: list[Frame], at: Mapping[int, int]) -> list[list[Frame]]:
    """Every place occupied equally often, and no header value tells why: the n-th image at each place is stack n."""
    places: dict[int, list[Frame]] = {}
    for frame in sorted(frames, key=lambda frame: (frame.number, frame.index)):
        places.setdefault(at[id(frame)], []).append(frame)
    return [list(stack) for stack in zip(*places.values(), strict=True)]


def _overlap(parts: list[list[Frame]]) -> bool:
    spans = sorted((place.min(), place.max()) for place in (depths(part) for part in parts))
    return any(after[0] <= before[1] + 1e-3 for before, after in pairwise(spans))


def build_stack(frames: Sequence[Frame]) -> Stack:
    """Order frames along their normal and derive the affine.

    Raises:
        MedVLMError: a duplicate, too many missing or too uneven slices, or an impossible orientation (says where).
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
    between: tuple[tuple[int, float], ...] | None = None
    thick = first.thickness is not None and first.thickness > 0
    if len(frames) == 1:
        step = np.cross(row, column) * (first.thickness if thick else 1.0)
        if not thick:
            notes.append("A single slice of unknown thickness: no size can be stated.")
    else:
        reason = uneven(place)
        if reason and (first.layout.allocated == 1 or first.layout.is_colour):
            raise MedVLMError(f"{reason.rstrip('.')}, and masks and colours cannot be interpolated.")
        even = even_places(place, reason) if reason else place
        slope = (positions[-1] - positions[0]) / (place[-1] - place[0])
        step = slope * (even[-1] - even[0]) / (len(even) - 1)
        line = positions[0] + (place - place[0])[:, None] * slope
        if reason:
            between = slices_between(place, even)
            notes.append(f"{reason[:1].upper()}{reason[1:]} {len(even)} even slices were interpolated from the others.")
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
    return Stack(tuple(frames), LPS_TO_RAS @ affine, tuple(notes), thick or len(frames) > 1, between)
