"""The DICOM objects: valid, about the same patient and study, and equal to the report when they are read back."""

import dataclasses
import re
import shutil
import subprocess

import numpy as np
import pydicom
import pytest

from medvlm.imaging.reader import load_study
from medvlm.reporting.dicom.measurements import read_measurements
from medvlm.reporting.dicom.seg import read_seg
from medvlm.reporting.dicom.source import read_source
from medvlm.reporting.generate import Options
from medvlm.reporting.masks import read_masks
from tests.reporting import dicom_inputs as inputs
from tests.reporting.reading import report_of

pytest.importorskip("highdicom", reason="needs medvlm-specialist[dicom]")

INPUTS = {
    "CT": lambda folder: inputs.write_slices(folder, "CT"),
    "MR": lambda folder: inputs.write_slices(folder, "MR", "sagittal"),
    "DX": inputs.write_radiograph,
    "OCT": inputs.write_oct,
    "enhanced CT": inputs.write_enhanced,
}


@pytest.fixture(scope="module", params=INPUTS)
def written(request, tmp_path_factory):
    """Name, source folder, report folder and report of each kind of input."""
    folder = tmp_path_factory.mktemp("study")
    source = INPUTS[request.param](folder / "in")
    return request.param, source, folder / "out", report_of(load_study(source), folder / "out", ("pdf", "dicom"))


def errors(*command: object) -> list[str]:
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, errors="replace")
    return [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("Error")]


@pytest.mark.skipif(not shutil.which("dciodvfy"), reason="dicom3tools is not installed")
def test_dciodvfy_finds_no_error(written):
    files = sorted((written[2] / "dicom").iterdir())
    assert {path.name: errors("dciodvfy", path) for path in files} == {path.name: [] for path in files}


@pytest.mark.skipif(not shutil.which("dcentvfy"), reason="dicom3tools is not installed")
def test_dcentvfy_finds_sources_and_objects_consistent(written):
    _, source, out, _ = written
    assert errors("dcentvfy", *sorted(source.iterdir()), *sorted((out / "dicom").iterdir())) == []


def test_objects_are_of_the_same_patient_and_study_with_own_uids_and_unverified(written):
    _, source, out, _ = written
    image = pydicom.dcmread(next(source.iterdir()), stop_before_pixels=True)
    objects = [pydicom.dcmread(path) for path in sorted((out / "dicom").iterdir())]
    assert {o.Modality for o in objects} == {"SEG", "SR", "OT", "DOC", "KO"}
    uids = [o.SOPInstanceUID for o in objects]
    assert len(set(uids)) == len(uids)
    for item in objects:
        assert str(item.PatientName) == inputs.PATIENT
        for name in ("PatientID", "PatientBirthDate", "PatientSex", "StudyInstanceUID", "AccessionNumber", "StudyDate"):
            assert item.get(name) == image.get(name), name
        assert item.SeriesInstanceUID != image.SeriesInstanceUID
        assert item.Manufacturer == "medvlm"
        assert "not verified" in item.SeriesDescription
        assert item.get("VerificationFlag", "UNVERIFIED") == "UNVERIFIED"
        assert any("ab" * 32 in c.ContributionDescription for c in item.ContributingEquipmentSequence)


def test_measurements_and_masks_are_read_back_equal(written):
    _, source, out, report = written
    assert_equal_read_back(source, out, report)


@pytest.mark.parametrize("geometry", inputs.GEOMETRIES)
def test_measurements_and_masks_are_read_back_equal_in_every_geometry(geometry, tmp_path):
    source = inputs.write_slices(tmp_path / "in", "CT", geometry)
    report = report_of(load_study(source), tmp_path / "out")
    # 6 columns x 7 rows x 4 slices
    assert assert_equal_read_back(source, tmp_path / "out", report)["nodule-1"].sum() == 168


def assert_equal_read_back(source, out, report):
    back = read_measurements(pydicom.dcmread(out / "dicom" / "sr.dcm"))
    assert len(back) == len(report.findings)
    for read, written_finding in zip(back, report.findings):
        bare = dataclasses.replace(written_finding, evidence=(), measurements=(), probability=None)
        assert dataclasses.replace(read, measurements=(), probability=None) == bare
        assert read.probability == pytest.approx(written_finding.probability, abs=1e-6)
        assert [(row.code, row.unit) for row in read.measurements] == [
            (row.code, row.unit) for row in written_finding.measurements
        ]
        for one, other in zip(read.measurements, written_finding.measurements):
            assert one.value == pytest.approx(other.value, abs=0.01)
    study = load_study(source)
    (mask,) = read_masks(report.masks, out)
    segments = read_seg(pydicom.dcmread(out / "dicom" / "seg.dcm"), read_source(study.series[0]).slices)
    assert np.array_equal(segments["nodule-1"], mask.array == 1)
    assert np.array_equal(segments["heart"], mask.array == 2)
    return segments


