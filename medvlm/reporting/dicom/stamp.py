"""What every DICOM object of a report carries: own UIDs, series numbers, codes, and who made it."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from pydicom.dataset import Dataset
from pydicom.sr.coding import Code as DicomCode
from pydicom.uid import UID

from medvlm.findings.finding import Code
from medvlm.reporting.report import ExpertUse, Report

if TYPE_CHECKING:
    from highdicom import ContributingEquipment
    from highdicom.sr import CodedConcept

MANUFACTURER = "medvlm"
MODEL = "medvlm report"
# Concepts of our own need a designator that begins with 99 (PS3.16 8).
OWN_SCHEME = "99MEDVLM"
OWN_SCHEME_UID = f"2.25.{uuid.uuid5(uuid.NAMESPACE_DNS, '99MEDVLM').int}"
# (0040,A170) CID 7005: the equipment that processed the images.
PROCESSING = DicomCode("109102", "DCM", "Processing Equipment")
FIRST_SERIES = 9001
# Label Map Segmentation Storage (PS3.4 B.5, supplement 243); pydicom has no name for it yet.
LABEL_MAP = UID("1.2.840.10008.5.1.4.1.1.66.7")


@dataclass(frozen=True)
class Stamp:
    """UIDs and numbers for the objects of one report.

    They follow from the report, so that writing it again gives the same objects: a PACS that got half of them before
    a crash holds nothing twice after the second run.
    """

    report: Report

    def uid(self, *what: object) -> UID:
        """An own UID (2.25 and a UUID, PS3.5 B.2) for an object of this report."""
        key = "/".join(map(str, (self.report.study, self.report.method.created, *what)))
        return UID(f"2.25.{uuid.uuid5(uuid.NAMESPACE_URL, key).int}")

    @property
    def when(self) -> datetime:
        """When the report was made, without a time zone as DICOM dates are."""
        return datetime.fromisoformat(self.report.method.created).replace(tzinfo=None)

    @property
    def version(self) -> str:
        return self.report.method.medvlm


def tracking_uid(study: str, expert: str, finding: str) -> UID:
    """The same object of the same study has the same tracking UID in SEG and SR."""
    return UID(f"2.25.{uuid.uuid5(uuid.NAMESPACE_URL, f'{study}/{expert}/{finding}').int}")


def device_uid(expert: ExpertUse) -> UID:
    """A device UID that changes with the expert's weights (IHE AI Results)."""
    key = f"{expert.name}/{expert.version}/{expert.weights}"
    return UID(f"2.25.{uuid.uuid5(uuid.NAMESPACE_URL, key).int}")


def coded(code: Code | DicomCode) -> CodedConcept:
    """A code as DICOM writes it: our own scheme gets its private designator."""
    from highdicom.sr import CodedConcept

    if isinstance(code, DicomCode):
        return CodedConcept(code.value, code.scheme_designator, code.meaning)
    scheme = OWN_SCHEME if code.scheme == "MEDVLM" else code.scheme
    return CodedConcept(code.value[:16], scheme, code.meaning[:64])


def uncoded(concept: CodedConcept | Dataset) -> Code:
    """The inverse of `coded`."""
    scheme = "MEDVLM" if concept.CodingSchemeDesignator == OWN_SCHEME else concept.CodingSchemeDesignator
    value = str(concept.get("CodeValue") or concept.get("LongCodeValue"))
    return Code(value, scheme, str(concept.CodeMeaning))


def unverified(stamp: Stamp) -> dict[str, Any]:
    """What every SR document of a report says of its maker: complete, not final, verified by nobody."""
    return {
        "manufacturer": MANUFACTURER,
        "manufacturer_model_name": MODEL,
        "software_versions": stamp.version,
        "device_serial_number": "1",
        "is_complete": True,
        "is_final": False,
        "is_verified": False,
        "content_date": stamp.when.date(),
        "content_time": stamp.when.time(),
        "contributing_equipment": equipment(stamp.report),
    }


def equipment(report: Report) -> list[ContributingEquipment]:
    """One item an expert and one for the language model: name, version, hash of the weights."""
    import highdicom as hd

    items = []
    for expert in report.experts:
        if expert.ran:
            item = hd.ContributingEquipment(
                manufacturer=MANUFACTURER,
                purpose_of_reference=PROCESSING,
                manufacturer_model_name=expert.name[:64],
                software_versions=expert.version,
                contribution_description=f"expert; weights sha256 {expert.weights}"[:1024],
            )
            item.DeviceUID = device_uid(expert)
            items.append(item)
    if report.method.model:
        weights = f"; weights sha256 {report.method.model_weights}" if report.method.model_weights else ""
        items.append(
            hd.ContributingEquipment(
                manufacturer=MANUFACTURER,
                purpose_of_reference=PROCESSING,
                manufacturer_model_name=report.method.model[-64:],
                contribution_description=f"vision-language model that wrote the text{weights}"[:1024],
            )
        )
    return items


def finish(dataset: Dataset, report: Report, stated: Mapping[str, UID]) -> Dataset:
    """Say who made an object, name our code scheme, and refer to images by the class that they state.

    Args:
        dataset: the object, changed in place.
        report: the report it comes from.
        stated: instance UID → storage class (see `Source`).
    """
    dataset.Manufacturer = MANUFACTURER
    dataset.ManufacturerModelName = MODEL
    dataset.SoftwareVersions = report.method.medvlm
    dataset.DeviceSerialNumber = "1"
    own = False
    for item in _items(dataset):
        instance = str(item.get("ReferencedSOPInstanceUID") or "")
        if instance in stated:
            item.ReferencedSOPClassUID = stated[instance]
        if "ReferencedFrameNumber" in item and "ReferencedSegmentNumber" in item:
            # One of both (PS3.3 10.3): a frame says its segment, but not in a label map.
            if item.ReferencedSOPClassUID == LABEL_MAP:
                del item.ReferencedFrameNumber
            else:
                del item.ReferencedSegmentNumber
        own = own or item.get("CodingSchemeDesignator") == OWN_SCHEME
    if own:
        item = Dataset()
        item.CodingSchemeDesignator = OWN_SCHEME
        item.CodingSchemeUID = OWN_SCHEME_UID
        item.CodingSchemeName = "medvlm concepts without a standard code"
        item.CodingSchemeResponsibleOrganization = "medvlm"
        dataset.CodingSchemeIdentificationSequence = [item]
    return dataset


def _items(dataset: Dataset) -> Iterator[Dataset]:
    """Every item of every sequence, however deep."""
    for element in dataset:
        if element.VR == "SQ":
            for item in element.value:
                yield item
                yield from _items(item)
