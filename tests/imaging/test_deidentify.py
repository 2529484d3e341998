"""De-identified images: nothing planted is left in any byte, and they are still good images."""

from __future__ import annotations

import datetime
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.datadict import dictionary_VR
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items

from medvlm.commands.deidentify import deidentify
from medvlm.errors import MedVLMError
from medvlm.imaging import load_study
from medvlm.imaging.deidentify import Deidentifier
from tests.imaging.make_dicom import positions, uid, write_series

KEY = b"a secret of at least sixteen bytes"
TEXTS = [
    "PatientName",
    "PatientID",
    "OtherPatientIDs",
    "OtherPatientNames",
    "PatientBirthName",
    "PatientMotherBirthName",
    "PatientAddress",
    "PatientTelephoneNumbers",
    "PatientComments",
    "AdditionalPatientHistory",
    "Occupation",
    "MilitaryRank",
    "BranchOfService",
    "CountryOfResidence",
    "RegionOfResidence",
    "MedicalRecordLocator",
    "PatientReligiousPreference",
    "ResponsiblePerson",
    "ResponsibleOrganization",
    "MedicalAlerts",
    "Allergies",
    "AccessionNumber",
    "StudyID",
    "StudyDescription",
    "SeriesDescription",
    "ProtocolName",
    "ReferringPhysicianName",
    "ReferringPhysicianAddress",
    "ReferringPhysicianTelephoneNumbers",
    "PerformingPhysicianName",
    "NameOfPhysiciansReadingStudy",
    "OperatorsName",
    "PhysiciansOfRecord",
    "RequestingPhysician",
    "RequestingService",
    "InstitutionName",
    "InstitutionAddress",
    "InstitutionalDepartmentName",
    "StationName",
    "DeviceSerialNumber",
    "RequestedProcedureDescription",
    "RequestedProcedureID",
    "AdmissionID",
    "IssuerOfPatientID",
    "ImageComments",
    "DerivationDescription",
    "PerformedProcedureStepDescription",
    "PerformedProcedureStepID",
    "AcquisitionComments",
    "DetectorID",
    "PlateID",
    "CassetteID",
    "GantryID",
    "ContrastBolusAgent",
]


def plant(folder: Path) -> list[str]:
    """A series of four slices with an identifier in 60 places; returns the identifiers."""
    planted = []
    files = write_series(folder, "Smith", positions(4))
    for path in files:
        made = pydicom.dcmread(path)
        planted = []

        def put(target: Dataset, name: str, value: str, found: list[str] = planted) -> None:
            setattr(target, name, value)
            found.append(value)

        for number, name in enumerate(TEXTS):
            put(made, name, f"ZQ{dictionary_VR(name)}{number:02d}xk")
        put(made, "PatientBirthDate", "19470312")
        put(made, "StudyDate", "20230517")
        made.private_block(0x0029, "SECRETMAKER", create=True).add_new(1, "LO", "ZQprivate55")
        planted += ["SECRETMAKER", "ZQprivate55"]
        request, person = Dataset(), Dataset()
        put(request, "ScheduledProcedureStepDescription", "ZQrequest57")
        put(person, "PersonName", "ZQnested^58")
        made.RequestAttributesSequence, made.ContentCreatorIdentificationCodeSequence = (
            Items([request]),
            Items([person]),
        )
        made.ManufacturerModelName = "Scanner ZQPN00xk edition"  # a name hidden in a kept element
        planted += [str(made.StudyInstanceUID), str(made.SOPInstanceUID), str(made.SeriesInstanceUID)]
        made.add_new(0x60003000, "OW", b"ZQoverlay61 ")
        planted.append("ZQoverlay61")
        made.preamble = b"ZQpreamble62".ljust(128, b"\0")
        planted.append("ZQpreamble62")
        made.save_as(path, enforce_file_format=True)
    assert len(planted) >= 60
    return planted


def test_of_sixty_planted_identifiers_none_is_left_in_any_byte(tmp_path: Path):
    planted = plant(tmp_path / "Smith")
    deidentify(tmp_path / "Smith", out=tmp_path / "out")
    written = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert len(written) == 4
    for path in written:
        data = path.read_bytes().lower()
        assert [text for text in planted if text.lower().encode() in data] == []
        assert "smith" not in str(path.relative_to(tmp_path)).lower()


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dciodvfy (dicom3tools) is not installed")
def test_it_adds_no_error_that_dciodvfy_finds(tmp_path: Path):
    plant(tmp_path / "in")

    def errors(path: Path) -> set[str]:
        done = subprocess.run(["dciodvfy", "-new", str(path)], capture_output=True, text=True, check=False)
        return {line for line in done.stderr.splitlines() if line.startswith("Error")}

    deidentify(tmp_path / "in", out=tmp_path / "out")
    before = set().union(*(errors(path) for path in (tmp_path / "in").iterdir()))
    after = set().union(*(errors(path) for path in (tmp_path / "out").rglob("*.dcm")))
    assert after - before == set()


