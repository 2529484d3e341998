"""Whether slices lie evenly, and where to interpolate them if they do not."""

from __future__ import annotations

import numpy as np

from medvlm.errors import MedVLMError

SAME_PLACE = 0.01  # mm
# Missing or uneven slices are interpolated where the gap is small enough for anatomy to go on across it.
MAX_GAP_MM = 10.0
MAX_MISSING_TOGETHER = 2
MAX_MISSING_SHARE = 0.1
MAX_UNEVEN = 2.0  # largest over smallest gap
EXACT = 0.01  # share of a step within which a slice is a frame


def even_places(place: np.ndarray, reason: str) -> np.ndarray:
    """Even millimetres along the normal to interpolate at.

    Raises:
        MedVLMError: the gaps are too large, too many or too different; `reason` says what is wrong.
    """
    gaps = np.diff(place)
    step = float(np.median(gaps))
    steps = np.round(gaps / step)
    if gaps.min() < SAME_PLACE or gaps.max() > MAX_GAP_MM:
        raise MedVLMError(reason)
    if np.abs(gaps / step - steps).max() < 0.1:
        missing = int(steps.sum()) - len(gaps)
        if steps.max() - 1 > MAX_MISSING_TOGETHER or missing > MAX_MISSING_SHARE * len(place):
            raise MedVLMError(reason)
        return np.linspace(place[0], place[-1], int(steps.sum()) + 1)
    if gaps.max() / gaps.min() > MAX_UNEVEN:
        raise MedVLMError(reason)
    return np.linspace(place[0], place[-1], int(np.ceil((place[-1] - place[0]) / gaps.min() - 1e-6)) + 1)


def slices_between(place: np.ndarray, even: np.ndarray) -> tuple[tuple[int, float], ...]:
    """For each even place the number of the slice below it, and how far (0..1) it lies towards the next."""
    below = np.clip(np.searchsorted(place, even, side="right") - 1, 0, len(place) - 2)
    share = np.clip((even - place[below]) / (place[below + 1] - place[below]), 0.0, 1.0)
    return tuple((int(number), float(part)) for number, part in zip(below, share, strict=True))


def tolerance(step: float) -> float:
    """How far (mm) a slice may lie from its even place: rounding of the header, not a real gap."""
    return min(0.1, 0.1 * step)


def uneven(place: np.ndarray) -> str:
    """Why sorted millimetres along the normal are not the places of one volume; empty where they are."""
    if len(place) < 2:
        return ""
    gaps = np.diff(place)
    step = float(np.median(gaps))
    if gaps.min() < SAME_PLACE:
        at = place[int(gaps.argmin())]
        count = int((gaps < SAME_PLACE).sum())
        plural = "s" if count > 1 else ""
        return f"{count} duplicate slice position{plural} (the first at {at:.2f} mm along the normal)."
    even = place[0] + np.arange(len(place)) * (place[-1] - place[0]) / (len(place) - 1)
    if np.abs(place - even).max() <= tolerance(step):
        return ""
    widest = int(gaps.argmax())
    multiples = gaps / step
    if np.abs(multiples - np.round(multiples)).max() < 0.1:
        missing = int(np.round(multiples).sum()) - len(gaps)
        slices = "slice is" if missing == 1 else "slices are"
        gap = f"a gap of {gaps[widest]:.2f} mm instead of {step:.2f} mm"
        return f"{missing} {slices} missing ({gap} after slice {widest + 1} at {place[widest]:.2f} mm)."
    return f"uneven slice spacing ({gaps.min():.2f} to {gaps.max():.2f} mm)."
