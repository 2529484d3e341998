"""Write an OCT phantom as an Ophthalmic Tomography image of one frame (DICOM PS3.3 A.52.4.3)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import OphthalmicTomographyImageStorage

import medvlm
from medvlm.phantom.dicom_header import STUDY_DATE, identify, new_header

if TYPE_CHECKING:
    from medvlm.phantom.oct_case import OctCase


def write_bscan(case: OctCase, path: Path) -> None:
    """Write one B-scan; rows run from the vitreous to the sclera, columns from temporal to nasal in a right eye."""
    header = new_header(OphthalmicTomographyImageStorage, case.uid("image"))
    _patient_and_study(header, case)
    _equipment(header)
    _acquisition(header)
    _pixels(header, case)
    _groups(header, case)
    header.save_as(path, enforce_file_format=True)


def _patient_and_study(header: Dataset, case: OctCase) -> None:
    identify(header, case, case.eye.age, case.eye.sex, "Synthetic OCT of the macula (phantom)", "090000")
    header.AcquisitionDateTime = f"{STUDY_DATE}090000"
    header.SeriesNumber = 1
    header.InstanceNumber = 1
    header.SeriesDescription = "Macula B-scan"
    header.Modality = "OPT"
    header.SynchronizationFrameOfReferenceUID = case.uid("clock")
    header.SynchronizationTrigger = "NO TRIGGER"
    header.AcquisitionTimeSynchronized = "N"
    header.ImageLaterality = "R" if case.eye.laterality == "right" else "L"
    header.AnatomicRegionSequence = Sequence([_code("5665001", "SCT", "Retina")])


def _equipment(header: Dataset) -> None:
    header.Manufacturer = "medvlm"
    header.ManufacturerModelName = "OCT phantom"
    header.DeviceSerialNumber = "1"
    header.SoftwareVersions = medvlm.__version__


def _acquisition(header: Dataset) -> None:
    device = _code("392012008", "SCT", "Optical Coherence Tomography Scanner")
    header.AcquisitionDeviceTypeCodeSequence = Sequence([device])
    header.LightPathFilterTypeStackCodeSequence = Sequence([])
    header.DetectorType = "CCD"
    header.IlluminationWaveLength = 870.0
    header.IlluminationPower = 1200.0
    header.IlluminationBandwidth = 50.0
    header.DepthSpatialResolution = 3.9
    header.MaximumDepthDistortion = 0.5
    header.AlongScanSpatialResolution = 14.0
    header.MaximumAlongScanDistortion = 0.5
    header.AcrossScanSpatialResolution = 14.0
    header.MaximumAcrossScanDistortion = 0.5
    header.RefractiveStateSequence = Sequence([])
    header.EmmetropicMagnification = None
    header.IntraOcularPressure = None
    header.HorizontalFieldOfView = None
    header.AcquisitionDuration = 0.05
    header.PupilDilated = "NO"
    header.AxialLengthOfTheEye = None


def _pixels(header: Dataset, case: OctCase) -> None:
    header.ImageType = ["ORIGINAL", "PRIMARY"]
    header.SamplesPerPixel = 1
    header.PhotometricInterpretation = "MONOCHROME2"
    header.Rows, header.Columns = case.pixels.shape
    header.BitsAllocated = header.BitsStored = 8
    header.HighBit = 7
    header.PixelRepresentation = 0
    header.NumberOfFrames = 1
    header.PresentationLUTShape = "IDENTITY"
    header.BurnedInAnnotation = "NO"
    header.RecognizableVisualFeatures = "NO"
    header.LossyImageCompression = "00"
    # The OPT image module (PS3.3 C.8.17.7) wants these of an image that is no concatenation too.
    header.InConcatenationNumber = header.InConcatenationTotalNumber = 1
    header.ConcatenationFrameOffsetNumber = 0
    header.AcquisitionContextSequence = Sequence([])
    header.AcquisitionNumber = 1
    header.PixelData = case.pixels.tobytes()


def _groups(header: Dataset, case: OctCase) -> None:
    """Shared and per-frame functional groups: voxel size, orientation, position, where in the eye."""
    organisation = case.uid("dimensions")
    header.DimensionOrganizationSequence = Sequence([_with(DimensionOrganizationUID=organisation)])
    pointer = _with(
        DimensionOrganizationUID=organisation,
        DimensionIndexPointer=0x00209057,  # In-Stack Position Number
        FunctionalGroupPointer=0x00209111,  # Frame Content Sequence
    )
    header.DimensionIndexSequence = Sequence([pointer])
    deep, wide = case.frame.deep_um / 1000, case.frame.wide_um / 1000
    measures = _with(PixelSpacing=[round(deep, 6), round(wide, 6)], SliceThickness=0.02, SpacingBetweenSlices=0.02)
    # Columns run along x; rows run deeper into the eye of a patient who looks ahead: from anterior to posterior.
    orientation = _with(ImageOrientationPatient=[1, 0, 0, 0, 1, 0])
    anatomy = _with(
        FrameLaterality=header.ImageLaterality, AnatomicRegionSequence=Sequence([_code("5665001", "SCT", "Retina")])
    )
    shared = _with(
        PixelMeasuresSequence=Sequence([measures]),
        PlaneOrientationSequence=Sequence([orientation]),
        FrameAnatomySequence=Sequence([anatomy]),
    )
    header.SharedFunctionalGroupsSequence = Sequence([shared])
    content = _with(
        FrameAcquisitionDateTime=header.AcquisitionDateTime,
        FrameReferenceDateTime=header.AcquisitionDateTime,
        FrameAcquisitionDuration=50.0,
        StackID="1",
        InStackPositionNumber=1,
        DimensionIndexValues=[1],
    )
    position = _with(ImagePositionPatient=[round(-case.frame.half_width / 1000, 4), 0, 0])
    header.PerFrameFunctionalGroupsSequence = Sequence(
        [_with(FrameContentSequence=Sequence([content]), PlanePositionSequence=Sequence([position]))]
    )


def _code(value: str, scheme: str, meaning: str) -> Dataset:
    return _with(CodeValue=value, CodingSchemeDesignator=scheme, CodeMeaning=meaning)


def _with(**values: object) -> Dataset:
    item = Dataset()
    for name, value in values.items():
        setattr(item, name, value)
    return item
