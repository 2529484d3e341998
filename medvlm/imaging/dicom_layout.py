"""How one DICOM file stores its pixels, and where they start."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from pydicom.dataset import Dataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from medvlm.errors import MedVLMError
from medvlm.imaging.dicom_fields import Fields


@dataclass(frozen=True, slots=True)
class PixelLayout:
    """How one file stores its pixels.

    Attributes:
        offset: byte where native little-endian grey pixels of 8 or 16 bits start, or None where a decoder is needed.
        tiles: columns of the grid, where one stored image is a mosaic of slices of `rows` x `columns`; else 1.
        tile_rows: rows of that grid.
        has_lut: a modality LUT takes the place of slope and intercept.
    """

    path: Path
    syntax: str
    rows: int
    columns: int
    samples: int
    allocated: int
    stored: int
    high_bit: int
    signed: bool
    photometric: str
    frames: int
    offset: int | None
    has_lut: bool
    tiles: int = 1
    tile_rows: int = 1

    @property
    def frame_bytes(self) -> int:
        """Bytes of one stored image."""
        return (self.rows * self.columns * self.tiles * self.tile_rows * self.samples * self.allocated + 7) // 8

    @property
    def limits(self) -> tuple[int, int]:
        """The lowest and highest value a stored pixel can have."""
        half = 1 << (self.stored - 1)
        return (-half, half - 1) if self.signed else (0, 2 * half - 1)

    @property
    def is_colour(self) -> bool:
        return self.samples == 3 or self.photometric == "PALETTE COLOR"


def read_layout(path: Path, dataset: Dataset, end: int) -> tuple[PixelLayout, str]:
    """The layout, and what is wrong with the pixels (or nothing).

    Args:
        path: the file.
        dataset: its header.
        end: byte where the header ends and the pixel element starts.

    Raises:
        MedVLMError: a value without which no pixel can be read is missing or absurd.
    """
    fields = Fields(dataset)
    syntax = _syntax(dataset)
    allocated = _whole(path, fields, "BitsAllocated")
    stored = _whole(path, fields, "BitsStored", allocated)
    layout = PixelLayout(
        path=path,
        syntax=syntax,
        rows=_whole(path, fields, "Rows"),
        columns=_whole(path, fields, "Columns"),
        samples=_whole(path, fields, "SamplesPerPixel", 1),
        allocated=allocated,
        stored=stored,
        high_bit=_whole(path, fields, "HighBit", stored - 1),
        signed=_whole(path, fields, "PixelRepresentation", 0) == 1,
        photometric=fields.word("PhotometricInterpretation") or "MONOCHROME2",
        frames=1,
        offset=None,
        has_lut="ModalityLUTSequence" in fields,
    )
    whole = min(layout.rows, layout.columns, layout.samples) > 0 and allocated in (1, 8, 16, 32, 64)
    if not whole or not 1 <= stored <= allocated or not stored - 1 <= layout.high_bit < allocated:
        raise MedVLMError(
            f"{path}: an image of {layout.columns} x {layout.rows} x {layout.samples} with {stored} of {allocated} "
            "bits cannot be read."
        )
    if layout.samples not in (1, 3):
        raise MedVLMError(f"{path}: {layout.samples} samples per pixel cannot be read; only grey (1) and colour (3).")
    try:
        start, length = _pixel_start(path, end, syntax)
    except MedVLMError as error:
        return layout, str(error)
    native = syntax in (ImplicitVRLittleEndian, ExplicitVRLittleEndian) and layout.photometric != "YBR_FULL_422"
    layout = replace(layout, frames=_frame_count(path, fields, length // layout.frame_bytes if native else 0))
    if not native or allocated == 1:
        return layout, ""
    present, expected = min(path.stat().st_size - start, length), layout.frame_bytes * layout.frames
    if present < expected:
        return layout, f"truncated: {max(present, 0)} of {expected} bytes of pixels are there; copy the file again"
    simple = layout.samples == 1 and allocated in (8, 16) and not layout.has_lut
    if simple and layout.photometric.startswith("MONOCHROME"):
        return replace(layout, offset=start), ""
    return layout, ""


def _syntax(dataset: Dataset) -> str:
    """The transfer syntax; where the file does not say, what its header turned out to be written in."""
    declared = getattr(dataset, "file_meta", Dataset()).get("TransferSyntaxUID")
    if declared:
        return str(declared)
    implicit, little = dataset.original_encoding
    if little is False:
        return str(ExplicitVRBigEndian)
    return str(ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian)


def _whole(path: Path, fields: Fields, name: str, default: int | None = None) -> int:
    found = fields.number(name)
    if found is None and name not in fields and default is not None:
        return default
    if found is None:
        raise MedVLMError(f"{path}: {name} is missing or not a number, so its pixels cannot be read.")
    return int(found)


def _frame_count(path: Path, fields: Fields, fitting: int) -> int:
    """NumberOfFrames; where it is not a number, as many frames as the native pixels hold."""
    count = fields.number("NumberOfFrames")
    if count is None and "NumberOfFrames" in fields and fields.words("NumberOfFrames"):
        if fitting < 1:
            raise MedVLMError(f"{path}: NumberOfFrames is not a number, so its pixels cannot be read.")
        return fitting
    if count is not None and not 1 <= count <= 1_000_000:
        raise MedVLMError(f"{path}: {count:.0f} frames cannot be read.")
    return int(count or 1)


def _pixel_start(path: Path, end: int, syntax: str) -> tuple[int, int]:
    """Byte where the pixel value starts and its declared length, from the element header at `end`."""
    if syntax == DeflatedExplicitVRLittleEndian:
        return 0, 0
    with path.open("rb") as file:
        file.seek(end)
        element = file.read(12)
    order: Literal["big", "little"] = "big" if syntax == ExplicitVRBigEndian else "little"
    if len(element) < 8 or int.from_bytes(element[:2], order) != 0x7FE0:
        raise MedVLMError("truncated: the header ends before the pixels; copy the file again")
    if syntax == ImplicitVRLittleEndian:
        return end + 8, int.from_bytes(element[4:8], order)
    return end + 12, int.from_bytes(element[8:12], order)
