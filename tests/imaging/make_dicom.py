"""DICOM series made in the test: the intensity is a linear function of the patient position.

`2 L + 3 P + 5 S` (LPS millimetres) is stored in every pixel, rounded to whole numbers: any error of geometry shows as
an error of intensity, and 5 units are 1 mm along the patient's axis.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence as Items
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from medvlm.imaging.study import Volume

CT, MR, PET = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.4", "1.2.840.10008.5.1.4.1.1.128"
ENHANCED_CT = "1.2.840.10008.5.1.4.1.1.2.1"
MODALITIES = {CT: "CT", MR: "MR", PET: "PT", ENHANCED_CT: "CT"}
AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
WEIGHTS = np.array([2.0, 3.0, 5.0])


def uid(*words: object) -> str:
    """The same words give the same uid."""
    return generate_uid(entropy_srcs=[str(word) for word in words])


def positions(count: int, step: float = 3.0, orientation: Sequence[float] = AXIAL, start=(-20.0, -30.0, 40.0)):
    """Evenly spaced slice positions along the normal."""
    normal = np.cross(orientation[:3], orientation[3:])
    return [np.array(start) + index * step * normal for index in range(count)]


def values_at(position, orientation, spacing, rows: int, columns: int) -> np.ndarray:
    """`[rows, columns]` of 2 L + 3 P + 5 S."""
    row, column = np.array(orientation[:3]), np.array(orientation[3:])
    r, c = np.meshgrid(np.arange(rows), np.arange(columns), indexing="ij")
    place = np.asarray(position) + c[..., None] * spacing[1] * row + r[..., None] * spacing[0] * column
    return place @ WEIGHTS


def dataset(series: str, number: int, sop_class: str = CT, **changes: object) -> Dataset:
    """A data set without pixels."""
    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.SOPClassUID = made.file_meta.MediaStorageSOPClassUID = sop_class
    made.SOPInstanceUID = made.file_meta.MediaStorageSOPInstanceUID = uid(series, number, changes)
    made.StudyInstanceUID = uid("study")
    made.SeriesInstanceUID = uid(series)
    made.FrameOfReferenceUID = uid("frame")
    made.Modality = MODALITIES.get(sop_class, "OT")
    made.PatientID = "P1"
    made.PatientName = "Test^Person"
    made.SeriesDescription = series
    made.InstanceNumber = number
    made.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    for name, value in changes.items():
        setattr(made, name, value)
    return made


def set_pixels(made: Dataset, stored: np.ndarray, bits: int = 16) -> None:
    """Put `[(frames,) rows, columns]` whole numbers in as native pixels."""
    made.Rows, made.Columns = stored.shape[-2:]
    made.SamplesPerPixel, made.PhotometricInterpretation = 1, "MONOCHROME2"
    made.BitsAllocated = made.BitsStored = bits
    made.HighBit, made.PixelRepresentation = bits - 1, 1
    made.PixelData = np.ascontiguousarray(stored.astype(f"<i{bits // 8}")).tobytes()


def write_slice(
    path: Path,
    series: str,
    number: int,
    position: Sequence[float],
    orientation: Sequence[float] = AXIAL,
    spacing: tuple[float, float] = (1.0, 1.0),
    shape: tuple[int, int] = (24, 20),
    slope: float = 1.0,
    intercept: float = -1024.0,
    sop_class: str = CT,
    **changes: object,
) -> Path:
    """Write one slice whose rescaled values are `values_at` its place."""
    made = dataset(series, number, sop_class, **changes)
    made.ImagePositionPatient = [f"{value:.6g}" for value in position]
    made.ImageOrientationPatient = [f"{value:.8g}" for value in orientation]
    made.PixelSpacing = list(spacing)
    made.SliceThickness = 3.0
    made.RescaleSlope, made.RescaleIntercept = slope, intercept
    wanted = values_at(position, orientation, spacing, *shape)
    set_pixels(made, np.round((wanted - intercept) / slope))
    path.parent.mkdir(parents=True, exist_ok=True)
    made.save_as(path, enforce_file_format=True)
    return path


def write_series(folder: Path, series: str = "s", places=None, **settings) -> list[Path]:
    """Write a whole series, one file a slice."""
    orientation = settings.get("orientation", AXIAL)
    places = positions(10, orientation=orientation) if places is None else places
    return [
        write_slice(folder / f"{series}-{number:03d}.dcm", series, number, place, **settings)
        for number, place in enumerate(places, start=1)
    ]


def write_enhanced(path: Path, places, orientation=AXIAL, spacing=(1.0, 1.0), shape=(24, 20), shuffle: int = 0) -> Path:
    """An enhanced CT: all slices in one file, in a shuffled order, with a rescale of its own for each frame."""
    made = dataset("enhanced", 1, ENHANCED_CT)
    order = np.random.default_rng(shuffle).permutation(len(places))
    stored, groups = [], []
    for index in order:
        slope, intercept = 1.0, -1000.0 - float(index)
        wanted = values_at(places[index], orientation, spacing, *shape)
        stored.append(np.round((wanted - intercept) / slope))
        group = Dataset()
        plane, value = Dataset(), Dataset()
        plane.ImagePositionPatient = list(map(float, places[index]))
        value.RescaleSlope, value.RescaleIntercept, value.RescaleType = slope, intercept, "HU"
        group.PlanePositionSequence, group.PixelValueTransformationSequence = Items([plane]), Items([value])
        groups.append(group)
    shared, direction, measures = Dataset(), Dataset(), Dataset()
    direction.ImageOrientationPatient = list(orientation)
    measures.PixelSpacing, measures.SliceThickness = list(spacing), 3.0
    shared.PlaneOrientationSequence, shared.PixelMeasuresSequence = Items([direction]), Items([measures])
    made.SharedFunctionalGroupsSequence = Items([shared])
    made.PerFrameFunctionalGroupsSequence = Items(groups)
    made.NumberOfFrames = len(places)
    set_pixels(made, np.array(stored))
    path.parent.mkdir(parents=True, exist_ok=True)
    made.save_as(path, enforce_file_format=True)
    return path


def largest_error(volume: Volume) -> float:
    """How far any voxel is from 2 L + 3 P + 5 S at the place where the volume says it lies."""
    index = np.stack(np.meshgrid(*map(np.arange, volume.array.shape[:3]), indexing="ij"), axis=-1)
    lps = volume.to_patient(index) * [-1, -1, 1]
    return float(np.abs(volume.array - lps @ WEIGHTS).max())
