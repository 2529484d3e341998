"""One DICOM file's header → the Frames it holds. Pixels stay on disk."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pydicom
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag, Tag
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from medvlm.errors import MedVLMError
from medvlm.imaging.text import clean_text

NATIVE = {ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian}
# Values that tell apart stacks which share one SeriesInstanceUID (PS3.3 C.7.6.16 and C.8).
STACK_KEYS = (
    "ReferencedSegmentNumber",
    "EchoNumbers",
    "TemporalPositionIdentifier",
    "TemporalPositionIndex",
    "DiffusionBValue",
    "DiffusionGradientOrientation",
    "FlipAngle",
    "InversionTime",
    "EchoTime",
    "ImageType",
    "ConvolutionKernel",
    "NominalPercentageOfCardiacPhase",
    "AcquisitionNumber",
    "TriggerTime",
    "AcquisitionTime",
)
SHOWN_TAGS = ("Manufacturer", "ManufacturerModelName", "ConvolutionKernel", "SliceThickness", "KVP", "SequenceName")


@dataclass(frozen=True, slots=True)
class PixelLayout:
    """How one file stores its pixels.

    Attributes:
        offset: byte where native little-endian pixels of at least 8 bits start, or None where a decoder is needed.
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

    @property
    def frame_bytes(self) -> int:
        return self.rows * self.columns * self.samples * self.allocated // 8

    @property
    def limits(self) -> tuple[int, int]:
        """The lowest and highest value a stored pixel can have."""
        half = 1 << (self.stored - 1)
        return (-half, half - 1) if self.signed else (0, 2 * half - 1)


@dataclass(frozen=True, slots=True)
class Frame:
    """One 2-D image of a file, with what places it in the patient (LPS millimetres, as stored)."""

    layout: PixelLayout
    index: int
    number: int
    position: np.ndarray | None
    orientation: np.ndarray | None
    spacing: tuple[float, float] | None
    thickness: float | None
    slope: float
    intercept: float
    stack: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Header:
    """What the reader keeps of one file; `problem` says why its pixels cannot be used, if so."""

    path: Path
    instance: str
    study: str
    series: str
    patient: str
    sop_class: str
    modality: str
    reference: str
    image_type: tuple[str, ...]
    rescaled: bool
    padding: tuple[float, float] | None
    patient_orientation: tuple[str, ...]
    calibrated: bool
    description: str
    body_part: str
    tags: Mapping[str, str]
    frames: tuple[Frame, ...]
    problem: str = ""


def read_header(path: Path) -> Header:
    """Read the header of one DICOM file.

    A file whose header can be read but whose pixels are cut off comes with a `problem`, because the series that it
    belongs to must not be used without it.

    Raises:
        MedVLMError: not DICOM, a broken header, or no image (one sentence that names the file).
    """
    try:
        with warnings.catch_warnings(), path.open("rb") as file:
            warnings.simplefilter("ignore")
            start = file.read(132)
            file.seek(0)
            if start[128:] != b"DICM" and not _looks_bare(start):
                raise MedVLMError(f"{path}: not a DICOM file.")
            dataset = pydicom.dcmread(file, stop_before_pixels=True, force=True)
            return _header(path, dataset, file.tell())
    except MedVLMError:
        raise
    except Exception as error:  # a broken file can fail anywhere inside the parser
        raise MedVLMError(f"{path}: a broken DICOM header ({_reason(error)}).") from None


def _looks_bare(start: bytes) -> bool:
    """A data set without preamble starts with group 0002 or 0008, low element numbers."""
    return len(start) >= 8 and start[0] in (2, 8) and start[1] == 0 and start[3] == 0


def _reason(error: Exception) -> str:
    return clean_text(f"{type(error).__name__}: {error}", 120)


@cache
def _tag(name: str) -> BaseTag:
    return Tag(name)


def _value(dataset: Dataset, name: str) -> Any:
    """The value of an optional attribute; None where it is absent, empty or cannot be converted."""
    tag = _tag(name)
    if tag not in dataset:
        return None
    try:
        value = dataset[tag].value
    except Exception:  # pydicom converts on access; a value it cannot convert is as good as absent
        return None
    return None if value is None or value == "" else value


def _number(dataset: Dataset, name: str) -> float | None:
    value = _value(dataset, name)
    try:
        number = float(value[0] if isinstance(value, pydicom.multival.MultiValue) else value)
    except (TypeError, ValueError, IndexError):
        return None
    return number if np.isfinite(number) else None


def _numbers(dataset: Dataset, name: str, count: int) -> np.ndarray | None:
    value = _value(dataset, name)
    try:
        array = np.array([float(item) for item in value], dtype=np.float64)
    except (TypeError, ValueError):
        return None
    return array if array.shape == (count,) and np.isfinite(array).all() else None


