"""Write a phantom as a CT Image Storage series (DICOM PS3.3 A.3)."""

from __future__ import annotations

import uuid
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian

import medvlm
from medvlm.phantom.case import PhantomCase

RAS_TO_LPS = np.array((-1.0, -1.0, 1.0))
# Says which program wrote the file.
IMPLEMENTATION = f"2.25.{uuid.uuid5(uuid.NAMESPACE_DNS, 'medvlm').int}"
STUDY_DATE = "20200101"


def write_series(case: PhantomCase, folder: Path) -> int:
    """Write one file a slice (`IM-0001.dcm`, ...) into an existing folder and return their number.

    The header is built once; only what differs between slices changes.
    """
    header = series_header(case)
    signed = case.acquisition.scanner.signed
    offset = 0 if signed else 1024
    # [K, J, I]: slices, rows, columns, as pixels are stored.
    pixels = np.ascontiguousarray(case.volume.array.transpose(2, 1, 0)) + np.int16(offset)
    pixels = pixels.astype("<i2" if signed else "<u2")
    count = len(pixels)
    for number, k in enumerate(np.argsort(slice_numbers(case)), start=1):
        _set_slice(header, case, int(k), number)
        header.PixelData = pixels[k].tobytes()
        header.save_as(folder / f"IM-{number:04d}.dcm", enforce_file_format=True)
    return count


def slice_numbers(case: PhantomCase) -> np.ndarray:
    """`[K]` instance number of each slice along the volume's third axis."""
    count = case.volume.array.shape[2]
    upwards = case.acquisition.affine[2, 2] > 0
    numbers = np.arange(1, count + 1)
    return numbers[::-1] if upwards == case.acquisition.descending else numbers


def series_header(case: PhantomCase) -> FileDataset:
    """Everything that all slices share."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.MediaStorageSOPInstanceUID = UID(case.uid("image 1"))
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = UID(IMPLEMENTATION)
    meta.ImplementationVersionName = f"MEDVLM {medvlm.__version__}"[:16]
    header = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    header.SpecificCharacterSet = "ISO_IR 192"
    header.SOPClassUID = CTImageStorage
    _patient_and_study(header, case)
    _equipment(header, case)
    _image(header, case)
    return header


def _patient_and_study(header: Dataset, case: PhantomCase) -> None:
    header.PatientName = f"PHANTOM^{case.patient_id}"
    header.PatientID = case.patient_id
    header.PatientBirthDate = f"{2020 - case.patient.age:04d}0101"
    header.PatientSex = case.patient.sex
    header.PatientAge = f"{case.patient.age:03d}Y"
    header.StudyInstanceUID = case.uid("study")
    header.StudyID = case.id[-16:]
    header.AccessionNumber = ""
    header.ReferringPhysicianName = ""
    header.StudyDescription = "Synthetic chest CT (phantom)"
    for what in ("Study", "Series", "Acquisition", "Content"):
        setattr(header, f"{what}Date", STUDY_DATE)
        setattr(header, f"{what}Time", f"{8 + case.index % 10:02d}{case.index % 60:02d}00")
    header.SeriesInstanceUID = case.uid("series")
    header.SeriesNumber = 2
    header.SeriesDescription = f"Chest {case.acquisition.kernel}"
    header.Modality = "CT"
    header.BodyPartExamined = "CHEST"
    header.PatientPosition = case.acquisition.position
    header.FrameOfReferenceUID = case.uid("frame of reference")
    header.PositionReferenceIndicator = ""


def _equipment(header: Dataset, case: PhantomCase) -> None:
    acquisition = case.acquisition
    header.Manufacturer = acquisition.scanner.manufacturer
    header.ManufacturerModelName = acquisition.scanner.model
    header.SoftwareVersions = acquisition.scanner.software
    header.InstitutionName = "medvlm phantom clinic"
    header.KVP = str(acquisition.kvp)
    header.XRayTubeCurrent = acquisition.current
    header.ExposureTime = 500
    header.ConvolutionKernel = acquisition.kernel
    header.GantryDetectorTilt = "0"
    header.AcquisitionNumber = 1
    header.QualityControlImage = "YES"


def _image(header: Dataset, case: PhantomCase) -> None:
    volume, signed = case.volume, case.acquisition.scanner.signed
    columns, rows, _ = volume.array.shape
    spacing = volume.spacing
    header.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    header.ImageOrientationPatient = [
        _decimal(value, 9) for axis in (0, 1) for value in volume.affine[:3, axis] / spacing[axis] * RAS_TO_LPS
    ]
    # Row spacing first (DICOM PS3.3 10.7.1.3): the distance between rows is the step along j.
    header.PixelSpacing = [_decimal(spacing[1], 9), _decimal(spacing[0], 9)]
    header.SliceThickness = _decimal(spacing[2], 6)
    header.SpacingBetweenSlices = _decimal(spacing[2], 6)
    header.SamplesPerPixel = 1
    header.PhotometricInterpretation = "MONOCHROME2"
    header.Rows, header.Columns = rows, columns
    header.BitsAllocated = 16
    header.BitsStored = 16 if signed else 12
    header.HighBit = header.BitsStored - 1
    header.PixelRepresentation = int(signed)
    header.RescaleIntercept = "0" if signed else "-1024"
    header.RescaleSlope = "1"
    header.RescaleType = "HU"
    sharp = case.acquisition.sharp
    header.WindowCenter, header.WindowWidth = ("-600", "1500") if sharp else ("40", "400")


def _set_slice(header: FileDataset, case: PhantomCase, k: int, number: int) -> None:
    header.SOPInstanceUID = case.uid(f"image {number}")
    header.file_meta.MediaStorageSOPInstanceUID = header.SOPInstanceUID
    header.InstanceNumber = number
    position = (case.volume.affine[:3, 3] + k * case.volume.affine[:3, 2]) * RAS_TO_LPS
    header.ImagePositionPatient = [_decimal(value, 6) for value in position]
    header.SliceLocation = _decimal(position[2], 3)


def _decimal(value: float, digits: int) -> str:
    """A DICOM decimal string: at most 16 characters, no negative zero."""
    text = f"{value:.{digits}f}"[:16].rstrip("0").rstrip(".")
    return "0" if text in ("-0", "") else text
