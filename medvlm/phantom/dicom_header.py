"""What every DICOM file of a phantom says: whose it is, when it was made, and by what."""

from __future__ import annotations

import uuid
from typing import Protocol

from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian

import medvlm

# Says which program wrote the file.
IMPLEMENTATION = f"2.25.{uuid.uuid5(uuid.NAMESPACE_DNS, 'medvlm').int}"
STUDY_DATE = "20200101"


class Case(Protocol):
    """A phantom patient's study."""

    @property
    def id(self) -> str: ...
    @property
    def patient_id(self) -> str: ...
    def uid(self, name: str) -> str: ...


def new_header(sop_class: str, instance: str) -> FileDataset:
    """An empty object of a SOP class with its file meta information."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = UID(sop_class)
    meta.MediaStorageSOPInstanceUID = UID(instance)
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = UID(IMPLEMENTATION)
    meta.ImplementationVersionName = f"MEDVLM {medvlm.__version__}"[:16]
    header = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    header.SpecificCharacterSet = "ISO_IR 192"
    header.SOPClassUID = UID(sop_class)
    header.SOPInstanceUID = instance
    return header


def identify(header: Dataset, case: Case, age: int, sex: str, description: str, time: str) -> None:
    """Patient, study and series identifiers.

    Args:
        header: is filled in.
        case: the phantom.
        age, sex: of the patient, in years and `F` or `M`.
        description: of the study.
        time: of study, series and content, `HHMMSS`.
    """
    header.PatientName = f"PHANTOM^{case.patient_id}"
    header.PatientID = case.patient_id
    header.PatientBirthDate = f"{2020 - age:04d}0101"
    header.PatientSex = sex
    header.StudyInstanceUID = case.uid("study")
    header.StudyID = case.id[-16:]
    header.AccessionNumber = ""
    header.ReferringPhysicianName = ""
    header.StudyDescription = description
    for what in ("Study", "Series", "Content"):
        setattr(header, f"{what}Date", STUDY_DATE)
        setattr(header, f"{what}Time", time)
    header.SeriesInstanceUID = case.uid("series")
    header.FrameOfReferenceUID = case.uid("frame of reference")
    header.PositionReferenceIndicator = ""
    header.InstitutionName = "medvlm phantom clinic"
