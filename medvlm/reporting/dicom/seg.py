"""DICOM Segmentation (PS3.3 A.51): an expert's objects, one segment each, on the frames of the source."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from pydicom.dataset import Dataset
from pydicom.sr.coding import Code as DicomCode
from pydicom.uid import ExplicitVRLittleEndian, RLELossless

from medvlm.reporting.dicom.source import Source
from medvlm.reporting.dicom.stamp import (
    FIRST_SERIES,
    MANUFACTURER,
    MODEL,
    Stamp,
    coded,
    equipment,
    finish,
    tracking_uid,
)
from medvlm.reporting.masks import Mask, Segment, is_anatomy, segment_map
from medvlm.reporting.report import ExpertUse, Report

SegKind = Literal["binary", "labelmap"]
ANATOMY = DicomCode("91723000", "SCT", "Anatomical Structure")
ABNORMAL = DicomCode("49755003", "SCT", "Morphologically Abnormal Structure")
# CID 7162: how the segments came about.
AI = DicomCode("123109", "DCM", "Artificial Intelligence")
# Recommended display colours (PS3.3 C.8.20.2), sRGB: findings warm, anatomy cool.
WARM = ((255, 122, 46), (255, 196, 0), (255, 80, 110), (214, 110, 255), (120, 220, 90))
COOL = ((92, 160, 190), (120, 150, 210), (96, 180, 160), (150, 150, 190), (130, 170, 140))


def make_seg(
    report: Report, mask: Mask, source: Source, kind: SegKind = "binary"
) -> tuple[Dataset, tuple[Segment, ...]] | None:
    """The segmentation object and what its segments are; None where the mask is empty.

    The map goes out frame by frame on the source's own frames, so no geometry is computed: a sheared, mirrored or
    oblique grid stays what it was.

    Args:
        kind: `binary`, one frame a segment and slice, which every viewer reads; `labelmap` (Label Map Segmentation
            Storage, since 2024), one frame a slice and run-length encoded, many times smaller.

    Raises:
        MedVLMError: the optional packages are missing.
    """
    import highdicom as hd

    numbered, segments = segment_map(mask, report.findings)
    if not segments:
        return None
    expert = next(use for use in report.experts if use.name == mask.expert)
    stamp = Stamp(report)
    frames, images, placed = _frames(numbered, source)
    object_ = hd.seg.Segmentation(
        source_images=images,
        pixel_array=frames,
        segmentation_type=kind.upper(),
        segment_descriptions=[_describe(segment, report, expert) for segment in segments],
        series_instance_uid=stamp.uid("seg series", mask.expert, mask.series),
        series_number=FIRST_SERIES,
        sop_instance_uid=stamp.uid("seg", mask.expert, mask.series),
        instance_number=1,
        manufacturer=MANUFACTURER,
        manufacturer_model_name=MODEL,
        software_versions=stamp.version,
        device_serial_number="1",
        content_label="MEDVLM",
        content_description="Generated, not verified",
        content_creator_name="medvlm^",
        transfer_syntax_uid=RLELossless if kind == "labelmap" else ExplicitVRLittleEndian,
        omit_empty_frames=True,
        series_description=f"medvlm {mask.expert} segments (not verified)"[:64],
        content_date=stamp.when.date(),
        content_time=stamp.when.time(),
        contributing_equipment=equipment(report),
        plane_positions=placed,
    )
    if "PlanePositionSequence" not in object_.PerFrameFunctionalGroupsSequence[0]:
        # A projection: no plane in space, and highdicom cannot read pixel measures without a slice thickness.
        object_.PatientOrientation = source.first.get("PatientOrientation")
        object_.SharedFunctionalGroupsSequence[0].pop("PixelMeasuresSequence", None)
    return finish(object_, report, source.stated), segments


def _frames(numbered: np.ndarray, source: Source) -> tuple[np.ndarray, list[Dataset], list | None]:
    """`[F, rows, columns]` map, the source images, and the planes where they are fewer than the source's frames."""
    import highdicom as hd

    planes = np.ascontiguousarray(numbered.transpose(2, 1, 0))
    planes = planes.astype(np.uint8) if planes.max() < 256 else planes
    first, number = source.slices[0]
    if number is None:
        return planes, [image for image, _ in source.slices], None
    total = int(first.get("NumberOfFrames") or 1)
    numbers = [frame for _, frame in source.slices]
    if sorted(frame or 0 for frame in numbers) == list(range(1, total + 1)):
        ordered = np.empty_like(planes)
        for k, frame in enumerate(numbers):
            ordered[(frame or 1) - 1] = planes[k]
        return ordered, [first], None
    # A stack of several in one file: only its own planes are described.
    groups = first.PerFrameFunctionalGroupsSequence
    placed = [
        hd.PlanePositionSequence(
            hd.CoordinateSystemNames.PATIENT,
            groups[(frame or 1) - 1].PlanePositionSequence[0].ImagePositionPatient,
        )
        for frame in numbers
    ]
    return planes, [first], placed


def _describe(segment: Segment, report: Report, expert: ExpertUse) -> Any:
    import highdicom as hd

    anatomy = is_anatomy(segment.concept)
    palette = COOL if anatomy else WARM
    regions = [coded(segment.site)] if segment.site is not None else None
    described = hd.seg.SegmentDescription(
        segment_number=segment.number,
        segment_label=segment.name[:64],
        segmented_property_category=coded(ANATOMY if anatomy else ABNORMAL),
        segmented_property_type=coded(segment.concept),
        algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=hd.AlgorithmIdentificationSequence(
            name=expert.name[:64], family=coded(AI), version=expert.version[:64], source=MANUFACTURER
        ),
        tracking_uid=tracking_uid(report.study, expert.name, segment.finding or segment.name),
        tracking_id=segment.name[:64],
        anatomic_regions=regions,
        display_color=hd.color.CIELabColor.from_rgb(*palette[segment.number % len(palette)]),
    )
    if segment.laterality is not None:
        # Side of the segmented property (PS3.3 10.5), beside its type.
        described.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence = [
            coded(segment.laterality)
        ]
    return described


def read_seg(dataset: Dataset, series_frames: Sequence[tuple[Dataset, int | None]]) -> dict[str, np.ndarray]:
    """Segments of a SEG object on the slices of a series: label → `[I, J, K]` bool.

    Args:
        dataset: a SEG whose frames derive from these slices.
        series_frames: `Source.slices`.
    """
    import highdicom as hd

    seg = hd.seg.Segmentation.from_dataset(dataset)
    first, number = series_frames[0]
    numbers = [number for number in seg.segment_numbers if number]  # a label map describes its background, too
    if number is None:
        uids = [str(image.SOPInstanceUID) for image, _ in series_frames]
        planes = seg.get_pixels_by_source_instance(uids, segment_numbers=numbers, ignore_spatial_locations=True)
    else:
        planes = seg.get_pixels_by_source_frame(
            first.SOPInstanceUID,
            [frame or 1 for _, frame in series_frames],
            segment_numbers=numbers,
            ignore_spatial_locations=True,
        )
    return {
        seg.get_segment_description(n).SegmentLabel: planes[..., index].transpose(2, 1, 0).astype(bool)
        for index, n in enumerate(numbers)
    }
