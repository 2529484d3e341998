"""DICOM studies for the writers: CT and MR series in any geometry, an enhanced CT, a radiograph and an OCT volume.

The patient's name and the texts are not ASCII; patient and study modules are valid, so that what is wrong in an object
of a report is the report's own fault.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian

PATIENT = "Müller^Zoë=山田^太郎"
C, S = float(np.cos(0.3)), float(np.sin(0.3))
# name → (row cosines, column cosines, pixel spacing between rows and columns, step between slices); LPS.
GEOMETRIES = {
    "axial": ((1, 0, 0), (0, 1, 0), (1.0, 1.0), 2.5),
    "coronal": ((1, 0, 0), (0, 0, -1), (1.0, 1.0), 2.5),
    "sagittal": ((0, 1, 0), (0, 0, -1), (1.0, 1.0), 2.5),
    "oblique": ((C, S, 0), (-S * C, C * C, -S), (1.0, 1.0), 2.5),
    "row-reversed": ((-1, 0, 0), (0, 1, 0), (1.0, 1.0), 2.5),
    "non-square": ((1, 0, 0), (0, 1, 0), (0.7, 1.3), 2.5),
}
ROWS, COLUMNS, SLICES = 20, 24, 12


def uid(*what: object) -> UID:
    from pydicom.uid import generate_uid

    return generate_uid(entropy_srcs=["medvlm-test", *map(str, what)])


def base(sop_class: str, modality: str, key: str, number: int = 1) -> FileDataset:
    """Patient, study, series and equipment."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = UID(sop_class)
    meta.MediaStorageSOPInstanceUID = uid(key, number)
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    header = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    header.SpecificCharacterSet = "ISO_IR 192"
    header.SOPClassUID, header.SOPInstanceUID = sop_class, uid(key, number)
    header.PatientName, header.PatientID = PATIENT, "Å-17"
    header.PatientBirthDate, header.PatientSex, header.PatientAge = "19610203", "F", "060Y"
    header.StudyInstanceUID, header.StudyID = uid(key, "study"), "1"
    header.StudyDate, header.StudyTime, header.AccessionNumber = "20240102", "101010", "A1"
    header.ReferringPhysicianName, header.StudyDescription = "Größe^Ärztin", "Über alles"
    header.SeriesInstanceUID, header.SeriesNumber = uid(key, "series"), 3
    header.SeriesDate, header.SeriesTime = "20240102", "101011"
    header.ContentDate, header.ContentTime = "20240102", "101012"
    header.AcquisitionDate, header.AcquisitionTime = "20240102", "101012"
    header.Modality, header.SeriesDescription = modality, "Schädel"
    header.Manufacturer, header.ManufacturerModelName = "Äcme", "One"
    header.DeviceSerialNumber, header.SoftwareVersions = "7", "1"
    header.FrameOfReferenceUID, header.PositionReferenceIndicator = uid(key, "frame"), ""
    header.InstanceNumber, header.AcquisitionNumber = number, 1
    header.SamplesPerPixel, header.PhotometricInterpretation = 1, "MONOCHROME2"
    header.BitsAllocated, header.BitsStored, header.HighBit, header.PixelRepresentation = 16, 12, 11, 0
    header.Rows, header.Columns = ROWS, COLUMNS
    return header


def pixels(count: int) -> np.ndarray:
    """`[count, ROWS, COLUMNS]` ramp with a bright block in columns 6..11, rows 4..10, slices 3..6."""
    array = np.full((count, ROWS, COLUMNS), 224, dtype="<u2")
    array[3:7, 4:11, 6:12] = 1064
    return array


def write_slices(folder: Path, modality: str = "CT", geometry: str = "axial") -> Path:
    """One file a slice, named so that the order of the names is not that of the slices."""
    folder.mkdir(parents=True)
    row, column, spacing, step = GEOMETRIES[geometry]
    normal = np.cross(row, column)
    sop = {"CT": "1.2.840.10008.5.1.4.1.1.2", "MR": "1.2.840.10008.5.1.4.1.1.4"}[modality]
    planes = pixels(SLICES)
    for k in range(SLICES):
        header = base(sop, modality, f"{modality}-{geometry}", k + 1)
        header.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"] if modality == "CT" else ["ORIGINAL", "PRIMARY", "OTHER"]
        header.ImageOrientationPatient = [round(float(v), 9) for v in (*row, *column)]
        header.ImagePositionPatient = [round(float(v), 6) for v in np.array([-20.0, 11.0, 7.0]) + k * step * normal]
        header.PixelSpacing, header.SliceThickness = list(spacing), step
        header.PatientPosition, header.BodyPartExamined = "HFS", "CHEST"
        if modality == "CT":
            header.KVP, header.RescaleSlope, header.RescaleIntercept, header.RescaleType = "120", "1", "-1024", "HU"
        else:
            header.ScanningSequence, header.SequenceVariant, header.ScanOptions = "SE", "NONE", ""
            header.MRAcquisitionType, header.EchoTime, header.RepetitionTime = "2D", "10", "500"
            header.EchoTrainLength = 1
        header.PixelData = planes[k].tobytes()
        header.save_as(folder / f"{(k * 7) % SLICES:03d}.dcm", enforce_file_format=True)
    return folder


