"""Comprehensive 3D SR by TID 1500 (PS3.16): each Finding a measurement group, with its segment and images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydicom.dataset import Dataset
from pydicom.sr.coding import Code as DicomCode

from medvlm.findings.finding import Code, Evidence, Finding, Measurement, Provenance
from medvlm.reporting.dicom.source import Source
from medvlm.reporting.dicom.stamp import (
    FIRST_SERIES,
    MANUFACTURER,
    Stamp,
    coded,
    device_uid,
    finish,
    tracking_uid,
    uncoded,
    unverified,
)
from medvlm.reporting.exam import exam_named
from medvlm.reporting.masks import Segment
from medvlm.reporting.report import Report

PRESENCE_OF = DicomCode("121052", "DCM", "Presence of property")
PRESENCE = {
    "present": DicomCode("121053", "DCM", "Present"),
    "absent": DicomCode("121054", "DCM", "Absent"),
    "uncertain": DicomCode("121059", "DCM", "Presence Undetermined"),
}
PROBABILITY = DicomCode("122157", "DCM", "Probability")
CALIBRATED = Code("calibrated", "MEDVLM", "Probability is calibrated")
YES = DicomCode("373066001", "SCT", "Yes")
LATERALITY = DicomCode("272741003", "SCT", "Laterality")
GRADE = Code("grade", "MEDVLM", "Grade")
TITLE = DicomCode("126000", "DCM", "Imaging Measurement Report")
UNITS = {"mL": "Milliliter", "mm": "millimeter", "mm2": "square millimeter", "1": "no units", "%": "percent"}

Segmented = Mapping[str, tuple[Dataset, Segment]]


def make_measurements(report: Report, sources: Mapping[str, Source], segmented: Segmented) -> Dataset:
    """The SR object.

    Args:
        report: its findings become measurement groups, present and absent ones alike.
        sources: series uid → its images.
        segmented: finding id → the SEG object and the segment that shows it.
    """
    import highdicom as hd

    stamp = Stamp(report)
    groups = [_group(finding, report, sources, segmented) for finding in report.findings]
    content = hd.sr.MeasurementReport(
        observation_context=observer(report),
        procedure_reported=coded(exam_named(report.title).procedure),
        imaging_measurements=groups,
        title=coded(TITLE),
    )
    objects = list({id(seg): seg for seg, _ in segmented.values()}.values())
    evidence = [image for source in sources.values() for image in source.images] + objects
    object_ = hd.sr.Comprehensive3DSR(
        evidence=evidence,
        content=content,
        series_instance_uid=stamp.uid("sr series"),
        series_number=FIRST_SERIES + 1,
        sop_instance_uid=stamp.uid("sr"),
        instance_number=1,
        series_description="medvlm measurements (not verified)",
        **unverified(stamp),
    )
    stated = {uid: chosen for source in sources.values() for uid, chosen in source.stated.items()}
    return finish(object_, report, stated)


def observer(report: Report) -> Any:
    """TID 1001: who observed."""
    import highdicom as hd

    return hd.sr.ObservationContext(observer_device_context=device_observer(report))


def device_observer(report: Report) -> Any:
    """TID 1002: the observer is a device, named with a UID that changes with its weights."""
    import highdicom as hd

    ran = next(expert for expert in report.experts if expert.ran)
    device = hd.sr.DeviceObserverIdentifyingAttributes(
        uid=device_uid(ran),
        name="medvlm",
        manufacturer_name=MANUFACTURER,
        model_name=", ".join(f"{e.name} {e.version}" for e in report.experts if e.ran)[:64],
        serial_number=ran.weights[:16] or "1",
    )
    return hd.sr.ObserverContext(
        observer_type=coded(DicomCode("121007", "DCM", "Device")), observer_identifying_attributes=device
    )


def _group(finding: Finding, report: Report, sources: Mapping[str, Source], segmented: Segmented) -> Any:
    """TID 1411 where a segment shows the Finding in a volume, TID 1410 in one image, else TID 1501."""
    import highdicom as hd

    common: dict[str, Any] = {
        "tracking_identifier": hd.sr.TrackingIdentifier(
            uid=tracking_uid(report.study, finding.provenance.expert, finding.id), identifier=finding.id
        ),
        "finding_type": coded(finding.concept),
        "finding_sites": _sites(finding),
        "measurements": [_measurement(row) for row in finding.measurements] + _probability(finding),
        "qualitative_evaluations": _evaluations(finding),
        "algorithm_id": hd.sr.AlgorithmIdentification(
            name=finding.provenance.expert,
            version=finding.provenance.version,
            parameters=[f"weights sha256 {finding.provenance.weights}"] if finding.provenance.weights else None,
        ),
    }
    place = next((e for e in finding.evidence if e.series in sources), None)
    if place is not None and finding.id in segmented:
        seg, segment = segmented[finding.id]
        source = sources[place.series]
        if len(source.slices) > 1:
            return hd.sr.VolumetricROIMeasurementsAndQualitativeEvaluations(
                referenced_segment=hd.sr.ReferencedSegment(
                    sop_class_uid=seg.SOPClassUID,
                    sop_instance_uid=seg.SOPInstanceUID,
                    segment_number=segment.number,
                    source_series=hd.sr.SourceSeriesForSegmentation(source.first.SeriesInstanceUID),
                ),
                **common,
            )
        image, _ = source.slices[0]
        return hd.sr.PlanarROIMeasurementsAndQualitativeEvaluations(
            referenced_segment=hd.sr.ReferencedSegmentationFrame(
                sop_class_uid=seg.SOPClassUID,
                sop_instance_uid=seg.SOPInstanceUID,
                frame_number=_frame_of(seg, segment.number),
                segment_number=segment.number,
                source_image=hd.sr.SourceImageForSegmentation(image.SOPClassUID, image.SOPInstanceUID),
            ),
            **common,
        )
    images = [] if place is None else [_image(place, sources[place.series])]
    return hd.sr.MeasurementsAndQualitativeEvaluations(**common, source_images=images or None)


def _frame_of(seg: Dataset, number: int) -> int:
    for frame, groups in enumerate(seg.PerFrameFunctionalGroupsSequence, start=1):
        if "SegmentIdentificationSequence" not in groups:
            return 1  # a label map of one image: its one frame holds every segment
        if groups.SegmentIdentificationSequence[0].ReferencedSegmentNumber == number:
            return frame
    raise AssertionError("a segment without a frame")


def _image(place: Evidence, source: Source) -> Any:
    import highdicom as hd

    image, frame = source.best(place)
    return hd.sr.SourceImageForMeasurementGroup(
        image.SOPClassUID, image.SOPInstanceUID, None if frame is None else [frame]
    )


def _sites(finding: Finding) -> list[Any] | None:
    import highdicom as hd

    if finding.site is None:
        return None
    side = None if finding.laterality is None else coded(finding.laterality)
    return [hd.sr.FindingSite(anatomic_location=coded(finding.site), laterality=side)]


def _evaluations(finding: Finding) -> list[Any]:
    import highdicom as hd

    rows = [hd.sr.QualitativeEvaluation(coded(PRESENCE_OF), coded(PRESENCE[finding.presence]))]
    if finding.site is None and finding.laterality is not None:
        rows.append(hd.sr.QualitativeEvaluation(coded(LATERALITY), coded(finding.laterality)))
    if finding.grade:
        value = Code(finding.grade[:16], "MEDVLM", finding.grade)
        rows.append(hd.sr.QualitativeEvaluation(coded(GRADE), coded(value)))
    if finding.calibrated:
        rows.append(hd.sr.QualitativeEvaluation(coded(CALIBRATED), coded(YES)))
    return rows


def _measurement(row: Measurement) -> Any:
    import highdicom as hd

    unit = DicomCode(row.unit, "UCUM", UNITS.get(row.unit, row.unit))
    return hd.sr.Measurement(name=coded(row.code), value=row.value, unit=coded(unit))


def _probability(finding: Finding) -> list[Any]:
    if finding.probability is None:
        return []
    return [_measurement(Measurement(Code(PROBABILITY.value, "DCM", PROBABILITY.meaning), finding.probability, "1"))]


def read_measurements(dataset: Dataset) -> tuple[Finding, ...]:
    """The Findings in an SR of ours (TID 1500); an earlier study's report can come as SR from a PACS.

    Places in the image are not read back, they are in the SEG.
    """
    import highdicom as hd

    content: Any = hd.sr.Comprehensive3DSR.from_dataset(dataset).content
    groups: Sequence[Any] = [
        *content.get_volumetric_roi_measurement_groups(),
        *content.get_planar_roi_measurement_groups(),
        *content.get_image_measurement_groups(),
    ]
    found = [_finding(group, str(dataset.StudyInstanceUID)) for group in groups]
    order = {name: number for number, name in enumerate(_tracking_order(dataset))}
    return tuple(sorted(found, key=lambda finding: order[finding.id]))


def _tracking_order(dataset: Dataset) -> list[str]:
    """Tracking identifiers in the order of the document."""
    names: list[str] = []
    for item in dataset.get("ContentSequence", []):
        concept = item.get("ConceptNameCodeSequence")
        if concept and concept[0].CodeValue == "112039":
            names.append(str(item.TextValue))
        names += _tracking_order(item)
    return names


def _finding(group: Any, study: str) -> Finding:
    evaluations = {row.name.value: row.value for row in group.get_qualitative_evaluations()}
    rows = [
        Measurement(uncoded(row.name), float(row.value), str(row.unit.CodeValue)) for row in group.get_measurements()
    ]
    probability = next((row.value for row in rows if row.code.value == PROBABILITY.value), None)
    presence = {value.value: name for name, value in PRESENCE.items()}
    site = next(iter(group.finding_sites), None)
    side = evaluations.get(LATERALITY.value) if site is None else site.laterality
    grade = evaluations.get(GRADE.value)
    algorithm = _algorithm(group)
    return Finding(
        id=str(group.tracking_identifier),
        study=study,
        concept=uncoded(group.finding_type),
        presence=presence[evaluations[PRESENCE_OF.value].value],  # type: ignore[arg-type]
        provenance=algorithm,
        probability=probability,
        calibrated=CALIBRATED.value in evaluations,
        laterality=None if side is None else uncoded(side),
        site=None if site is None else uncoded(site.value),
        grade=None if grade is None else str(grade.CodeMeaning),
        measurements=tuple(row for row in rows if row.code.value != PROBABILITY.value),
    )


def _algorithm(group: Any) -> Provenance:
    texts: dict[str, str] = {}
    for item in group[0].get("ContentSequence", []):
        concept = item.ConceptNameCodeSequence[0].CodeValue
        if item.ValueType == "TEXT":
            texts.setdefault(concept, str(item.TextValue))
    weights = texts.get("111002", "").removeprefix("weights sha256 ")
    return Provenance(texts.get("111001", ""), texts.get("111003", ""), weights)
