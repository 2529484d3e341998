"""From a study to the files of a report."""

import dataclasses
import json
import re

import jsonschema
import numpy as np
import pytest

from medvlm.errors import MedVLMError
from medvlm.findings.finding import Evidence
from medvlm.imaging.study import Series, Skipped, Study, Volume
from medvlm.reporting.draft import check_draft, report_question
from medvlm.reporting.generate import write_report
from medvlm.reporting.read_study import collect_findings
from medvlm.reporting.report import ExpertUse, read_report
from tests.reporting import sample
from tests.reporting.fakes import FakeExpert
from tests.reporting.test_report import schema


def ct_series(uid: str = sample.SERIES, modality: str = "CT", **changes) -> Series:
    """A 32 x 32 x 24 block of air with a 6-voxel cube of soft tissue; 2.5 mm voxels, RAS."""
    array = np.full((32, 32, 24), -800, dtype=np.int16)
    array[12:18, 12:18, 10:16] = 40
    volume = dataclasses.replace(Volume(array, np.diag([2.5, 2.5, 2.5, 1.0]), "HU"), **changes)
    return Series(uid, modality, lambda: volume, "Chest", "chest")


def study(*series: Series) -> Study:
    from pathlib import Path

    return Study("1.2.3", "p", series or (ct_series(),), Path("study"))


def expert() -> FakeExpert:
    mask = np.zeros((32, 32, 24), dtype=np.uint8)
    mask[12:18, 12:18, 10:16] = 3
    # voxels 12..17 are at 30..42.5 mm
    evidence = Evidence(sample.SERIES, 3, 1, 12, (36.0, 36.0, 32.0), (30.0, 30.0, 25.0, 42.5, 42.5, 37.5))
    found = dataclasses.replace(sample.nodule(), evidence=(evidence,))
    return FakeExpert((found, sample.no_effusion()), mask, {3: "lung nodule"})


def test_writes_everything_and_json_is_the_source(tmp_path):
    out = tmp_path / "deep" / "out"
    report = write_report(study(), [expert()], out)
    names = {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()}
    assert names == {
        "report.json",
        "report.txt",
        "report.md",
        "report.html",
        "report.pdf",
        "findings.csv",
        "grounded.json",
        "fhir.json",
        "masks/chest_ct.nii.gz",
        "key/overview.png",
        "key/nodule-1.png",
        "key/nodule-1-overlay.png",
    }
    assert read_report(out) == report
    jsonschema.validate(json.loads((out / "report.json").read_text()), schema())


def test_impression_and_provenance(tmp_path):
    report = write_report(study(), [expert()], tmp_path / "out")
    impression = report.section("impression")
    assert impression is not None
    assert [sentence.text for sentence in impression.sentences] == [
        "Solid lung nodule, right upper lobe, 14 mm, 1.2 mL.",
        "No pleural effusion.",
    ]
    assert report.title == "CT chest"
    assert report.experts == (
        ExpertUse(
            "chest_ct", "0.1.0", "finds lung nodules", True, "CT", "ef" * 32, "1.2.3.4", 1.5, "synthetic chest CT only"
        ),
    )
    assert report.series[0].spacing == (2.5, 2.5, 2.5)
    assert report.images[1].slice == 12
    assert report.images[1].window == (-600, 1500)


def test_changing_a_measurement_changes_the_text(tmp_path):
    changed = expert()
    changed.findings = (dataclasses.replace(sample.nodule(long_axis=21.0), evidence=()), sample.no_effusion())
    text = write_report(study(), [changed], tmp_path / "out").section("findings").sentences[0].text
    assert "21 mm" in text
    assert "14 mm" not in text


def test_every_number_of_the_findings_comes_from_a_measurement(tmp_path):
    report = write_report(study(), [expert()], tmp_path / "out")
    numbers = re.findall(r"\d+(?:\.\d+)?", " ".join(s.text for s in report.section("findings").sentences))
    # long axis 14.2 mm as 14, volume 1.23 mL as 1.2, probability 0.94; absence of an effusion 1 - 0.02
    assert numbers == ["14", "1.2", "0.94", "0.98"]


