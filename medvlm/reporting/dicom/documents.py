"""What every viewer shows: the report as Encapsulated PDF (PS3.3 A.45.1), its key images as Secondary Capture (A.8) and
which images to look at (Key Object Selection, A.35.4)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.sr.coding import Code as DicomCode
from pydicom.uid import EncapsulatedPDFStorage, ExplicitVRLittleEndian

from medvlm.reporting.dicom.narrative import TITLE
from medvlm.reporting.dicom.source import Source
from medvlm.reporting.dicom.stamp import FIRST_SERIES, MANUFACTURER, MODEL, Stamp, coded, equipment, finish
from medvlm.reporting.report import KeyImage, Report

# CID 7010: why the images were chosen.
OF_INTEREST = DicomCode("113000", "DCM", "Of Interest")


def make_pdf_object(report: Report, source: Source, pdf: bytes) -> Dataset:
    """The PDF in a DICOM envelope."""
    import highdicom as hd

    stamp, first = Stamp(report), source.first
    object_ = hd.base.SOPClass(
        study_instance_uid=first.StudyInstanceUID,
        series_instance_uid=stamp.uid("pdf series"),
        series_number=FIRST_SERIES + 3,
        sop_instance_uid=stamp.uid("pdf"),
        sop_class_uid=EncapsulatedPDFStorage,
        instance_number=1,
        modality="DOC",
        manufacturer=MANUFACTURER,
        manufacturer_model_name=MODEL,
        transfer_syntax_uid=ExplicitVRLittleEndian,
        patient_id=first.PatientID,
        patient_name=first.PatientName,
        patient_birth_date=first.PatientBirthDate,
        patient_sex=first.PatientSex,
        study_id=first.StudyID,
        accession_number=first.AccessionNumber,
        study_date=first.StudyDate or None,
        study_time=first.StudyTime or None,
        referring_physician_name=first.ReferringPhysicianName,
        series_description="medvlm report (not verified)",
        content_date=stamp.when.date(),
        content_time=stamp.when.time(),
        specific_character_set=first.SpecificCharacterSet,
    )
    object_.copy_patient_and_study_information(first)
    object_._add_contributing_equipment(equipment(report), first)
    object_.ConversionType = "SYN"
    object_.BurnedInAnnotation = "YES"
    object_.VerificationFlag = "UNVERIFIED"
    object_.AcquisitionDateTime = ""
    object_.DocumentTitle = f"{report.title}: {report.disclaimer}"[:1024]
    object_.ConceptNameCodeSequence = [coded(TITLE)]
    instances = []
    for image in source.images:
        item = Dataset()
        item.ReferencedSOPClassUID = image.SOPClassUID
        item.ReferencedSOPInstanceUID = image.SOPInstanceUID
        instances.append(item)
    object_.SourceInstanceSequence = instances
    object_.MIMETypeOfEncapsulatedDocument = "application/pdf"
    object_.EncapsulatedDocument = pdf + b"\0" * (len(pdf) % 2)
    object_.EncapsulatedDocumentLength = len(pdf)
    return finish(object_, report, source.stated)


def make_key_image(report: Report, image: KeyImage, number: int, source: Source, folder: Path) -> Dataset:
    """One key image (with overlay where it has one) as Secondary Capture.

    Args:
        number: instance number within the series of key images, from 1.
        folder: the report's folder.
    """
    import highdicom as hd

    stamp = Stamp(report)
    with Image.open(folder / (image.overlay or image.file)) as picture:
        pixels = np.asarray(picture.convert("RGB"))
    place = next((e for name in image.findings for e in report.finding(name).evidence), None)
    shown, frame = source.best(place)
    object_ = hd.sc.SCImage.from_ref_dataset(
        ref_dataset=source.first,
        pixel_array=pixels,
        photometric_interpretation="RGB",
        bits_allocated=8,
        coordinate_system="PATIENT",
        series_instance_uid=stamp.uid("key series", source.uid),
        series_number=FIRST_SERIES + 4,
        sop_instance_uid=stamp.uid("key", image.file),
        instance_number=number,
        manufacturer=MANUFACTURER,
        patient_orientation=("L", "P"),
        series_description="medvlm key images (not verified)",
        manufacturer_model_name=MODEL,
        software_versions=stamp.version,
        device_serial_number="1",
        transfer_syntax_uid=ExplicitVRLittleEndian,
        contributing_equipment=equipment(report),
    )
    if image.slice is None:  # a montage, or an image shown as it is stored: the letters would be wrong
        object_.PatientOrientation = None  # type: ignore[assignment]
    object_.ConversionType = "SYN"
    object_.BurnedInAnnotation = "NO"
    object_.Laterality = source.first.get("Laterality")
    object_.DerivationDescription = f"{report.disclaimer}. {image.caption}"[:1024]
    item = Dataset()
    item.ReferencedSOPClassUID = shown.SOPClassUID
    item.ReferencedSOPInstanceUID = shown.SOPInstanceUID
    if frame is not None:
        item.ReferencedFrameNumber = frame
    object_.SourceImageSequence = [item]
    return finish(object_, report, source.stated)


def make_key_selection(
    report: Report, chosen: Sequence[tuple[KeyImage, Dataset]], sources: Mapping[str, Source]
) -> Dataset | None:
    """The slices that show the findings and the key images drawn of them; None where no image shows a finding.

    Args:
        chosen: key images with their Secondary Captures.
        sources: series uid → its images.
    """
    import highdicom as hd

    from medvlm.reporting.dicom.measurements import device_observer

    objects: dict[str, Dataset] = {}
    frames: dict[str, list[int]] = {}
    for image, capture in chosen:
        if not image.findings:
            continue
        for name in image.findings:
            place = next((e for e in report.finding(name).evidence if e.series == image.series), None)
            shown, frame = sources[image.series].best(place)
            uid = str(shown.SOPInstanceUID)
            objects.setdefault(uid, shown)
            if frame is not None and frame not in frames.setdefault(uid, []):
                frames[uid].append(frame)
        objects[str(capture.SOPInstanceUID)] = capture
    if not objects:
        return None
    stamp = Stamp(report)
    content = hd.ko.KeyObjectSelection(
        document_title=coded(OF_INTEREST),
        referenced_objects=list(objects.values()),
        observer_device_context=device_observer(report),
        description=f"{report.disclaimer}. Chosen by software: the best slice of each finding, and a picture of it.",
    )
    object_ = hd.ko.KeyObjectSelectionDocument(
        evidence=list(objects.values()),
        content=content,
        series_instance_uid=stamp.uid("selection series"),
        series_number=FIRST_SERIES + 5,
        sop_instance_uid=stamp.uid("selection"),
        instance_number=1,
        manufacturer=MANUFACTURER,
        manufacturer_model_name=MODEL,
        series_description="medvlm key objects (not verified)",
        content_date=stamp.when.date(),
        content_time=stamp.when.time(),
        contributing_equipment=equipment(report),
    )
    for item in object_.ContentSequence:
        if item.ValueType == "IMAGE":
            # TID 2010 gives the images of a selection no name; highdicom finds its references by one.
            del item.ConceptNameCodeSequence
            reference = item.ReferencedSOPSequence[0]
            if numbers := frames.get(str(reference.ReferencedSOPInstanceUID)):
                reference.ReferencedFrameNumber = sorted(numbers)
    stated = {uid: kind for source in sources.values() for uid, kind in source.stated.items()}
    return finish(object_, report, stated)
