"""Intensity windows: which grey levels a series is shown with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from medvlm.errors import MedVLMError

if TYPE_CHECKING:  # study.py names the windows that a file proposes
    from medvlm.imaging.study import Series, Volume

Shape = Literal["linear", "dicom linear", "sigmoid"]


@dataclass(frozen=True)
class Window:
    """Grey levels from `centre - width / 2` (black) to `centre + width / 2` (white).

    `shape` is `linear` (PS3.3 C.11.2.1.3.2, LINEAR_EXACT), `dicom linear` (its default, half a grey level aside) or
    `sigmoid` (C.11.2.1.3.1).
    """

    name: str
    centre: float
    width: float
    shape: Shape = "linear"

    def apply(self, values: np.ndarray) -> np.ndarray:
        """Values → uint8 grey of the same shape."""
        centre, width = self.centre, self.width
        if self.shape == "dicom linear":
            centre, width = centre - 0.5, max(width - 1, 1e-6)
        share = (np.asarray(values, dtype=np.float32) - np.float32(centre)) * np.float32(1 / width)
        grey: np.ndarray
        if self.shape == "sigmoid":
            grey = 255 / (1 + np.exp(np.clip(-4 * share, -60, 60)))
        else:
            grey = (share + np.float32(0.5)) * np.float32(255)
        # Rounding half up, not to even: the same byte on every platform.
        return np.clip(np.floor(grey + np.float32(0.5)), 0, 255).astype(np.uint8)

    def mirrored(self, total: float) -> Window:
        """The window for values that were mirrored to `total - value`."""
        return Window(self.name, total - self.centre, self.width, self.shape)


@dataclass(frozen=True, eq=False)
class Table:
    """A VOI lookup table (PS3.3 C.11.2.1.1): grey levels by value.

    Attributes:
        first: the value of the first entry.
        grey: `[N]` uint8.
        total: values were mirrored to `total - value` (MONOCHROME1), or None.
    """

    name: str
    first: float
    grey: np.ndarray
    total: float | None = None

    def apply(self, values: np.ndarray) -> np.ndarray:
        """Values → uint8 grey of the same shape."""
        plain = values if self.total is None else self.total - np.asarray(values, dtype=np.float32)
        index = np.clip(np.asarray(plain, dtype=np.float32) - self.first, 0, len(self.grey) - 1)
        found = self.grey[index.astype(np.int64)]
        return found if self.total is None else 255 - found

    def mirrored(self, total: float) -> Table:
        """The table for values that were mirrored to `total - value`."""
        return Table(self.name, self.first, self.grey, total)


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


def _body_window(body_part: str) -> str | None:
    words = body_part.lower().replace("_", " ").split()
    return next((_BY_BODY_PART[word] for word in words if word in _BY_BODY_PART), None)


def series_window(series: Series) -> Window | Table:
    """The window a series is shown with: CT by body part, so that one region always looks the same; otherwise the one
    that its file proposes, if that shows anything."""
    volume = series.volume
    if volume.is_rgb or (volume.unit == "HU" and _body_window(series.body_part)):
        return default_window(volume, series.body_part)
    return proposed_window(volume, series.windows) or default_window(volume, series.body_part)


def proposed_window(volume: Volume, windows: tuple[Window | Table, ...]) -> Window | Table | None:
    """The first window of the file that shows something: not nearly all black or all white."""
    sample = volume.array[tuple(slice(None, None, max(1, size // 64)) for size in volume.array.shape[:3])]
    for window in windows:
        grey = window.apply(sample)
        if float(np.mean((grey > 0) & (grey < 255))) > 0.2:
            return window
    return None


def default_window(volume: Volume, body_part: str = "") -> Window:
    """The window a volume is shown with when nobody asked for one.

    CT goes by body part (soft tissue where it is unknown); 8-bit pictures keep their grey levels; everything else
    goes from the 0.5th to the 99.5th percentile of a regular sample.
    """
    if volume.unit == "HU":
        return CT_WINDOWS[_body_window(body_part) or "soft tissue"]
    if volume.array.dtype == np.uint8:
        return Window("as stored", 127.5, 255)
    sample = volume.array[tuple(slice(None, None, max(1, size // 64)) for size in volume.array.shape[:3])]
    low, high = np.percentile(sample, [0.5, 99.5])
    if high <= low:
        low, high = float(sample.min()), float(sample.max())
    return Window("percentile", float(low + high) / 2, max(float(high - low), 1e-6))
