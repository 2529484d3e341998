"""Frames → voxels: decode, rescale, colours, padding. One preallocated array, frames written in place."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pydicom
from pydicom.encaps import encapsulate, generate_frames, get_frame
from pydicom.pixels import apply_color_lut, apply_modality_lut, pixel_array
from pydicom.uid import JPEG2000, ExplicitVRBigEndian, JPEG2000Lossless, JPEGBaseline8Bit, JPEGExtended12Bit

from medvlm.errors import MedVLMError
from medvlm.imaging.dicom_header import Frame, quiet_pydicom
from medvlm.imaging.dicom_layout import PixelLayout
from medvlm.imaging.text import clean_text

AIR = -1024  # what padding becomes in CT, in HU
MAX_BYTES = 16 << 30  # more is a broken header, not a scan


class _TooWide(Exception):
    """A rescaled value does not fit into the whole-number type; the volume is read again as float32."""


def read_voxels(frames: Sequence[Frame], modality: str, padding: tuple[float, float] | None) -> np.ndarray:
    """`[columns, rows, frames]` rescaled values, or `[columns, rows, frames, 3]` uint8 for colour.

    Whole-number rescaling that fits stays int16 or uint16, anything else becomes float32.

    Args:
        frames: in the order of the last axis; all of one size.
        modality: decides what padding becomes.
        padding: range of stored values that mean "no data here".

    Raises:
        MedVLMError: a frame cannot be decoded (names the file and the reason).
    """
    layout = frames[0].layout
    shape = (len(frames), layout.rows, layout.columns) + ((3,) if layout.is_colour else ())
    for kind in _kinds(frames, padding, modality):
        if int(np.prod(shape, dtype=object)) * kind.itemsize > MAX_BYTES:
            raise MedVLMError(f"{layout.path}: an image of {' x '.join(map(str, shape))} does not fit into memory.")
        voxels = np.empty(shape, dtype=kind)
        try:
            with quiet_pydicom(), _openjpeg_threads():
                _fill(voxels, frames, modality, padding)
        except _TooWide:
            continue
        return voxels.transpose((2, 1, 0, 3) if layout.is_colour else (2, 1, 0))
    raise AssertionError("float32 takes every value")


@contextmanager
def _openjpeg_threads() -> Iterator[None]:
    """OpenJPEG takes its number of threads from the environment; the user's own choice stays."""
    name = "OPJ_NUM_THREADS"
    if name in os.environ:
        yield
        return
    os.environ[name] = str(os.cpu_count() or 1)
    try:
        yield
    finally:
        os.environ.pop(name, None)


def _kinds(frames: Sequence[Frame], padding: tuple[float, float] | None, modality: str) -> list[np.dtype]:
    """Types to try, the smallest first."""
    layout = frames[0].layout
    if layout.is_colour:
        return [np.dtype(np.uint8)]
    whole = all(float(frame.slope).is_integer() and float(frame.intercept).is_integer() for frame in frames)
    if layout.has_lut or layout.allocated > 16 or not whole:
        return [np.dtype(np.float32)]
    low, high = layout.limits
    ends = [end * frame.slope + frame.intercept for frame in frames for end in (low, high)]
    ends += [] if padding is None else [_empty_value(modality)]
    kind = np.uint16 if min(ends) >= 0 and max(ends) > np.iinfo(np.int16).max else np.int16
    return [np.dtype(kind), np.dtype(np.float32)]


def _empty_value(modality: str) -> int:
    return AIR if modality == "CT" else 0


def _fill(voxels: np.ndarray, frames: Sequence[Frame], modality: str, padding: tuple[float, float] | None) -> None:
    """Decode every frame into its place of `voxels` `[N, rows, columns(, 3)]`."""
    files: dict[Path, list[int]] = {}
    for place, frame in enumerate(frames):
        files.setdefault(frame.layout.path, []).append(place)
    empty = _empty_value(modality)

    def fill(places: list[int], stored_frames: Iterator[np.ndarray]) -> None:
        for place, stored in zip(places, stored_frames, strict=True):
            if stored.shape != voxels[place].shape:
                raise MedVLMError(f"{frames[place].layout.path}: decodes to another size than its header says.")
            if frames[place].layout.is_colour:
                voxels[place] = stored
            else:
                _rescale(stored, frames[place], padding, empty, voxels[place])

    tasks: list[Callable[[], None]] = []
    for places in files.values():
        layout = frames[places[0]].layout
        if layout.offset is not None:  # plain reads: threads would only wait for each other
            fill(places, _raw(layout, [frames[place].index for place in places]))
            continue
        workers = min(os.cpu_count() or 1, len(places)) if len(files) == 1 else 1
        for part in np.array_split(places, workers):
            chosen = [int(place) for place in part]
            tasks.append(lambda p=chosen, f=layout: fill(p, _decoded(f, [frames[i].index for i in p])))  # type: ignore[misc]
    if len(tasks) == 1:
        tasks[0]()
    elif tasks:
        with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
            for done in [pool.submit(task) for task in tasks]:
                done.result()