def test_no_expert_applies_gives_an_abstention(tmp_path):
    report = write_report(study(ct_series(modality="MR")), [expert()], tmp_path / "out")
    assert report.abstained
    assert report.findings == ()
    assert all(sentence.source == "notice" for sentence in report.sentences())
    assert report.experts[0].reason == "the modality is MR, it reads CT"
    html = (tmp_path / "out" / "report.html").read_text()
    assert "Nothing is asserted" in html
    assert "the modality is MR, it reads CT" in html


def test_untrained_experts_are_listed(tmp_path):
    waiting = ExpertUse("later", "0.1.0", "will find things", False, "it has no weights yet")
    report = write_report(study(), [], tmp_path / "out", untrained=[waiting])
    assert report.abstained
    assert "later" in report.section("impression").sentences[0].text


def test_unknown_geometry_is_a_doubt(tmp_path):
    report = write_report(study(ct_series(calibrated=False, oriented=False)), [expert()], tmp_path / "out")
    assert [doubt.kind for doubt in report.doubts] == ["geometry", "geometry", "not assessed"]
    assert report.series[0].spacing is None


def test_what_the_reader_skipped_is_a_doubt(tmp_path):
    skipped = tuple(Skipped(f"file {n}", "no pixels") for n in range(3))
    report = write_report(dataclasses.replace(study(), skipped=skipped), [expert()], tmp_path / "out")
    assert report.doubts[0].text == "3 items were not used: no pixels."


def test_a_series_that_cannot_be_read_is_left_out_with_its_reason(tmp_path):
    def broken() -> Volume:
        raise MedVLMError("b.dcm: the pixel data is truncated.")

    good = study(Series("9", "CT", broken), ct_series())
    report = write_report(good, [expert()], tmp_path / "out")
    assert [series.uid for series in report.series] == [sample.SERIES]
    assert "truncated" in report.doubts[0].text
    assert "b.dcm" not in report.doubts[0].text  # a file name may name a patient
    with pytest.raises(MedVLMError, match="truncated"):
        write_report(study(Series("9", "CT", broken)), [expert()], tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_failure_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr("medvlm.reporting.writer.write_report_json", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_report(study(), [expert()], tmp_path / "a" / "b")
    assert list(tmp_path.iterdir()) == []


def test_an_earlier_report_is_replaced_and_other_files_stay(tmp_path):
    out = tmp_path / "out"
    write_report(study(), [expert()], out)
    (out / "mine.txt").write_text("keep")
    write_report(study(ct_series(modality="MR")), [expert()], out)
    assert read_report(out).abstained
    assert not (out / "key" / "nodule-1.png").exists()
    assert (out / "mine.txt").read_text() == "keep"


def test_ids_of_two_experts_do_not_clash(tmp_path):
    second = expert()
    second.card = dataclasses.replace(second.card, name="other")
    report = write_report(study(), [expert(), second], tmp_path / "out")
    assert [finding.id for finding in report.findings] == [
        "nodule-1",
        "effusion-1",
        "other-nodule-1",
        "other-effusion-1",
    ]
    assert collect_findings([]) == ()


def test_model_text_is_checked():
    text = "Solid nodule, right upper lobe, 14 mm. The heart is enlarged. The heart is enlarged."
    draft = check_draft(text, [sample.nodule(), sample.nodule("nodule-2", 8.0, 0.3), sample.no_effusion()])
    assert (draft.sentences[0].text, draft.sentences[0].source) == ("Solid nodule, right upper lobe, 14 mm.", "model")
    assert [text for text, _ in draft.removed] == ["The heart is enlarged."]
    assert draft.omitted == ("nodule-2",)
    assert draft.sentences[1].source == "measurement"


def test_question_comes_from_the_curriculum_of_the_expert():
    assert report_question(["chest_ct"]) != ""
    assert report_question(["no_such_expert"]) == "Write the report of this scan."


def test_series_that_no_expert_could_read_are_not_loaded(tmp_path):
    def forbidden() -> Volume:
        raise AssertionError("nobody asked for this series")

    both = study(ct_series(), Series("8", "MR", forbidden, "Brain"))
    report = write_report(both, [expert()], tmp_path / "out")
    assert [(series.uid, series.used, series.shape) for series in report.series] == [
        (sample.SERIES, True, (32, 32, 24)),
        ("8", False, ()),
    ]


def test_a_file_without_modality_says_how_to_give_it(tmp_path):
    report = write_report(study(ct_series(modality="")), [expert()], tmp_path / "out")
    assert report.abstained
    assert "--modality" in report.doubts[-1].text