def _whole(path: Path, dataset: Dataset, name: str, default: int | None = None) -> int:
    """An attribute that pixels cannot be read without."""
    try:
        value = dataset.get(name)
        if value is None or value == "":
            if default is None:
                raise ValueError
            return default
        return int(value)
    except (TypeError, ValueError):
        raise MedVLMError(f"{path}: {name} is missing or not a number, so its pixels cannot be read.") from None


def _header(path: Path, dataset: Dataset, end: int) -> Header:
    modality = clean_text(_value(dataset, "Modality"), 16)
    if "Rows" not in dataset:
        raise MedVLMError(f"{path}: holds no image ({modality or 'unknown modality'}).")
    layout, problem = _layout(path, dataset, end)
    kernel = {name: clean_text(value) for name in SHOWN_TAGS if (value := _value(dataset, name)) is not None}
    image_type = tuple(str(item) for item in _value(dataset, "ImageType") or ())
    spacing, calibrated = _plane_spacing(dataset)
    return Header(
        path=path,
        instance=str(_value(dataset, "SOPInstanceUID") or path.name),
        study=str(_value(dataset, "StudyInstanceUID") or ""),
        series=str(_value(dataset, "SeriesInstanceUID") or ""),
        patient=str(_value(dataset, "PatientID") or ""),
        sop_class=str(_value(dataset, "SOPClassUID") or ""),
        modality=modality,
        reference=str(_value(dataset, "FrameOfReferenceUID") or ""),
        image_type=image_type,
        rescaled="RescaleSlope" in dataset or "SharedFunctionalGroupsSequence" in dataset,
        padding=_padding(dataset, layout),
        patient_orientation=tuple(str(item) for item in _value(dataset, "PatientOrientation") or ()),
        calibrated=calibrated,
        description=clean_text(_value(dataset, "SeriesDescription") or _value(dataset, "StudyDescription")),
        body_part=clean_text(_value(dataset, "BodyPartExamined"), 32).lower(),
        tags=kernel,
        frames=_frames(dataset, layout, spacing),
        problem=problem,
    )


def _layout(path: Path, dataset: Dataset, end: int) -> tuple[PixelLayout, str]:
    """The layout, and what is wrong with the pixels (or nothing)."""
    meta = getattr(dataset, "file_meta", Dataset())
    syntax = meta.get("TransferSyntaxUID")
    if syntax is None:
        implicit, little = dataset.original_encoding
        bare = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian
        syntax = bare if little is not False else ExplicitVRBigEndian
    allocated = _whole(path, dataset, "BitsAllocated")
    stored = _whole(path, dataset, "BitsStored", allocated)
    layout = PixelLayout(
        path=path,
        syntax=str(syntax),
        rows=_whole(path, dataset, "Rows"),
        columns=_whole(path, dataset, "Columns"),
        samples=_whole(path, dataset, "SamplesPerPixel", 1),
        allocated=allocated,
        stored=stored,
        high_bit=_whole(path, dataset, "HighBit", stored - 1),
        signed=_whole(path, dataset, "PixelRepresentation", 0) == 1,
        photometric=str(_value(dataset, "PhotometricInterpretation") or "MONOCHROME2"),
        frames=_whole(path, dataset, "NumberOfFrames", 1),
        offset=None,
        has_lut="ModalityLUTSequence" in dataset,
    )
    if min(layout.rows, layout.columns, layout.frames, layout.samples, layout.allocated) < 1:
        raise MedVLMError(f"{path}: an image of {layout.columns} x {layout.rows} x {layout.frames} cannot be read.")
    try:
        start, length = _pixel_start(path, end, syntax)
    except MedVLMError as error:
        return layout, str(error)
    if syntax not in (ImplicitVRLittleEndian, ExplicitVRLittleEndian) or layout.photometric == "YBR_FULL_422":
        return layout, ""
    present, expected = min(path.stat().st_size - start, length), layout.frame_bytes * layout.frames
    if present < expected:
        problem = f"truncated: {max(present, 0)} of {expected} bytes of pixels are there; copy the file again"
        return layout, problem
    simple = layout.samples == 1 and layout.allocated in (8, 16) and not layout.has_lut
    if simple and layout.photometric.startswith("MONOCHROME"):
        return replace(layout, offset=start), ""
    return layout, ""


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


def _padding(dataset: Dataset, layout: PixelLayout) -> tuple[float, float] | None:
    """Stored values that mean "no data here" (PS3.3 C.7.5.1.1.2), as a closed range."""
    low = _number(dataset, "PixelPaddingValue")
    if low is None:
        return None
    if layout.signed and low >= 1 << (layout.allocated - 1):  # written unsigned beside signed pixels
        low -= 1 << layout.allocated
    high = _number(dataset, "PixelPaddingRangeLimit")
    return (low, low) if high is None else (min(low, high), max(low, high))


