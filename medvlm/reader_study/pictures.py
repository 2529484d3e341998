"""Images of a case as the packets carry them: pixels only, without a single tag of the file they come from."""

from __future__ import annotations

import base64
import io
import json
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from medvlm.errors import MedVLMError
from medvlm.imaging import Series, load_study
from medvlm.imaging.planes import as_stored, cut
from medvlm.imaging.windows import Window, series_window
from medvlm.reader_study.spec import Pictures

MAX_FLAT = 4  # single images of one case that are shown


@dataclass(frozen=True, eq=False)
class Stack:
    """Slices of one series ready to be shown.

    Attributes:
        pixels: `[S, H, W]` uint16 with `value = pixel * slope + intercept`, or `[S, H, W, 3]` uint8.
        aspect: height of a pixel over its width.
        window: (centre, width) in values.
        unit: `HU` or empty.
    """

    pixels: np.ndarray
    aspect: float
    window: tuple[float, float]
    slope: float = 1.0
    intercept: float = 0.0
    unit: str = ""

    def to_json(self) -> dict[str, Any]:
        """Pixels as zlib-compressed bytes in base64: grey as two planes (high bytes, low bytes) of row differences."""
        count, rows, columns = self.pixels.shape[:3]
        colour = self.pixels.ndim == 4
        slices = [base64.b64encode(zlib.compress(_packed(plane), 6)).decode() for plane in self.pixels]
        return {
            "rows": rows, "columns": columns, "count": count, "colour": colour, "aspect": round(self.aspect, 4),
            "centre": round(self.window[0], 3), "width": round(self.window[1], 3),
            "slope": self.slope, "intercept": self.intercept, "unit": self.unit, "slices": slices,
        }  # fmt: skip

    def png(self) -> bytes:
        """The middle slice with the default window, as a PNG of pixels only."""
        middle = self.pixels[len(self.pixels) // 2]
        if middle.ndim == 2:
            values = middle.astype(np.float32) * self.slope + self.intercept
            middle = Window("", *self.window).apply(values)
        picture = Image.fromarray(middle)
        height = max(1, round(picture.height * self.aspect))
        if height != picture.height:
            picture = picture.resize((picture.width, height), Image.Resampling.BILINEAR)
        buffer = io.BytesIO()
        picture.save(buffer, format="PNG")
        return buffer.getvalue()


def _packed(plane: np.ndarray) -> bytes:
    if plane.ndim == 3:
        return np.ascontiguousarray(plane).tobytes()
    differences = np.diff(plane.astype(np.uint16), axis=1, prepend=np.uint16(0)).astype(np.uint16)
    return (differences >> 8).astype(np.uint8).tobytes() + (differences & 255).astype(np.uint8).tobytes()


def load_stacks(path: Path, settings: Pictures) -> list[Stack]:
    """What is shown of an image file, a NIfTI or a DICOM folder: its largest volume, or up to four single images.

    Raises:
        MedVLMError: the file cannot be read, or its header says that text is burned into the pixels.
    """
    study = load_study(path)
    refuse_burned_in([file for series in study.series for file in series.files])
    volumes = [series for series in study.series if min(series.volume.array.shape[:3]) > 1]
    if volumes:
        return [_volume(max(volumes, key=lambda series: series.volume.array.size), settings)]
    return [_flat(series, settings) for series in study.series[:MAX_FLAT]]


def refuse_burned_in(files: list[Path]) -> None:
    """Raise where a DICOM header says that text is burned into the pixels (BurnedInAnnotation, PS3.3 C.7.6.1.1.1)."""
    import pydicom
    from pydicom.errors import InvalidDicomError

    for file in files:
        try:
            header = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=["BurnedInAnnotation"])
        except (InvalidDicomError, OSError):
            continue  # not a DICOM file: nothing says so
        if str(header.get("BurnedInAnnotation", "")).upper() == "YES":
            raise MedVLMError("an image says that text is burned into its pixels (BurnedInAnnotation); mask it first.")


def _volume(series: Series, settings: Pictures) -> Stack:
    volume = series.volume
    if volume.oriented:
        canonical = volume.to_canonical()
        count = canonical.array.shape[2]
        first = cut(canonical, "axial", 0)
        height, width = first.pixels.shape[:2]
        aspect = first.size_mm[1] / height / (first.size_mm[0] / width) if volume.calibrated else 1.0
        chosen = _thinned(count, settings.max_slices)[::-1]  # from head to foot
        planes = [cut(canonical, "axial", int(index)).pixels for index in chosen]
    else:
        chosen = _thinned(volume.array.shape[2], settings.max_slices)
        aspect, planes = 1.0, [as_stored(volume, int(index)).pixels for index in chosen]
    return _stack(series, np.stack([_smaller(plane, settings.max_side) for plane in planes]), aspect)


def _flat(series: Series, settings: Pictures) -> Stack:
    volume = series.volume
    thin = int(np.argmin(volume.array.shape[:3]))
    if volume.oriented and thin != 2:
        canonical = volume.to_canonical()
        plane = ("sagittal", "coronal", "axial")[int(np.argmin(canonical.array.shape[:3]))]
        picture = cut(canonical, plane, 0)  # type: ignore[arg-type]
    else:
        picture = as_stored(volume, 0)
    height, width = picture.pixels.shape[:2]
    aspect = picture.size_mm[1] / height / (picture.size_mm[0] / width)
    return _stack(series, _smaller(picture.pixels, settings.max_side)[None], aspect)


def _thinned(count: int, limit: int) -> np.ndarray:
    if count <= limit:
        return np.arange(count)
    return np.round(np.linspace(0, count - 1, limit)).astype(int)


def _smaller(plane: np.ndarray, side: int) -> np.ndarray:
    """Whole-number averaging, so that nothing is made up between pixels."""
    factor = -(-max(plane.shape[:2]) // side)
    if factor == 1:
        return plane
    rows, columns = plane.shape[0] // factor, plane.shape[1] // factor
    cropped = plane[: rows * factor, : columns * factor].astype(np.float32)
    blocks = cropped.reshape(rows, factor, columns, factor, *plane.shape[2:]).mean(axis=(1, 3))
    return blocks.astype(plane.dtype) if plane.dtype == np.uint8 else np.round(blocks)


def _stack(series: Series, planes: np.ndarray, aspect: float) -> Stack:
    if planes.ndim == 4:
        return Stack(planes.astype(np.uint8), aspect, (127.5, 255.0))
    window = series_window(series)
    values = planes.astype(np.float32)
    low, high = float(values.min()), float(values.max())
    slope = 1.0 if high - low <= 65535 and np.all(values == np.round(values)) else max((high - low) / 65535, 1e-12)
    pixels = np.round((values - low) / slope).astype(np.uint16)
    centre, width = (window.centre, window.width) if isinstance(window, Window) else ((low + high) / 2, high - low or 1)
    return Stack(pixels, aspect, (float(centre), float(width)), slope, low, "HU" if series.volume.unit == "HU" else "")


def picture_script(stacks: list[Stack]) -> bytes:
    """A script that hands the pictures to the reading room; it does not know its own name, so all copies are equal."""
    data = json.dumps([stack.to_json() for stack in stacks], separators=(",", ":"))
    return f"readingRoom.picture(document.currentScript.src,{data})\n".encode()
