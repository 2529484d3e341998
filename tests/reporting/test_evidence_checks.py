"""Numbers, comparison, guideline and corrected mode."""

import dataclasses

import numpy as np
import pytest

from medvlm.errors import MedVLMError
from medvlm.findings.finding import Code, Finding, Measurement
from medvlm.reporting.comparison import compare, comparison_section
from medvlm.reporting.draft import check_draft, correct_draft
from medvlm.reporting.exam import exams
from medvlm.reporting.generate import Options, write_report
from medvlm.reporting.guidelines import judge
from medvlm.reporting.numbers import trace_report, trace_sentence
from medvlm.reporting.prior import read_prior
from medvlm.reporting.report import Sentence
from tests.reporting import sample
from tests.reporting.reading import BlockExpert
from tests.reporting.test_generate import ct_series, expert, study

CT_CHEST = exams()[0]


def test_every_number_is_traced_to_a_measurement(tmp_path):
    report = write_report(study(), [expert()], tmp_path / "out", formats=("text",))
    traces = trace_report(report)
    # impression: 14 mm, 1.2 mL; findings: the same and p 0.94, no effusion with 1 - 0.02
    assert [trace.written for trace in traces] == ["14 mm", "1.2 mL", "14 mm", "1.2 mL", "0.94", "0.98"]
    assert all(trace.origin for trace in traces)
    assert traces[0].origin == "nodule-1: Long axis 14.2 mm"


def test_a_number_that_is_in_no_measurement_fails_the_report(tmp_path, monkeypatch):
    monkeypatch.setattr("medvlm.reporting.compose.brief", lambda finding: "Nodule of 15 mm.")
    with pytest.raises(MedVLMError, match=r"'15 mm' in 'Nodule of 15 mm\.' is in no measurement"):
        write_report(study(), [expert()], tmp_path / "out", formats=())
    assert not (tmp_path / "out").exists()


def test_a_number_in_another_unit_is_not_the_measurement():
    (trace,) = trace_sentence(Sentence("Nodule of 14 mL.", ("nodule-1",)), [sample.nodule()])
    assert trace.origin == ""


def test_one_voxel_layer_more_changes_the_numbers_in_the_text(tmp_path):
    class Grown(BlockExpert):
        def run(self, study):
            from scipy import ndimage

            from medvlm.experts.card import ExpertResult
            from medvlm.findings.measure import components

            result = super().run(study)
            mask = ndimage.binary_dilation(result.mask == 1).astype(np.uint8)
            (part,) = components(mask, study.series[0].volume, 1)
            finding = dataclasses.replace(
                result.findings[0], measurements=part.measurements(), evidence=(part.evidence(result.series),)
            )
            return ExpertResult("block", (finding,), result.series, mask, {1: "lung nodule"})

    texts = []
    for number, one in enumerate((BlockExpert(), Grown())):
        report = write_report(study(ct_series()), [one], tmp_path / str(number), formats=())
        texts.append(report.section("impression").sentences[0].text)
    # A cube of 6 voxels of 2.5 mm: 15.6 voxel^3 x 216 = 3.4 mL; a layer of the 6-neighbourhood adds 6 x 36 voxels.
    assert "3.4 mL" in texts[0]
    assert "6.8 mL" in texts[1]


def prior(long_axis: float = 11.0) -> Finding:
    return dataclasses.replace(sample.nodule("prior-nodule-1", long_axis, 0.7), evidence=())


@pytest.mark.parametrize(
    ("before", "status", "text"),
    [
        (11.0, "larger", "Lung nodule, right upper lobe: larger by 29 %, 14 mm, previously 11 mm."),  # 3.2 / 11
        (13.0, "stable", "Lung nodule, right upper lobe: stable, 14 mm, previously 13 mm."),  # 1.2 mm < 1.5 mm
        (20.0, "smaller", "Lung nodule, right upper lobe: smaller by 29 %, 14 mm, previously 20 mm."),  # 5.8 / 20
    ],
)
def test_a_change_is_measured_and_its_numbers_are_traced(before, status, text):
    now, then = (sample.nodule(),), (prior(before),)
    changes = compare(now, then)
    assert [change.status for change in changes] == [status]
    (sentence,) = comparison_section(changes, now, then).sentences
    assert sentence.text == text
    assert all(trace.origin for trace in trace_sentence(sentence, (*now, *then), changes))


def test_new_and_resolved_findings_are_told_apart_from_those_nobody_looked_for():
    elsewhere = dataclasses.replace(prior(), id="prior-nodule-2", laterality=Code("7771000", "SCT", "Left"))
    changes = compare((sample.nodule(), sample.no_effusion()), (elsewhere,))
    assert [(change.status, change.finding, change.prior) for change in changes] == [
        ("new", "nodule-1", None),
        ("resolved", None, "prior-nodule-2"),
    ]
    assert compare((sample.nodule(),), (dataclasses.replace(sample.no_effusion(), id="prior-effusion-1"),)) == ()


