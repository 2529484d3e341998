"""Mosaics: unpacked into slices that lie where the patient was."""

from __future__ import annotations

import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset

from medvlm.errors import MedVLMError
from medvlm.imaging import load_study
from tests.imaging.make_dicom import AXIAL, MR, dataset, largest_error, positions, set_pixels, values_at
from tests.imaging.test_dcm2niix import assert_same, converted
from tests.imaging.test_dicom_series import OBLIQUE, ROUNDING

ROWS, COLUMNS, SPACING, STEP = 12, 10, (2.0, 1.5), 4.0


def private_header(tags: dict[str, list[str]]) -> bytes:
    """A Siemens CSA2 header: counted tags, each with counted text items padded to four bytes."""
    data = b"SV10\x04\x03\x02\x01" + struct.pack("<2I", len(tags), 77)
    for name, items in tags.items():
        data += struct.pack("<64si4s3i", name.encode(), len(items), b"FD\0\0", 0, 6, 77)
        for item in [*items, *[""] * (6 - len(items))]:
            text = item.encode() + b"\0" if item else b""
            data += struct.pack("<4i", len(text), len(text), 77, len(text)) + text + b"\0" * (-len(text) % 4)
    return data


def write_mosaic(path: Path, orientation=AXIAL, count: int = 7, time: int = 1, private: bool = True) -> Path:
    """`count` slices in the smallest square grid, each with its own 2 L + 3 P + 5 S."""
    side = int(np.ceil(np.sqrt(count)))
    normal = np.cross(orientation[:3], orientation[3:])
    stored = np.zeros((ROWS * side, COLUMNS * side))
    places = positions(count, STEP, orientation)
    for index, place in enumerate(places):
        top, left = index // side * ROWS, index % side * COLUMNS
        stored[top : top + ROWS, left : left + COLUMNS] = values_at(place, orientation, SPACING, ROWS, COLUMNS)
    made = dataset("mosaic", time, MR, ImageType=["ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC"], AcquisitionNumber=time)
    # The scanner gives the corner of a slice as large as the grid, around the same centre.
    corner = (
        places[0]
        - COLUMNS * (side - 1) / 2 * SPACING[1] * np.array(orientation[:3])
        - ROWS * (side - 1) / 2 * SPACING[0] * np.array(orientation[3:])
    )
    made.ImagePositionPatient = [f"{value:.6g}" for value in corner]
    made.ImageOrientationPatient = [f"{value:.8g}" for value in orientation]
    made.PixelSpacing, made.SliceThickness, made.SpacingBetweenSlices = list(SPACING), 3.0, STEP
    made.Manufacturer, made.EchoTime, made.RepetitionTime = "SIEMENS", 30, 2000
    if private:
        block = made.private_block(0x0029, "SIEMENS CSA HEADER", create=True)
        tags = {
            "NumberOfImagesInMosaic": [str(count)],
            "SliceNormalVector": [f"{value:.8f}" for value in normal],
        }
        block.add_new(0x10, "OB", private_header(tags))
    set_pixels(made, np.round(stored))
    path.parent.mkdir(parents=True, exist_ok=True)
    made.save_as(path, enforce_file_format=True)
    return path


@pytest.mark.parametrize("orientation", [AXIAL, OBLIQUE], ids=["axial", "oblique"])
def test_the_slices_of_a_mosaic_lie_where_the_patient_was(tmp_path: Path, orientation):
    (series,) = load_study(write_mosaic(tmp_path / "m.dcm", orientation)).series
    assert series.volume.array.shape == (COLUMNS, ROWS, 7)
    assert largest_error(series.volume) <= ROUNDING


def test_mosaics_of_a_time_series_are_volumes_of_their_own(tmp_path: Path):
    for time in (1, 2, 3):
        write_mosaic(tmp_path / f"{time}.dcm", time=time)
    study = load_study(tmp_path)
    assert [series.volume.array.shape for series in study.series] == [(COLUMNS, ROWS, 7)] * 3


def test_a_mosaic_without_its_private_header_is_refused(tmp_path: Path):
    with pytest.raises(MedVLMError, match="mosaic without its private header"):
        load_study(write_mosaic(tmp_path / "m.dcm", private=False))


def test_the_slices_of_a_united_imaging_grid_lie_where_its_sequence_says(tmp_path: Path):
    """5 slices: 3 columns and 2 rows of the grid, the last place empty."""
    places = positions(5, STEP, OBLIQUE)
    stored = np.zeros((ROWS * 2, COLUMNS * 3))
    for index, place in enumerate(places):
        top, left = index // 3 * ROWS, index % 3 * COLUMNS
        stored[top : top + ROWS, left : left + COLUMNS] = values_at(place, OBLIQUE, SPACING, ROWS, COLUMNS)
    made = dataset("grid", 1, MR, ImageType=["ORIGINAL", "PRIMARY", "M", "VFRAME"])
    made.ImageOrientationPatient = [f"{value:.8g}" for value in OBLIQUE]
    made.PixelSpacing, made.SliceThickness, made.SpacingBetweenSlices = list(SPACING), 3.0, STEP
    block = made.private_block(0x0065, "Image Private Header", create=True)
    items = [Dataset() for _ in places]
    for item, place in zip(items, places, strict=True):
        item.ImagePositionPatient = [f"{value:.8g}" for value in place]
    block.add_new(0x50, "DS", "5")
    block.add_new(0x51, "SQ", items)
    set_pixels(made, np.round(stored))
    made.save_as(tmp_path / "g.dcm", enforce_file_format=True)
    (series,) = load_study(tmp_path / "g.dcm").series
    assert series.volume.array.shape == (COLUMNS, ROWS, 5)
    assert largest_error(series.volume) <= ROUNDING


@pytest.mark.skipif(shutil.which("dcm2niix") is None, reason="dcm2niix is not installed")
@pytest.mark.parametrize("orientation", [AXIAL, OBLIQUE], ids=["axial", "oblique"])
def test_a_mosaic_has_the_affine_and_values_of_dcm2niix(tmp_path: Path, orientation):
    write_mosaic(tmp_path / "in" / "m.dcm", orientation)
    (theirs,) = converted(tmp_path / "in", tmp_path / "out")
    assert_same(load_study(tmp_path / "in").series[0].volume, theirs)
