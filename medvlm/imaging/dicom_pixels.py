"""Frames → voxels: decode, rescale, colours, padding. One preallocated array, frames written in place."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pydicom
from pydicom.pixels import apply_color_lut, apply_modality_lut, pixel_array

from medvlm.errors import MedVLMError
from medvlm.imaging.dicom_header import Frame, PixelLayout
from medvlm.imaging.text import clean_text

AIR = -1024  # what padding becomes in CT, in HU


def read_voxels(frames: Sequence[Frame], modality: str, padding: tuple[float, float] | None) -> np.ndarray:
    """`[columns, rows, frames]` rescaled values, or `[columns, rows, frames, 3]` uint8 for colour.

    Whole-number rescaling that fits stays int16 (or uint16), anything else becomes float32.

    Raises:
        MedVLMError: a frame cannot be decoded (names the file and the reason).
    """
    layout = frames[0].layout
    colour = is_colour(layout)
    shape = (len(frames), layout.rows, layout.columns) + ((3,) if colour else ())
    try:
        voxels = np.empty(shape, dtype=np.uint8 if colour else _value_type(frames, padding, modality))
    except (MemoryError, ValueError):
        raise MedVLMError(f"{layout.path}: an image of {shape} does not fit into memory.") from None
    files: dict[Path, list[int]] = {}
    for place, frame in enumerate(frames):
        files.setdefault(frame.layout.path, []).append(place)

    def fill(places: list[int]) -> None:
        group = [frames[place] for place in places]
        for place, frame, stored in zip(places, group, _stored(group), strict=False):
            voxels[place] = stored if colour else _rescaled(stored, frame, modality, padding, voxels.dtype)

    if layout.offset is not None:  # plain reads: threads would only wait for each other
        for places in files.values():
            fill(places)
    else:
        with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
            for _ in pool.map(fill, files.values()):
                pass
    axes = (2, 1, 0, 3) if colour else (2, 1, 0)
    return voxels.transpose(axes)


def is_colour(layout: PixelLayout) -> bool:
    return layout.samples == 3 or layout.photometric == "PALETTE COLOR"


def _value_type(frames: Sequence[Frame], padding: tuple[float, float] | None, modality: str) -> np.dtype:
    """The smallest of int16, uint16 and float32 that holds every value the frames can have exactly."""
    layout = frames[0].layout
    if layout.has_lut or layout.allocated > 16:
        return np.dtype(np.float32)
    low, high = (
        (-(1 << (layout.stored - 1)), (1 << (layout.stored - 1)) - 1)
        if layout.signed
        else (0, (1 << layout.stored) - 1)
    )
    lows, highs = [0.0 if padding is None else _fill(modality)], [0.0]
    for slope, intercept in {(frame.slope, frame.intercept) for frame in frames}:
        if not (float(slope).is_integer() and float(intercept).is_integer()):
            return np.dtype(np.float32)
        ends = (low * slope + intercept, high * slope + intercept)
        lows.append(min(ends))
        highs.append(max(ends))
    for kind in (np.int16, np.uint16):
        limits = np.iinfo(kind)
        if limits.min <= min(lows) and max(highs) <= limits.max:
            return np.dtype(kind)
    return np.dtype(np.float32)


def _fill(modality: str) -> float:
    return AIR if modality == "CT" else 0


def _stored(frames: Sequence[Frame]) -> list[np.ndarray]:
    """The stored values `[rows, columns(, 3)]` of frames of one file; colour comes as 8-bit RGB."""
    layout = frames[0].layout
    if layout.offset is not None:
        return [_raw(layout, frame.index) for frame in frames]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dataset = pydicom.dcmread(layout.path, force=True)
            if "TransferSyntaxUID" not in dataset.file_meta:
                dataset.file_meta.TransferSyntaxUID = pydicom.uid.UID(layout.syntax)
            return [_decoded(dataset, layout, frame.index) for frame in frames]
    except Exception as error:  # decoders fail in many ways; the user needs the file and the reason
        reason = clean_text(f"{type(error).__name__}: {error}", 160)
        raise MedVLMError(f"{layout.path}: the pixels cannot be decoded ({reason}).") from None


def _raw(layout: PixelLayout, index: int) -> np.ndarray:
    kind = np.dtype(f"<{'i' if layout.signed else 'u'}{layout.allocated // 8}")
    start = (layout.offset or 0) + index * layout.frame_bytes
    stored = np.fromfile(layout.path, kind, layout.rows * layout.columns, offset=start)
    if stored.size != layout.rows * layout.columns:
        raise MedVLMError(f"{layout.path}: truncated; copy the file again.")
    if layout.stored < layout.allocated:  # bits beyond BitsStored may hold anything
        above, below = layout.allocated - 1 - layout.high_bit, layout.allocated - layout.stored
        stored = (stored << above) >> below
    return stored.reshape(layout.rows, layout.columns)


def _decoded(dataset: pydicom.Dataset, layout: PixelLayout, index: int) -> np.ndarray:
    stored = pixel_array(dataset, index=index)
    if layout.photometric == "PALETTE COLOR":
        stored = apply_color_lut(stored, dataset)
    elif layout.has_lut:
        stored = apply_modality_lut(stored, dataset)
    if is_colour(layout) and stored.dtype != np.uint8:
        top = np.iinfo(stored.dtype).bits if layout.photometric == "PALETTE COLOR" else layout.stored
        stored = (stored.astype(np.float32) * (255.0 / ((1 << top) - 1))).round().astype(np.uint8)
    return stored


def _rescaled(
    stored: np.ndarray, frame: Frame, modality: str, padding: tuple[float, float] | None, kind: np.dtype
) -> np.ndarray:
    values = stored
    plain = frame.slope == 1.0 and frame.intercept == 0.0
    if not plain:
        values = stored.astype(kind) * kind.type(frame.slope) + kind.type(frame.intercept)
    if padding is not None:
        empty = (stored >= padding[0]) & (stored <= padding[1])
        values = np.where(empty, kind.type(_fill(modality)), values.astype(kind))
    return values