def write_enhanced(folder: Path) -> Path:
    """An Enhanced CT: one file, frames from the head down."""
    folder.mkdir(parents=True)
    header = base("1.2.840.10008.5.1.4.1.1.2.1", "CT", "enhanced")
    header.ImageType = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    header.NumberOfFrames, header.BodyPartExamined, header.PatientPosition = SLICES, "CHEST", "HFS"
    header.ContentQualification, header.LossyImageCompression = "RESEARCH", "00"
    header.PixelPresentation, header.VolumetricProperties = "MONOCHROME", "VOLUME"
    header.VolumeBasedCalculationTechnique, header.BurnedInAnnotation = "NONE", "NO"
    header.PresentationLUTShape, header.AcquisitionDateTime = "IDENTITY", "20240102101012"
    shared = Dataset()
    shared.PixelMeasuresSequence = [Dataset()]
    shared.PixelMeasuresSequence[0].PixelSpacing = [1.0, 1.0]
    shared.PixelMeasuresSequence[0].SliceThickness = 2.5
    shared.PlaneOrientationSequence = [Dataset()]
    shared.PlaneOrientationSequence[0].ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    shared.PixelValueTransformationSequence = [Dataset()]
    rescale = shared.PixelValueTransformationSequence[0]
    rescale.RescaleIntercept, rescale.RescaleSlope, rescale.RescaleType = "-1024", "1", "HU"
    header.SharedFunctionalGroupsSequence = [shared]
    add_dimension(header, uid("enhanced", "dimension"))
    frames = []
    for k in range(SLICES):
        groups = Dataset()
        groups.PlanePositionSequence = [Dataset()]
        groups.PlanePositionSequence[0].ImagePositionPatient = [-20.0, 11.0, 7.0 + (SLICES - 1 - k) * 2.5]
        content = Dataset()
        content.StackID, content.InStackPositionNumber, content.DimensionIndexValues = "1", k + 1, [k + 1]
        content.FrameAcquisitionNumber = 1
        groups.FrameContentSequence = [content]
        frames.append(groups)
    header.PerFrameFunctionalGroupsSequence = frames
    header.PixelData = pixels(SLICES)[::-1].tobytes()
    header.save_as(folder / "enhanced.dcm", enforce_file_format=True)
    return folder


def add_dimension(header: Dataset, organization: UID) -> None:
    """Frames are indexed by their position in the stack."""
    header.DimensionOrganizationSequence = [Dataset()]
    header.DimensionOrganizationSequence[0].DimensionOrganizationUID = organization
    index = Dataset()
    index.DimensionIndexPointer, index.FunctionalGroupPointer = 0x00209057, 0x00209111
    index.DimensionOrganizationUID = organization
    header.DimensionIndexSequence = [index]


def write_radiograph(folder: Path) -> Path:
    """A chest radiograph: DX, for presentation, calibrated, with an orientation."""
    folder.mkdir(parents=True)
    header = base("1.2.840.10008.5.1.4.1.1.1.1", "DX", "dx")
    del header.FrameOfReferenceUID, header.PositionReferenceIndicator
    header.ImageType, header.PresentationIntentType = ["ORIGINAL", "PRIMARY"], "FOR PRESENTATION"
    header.PatientOrientation, header.BodyPartExamined, header.ImageLaterality = ["L", "F"], "CHEST", "U"
    header.PixelSpacing, header.ImagerPixelSpacing = [0.5, 0.5], [0.5, 0.5]
    header.PixelSpacingCalibrationType, header.PixelSpacingCalibrationDescription = "FIDUCIAL", "steel ball"
    header.PixelIntensityRelationship, header.PixelIntensityRelationshipSign = "LOG", -1
    header.RescaleIntercept, header.RescaleSlope, header.RescaleType = "0", "1", "US"
    header.PresentationLUTShape, header.LossyImageCompression, header.BurnedInAnnotation = "IDENTITY", "00", "NO"
    header.WindowCenter, header.WindowWidth, header.PositionerType, header.ViewPosition = "600", "900", "NONE", "PA"
    region = Dataset()
    region.CodeValue, region.CodingSchemeDesignator, region.CodeMeaning = "51185008", "SCT", "Chest"
    header.AnatomicRegionSequence = [region]
    header.AcquisitionContextSequence = []
    header.DetectorType = "DIRECT"
    header.PixelData = pixels(SLICES)[4].tobytes()
    header.save_as(folder / "dx.dcm", enforce_file_format=True)
    return folder


