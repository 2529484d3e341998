"""Geometry and values equal those of dcm2niix (Debian package), the converter that most laboratories trust."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from medvlm.imaging import Volume, load_study
from tests.imaging.make_dicom import MR, positions, write_enhanced, write_series, write_slice
from tests.imaging.test_dicom_series import WHOLE

pytestmark = pytest.mark.skipif(shutil.which("dcm2niix") is None, reason="dcm2niix is not installed")


def converted(folder: Path, out: Path) -> list[Volume]:
    """What dcm2niix makes of a folder, in RAS+ order."""
    out.mkdir()
    command = ["dcm2niix", "-z", "n", "-b", "n", "-m", "n", "-f", "%s_%n_%e", "-o", str(out), str(folder)]
    subprocess.run(command, check=True, capture_output=True)
    return [load_study(path).series[0].volume.to_canonical() for path in sorted(out.glob("*.nii"))]


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