@pytest.mark.parametrize("geometry", inputs.GEOMETRIES)
def test_the_segmentation_lies_at_the_same_place_in_the_patient(geometry, tmp_path):
    """highdicom places the segment by the SEG's own geometry; the report's mask by the reader's."""
    import highdicom as hd

    source = inputs.write_slices(tmp_path / "in", "CT", geometry)
    report = report_of(load_study(source), tmp_path / "out")
    seg = hd.seg.Segmentation.from_dataset(pydicom.dcmread(tmp_path / "out" / "dicom" / "seg.dcm"))
    volume = seg.get_volume(segment_numbers=[1], combine_segments=True)
    (mask,) = read_masks(report.masks, tmp_path / "out")
    found = np.argwhere(volume.array == 1).mean(axis=0)
    lps = volume.affine @ [*found, 1.0]
    ours = mask.affine @ [*np.argwhere(mask.array == 1).mean(axis=0), 1.0]
    assert np.abs(lps[:3] * [-1, -1, 1] - ours[:3]).max() < 0.01


@pytest.mark.skipif(not shutil.which("dsrdump"), reason="dcmtk is not installed")
def test_dsrdump_prints_codes_and_values(written):
    _, _, out, report = written
    done = subprocess.run(["dsrdump", "+Pc", out / "dicom" / "sr.dcm"], capture_output=True, text=True, check=True)
    assert '(126000,DCM,"Imaging Measurement Report")' in done.stdout
    assert '=(RID50149,RADLEX,"Pulmonary nodule")' in done.stdout
    assert '(121052,DCM,"Presence of property")=(121054,DCM,"Absent")' in done.stdout
    for row in report.findings[0].measurements:
        (printed,) = re.findall(rf'\({row.code.value},SCT,"{row.code.meaning}"\)="([^"]+)"', done.stdout)
        assert float(printed) == pytest.approx(row.value, rel=1e-6)
    narrative = subprocess.run(["dsrdump", out / "dicom" / "narrative.dcm"], capture_output=True, text=True, check=True)
    assert "Solid lung nodule" in narrative.stdout


def test_the_selection_names_the_best_slice_of_the_finding_and_its_picture(written):
    _, _, out, _ = written
    objects = {path.stem: pydicom.dcmread(path) for path in (out / "dicom").iterdir()}
    selection = objects["selection"]
    chosen = [item.ReferencedSOPSequence[0] for item in selection.ContentSequence if item.ValueType == "IMAGE"]
    picture = objects["key-02"]  # key-01 is the overview, which shows no finding by itself
    source = picture.SourceImageSequence[0]
    assert [one.ReferencedSOPInstanceUID for one in chosen] == [source.ReferencedSOPInstanceUID, picture.SOPInstanceUID]
    assert chosen[0].get("ReferencedFrameNumber") == source.get("ReferencedFrameNumber")
    listed = {
        instance.ReferencedSOPInstanceUID
        for study in selection.CurrentRequestedProcedureEvidenceSequence
        for series in study.ReferencedSeriesSequence
        for instance in series.ReferencedSOPSequence
    }
    assert listed == {one.ReferencedSOPInstanceUID for one in chosen}


@pytest.mark.parametrize("kind", INPUTS)
def test_a_label_map_holds_the_same_voxels(kind, tmp_path):
    source = INPUTS[kind](tmp_path / "in")
    for seg in ("binary", "labelmap"):
        report = report_of(load_study(source), tmp_path / seg, options=Options(("dicom",), seg=seg))
        assert_equal_read_back(source, tmp_path / seg, report)
    made = pydicom.dcmread(tmp_path / "labelmap" / "dicom" / "seg.dcm")
    assert made.SOPClassUID == "1.2.840.10008.5.1.4.1.1.66.7"
    assert made.SegmentationType == "LABELMAP"


def test_a_study_that_is_not_dicom_gets_no_dicom_objects(tmp_path):
    from tests.reporting.test_generate import study

    report_of(study(), tmp_path / "out")
    assert not (tmp_path / "out" / "dicom").exists()