PROJECTION = {"CR", "DX", "MG", "XA", "RF", "RG", "IO", "PX"}


def _plane_spacing(dataset: Dataset) -> tuple[tuple[float, float] | None, bool]:
    """Row and column spacing in mm, and whether they are millimetres in the patient.

    In a projection image PixelSpacing counts only where it was calibrated (PS3.3 10.7.1.3): at the detector the
    patient is magnified. [0, 0] means unknown.
    """
    pair = _numbers(dataset, "PixelSpacing", 2)
    detector = _numbers(dataset, "ImagerPixelSpacing", 2)
    known = pair is not None and (pair > 0).all()
    if str(_value(dataset, "Modality")) in PROJECTION:
        declared = _value(dataset, "PixelSpacingCalibrationType") is not None
        corrected = pair is not None and detector is not None and not np.allclose(pair, detector, rtol=1e-3)
        calibrated = bool(known) and (declared or corrected)
        chosen = pair if known else detector
        if chosen is None or not (chosen > 0).all():
            return None, False
        return (float(chosen[0]), float(chosen[1])), calibrated
    if known and pair is not None:
        return (float(pair[0]), float(pair[1])), True
    return None, False


def _frames(dataset: Dataset, layout: PixelLayout, spacing: tuple[float, float] | None) -> tuple[Frame, ...]:
    shared = _first(dataset, "SharedFunctionalGroupsSequence")
    per_frame = _value(dataset, "PerFrameFunctionalGroupsSequence") or ()
    offsets = _numbers(dataset, "GridFrameOffsetVector", layout.frames) if layout.frames > 1 else None
    frames = []
    for index in range(layout.frames):
        groups = [per_frame[index]] if index < len(per_frame) else []
        groups += [shared] if shared is not None else []
        frames.append(_frame(dataset, groups, layout, index, spacing, offsets))
    return tuple(frames)


def _first(dataset: Dataset, name: str) -> Dataset | None:
    items = _value(dataset, name)
    return items[0] if items else None


def _group(dataset: Dataset, groups: list[Dataset], name: str) -> Dataset:
    """A functional group of a frame: its own, else the shared one, else the data set itself."""
    for group in groups:
        item = _first(group, name)
        if item is not None:
            return item
    return dataset


def _frame(
    dataset: Dataset,
    groups: list[Dataset],
    layout: PixelLayout,
    index: int,
    spacing: tuple[float, float] | None,
    offsets: np.ndarray | None,
) -> Frame:
    position = _numbers(_group(dataset, groups, "PlanePositionSequence"), "ImagePositionPatient", 3)
    orientation = _numbers(_group(dataset, groups, "PlaneOrientationSequence"), "ImageOrientationPatient", 6)
    if layout.frames > 1 and not groups and offsets is None:
        position = None  # one position for many frames places none of them
    if offsets is not None and position is not None and orientation is not None:
        normal = np.cross(orientation[:3], orientation[3:])
        position = position + normal * (offsets[index] - offsets[0])
    measures = _group(dataset, groups, "PixelMeasuresSequence")
    own = _numbers(measures, "PixelSpacing", 2)
    if own is not None and (own > 0).all():
        spacing = spacing if measures is dataset else (float(own[0]), float(own[1]))
    rescale = _group(dataset, groups, "PixelValueTransformationSequence")
    slope, intercept = _number(rescale, "RescaleSlope"), _number(rescale, "RescaleIntercept")
    return Frame(
        layout=layout,
        index=index,
        number=int(_number(dataset, "InstanceNumber") or 0),
        position=position,
        orientation=orientation,
        spacing=spacing,
        thickness=_number(measures, "SliceThickness"),
        slope=1.0 if slope is None or slope == 0 else slope,
        intercept=intercept or 0.0,
        stack=_stack_values(dataset, groups),
    )


_GROUPS_OF = {
    "ReferencedSegmentNumber": "SegmentIdentificationSequence",
    "TemporalPositionIndex": "FrameContentSequence",
    "DiffusionBValue": "MRDiffusionSequence",
    "EchoTime": "MREchoSequence",
    "ImageType": "MRImageFrameTypeSequence",
    "TriggerTime": "CardiacSynchronizationSequence",
}


def _stack_values(dataset: Dataset, groups: list[Dataset]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name in STACK_KEYS:
        holder = _group(dataset, groups, _GROUPS_OF[name]) if groups and name in _GROUPS_OF else dataset
        value = _value(holder, "FrameType" if holder is not dataset and name == "ImageType" else name)
        if value is not None:
            values[name] = str(value)
    return values