def _raw(layout: PixelLayout, indices: Sequence[int]) -> Iterator[np.ndarray]:
    """Native grey frames straight from the file."""
    kind = np.dtype(f"<{'i' if layout.signed else 'u'}{layout.allocated // 8}")
    stored: np.ndarray | None = None
    with layout.path.open("rb") as file:
        for index in indices:
            if layout.tiles == 1 or stored is None:
                stored = _read_frame(file, layout, 0 if layout.tiles > 1 else index, kind)
            yield _tile(stored, layout, index)


def _read_frame(file: BinaryIO, layout: PixelLayout, index: int, kind: np.dtype) -> np.ndarray:
    """One stored image `[rows, columns]`."""
    file.seek((layout.offset or 0) + index * layout.frame_bytes)
    rows, columns = layout.rows * layout.tile_rows, layout.columns * layout.tiles
    stored = np.fromfile(file, kind, rows * columns)
    if stored.size != rows * columns:
        raise MedVLMError(f"{layout.path}: truncated; copy the file again.")
    if layout.stored < layout.allocated:  # bits beyond BitsStored may hold anything
        above, below = layout.allocated - 1 - layout.high_bit, layout.allocated - layout.stored
        stored = (stored << above) >> below
    return stored.reshape(rows, columns)


def _tile(stored: np.ndarray, layout: PixelLayout, index: int) -> np.ndarray:
    """The slice at one place of a mosaic, row by row; anything else as it is."""
    if layout.tiles == 1:
        return stored
    top, left = index // layout.tiles * layout.rows, index % layout.tiles * layout.columns
    return stored[top : top + layout.rows, left : left + layout.columns]


def _rescale(
    stored: np.ndarray, frame: Frame, padding: tuple[float, float] | None, empty: int, out: np.ndarray
) -> None:
    """Stored values → rescaled values in `out`.

    Raises:
        _TooWide: they do not fit.
    """
    blank = None if padding is None else (stored >= padding[0]) & (stored <= padding[1])
    if out.dtype.kind == "f":
        out[...] = stored
        if frame.slope != 1.0:
            out *= frame.slope
        if frame.intercept != 0.0:
            out += frame.intercept
    else:
        slope, intercept, limits = int(frame.slope), int(frame.intercept), np.iinfo(out.dtype)
        ends = [int(end) * slope + intercept for end in (stored.min(), stored.max())]
        if min(ends) < limits.min or max(ends) > limits.max:
            raise _TooWide
        np.multiply(stored, slope, out=out, casting="unsafe", dtype=np.int32) if slope != 1 else None
        np.add(out if slope != 1 else stored, intercept, out=out, casting="unsafe", dtype=np.int32)
    if blank is not None:
        out[blank] = empty


