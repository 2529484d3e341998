"""SUV by body weight: known numbers, and a reason where it cannot be known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset

from medvlm.errors import MedVLMError
from medvlm.imaging import load_study, suv_volume
from tests.imaging.make_dicom import PET, positions, write_slice

# Fluorine-18: half-life 6586.2 s. Injected two half-lives before the images, so a quarter of the dose is left.
HALF_LIFE, DOSE, WEIGHT = 6586.2, 400e6, 80.0
QUARTER = WEIGHT * 1000 / (DOSE / 4)


def write_pet(folder: Path, start: str = "102020", drug: dict[str, object] | None = None, **changes: object) -> Path:
    """Images at 14:00 (two half-lives of 1 h 49 min 46 s after 10:20:28)."""
    settings: dict[str, object] = {
        "Units": "BQML",
        "DecayCorrection": "START",
        "CorrectedImage": ["ATTN", "DECY", "SCAT"],
        "PatientWeight": WEIGHT,
        "SeriesDate": "20240101",
        "SeriesTime": "140000",
        "AcquisitionDate": "20240101",
        "AcquisitionTime": "140000",
    } | changes
    for number, place in enumerate(positions(4), start=1):
        path = write_slice(folder / f"{number}.dcm", "s", number, place, sop_class=PET, slope=2.0, intercept=0.0)
        made = pydicom.dcmread(path)
        for name, value in settings.items():
            if value is not None:
                setattr(made, name, value)
        item = Dataset()
        item.RadionuclideTotalDose, item.RadionuclideHalfLife = DOSE, HALF_LIFE
        item.RadiopharmaceuticalStartTime = start
        for name, value in (drug or {}).items():
            setattr(item, name, value)
        made.RadiopharmaceuticalInformationSequence = [item]
        made.save_as(path)
    return folder


def factor_of(folder: Path) -> float:
    """What `suv_volume` multiplies with, measured on the voxels."""
    (series,) = load_study(folder).series
    stored = series.volume.array.astype(float)
    where = np.abs(stored) > 10
    return float(np.median(suv_volume(series).array[where] / stored[where]))


def test_the_dose_is_decayed_to_the_time_of_the_series(tmp_path: Path):
    # 14:00:00 minus 2 x 6586.2 s is 10:20:27.6; a second more or less changes the factor by 0.01 %.
    assert factor_of(write_pet(tmp_path, start="102028")) == pytest.approx(QUARTER, rel=1e-3)


def test_a_series_time_after_the_acquisition_does_not_count(tmp_path: Path):
    folder = write_pet(tmp_path, start="102028", SeriesTime="153000")
    assert factor_of(folder) == pytest.approx(QUARTER, rel=1e-3)


def test_a_dose_corrected_to_the_injection_does_not_decay(tmp_path: Path):
    assert factor_of(write_pet(tmp_path, DecayCorrection="ADMIN")) == pytest.approx(QUARTER / 4)


def test_an_injection_on_the_evening_before_is_understood(tmp_path: Path):
    folder = write_pet(tmp_path, start="230000", SeriesTime="010000", AcquisitionTime="010000")
    assert factor_of(folder) == pytest.approx(WEIGHT * 1000 / (DOSE * 2 ** (-7200 / HALF_LIFE)), rel=1e-5)


def test_philips_counts_have_their_factor(tmp_path: Path):
    folder = write_pet(tmp_path, Units="CNTS")
    with pytest.raises(MedVLMError, match="7053,1000"):
        suv_volume(load_study(folder).series[0])
    for path in folder.iterdir():
        made = pydicom.dcmread(path)
        made.private_block(0x7053, "Philips PET Private Group", create=True).add_new(0x00, "DS", "0.000551")
        made.save_as(path)
    assert factor_of(folder) == pytest.approx(0.000551, rel=1e-5)


def test_values_that_are_suv_already_stay(tmp_path: Path):
    assert factor_of(write_pet(tmp_path, Units="GML")) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"PatientWeight": None}, "PatientWeight"),
        ({"PatientWeight": 0}, "PatientWeight"),
        ({"Units": "PROPCPS"}, "PROPCPS"),
        ({"DecayCorrection": "NONE"}, "DecayCorrection"),
        ({"CorrectedImage": ["DECY"]}, "not corrected for ATTN"),
        ({"drug": {"RadionuclideTotalDose": 400.0}}, "another unit"),
        ({"drug": {"RadiopharmaceuticalStartTime": ""}}, "injection is missing"),
        ({"drug": {"RadiopharmaceuticalStartDateTime": "20231229100000"}}, "h before the images"),
    ],
)
def test_what_is_unknown_is_said_and_not_guessed(tmp_path: Path, changes: dict[str, object], reason: str):
    with pytest.raises(MedVLMError, match=reason):
        suv_volume(load_study(write_pet(tmp_path, **changes)).series[0])


def test_other_modalities_have_no_suv(tmp_path: Path):
    write_slice(tmp_path / "1.dcm", "s", 1, (0, 0, 0))
    with pytest.raises(MedVLMError, match="not a PET"):
        suv_volume(load_study(tmp_path).series[0])


def test_the_study_command_says_whether_there_is_suv(tmp_path: Path, medvlm_command):
    assert (
        "SUV by body weight is 1 times the value" in medvlm_command("study", write_pet(tmp_path / "a", Units="GML")).out
    )
    assert "PatientWeight is missing" in medvlm_command("study", write_pet(tmp_path / "b", PatientWeight=None)).out
