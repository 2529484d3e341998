"""Write a phantom as a CT Image Storage series (DICOM PS3.3 A.3)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileDataset
from pydicom.uid import CTImageStorage

from medvlm.phantom.case import PhantomCase
from medvlm.phantom.dicom_header import STUDY_DATE, identify, new_header

RAS_TO_LPS = np.array((-1.0, -1.0, 1.0))


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
    header = new_header(CTImageStorage, case.uid("image 1"))
    _patient_and_study(header, case)
    _equipment(header, case)
    _image(header, case)
    return header


def _patient_and_study(header: Dataset, case: PhantomCase) -> None:
    patient, time = case.patient, f"{8 + case.index % 10:02d}{case.index % 60:02d}00"
    identify(header, case, patient.age, patient.sex, "Synthetic chest CT (phantom)", time)
    header.PatientAge = f"{patient.age:03d}Y"
    header.AcquisitionDate, header.AcquisitionTime = STUDY_DATE, time
    header.SeriesNumber = 2
    header.SeriesDescription = f"Chest {case.acquisition.kernel}"
    header.Modality = "CT"
    header.BodyPartExamined = "CHEST"
    header.PatientPosition = case.acquisition.position


def _equipment(header: Dataset, case: PhantomCase) -> None:
    acquisition = case.acquisition
    header.Manufacturer = acquisition.scanner.manufacturer
    header.ManufacturerModelName = acquisition.scanner.model
    header.SoftwareVersions = acquisition.scanner.software
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