def test_geometry_and_pixels_stay(tmp_path: Path):
    plant(tmp_path / "in")
    deidentify(tmp_path / "in", out=tmp_path / "out")
    before, after = load_study(tmp_path / "in").series[0], load_study(tmp_path / "out").series[0]
    assert np.array_equal(before.volume.array, after.volume.array)
    assert np.allclose(before.volume.affine, after.volume.affine)
    assert after.modality == "CT"
    assert after.description == ""


def test_the_same_key_gives_the_same_names_and_uids_and_another_key_others(tmp_path: Path):
    write_series(tmp_path / "in", places=positions(2))
    key = tmp_path / "key"
    for name in ("a", "b"):
        deidentify(tmp_path / "in", out=tmp_path / name, key=key)
    deidentify(tmp_path / "in", out=tmp_path / "c")
    a, b, c = (load_study(tmp_path / name) for name in "abc")
    assert (a.uid, a.patient, a.series[0].uid) == (b.uid, b.patient, b.series[0].uid)
    assert a.uid not in (c.uid, uid("study"))
    assert key.stat().st_mode & 0o077 == 0


def test_uids_are_replaced_consistently_and_registered_ones_stay():
    one = Deidentifier(KEY)
    assert one.uid("1.2.3.4") == Deidentifier(KEY).uid("1.2.3.4") != Deidentifier(KEY[::-1]).uid("1.2.3.4")
    assert one.uid("1.2.840.10008.5.1.4.1.1.2") == "1.2.840.10008.5.1.4.1.1.2"
    assert len(one.uid("1.2.3.4")) <= 64


def image(**values: object) -> Dataset:
    made = pydicom.dcmread(Path(pydicom.__file__).parent / "data" / "test_files" / "CT_small.dcm")
    for name, value in values.items():
        setattr(made, name, value)
    return made


def test_intervals_between_the_dates_of_a_patient_stay():
    days = []
    for date in ("20200228", "20200301", "20210301"):
        made = image(PatientID="A", StudyDate=date, StudyTime="235959.5", AcquisitionDateTime=f"{date}120000.25+0100")
        Deidentifier(KEY).apply(made)
        days.append(datetime.datetime.strptime(made.StudyDate, "%Y%m%d").date())
        assert made.StudyTime.endswith(".5")
        assert made.AcquisitionDateTime.endswith(".25")
        assert date not in made.AcquisitionDateTime
    assert (days[1] - days[0]).days == 2  # 2020 is a leap year
    assert (days[2] - days[1]).days == 365
    other = image(PatientID="B", StudyDate="20200228")
    Deidentifier(KEY).apply(other)
    assert other.StudyDate != days[0].strftime("%Y%m%d")


def test_dates_can_be_removed_and_characteristics_kept():
    made = image(StudyDate="20200228", PatientSex="F", PatientAge="093Y", PatientWeight=61)
    Deidentifier(KEY, dates="remove", keep_characteristics=True).apply(made)
    assert made.StudyDate == ""
    assert (made.PatientSex, made.PatientAge, made.PatientWeight) == ("F", "090Y", 61)
    assert {item.CodeValue for item in made.DeidentificationMethodCodeSequence} == {"113100", "113108"}
    bare = image(PatientSex="F", PatientAge="053Y")
    Deidentifier(KEY).apply(bare)
    assert not bare.PatientSex
    assert not bare.PatientAge


def test_pixels_that_may_show_who_it_is_are_named():
    assert "burned-in text" in Deidentifier(KEY).apply(image(Modality="US"))[0]
    assert Deidentifier(KEY).apply(image(Modality="US", BurnedInAnnotation="NO")) == []
    assert "face" in Deidentifier(KEY).apply(image(Modality="CT", BodyPartExamined="HEAD"))[0]


def test_reports_and_bad_input_are_left_out(tmp_path: Path):
    files = Path(pydicom.__file__).parent / "data" / "test_files"
    (tmp_path / "in").mkdir()
    shutil.copy(files / "reportsi.dcm", tmp_path / "in")
    (tmp_path / "in" / "note.txt").write_text("John Smith")
    with pytest.raises(MedVLMError, match="no DICOM image"):
        deidentify(tmp_path / "in", out=tmp_path / "out")
    assert not (tmp_path / "out").exists()
    with pytest.raises(MedVLMError, match="no such file or folder"):
        deidentify(tmp_path / "nothing", out=tmp_path / "out")
    with pytest.raises(MedVLMError, match="not empty"):
        deidentify(tmp_path / "in", out=tmp_path / "in")


def test_every_real_image_of_the_packages_survives(tmp_path: Path):
    files = Path(pydicom.__file__).parent / "data" / "test_files"
    for name in ("MR_small_bigendian.dcm", "examples_palette.dcm", "examples_ybr_color.dcm", "liver_1frame.dcm"):
        deidentify(files / name, out=tmp_path / name)
        before, after = load_study(files / name).series[0], load_study(tmp_path / name).series[0]
        assert np.array_equal(before.volume.array, after.volume.array), name
