"""Geometry and values equal those of dcm2niix (Debian package), the converter that most laboratories trust."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import RLELossless

from medvlm.imaging import Volume, load_study
from tests.imaging.make_dicom import MR, PET, positions, set_pixels, write_enhanced, write_series, write_slice
from tests.imaging.test_dicom_series import WHOLE

pytestmark = pytest.mark.skipif(shutil.which("dcm2niix") is None, reason="dcm2niix is not installed")


def converted(folder: Path, out: Path) -> list[Volume]:
    """What dcm2niix makes of a folder, in RAS+ order; a time series as its volumes."""
    out.mkdir()
    command = ["dcm2niix", "-z", "n", "-b", "n", "-m", "n", "-f", "%s_%n_%e", "-o", str(out), str(folder)]
    subprocess.run(command, check=True, capture_output=True)
    volumes = []
    for path in sorted(out.glob("*.nii")):
        image = nibabel.load(path)
        values = np.asanyarray(image.dataobj)
        values = values.reshape(*values.shape[:3], -1)
        volumes += [Volume(values[..., time], image.affine).to_canonical() for time in range(values.shape[3])]
    return volumes


def assert_same(ours: Volume, theirs: Volume) -> None:
    ours = ours.to_canonical()
    assert ours.array.shape == theirs.array.shape
    assert np.allclose(ours.affine, theirs.affine, atol=1e-3)
    assert np.allclose(ours.array, theirs.array, atol=1e-3)


@pytest.mark.parametrize("settings", WHOLE.values(), ids=WHOLE)
def test_a_series_has_the_affine_and_values_of_dcm2niix(tmp_path: Path, settings):
    write_series(tmp_path / "in", **settings)
    (theirs,) = converted(tmp_path / "in", tmp_path / "out")
    assert_same(load_study(tmp_path / "in").series[0].volume, theirs)


def test_an_enhanced_ct_has_the_affine_of_dcm2niix(tmp_path: Path):
    """Only the affine: dcm2niix gives all frames the rescale values of one, which is wrong here."""
    write_enhanced(tmp_path / "in" / "e.dcm", positions(6))
    (theirs,) = converted(tmp_path / "in", tmp_path / "out")
    ours = load_study(tmp_path / "in").series[0].volume.to_canonical()
    assert np.allclose(ours.affine, theirs.affine, atol=1e-3)


def test_echoes_are_split_as_dcm2niix_splits_them(tmp_path: Path):
    for echo in (1, 2):
        for number, place in enumerate(positions(6), start=1):
            name = tmp_path / "in" / f"{echo}-{number}.dcm"
            settings = {"EchoNumbers": echo, "EchoTime": 10.0 * echo, "Manufacturer": "SIEMENS"}
            write_slice(name, "s", echo * 100 + number, place, sop_class=MR, intercept=-7.0 * echo, **settings)
    theirs = converted(tmp_path / "in", tmp_path / "out")
    ours = [series.volume for series in load_study(tmp_path / "in").series]
    assert len(ours) == len(theirs) == 2
    for mine, other in zip(ours, theirs, strict=True):
        assert_same(mine, other)


def write_times(
    folder: Path, change: Callable[[Dataset, int], None], times: int = 3, slices: int = 5, **settings
) -> None:
    """Volumes one after the other at the same places; `change` makes each what it is."""
    for time in range(times):
        for number, place in enumerate(positions(5), start=1):
            path = folder / f"{time}-{number}.dcm"
            count = time * 5 + number
            write_slice(path, "s", count, place, sop_class=MR, intercept=-7.0 * time, EchoTime=30.0, **settings)
            made = pydicom.dcmread(path)
            change(made, time)
            made.PixelData = (np.frombuffer(made.PixelData, "<i2") + 100 * time).astype("<i2").tobytes()
            made.save_as(path)


def temporal(made: Dataset, time: int) -> None:
    made.TemporalPositionIdentifier, made.AcquisitionTime = time + 1, f"10000{time}"


def magnitude_and_phase(made: Dataset, time: int) -> None:
    made.ImageType = ["ORIGINAL", "PRIMARY", "MP"[time], "ND"]


def diffusion(made: Dataset, time: int) -> None:
    made.DiffusionBValue = 1000.0 * (time > 0)
    made.DiffusionGradientOrientation = [float(time == 1), float(time == 2), 0.0]
    # The acquisition number changes midway through a volume, as where a scan was resumed.
    made.AcquisitionNumber = 1 if made.InstanceNumber < 8 else 2


SERIES_OF_TIMES = {
    "dynamic": (temporal, 3, {}),
    "magnitude and phase": (magnitude_and_phase, 2, {"Manufacturer": "SIEMENS"}),
    "diffusion": (diffusion, 3, {"Manufacturer": "GE MEDICAL SYSTEMS"}),
}


@pytest.mark.parametrize(("change", "times", "settings"), SERIES_OF_TIMES.values(), ids=SERIES_OF_TIMES)
def test_every_volume_of_a_series_is_one_of_dcm2niix(tmp_path: Path, change, times: int, settings):
    write_times(tmp_path / "in", change, times, **settings)
    theirs = converted(tmp_path / "in", tmp_path / "out")
    ours = [series.volume.to_canonical() for series in load_study(tmp_path / "in").series]
    assert len(ours) == len(theirs) == times
    for mine in ours:
        same = [other for other in theirs if np.allclose(mine.array, other.array, atol=1e-3)]
        assert len(same) == 1
        assert np.allclose(mine.affine, same[0].affine, atol=1e-3)


def eight_bits(made: Dataset) -> None:
    stored = np.frombuffer(made.PixelData, "<i2")
    set_pixels(made, np.clip(stored - stored.min(), 0, 120).reshape(24, 20), bits=8)
    made.PixelRepresentation = 0


def twelve_bits(made: Dataset) -> None:
    """Unsigned, with garbage in the four bits that are not stored (PS3.5 8.1.1: nothing may be assumed of them)."""
    stored = np.frombuffer(made.PixelData, "<i2").astype(int) & 0x0FFF
    set_pixels(made, (stored | 0x5000).reshape(24, 20))
    made.BitsStored, made.HighBit, made.PixelRepresentation = 12, 11, 0


def run_length(made: Dataset) -> None:
    made.compress(RLELossless)


def thirty_two_bits(made: Dataset) -> None:
    set_pixels(made, np.frombuffer(made.PixelData, "<i2").astype(int).reshape(24, 20), bits=32)


STORED = {change.__name__: change for change in (eight_bits, twelve_bits, run_length, thirty_two_bits)}


@pytest.mark.parametrize("change", STORED.values(), ids=STORED)
def test_pixels_stored_in_other_ways_have_the_values_of_dcm2niix(tmp_path: Path, change: Callable[[Dataset], None]):
    for path in write_series(tmp_path / "in", sop_class=MR, intercept=0.0):
        made = pydicom.dcmread(path)
        change(made)
        made.save_as(path, enforce_file_format=True)
    (theirs,) = converted(tmp_path / "in", tmp_path / "out")
    (ours,) = load_study(tmp_path / "in").series
    assert_same(ours.volume, theirs)


def test_pet_has_the_slope_of_each_slice_as_in_dcm2niix(tmp_path: Path):
    for number, place in enumerate(positions(6), start=1):
        slope = 0.25 * number
        write_slice(tmp_path / "in" / f"{number}.dcm", "s", number, place, sop_class=PET, slope=slope, intercept=0.0)
    (theirs,) = converted(tmp_path / "in", tmp_path / "out")
    assert_same(load_study(tmp_path / "in").series[0].volume, theirs)
