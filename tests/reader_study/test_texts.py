"""Forms, normalised reports and planted errors."""

import numpy as np
import pytest

from medvlm.errors import MedVLMError
from medvlm.reader_study.case_table import read_texts, report_text
from medvlm.reader_study.forms import form_from_json, list_presets, load_form
from medvlm.reader_study.normalise import Paragraph, normalise_report, to_text
from medvlm.reader_study.probes import PROBE_TYPES, plant_error


def test_presets_load_and_survive_json():
    assert list_presets() == ["pairwise", "quest", "radpeer", "retinavlm", "rexval", "roc"]
    for name in list_presets():
        form = load_form(name)
        again = form_from_json(form.to_json())
        assert [(q.id, q.kind, q.options) for q in again.questions] == [
            (q.id, q.kind, q.options) for q in form.questions
        ]


@pytest.mark.parametrize(
    ("question", "raw", "code", "wrong"),
    [
        ("correctness", "4", "4", None),
        ("correctness", " strongly  DISAGREE ", "1", None),  # a label that somebody typed
        ("correctness", 5.0, "5", None),
        ("correctness", "6", "6", "none of 1, 2, 3, 4, 5"),
        ("correctness", "", "", "is missing"),
        ("comment", None, "", None),
        ("guess", "A machine", "ai", None),
    ],
)
def test_answers_are_checked_against_the_form(question, raw, code, wrong):
    found, problem = load_form("retinavlm").question(question).check(raw)
    assert found == code
    assert (problem is None) if wrong is None else (wrong in problem)


def test_counts_are_whole_numbers_in_their_range():
    question = load_form("rexval").question("omission_significant")
    assert question.check("3")[1] is None
    assert "outside" in question.check("21")[1]
    assert "not a whole number" in question.check("1.5")[1]


def test_radpeer_scores_are_ranks():
    assert load_form("radpeer").question("radpeer").score("2b") == 3.0  # third of 1, 2a, 2b, 3a, 3b


def test_an_own_form_is_read_and_a_broken_one_refused(tmp_path):
    file = tmp_path / "own.yaml"
    file.write_text("questions:\n  - {id: q1, kind: likert, options: {0: no, 1: yes}, text: Is it fine}\n")
    assert load_form("own.yaml", tmp_path).question("q1").options[0].label == "No"
    file.write_text("questions:\n  - {id: Q 1, kind: likert, text: Fine}\n")
    with pytest.raises(MedVLMError, match="not a column name"):
        load_form("own.yaml", tmp_path)


MACHINE = (
    "**Findings:**\n- There is a 9 mm nodule.\n- no effusion\n\n**Impression:**\n1. Nodule. As an AI I may be wrong."
)
PERSON = (
    "impression - \nCONCLUSION: nodule\nFINDINGS:\nThere is a 9 mm\nnodule. No effusion\nSigned by Dr. A. Weber, 10:42"
)


def test_layout_signatures_and_order_of_sections_are_made_equal():
    machine, person = normalise_report(MACHINE), normalise_report(PERSON)
    assert to_text(machine) == "FINDINGS:\nThere is a 9 mm nodule.\nNo effusion.\n\nIMPRESSION:\nNodule."
    assert to_text(person).endswith("FINDINGS:\nThere is a 9 mm nodule.\nNo effusion.\n\nIMPRESSION:\nNodule.")


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("Seen on 12.03.2024 at 10:42.", "Seen on [date] at [time]."),
        ("Discussed with Dr. Weber.", "Discussed with [name]."),
        ("Compare Miller's CT, MRN 1234567.", "Compare [removed]'s CT, [removed]."),
        ("Nodule of 12.5 mm, series 3, image 45.", "Nodule of 12.5 mm, series 3, image 45."),
        ("Cyst of 3.2 x 2.1 x 1.8 cm.", "Cyst of 3.2 x 2.1 x 1.8 cm."),
        ("A nodule (probability 0.79).", "A nodule."),
        ("Ratio 1:2, Lung-RADS 4A.", "Ratio 1:2, Lung-RADS 4A."),
        ("Zero\u200bwidth and \u201cquotes\u201d \u2013 gone.", 'Zerowidth and "quotes" - gone.'),
    ],
)
def test_identity_goes_and_measurements_stay(text, left):
    assert normalise_report(text, ["Miller"])[0].sentences == (left,)


REPORT = (
    Paragraph(
        "FINDINGS", ("There is a 9 mm nodule in the right upper lobe.", "No pleural effusion.", "Mild emphysema.")
    ),
)


@pytest.mark.parametrize("kind", PROBE_TYPES)
def test_a_probe_changes_exactly_what_it_says(kind):
    changed, planted, sentence = plant_error(REPORT, kind, np.random.default_rng(1))
    assert planted == kind
    before, after = REPORT[0].sentences, changed[0].sentences
    if kind == "omission":
        assert set(before) - set(after) == {sentence}
    else:
        assert set(after) - set(before) == {sentence}


def test_an_error_without_a_place_becomes_a_made_up_finding():
    _, planted, _ = plant_error((Paragraph("", ("Unremarkable.",)),), "laterality", np.random.default_rng(0))
    assert planted == "fabrication"


def test_reports_come_from_tables_and_report_json(tmp_path):
    (tmp_path / "a.csv").write_text("case,text\nx,Clear.\n")
    assert read_texts(tmp_path / "a.csv") == {"x": "Clear."}
    sections = [
        {"key": "impression", "title": "Impression", "sentences": [{"text": "Clear."}]},
        {"key": "technique", "title": "Technique", "sentences": [{"text": "CT, medvlm."}]},
    ]
    assert report_text({"sections": sections}) == "IMPRESSION:\nClear."
