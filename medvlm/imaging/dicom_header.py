"""One DICOM file's header → the Frames it holds. Pixels stay on disk."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import Dataset

from medvlm.errors import MedVLMError
from medvlm.imaging.dicom_fields import Fields
from medvlm.imaging.dicom_layout import PixelLayout, read_layout
from medvlm.imaging.mosaic import is_mosaic, read_mosaic
from medvlm.imaging.text import clean_text
from medvlm.imaging.windows import Shape, Table, Window

# Values that tell apart stacks which share one SeriesInstanceUID (PS3.3 C.7.6.16 and C.8), and the functional group
# that holds each in a multi-frame image.
STACK_KEYS = {
    "SeriesNumber": "",
    "ReferencedSegmentNumber": "SegmentIdentificationSequence",
    "EchoNumbers": "",
    "TemporalPositionIdentifier": "",
    "TemporalPositionIndex": "FrameContentSequence",
    "DiffusionBValue": "MRDiffusionSequence",
    "DiffusionGradientOrientation": "",
    "FlipAngle": "",
    "InversionTime": "",
    "EchoTime": "",
    "EffectiveEchoTime": "MREchoSequence",
    "ImageType": "",
    "FrameType": "MRImageFrameTypeSequence",
    "ConvolutionKernel": "",
    "NominalPercentageOfCardiacPhase": "CardiacSynchronizationSequence",
    "AcquisitionNumber": "",
    "TriggerTime": "",
    "AcquisitionTime": "",
}
SHOWN_TAGS = ("Manufacturer", "ManufacturerModelName", "ConvolutionKernel", "SliceThickness", "KVP", "SequenceName")
PROJECTION = {"CR", "DX", "MG", "XA", "RF", "RG", "IO", "PX"}
_CENTIMETRES = 3  # PhysicalUnits of an ultrasound region (PS3.3 C.8.5.5.1.15)


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
    stack: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Header:
    """What the reader keeps of one file; `problem` says why its pixels cannot be used, if so."""

    path: Path
    instance: str
    study: str
    series: str
    patient: str
    modality: str
    image_type: tuple[str, ...]
    rescaled: bool
    padding: tuple[float, float] | None
    patient_orientation: tuple[str, ...]
    calibrated: bool
    description: str
    body_part: str
    tags: Mapping[str, str]
    windows: tuple[Window | Table, ...]
    frames: tuple[Frame, ...]
    problem: str = ""


def read_header(path: Path, known: dict[str, Header] | None = None) -> Header:
    """Read the header of one DICOM file.

    A file whose header can be read but whose pixels are cut off comes with a `problem`, because the series that it
    belongs to must not be used without it.

    Args:
        path: the file.
        known: the first header of each series; what is the same for a whole series is taken from there.

    Raises:
        MedVLMError: not DICOM, a broken header, or no image (one sentence that names the file).
    """
    try:
        with path.open("rb") as file:
            start = file.read(132)
            file.seek(0)
            if start[128:] != b"DICM" and not _looks_bare(start):
                raise MedVLMError(f"{path}: not a DICOM file.")
            dataset = pydicom.dcmread(file, stop_before_pixels=True, force=True)
            return _header(path, dataset, file.tell(), {} if known is None else known)
    except MedVLMError:
        raise
    except Exception as error:  # a broken file can fail anywhere inside the parser
        reason = clean_text(f"{type(error).__name__}: {error}", 120)
        raise MedVLMError(f"{path}: a broken DICOM header ({reason}).") from None


def _looks_bare(start: bytes) -> bool:
    """A data set without preamble starts with group 0002 or 0008, low element numbers."""
    return len(start) >= 8 and start[0] in (2, 8) and start[1] == 0 and start[3] == 0


def _header(path: Path, dataset: Dataset, end: int, known: dict[str, Header]) -> Header:
    fields = Fields(dataset)
    modality = clean_text(fields.word("Modality"), 16)
    if "Rows" not in fields:
        raise MedVLMError(f"{path}: holds no image ({modality or 'unknown modality'}).")
    layout, problem = read_layout(path, dataset, end)
    spacing, calibrated = _plane_spacing(fields, modality)
    image_type = tuple(fields.words("ImageType"))
    places: list[np.ndarray] = []
    if is_mosaic(image_type, layout) and not problem:
        try:
            layout, places = read_mosaic(fields, image_type, layout)
        except MedVLMError as error:
            problem = str(error)
    series = fields.word("SeriesInstanceUID")
    first = known.get(series) if series else None
    header = Header(
        path=path,
        instance=fields.word("SOPInstanceUID") or str(path),
        study=fields.word("StudyInstanceUID"),
        series=series,
        patient=fields.text("PatientID") if first is None else first.patient,
        modality=modality,
        image_type=image_type,
        rescaled="RescaleSlope" in fields or "SharedFunctionalGroupsSequence" in fields,
        padding=_padding(fields, layout),
        patient_orientation=tuple(fields.words("PatientOrientation")),
        calibrated=calibrated,
        description=_description(fields) if first is None else first.description,
        body_part=clean_text(fields.text("BodyPartExamined"), 32).lower() if first is None else first.body_part,
        tags=_shown(fields) if first is None else first.tags,
        windows=_windows(fields) if first is None else first.windows,
        frames=() if problem else _upright(fields, _frames(fields, layout, spacing, places)),
        problem=problem,
    )
    known.setdefault(series, header)
    return header


def _description(fields: Fields) -> str:
    return clean_text(fields.text("SeriesDescription") or fields.text("StudyDescription"))


def _shown(fields: Fields) -> dict[str, str]:
    return {name: text for name in SHOWN_TAGS if (text := clean_text(fields.text(name)))}


_SHAPES: dict[str, Shape] = {"SIGMOID": "sigmoid", "LINEAR_EXACT": "linear"}


def _windows(fields: Fields) -> tuple[Window | Table, ...]:
    """The VOI tables and windows that the file proposes; tables come first (PS3.3 C.11.2.1)."""
    found: list[Window | Table] = []
    for item in fields.items("VOILUTSequence"):
        descriptor, data = item.numbers("LUTDescriptor"), item.numbers("LUTData")
        if len(descriptor) == 3 and len(data) > 1 and max(data) > 0:
            first = descriptor[1] - 65536 if descriptor[1] >= 32768 and min(data) >= 0 else descriptor[1]
            grey = np.floor(np.array(data) * (255 / (2 ** descriptor[2] - 1)) + 0.5).clip(0, 255).astype(np.uint8)
            found.append(Table(clean_text(item.text("LUTExplanation"), 24) or "table", first, grey))
    shape = _SHAPES.get(fields.word("VOILUTFunction"), "dicom linear")
    pairs = zip(fields.numbers("WindowCenter"), fields.numbers("WindowWidth"), strict=False)
    found += [Window("of the file", centre, width, shape) for centre, width in pairs if width > 0]
    return tuple(found)


def _padding(fields: Fields, layout: PixelLayout) -> tuple[float, float] | None:
    """Stored values that mean "no data here" (PS3.3 C.7.5.1.1.2), as a closed range."""
    ends = [fields.number("PixelPaddingValue"), fields.number("PixelPaddingRangeLimit")]
    found = [end for end in ends if end is not None]
    if ends[0] is None:
        return None
    if layout.signed:  # the element is "US or SS": as many bits as the pixels, read unsigned above
        half = 1 << (layout.allocated - 1)
        found = [end - 2 * half if end >= half else end for end in found]
    return min(found), max(found)


def _plane_spacing(fields: Fields, modality: str) -> tuple[tuple[float, float] | None, bool]:
    """Row and column spacing in mm, and whether they are millimetres in the patient.

    In a projection image PixelSpacing counts only where it was calibrated (PS3.3 10.7.1.3): at the detector the
    patient is magnified. [0, 0] means unknown. Ultrasound has it by region.
    """
    pair, detector = fields.vector("PixelSpacing", 2), fields.vector("ImagerPixelSpacing", 2)
    pair = pair if pair is not None and (pair > 0).all() else None
    if modality in PROJECTION:
        corrected = pair is not None and detector is not None and not np.allclose(pair, detector, rtol=1e-3)
        chosen = pair if pair is not None else detector
        if chosen is None or not (chosen > 0).all():
            return None, False
        calibrated = pair is not None and ("PixelSpacingCalibrationType" in fields or corrected)
        return (float(chosen[0]), float(chosen[1])), calibrated
    if pair is not None:
        return (float(pair[0]), float(pair[1])), True
    regions = {_region_spacing(region) for region in fields.items("SequenceOfUltrasoundRegions")}
    only = regions.pop() if len(regions) == 1 else None
    return only, only is not None


def _region_spacing(region: Fields) -> tuple[float, float] | None:
    """Row and column spacing (mm) of a 2-D ultrasound region in centimetres; None for Doppler, M mode and the like."""
    units = region.number("PhysicalUnitsXDirection"), region.number("PhysicalUnitsYDirection")
    steps = region.number("PhysicalDeltaY"), region.number("PhysicalDeltaX")
    if units != (_CENTIMETRES, _CENTIMETRES) or not steps[0] or not steps[1]:
        return None
    return abs(steps[0]) * 10, abs(steps[1]) * 10


def _frames(
    fields: Fields, layout: PixelLayout, spacing: tuple[float, float] | None, places: list[np.ndarray]
) -> tuple[Frame, ...]:
    shared = fields.first("SharedFunctionalGroupsSequence")
    per_frame = fields.items("PerFrameFunctionalGroupsSequence")
    offsets = fields.vector("GridFrameOffsetVector", layout.frames) if layout.frames > 1 else None
    plain = {name: text for name in STACK_KEYS if (text := "\\".join(fields.words(name)))}
    frames = []
    for index in range(layout.frames):
        groups = [per_frame[index]] if index < len(per_frame) else []
        groups += [shared] if shared is not None else []
        frame = _frame(fields, groups, layout, index, spacing, offsets, plain)
        frames.append(replace(frame, position=places[index]) if places else frame)
    return tuple(frames)


# GE's research sequence epi_pepolar stores images of reversed phase encoding upside down without saying so in a
# standard attribute: its name is in (0019,109C), its mode in (0019,10B3).
_SEQUENCE, _MODE = (0x0019, 0x109C), (0x0019, 0x10B3)


def _upright(fields: Fields, frames: tuple[Frame, ...]) -> tuple[Frame, ...]:
    """The frames with the geometry that their rows really have."""
    if "epi_pepolar" not in fields.private(_SEQUENCE):
        return frames
    mode = fields.private(_MODE).partition(".")[0]
    odd = (int(fields.number("TemporalPositionIdentifier") or 1)) % 2 == 1
    reversed_rows = mode == "1" or (mode == "2" and odd) or (mode == "3" and not odd)
    return tuple(_bottom_up(frame) for frame in frames) if reversed_rows else frames


def _bottom_up(frame: Frame) -> Frame:
    if frame.position is None or frame.orientation is None or frame.spacing is None:
        return frame
    down = frame.orientation[3:]
    last = frame.position + down * frame.spacing[0] * (frame.layout.rows - 1)
    return replace(frame, position=last, orientation=np.concatenate([frame.orientation[:3], -down]))


def _group(fields: Fields, groups: list[Fields], name: str) -> Fields:
    """A functional group of a frame: its own, else the shared one, else the data set itself."""
    for group in groups:
        item = group.first(name)
        if item is not None:
            return item
    return fields


def _frame(
    fields: Fields,
    groups: list[Fields],
    layout: PixelLayout,
    index: int,
    spacing: tuple[float, float] | None,
    offsets: np.ndarray | None,
    plain: dict[str, str],
) -> Frame:
    position = _group(fields, groups, "PlanePositionSequence").vector("ImagePositionPatient", 3)
    orientation = _group(fields, groups, "PlaneOrientationSequence").vector("ImageOrientationPatient", 6)
    if layout.frames > 1 and not groups and offsets is None:
        position = None  # one position for many frames places none of them
    if offsets is not None and position is not None and orientation is not None:
        normal = np.cross(orientation[:3], orientation[3:])
        position = position + normal * (offsets[index] - offsets[0])
    measures = _group(fields, groups, "PixelMeasuresSequence")
    own = measures.vector("PixelSpacing", 2) if measures is not fields else None
    if own is not None and (own > 0).all():
        spacing = (float(own[0]), float(own[1]))
    rescale = _group(fields, groups, "PixelValueTransformationSequence")
    return Frame(
        layout=layout,
        index=index,
        number=int(fields.number("InstanceNumber") or 0),
        position=position,
        orientation=orientation,
        spacing=spacing,
        thickness=measures.number("SliceThickness"),
        slope=rescale.number("RescaleSlope") or 1.0,
        intercept=rescale.number("RescaleIntercept") or 0.0,
        stack=plain if not groups else plain | _group_values(fields, groups),
    )


def _group_values(fields: Fields, groups: list[Fields]) -> dict[str, str]:
    found = {}
    for name, group in STACK_KEYS.items():
        if group and (text := "\\".join(_group(fields, groups, group).words(name))):
            found[name] = text
    return found


@contextmanager
def quiet_pydicom() -> Iterator[None]:
    """pydicom does not print about values that we read past, nor about decoders that fail (we raise instead)."""
    logger = logging.getLogger("pydicom")
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        logger.setLevel(level)