def write_oct(folder: Path) -> Path:
    """A retinal OCT volume (Ophthalmic Tomography): strongly anisotropic, frames in space."""
    folder.mkdir(parents=True)
    header = base("1.2.840.10008.5.1.4.1.1.77.1.5.4", "OPT", "oct")
    header.ImageType = ["ORIGINAL", "PRIMARY"]
    header.NumberOfFrames, header.ImageLaterality = SLICES, "R"
    header.AcquisitionDateTime, header.BurnedInAnnotation = "20240102101012", "NO"
    header.PresentationLUTShape, header.LossyImageCompression = "IDENTITY", "00"
    header.BitsAllocated, header.BitsStored, header.HighBit = 16, 16, 15
    header.AcquisitionDuration = 1000.0
    device = Dataset()
    device.CodeValue, device.CodingSchemeDesignator = "392012008", "SCT"
    device.CodeMeaning = "Optical Coherence Tomography Scanner"
    header.AcquisitionDeviceTypeCodeSequence = [device]
    eye = Dataset()
    eye.CodeValue, eye.CodingSchemeDesignator, eye.CodeMeaning = "5665001", "SCT", "Retina"
    header.AnatomicRegionSequence = [eye]
    header.IlluminationTypeCodeSequence, header.LightPathFilterTypeStackCodeSequence = [], []
    header.DetectorType, header.PupilDilated = "CCD", "NO"
    header.AxialLengthOfTheEye = header.HorizontalFieldOfView = None
    header.RefractiveStateSequence, header.EmmetropicMagnification, header.IntraOcularPressure = [], None, None
    header.MydriaticAgentSequence, header.AcquisitionContextSequence = [], []
    header.DepthSpatialResolution, header.MaximumDepthDistortion = 7.0, 0.5
    header.AlongScanSpatialResolution, header.MaximumAlongScanDistortion = 14.0, 0.5
    header.AcrossScanSpatialResolution, header.MaximumAcrossScanDistortion = 14.0, 0.5
    header.IlluminationWaveLength, header.IlluminationPower = 840.0, 700.0
    header.IlluminationBandwidth, header.MydriaticAgentSequence = 50.0, []
    shared = Dataset()
    shared.PixelMeasuresSequence = [Dataset()]
    shared.PixelMeasuresSequence[0].PixelSpacing = [0.004, 0.012]
    shared.PixelMeasuresSequence[0].SliceThickness = 0.12
    shared.PlaneOrientationSequence = [Dataset()]
    shared.PlaneOrientationSequence[0].ImageOrientationPatient = [1, 0, 0, 0, 0, -1]
    shared.FrameAnatomySequence = [Dataset()]
    shared.FrameAnatomySequence[0].FrameLaterality = "R"
    shared.FrameAnatomySequence[0].AnatomicRegionSequence = [eye]
    header.SharedFunctionalGroupsSequence = [shared]
    add_dimension(header, uid("oct", "dimension"))
    frames = []
    for k in range(SLICES):
        groups = Dataset()
        groups.PlanePositionSequence = [Dataset()]
        groups.PlanePositionSequence[0].ImagePositionPatient = [0.0, round(k * 0.12, 3), 0.0]
        content = Dataset()
        content.StackID, content.InStackPositionNumber, content.DimensionIndexValues = "1", k + 1, [k + 1]
        content.FrameAcquisitionDateTime = content.FrameReferenceDateTime = "20240102101012"
        content.FrameAcquisitionDuration = 10.0
        content.FrameAcquisitionNumber = 1
        groups.FrameContentSequence = [content]
        frames.append(groups)
    header.PerFrameFunctionalGroupsSequence = frames
    header.PixelData = pixels(SLICES).tobytes()
    header.save_as(folder / "oct.dcm", enforce_file_format=True)
    return folder