def _decoded(layout: PixelLayout, indices: Sequence[int]) -> Iterator[np.ndarray]:
    """Frames of one file through pydicom's decoders: `[rows, columns]`, or `[rows, columns, 3]` uint8."""
    try:
        dataset = pydicom.dcmread(layout.path, force=True)
        if "TransferSyntaxUID" not in dataset.file_meta:
            dataset.file_meta.TransferSyntaxUID = pydicom.uid.UID(layout.syntax)
        if layout.tiles == 1:
            dataset.NumberOfFrames = layout.frames
        if layout.syntax in (JPEGBaseline8Bit, JPEGExtended12Bit):
            _repair_scans(dataset, layout.frames)
        for index in indices:
            stored = _pixels(dataset, layout, 0 if layout.tiles > 1 else index)
            yield _tile(_displayed(stored, dataset, layout), layout, index)
    except (KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as error:  # decoders fail in many ways, those in Rust beside Exception; name file and reason
        reason = clean_text(f"{type(error).__name__}: {error}", 160)
        raise MedVLMError(f"{layout.path}: the pixels cannot be decoded ({reason}).") from None


def _pixels(dataset: pydicom.Dataset, layout: PixelLayout, index: int) -> np.ndarray:
    if layout.syntax in (JPEG2000Lossless, JPEG2000) and layout.samples == 1:
        quick = _parallel_jpeg2000(get_frame(dataset.PixelData, index, number_of_frames=layout.frames), layout)
        if quick is not None:
            return quick
        # Pillow's OpenJPEG decodes the blocks of an image in parallel (`_openjpeg_threads`); pydicom's first choice
        # was built without. What Pillow cannot do (odd precisions) falls to the others.
        with suppress(Exception):
            return pixel_array(dataset, index=index, decoding_plugin="pillow")
    return pixel_array(dataset, index=index)


def _parallel_jpeg2000(stream: bytes, layout: PixelLayout) -> np.ndarray | None:
    """A plain codestream through a decoder that lets other threads run meanwhile; None where that cannot be done.

    Only where the codestream has the bits and sign of the header (Ssiz, ISO/IEC 15444-1 A.5.1): nothing to mend.
    """
    try:
        from imagecodecs import jpeg2k_decode
    except ImportError:
        return None
    ssiz = (0x80 if layout.signed else 0) | (layout.stored - 1)
    plain = len(stream) > 42 and stream[:4] == b"\xff\x4f\xff\x51" and stream[42] == ssiz
    if not plain or layout.high_bit != layout.stored - 1:
        return None
    try:
        decoded = jpeg2k_decode(stream)
    except RuntimeError:  # the others may still do it, or say why not
        return None
    shape = (layout.rows * layout.tile_rows, layout.columns * layout.tiles)
    return decoded if decoded.shape == shape and decoded.dtype.kind == "ui"[layout.signed] else None


def _displayed(stored: np.ndarray, dataset: pydicom.Dataset, layout: PixelLayout) -> np.ndarray:
    """Lookup tables applied; colour as 8-bit RGB."""
    if layout.photometric == "PALETTE COLOR":
        colour = apply_color_lut(stored, _little_palette(dataset, layout))[..., :3]
        return colour if colour.dtype == np.uint8 else (colour >> 8).astype(np.uint8)
    if layout.is_colour and stored.dtype != np.uint8:
        return (stored.astype(np.float64) * (255.0 / ((1 << layout.stored) - 1)) + 0.5).astype(np.uint8)
    return apply_modality_lut(stored, dataset) if layout.has_lut else stored


def _little_palette(dataset: pydicom.Dataset, layout: PixelLayout) -> pydicom.Dataset:
    """pydicom takes the 16-bit words of a plain palette as little endian even in a big endian file."""
    names = [f"{colour}PaletteColorLookupTableData" for colour in ("Red", "Green", "Blue")]
    entries = dataset.RedPaletteColorLookupTableDescriptor[0] or 1 << 16
    if layout.syntax != ExplicitVRBigEndian or names[0] not in dataset or len(dataset[names[0]].value) != 2 * entries:
        return dataset
    swapped = pydicom.Dataset()
    for name in (*names, *(f"{colour}PaletteColorLookupTableDescriptor" for colour in ("Red", "Green", "Blue"))):
        value = dataset[name].value
        setattr(swapped, name, np.frombuffer(value, ">u2").astype("<u2").tobytes() if name in names else value)
    return swapped


def _repair_scans(dataset: pydicom.Dataset, frames: int) -> None:
    """Sequential JPEG has one scan over all 64 coefficients; some writers leave its end at 0, which strict decoders
    refuse."""
    repaired = False
    streams = []
    for stream in generate_frames(dataset.PixelData, number_of_frames=frames):
        at = 2
        while at + 4 <= len(stream) and stream[at] == 0xFF and stream[at + 1] != 0xDA:
            at += 2 + int.from_bytes(stream[at + 2 : at + 4], "big")
        end = at + 2 + int.from_bytes(stream[at + 2 : at + 4], "big")
        if stream[at : at + 2] == b"\xff\xda" and stream[end - 3 : end - 1] == b"\0\0":
            stream = stream[: end - 2] + b"\x3f" + stream[end - 1 :]
            repaired = True
        streams.append(stream)
    if repaired:
        dataset.PixelData = encapsulate(streams)
