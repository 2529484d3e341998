"""The DICOM series holds exactly the case, and a validator accepts it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pydicom
import pytest

from medvlm.imaging.reader import load_study
from medvlm.phantom import PhantomCase, generate_case
from medvlm.phantom.dicom import write_series

# Of seed 0: number 1 is prone, 4 signed, 5 feet first, 0 unsigned.
NUMBERS = (0, 1, 4, 5)


@pytest.fixture(scope="module", params=NUMBERS)
def written(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[PhantomCase, Path]:
    case = generate_case(0, request.param)
    folder = tmp_path_factory.mktemp("series")
    assert write_series(case, folder) == case.volume.array.shape[2]
    return case, folder


def test_reading_the_series_gives_the_case_back(written: tuple[PhantomCase, Path]) -> None:
    case, folder = written
    study = load_study(folder)
    assert len(study.series) == 1
    assert study.skipped == ()
    volume = study.series[0].volume
    assert np.array_equal(volume.array, case.volume.array)
    assert np.abs(volume.affine - case.volume.affine).max() < 1e-5
    assert volume.unit == "HU"
    assert study.uid == case.uid("study")


def test_headers_say_what_was_done(written: tuple[PhantomCase, Path]) -> None:
    case, folder = written
    header = pydicom.dcmread(folder / "IM-0001.dcm", stop_before_pixels=True)
    assert header.ConvolutionKernel == case.acquisition.kernel
    assert header.PatientPosition == case.acquisition.position
    assert header.QualityControlImage == "YES"
    assert header.InstitutionName == "medvlm phantom clinic"


def test_instance_numbers_run_as_the_scanner_counts(written: tuple[PhantomCase, Path]) -> None:
    case, folder = written
    files = sorted(folder.iterdir())
    headers = [pydicom.dcmread(file, stop_before_pixels=True) for file in files]
    assert [int(h.InstanceNumber) for h in headers] == list(range(1, len(files) + 1))
    heights = [float(h.ImagePositionPatient[2]) for h in headers]
    assert heights == sorted(heights, reverse=case.acquisition.descending)
    assert len({h.SOPInstanceUID for h in headers}) == len(files)


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dciodvfy (Debian package dicom3tools) is not installed")
def test_a_validator_finds_neither_errors_nor_warnings(written: tuple[PhantomCase, Path]) -> None:
    _, folder = written
    for file in sorted(folder.iterdir())[::25]:
        result = subprocess.run(["dciodvfy", str(file)], capture_output=True, text=True, check=False)
        assert (result.stdout + result.stderr).strip() == "CTImage"