def test_the_earlier_report_is_read_from_its_folder_and_from_its_sr(tmp_path):
    pytest.importorskip("highdicom", reason="needs medvlm-specialist[dicom]")
    from medvlm.imaging.reader import load_study
    from tests.reporting import dicom_inputs
    from tests.reporting.reading import report_of

    report_of(load_study(dicom_inputs.write_slices(tmp_path / "in")), tmp_path / "old")
    folder, sr = read_prior(tmp_path / "old"), read_prior(tmp_path / "old" / "dicom" / "sr.dcm")
    assert [f.id for f in folder] == ["prior-nodule-1", "prior-effusion-0"]
    assert [(f.id, f.presence, f.site) for f in sr] == [(f.id, f.presence, f.site) for f in folder]
    report = report_of(
        load_study(tmp_path / "in"), tmp_path / "new", options=Options(("html", "dicom"), "Growth?", prior=sr)
    )
    assert [change.status for change in report.changes] == ["stable"]
    assert report.section("indication").sentences[0].text == "Growth?"
    with pytest.raises(MedVLMError, match="no report, no text"):
        read_prior(tmp_path / "in" / "000.dcm")


def test_the_guideline_says_its_category_and_what_it_assumed():
    # Fleischner 2017: mean of 14.2 and 10.0 mm = 12.1 -> 12 mm, solid, above 8 mm: work-up, whatever the risk
    short = Measurement(Code("103340004", "SCT", "Short axis"), 10.0, "mm")
    nodule = dataclasses.replace(sample.nodule(), measurements=(*sample.nodule().measurements, short))
    (guideline,) = judge((nodule, sample.no_effusion()), CT_CHEST)
    assert guideline.pathway == "lung_nodule"
    assert ("mean diameter", "12 mm") in guideline.known
    assert any(value == "yes (assumed)" for _, value in guideline.known)
    assert ("nodule type", "solid") in guideline.known
    assert ("number of nodules", "single") in guideline.known  # the expert reported one and looked everywhere
    assert guideline.findings == ("nodule-1",)
    assert guideline.decided or guideline.open


def test_a_guideline_is_not_asked_about_what_is_not_there():
    assert judge((sample.no_effusion(),), CT_CHEST) == ()


def test_screening_follows_the_measured_change():
    changes = compare((sample.nodule(),), (prior(11.0),))
    (guideline,) = judge((sample.nodule(),), CT_CHEST, ["lung_screening"], changes)
    # growing solid nodule of 8 mm or more: Lung-RADS 4B
    assert dict(guideline.decided)["Lung-RADS category"].endswith("4B")


def test_a_contradicting_sentence_is_written_again_with_a_trace():
    findings = (sample.nodule(), sample.no_effusion())
    draft = check_draft("A 14 mm nodule in the left upper lobe. No pleural effusion.", findings)
    asked = []

    def rewrite(sentence, reason, known):
        asked.append(reason)
        return "A 15 mm nodule, right upper lobe." if len(asked) == 1 else "A 14 mm nodule in the right upper lobe."

    corrected = correct_draft(draft, findings, rewrite)
    assert [one.text for one in corrected.sentences] == [
        "No pleural effusion.",
        "A 14 mm nodule in the right upper lobe.",
    ]
    (revision,) = corrected.revisions
    assert revision.written == "A 14 mm nodule in the left upper lobe."
    assert revision.source == "model"
    assert "side" in asked[0]
    assert "number" in asked[1]
    assert corrected.removed == ()


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("A 14 mm nodule in the left upper lobe.", "A 14 mm nodule in the right upper lobe."),
        ("A 14 mm nodule in the right lower lobe.", "A 14 mm nodule in the right upper lobe."),
        ("Ground-glass nodule, right upper lobe, 14 mm.", "Solid nodule, right upper lobe, 14 mm."),
        ("A 1.9 cm nodule in the right upper lobe.", "A 1.4 cm nodule in the right upper lobe."),
        ("A nodule of 14 mL in the right upper lobe.", "A nodule of 14 mm in the right upper lobe."),
    ],
)
def test_a_model_that_cannot_write_it_again_has_its_own_sentence_held_to_the_measurement(wrong, right):
    findings = (sample.nodule(), sample.no_effusion())
    corrected = correct_draft(check_draft(wrong, findings), findings, lambda *_: "The nodule is huge.")
    (revision,) = corrected.revisions
    assert (revision.replaced, revision.source) == (right, "constrained")
    assert right in [one.text for one in corrected.sentences]


def test_the_model_chooses_where_its_sentence_fits_several_findings():
    second = dataclasses.replace(sample.nodule("nodule-2", 6.4, 0.12), laterality=Code("7771000", "SCT", "Left"))
    findings = (sample.nodule(), second)
    seen = []

    def choose(sentence, reason, known, ways):
        seen.extend(ways)
        return ways[1]

    draft = check_draft("A 20 mm nodule in the upper lobe.", findings)
    corrected = correct_draft(draft, findings, lambda *_: "", choose)
    assert seen == ["A 14 mm nodule in the upper lobe.", "A 6 mm nodule in the upper lobe."]
    assert corrected.revisions[0].replaced == "A 6 mm nodule in the upper lobe."


def test_a_sentence_that_stays_wrong_is_replaced_by_the_measurement():
    findings = (sample.nodule(),)
    # A denial cannot be made true by exchanging words.
    draft = check_draft("No nodule in the right upper lobe.", findings)
    corrected = correct_draft(draft, findings, lambda *_: "The nodule is huge.")
    assert corrected.revisions[0].source == "measurement"
    assert corrected.sentences[0].source == "measurement"
    assert corrected.removed[0][0] == "No nodule in the right upper lobe."
