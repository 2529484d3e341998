"""What single attributes mean: spacing that may be trusted, sides, padding, inversion, windows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items

from medvlm.imaging import Series, load_study
from medvlm.imaging.windows import Table
from tests.imaging.make_dicom import dataset, set_pixels, write_slice

DX, US = "1.2.840.10008.5.1.4.1.1.1.1", "1.2.840.10008.5.1.4.1.1.6.1"
RAMP = np.arange(12).reshape(3, 4) * 10


def picture(path: Path, modality: str, stored: np.ndarray = RAMP, signed: bool = False, **changes: object) -> Series:
    """One image without a position in the patient."""
    made = dataset("p", 1, DX if modality != "US" else US, Modality=modality)
    set_pixels(made, stored)
    made.PixelRepresentation = int(signed)
    for name, value in changes.items():
        setattr(made, name, value)
    made.save_as(path, enforce_file_format=True)
    (series,) = load_study(path).series
    return series


SPACINGS = {
    "nothing": ({}, False, 1.0),
    "at the detector": ({"ImagerPixelSpacing": [0.2, 0.2]}, False, 0.2),
    "the same twice": ({"ImagerPixelSpacing": [0.2, 0.2], "PixelSpacing": [0.2, 0.2]}, False, 0.2),
    "corrected": ({"ImagerPixelSpacing": [0.2, 0.2], "PixelSpacing": [0.17, 0.17]}, True, 0.17),
    "declared": ({"PixelSpacing": [0.17, 0.17], "PixelSpacingCalibrationType": "FIDUCIAL"}, True, 0.17),
    "zero": ({"PixelSpacing": [0, 0]}, False, 1.0),
}


@pytest.mark.parametrize(("tags", "calibrated", "spacing"), SPACINGS.values(), ids=SPACINGS)
def test_a_radiograph_has_millimetres_only_where_they_are_the_patients(tmp_path: Path, tags, calibrated, spacing):
    volume = picture(tmp_path / "a.dcm", "DX", **tags).volume
    assert volume.calibrated is calibrated
    assert np.allclose(volume.spacing[:2], spacing)


def region(step: float, units: int = 3) -> Dataset:
    made = Dataset()
    made.PhysicalUnitsXDirection = made.PhysicalUnitsYDirection = units
    made.PhysicalDeltaX, made.PhysicalDeltaY = step, 2 * step
    return made


def test_ultrasound_has_millimetres_where_its_regions_agree(tmp_path: Path):
    one = picture(tmp_path / "a.dcm", "US", SequenceOfUltrasoundRegions=Items([region(0.02)])).volume
    assert one.calibrated
    assert np.allclose(one.spacing[:2], [0.2, 0.4])  # 0.02 cm along the row
    two = Items([region(0.02), region(0.05)])
    assert not picture(tmp_path / "a.dcm", "US", SequenceOfUltrasoundRegions=two).volume.calibrated
    doppler = Items([region(0.02, units=4)])  # seconds
    assert not picture(tmp_path / "a.dcm", "US", SequenceOfUltrasoundRegions=doppler).volume.calibrated


def test_patient_orientation_tells_the_sides_of_a_radiograph(tmp_path: Path):
    frontal = picture(tmp_path / "a.dcm", "DX", PatientOrientation=["L", "F"]).volume
    assert frontal.oriented
    # Along the row to the patient's left (RAS x falls), down the column to the feet (z falls).
    assert np.allclose(frontal.affine[:3, :2], [[-1, 0], [0, 0], [0, -1]])
    assert not picture(tmp_path / "a.dcm", "DX").volume.oriented
    assert not picture(tmp_path / "a.dcm", "DX", PatientOrientation=["L", "L"]).volume.oriented


@pytest.mark.parametrize(("signed", "total"), [(False, 4095), (True, -1)])
def test_monochrome1_is_mirrored_once_within_its_bits(tmp_path: Path, signed, total):
    tags = {"PhotometricInterpretation": "MONOCHROME1", "BitsStored": 12, "HighBit": 11}
    series = picture(tmp_path / "a.dcm", "DX", signed=signed, WindowCenter=100, WindowWidth=50, **tags)
    assert np.array_equal(series.volume.array[:, :, 0].T, total - RAMP)
    # The window is mirrored with the values: what was in its middle still is.
    assert int(series.windows[0].apply(np.array([total - 100]))[0]) == pytest.approx(128, abs=3)


def test_padding_becomes_air_and_not_minus_3000_hounsfield(tmp_path: Path):
    path = write_slice(tmp_path / "a.dcm", "s", 1, (0, 0, 0), shape=(4, 5), PixelPaddingValue=-2000)
    raw = bytearray(path.read_bytes())
    raw[-2:] = np.int16(-2000).tobytes()
    path.write_bytes(raw)
    volume = load_study(path).series[0].volume
    assert volume.array[-1, -1, 0] == -1024
    assert volume.array.dtype == np.int16


def test_a_padding_range_is_closed_at_both_ends(tmp_path: Path):
    series = picture(tmp_path / "a.dcm", "MR", RAMP + 5, PixelPaddingValue=5, PixelPaddingRangeLimit=25)
    assert series.volume.array[:, :, 0].T[0].tolist() == [0, 0, 0, 35]


def test_bits_beyond_those_stored_are_ignored(tmp_path: Path):
    noisy = RAMP | 0xF000
    assert np.array_equal(
        picture(tmp_path / "a.dcm", "MR", noisy, BitsStored=12, HighBit=11).volume.array[:, :, 0].T, RAMP
    )
    negative = np.where(RAMP > 50, RAMP - 200, RAMP) & 0x0FFF  # 12-bit two's complement, upper bits zero
    signed = picture(tmp_path / "a.dcm", "MR", negative, signed=True, BitsStored=12, HighBit=11)
    assert np.array_equal(signed.volume.array[:, :, 0].T, np.where(RAMP > 50, RAMP - 200, RAMP))


def test_whole_values_stay_whole_and_fractions_become_float32(tmp_path: Path):
    assert picture(tmp_path / "a.dcm", "MR", BitsStored=12, HighBit=11).volume.array.dtype == np.int16
    wide = np.array([[0, 65000]])
    assert picture(tmp_path / "a.dcm", "MR", wide).volume.array.dtype == np.uint16
    scaled = picture(tmp_path / "a.dcm", "PT", RescaleSlope=0.5, RescaleIntercept=1).volume
    assert scaled.array.dtype == np.float32
    assert np.allclose(scaled.array[:, :, 0].T, RAMP * 0.5 + 1)
    # -1024 does not fit beside 65000 in 16 bits.
    odd = picture(tmp_path / "a.dcm", "CT", wide, RescaleSlope=1, RescaleIntercept=-1024).volume
    assert odd.array.dtype == np.float32
    assert odd.array.max() == 65000 - 1024


def test_a_ct_without_rescale_values_is_not_called_hounsfield(tmp_path: Path):
    series = picture(tmp_path / "a.dcm", "CT")
    assert series.volume.unit == "1"


def test_windows_of_the_file_come_in_their_order_and_shape(tmp_path: Path):
    tags = {"WindowCenter": [40, 500], "WindowWidth": [80, 2000], "VOILUTFunction": "SIGMOID"}
    first, second = picture(tmp_path / "a.dcm", "MR", **tags).windows
    assert (first.centre, first.width, first.shape) == (40, 80, "sigmoid")
    assert (second.centre, second.width) == (500, 2000)


def test_a_voi_table_goes_before_a_window(tmp_path: Path):
    item = Dataset()
    item.add_new(tag_for_keyword("LUTDescriptor"), "US", [3, 10, 8])
    item.add_new(tag_for_keyword("LUTData"), "OW", np.array([0, 128, 255], "<u2").tobytes())
    series = picture(tmp_path / "a.dcm", "DX", VOILUTSequence=Items([item]), WindowCenter=40, WindowWidth=80)
    table = series.windows[0]
    assert isinstance(table, Table)
    assert table.apply(np.array([0, 10, 11, 12, 99])).tolist() == [0, 0, 128, 255, 255]


def test_a_modality_table_replaces_slope_and_intercept(tmp_path: Path):
    item = Dataset()
    item.add_new(tag_for_keyword("LUTDescriptor"), "US", [256, 0, 16])
    item.add_new(tag_for_keyword("LUTData"), "OW", (np.arange(256, dtype="<u2") * 3).tobytes())
    item.ModalityLUTType = "US"
    series = picture(tmp_path / "a.dcm", "OT", ModalityLUTSequence=Items([item]))
    assert np.allclose(series.volume.array[:, :, 0].T, RAMP * 3)
