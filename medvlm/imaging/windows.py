"""Intensity windows: which grey levels a series is shown with."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from medvlm.errors import MedVLMError
from medvlm.imaging.study import Volume


@dataclass(frozen=True)
class Window:
    """Grey levels from `centre - width / 2` (black) to `centre + width / 2` (white)."""

    name: str
    centre: float
    width: float

    def apply(self, values: np.ndarray) -> np.ndarray:
        """Values → uint8 grey of the same shape."""
        low = self.centre - self.width / 2
        grey = (np.asarray(values, dtype=np.float32) - np.float32(low)) * np.float32(255 / self.width)
        # Rounding half up, not to even: the same byte on every platform.
        return np.clip(np.floor(grey + np.float32(0.5)), 0, 255).astype(np.uint8)


# Hounsfield windows in common clinical use.
CT_WINDOWS = {
    window.name: window
    for window in (
        Window("lung", -600, 1500),
        Window("mediastinum", 50, 350),
        Window("soft tissue", 50, 400),
        Window("bone", 500, 2000),
        Window("brain", 40, 80),
        Window("stroke", 40, 40),
        Window("subdural", 75, 215),
        Window("abdomen", 50, 400),
        Window("liver", 80, 150),
    )
}
_BY_BODY_PART = {
    "chest": "lung",
    "thorax": "lung",
    "lung": "lung",
    "head": "brain",
    "brain": "brain",
    "skull": "bone",
    "abdomen": "abdomen",
    "abdomenpelvis": "abdomen",
    "liver": "liver",
    "spine": "bone",
    "extremity": "bone",
}


def named_window(name: str) -> Window:
    """A CT window by name.

    Raises:
        MedVLMError: there is none of that name.
    """
    if name not in CT_WINDOWS:
        raise MedVLMError(f"no window '{name}'; there are: {', '.join(CT_WINDOWS)}.")
    return CT_WINDOWS[name]


def default_window(volume: Volume, body_part: str = "") -> Window:
    """The window a volume is shown with when nobody asked for one.

    CT goes by body part (soft tissue where it is unknown); 8-bit pictures keep their grey levels; everything else
    goes from the 0.5th to the 99.5th percentile of a regular sample.
    """
    if volume.unit == "HU":
        words = body_part.lower().replace("_", " ").split()
        named = next((_BY_BODY_PART[word] for word in words if word in _BY_BODY_PART), "soft tissue")
        return CT_WINDOWS[named]
    if volume.array.dtype == np.uint8:
        return Window("as stored", 127.5, 255)
    sample = volume.array[tuple(slice(None, None, max(1, size // 64)) for size in volume.array.shape[:3])]
    low, high = np.percentile(sample, [0.5, 99.5])
    if high <= low:
        low, high = float(sample.min()), float(sample.max())
    return Window("percentile", float(low + high) / 2, max(float(high - low), 1e-6))
