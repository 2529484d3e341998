"""Findings as text, and back."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medvlm.findings import Finding, Measurement, code, parse_short, verbalise
from medvlm.findings.codes import concepts
from tests.findings.sample import TRUTH, architecture_findings, measured, negative_findings


def test_short_style_is_the_one_of_the_architecture_page():
    assert verbalise(architecture_findings()) == (
        "lung nodules: 2\n"
        "1. right upper lobe, solid, 14 mm, 1.2 mL, p 0.94\n"
        "2. left lower lobe, part-solid, 6 mm, 0.1 mL, p 0.71\n"
        "pleural effusion: right, 240 mL, p 0.98\n"
        "heart: enlarged, cardiothoracic ratio 0.56, p 0.97"
    )


def test_short_style_says_what_is_absent_and_how_surely():
    """The probability is of what is said: present with 0.1 is absent with 0.9."""
    assert verbalise(negative_findings()) == (
        "lung nodules: none, p 0.90\npleural effusion: none\nheart: not enlarged, cardiothoracic ratio 0.44"
    )


def test_other_experts_read_the_same_way():
    findings = [
        Finding("c", "s", code("cell_type"), "present", TRUTH, probability=0.97, grade="neutrophil"),
        Finding("r", "s", code("red_blood_cells"), "present", TRUTH, measurements=(measured("count", 23, "1"),)),
    ]
    assert verbalise(findings) == "cell type: neutrophil, p 0.97\nred blood cells: 23"


def test_long_style_writes_sentences_and_hedges_only_calibrated_probabilities():
    assert verbalise(architecture_findings(), "long").splitlines() == [
        "Solid lung nodule in the right upper lobe: long axis 14 mm, volume 1.2 mL (probability 0.94).",
        "Part-solid lung nodule in the left lower lobe: long axis 6 mm, short axis 5 mm, volume 0.1 mL "
        "(probability 0.71).",
        "Pleural effusion on the right: volume 240 mL (probability 0.98).",
        "The heart is enlarged: cardiothoracic ratio 0.56 (probability 0.97).",
    ]
    doubtful = Finding("e", "s", code("pleural_effusion"), "present", TRUTH, probability=0.7, calibrated=True)
    assert verbalise([doubtful], "long") == "Probable pleural effusion (probability 0.70)."
    denied = Finding("e", "s", code("pleural_effusion"), "absent", TRUTH, probability=0.04, calibrated=True)
    assert verbalise([denied], "long") == "No pleural effusion (probability 0.96)."
    raw = Finding("e", "s", code("pleural_effusion"), "present", TRUTH, probability=0.7)
    assert verbalise([raw], "long") == "Pleural effusion (probability 0.70)."


def test_table_has_a_row_a_finding_and_json_has_everything():
    findings = architecture_findings()
    assert len(verbalise(findings, "table").splitlines()) == 2 + len(findings)
    data = json.loads(verbalise(findings, "json"))
    assert sorted((Finding.from_json(row) for row in data), key=lambda f: f.id) == sorted(findings, key=lambda f: f.id)


def test_parse_reads_the_short_style_back():
    assert parse_short(verbalise(architecture_findings())) == [
        {
            "concept": "lung_nodule",
            "presence": "present",
            "laterality": "right",
            "site": "upper_lobe",
            "grade": "solid",
            "measurements": {"Long axis": 14.0, "Volume": 1.2},
            "probability": 0.94,
        },
        {
            "concept": "lung_nodule",
            "presence": "present",
            "laterality": "left",
            "site": "lower_lobe",
            "grade": "part-solid",
            "measurements": {"Long axis": 6.0, "Volume": 0.1},
            "probability": 0.71,
        },
        {
            "concept": "pleural_effusion",
            "presence": "present",
            "laterality": "right",
            "measurements": {"Volume": 240.0},
            "probability": 0.98,
        },
        {
            "concept": "cardiomegaly",
            "presence": "present",
            "grade": "enlarged",
            "measurements": {"Cardiothoracic ratio": 0.56},
            "probability": 0.97,
        },
    ]
    read = parse_short(verbalise(negative_findings()))
    assert [row["presence"] for row in read] == ["absent"] * 3
    assert [row.get("probability") for row in read] == [0.1, None, None]


def test_parse_ignores_text_that_is_not_in_the_format():
    assert parse_short("I looked at the image.\n1. right upper lobe\n\npleural effusion: none") == [
        {"concept": "pleural_effusion", "presence": "absent"}
    ]


@given(
    key=st.sampled_from([key for key, row in concepts().items() if row.kind in ("list", "line")]),
    side=st.sampled_from([None, "left", "right", "bilateral"]),
    site=st.sampled_from([None, *(key for key, row in concepts().items() if row.kind == "site")]),
    length=st.integers(1, 300),
    grade=st.sampled_from([None, "solid", "part-solid", "severe"]),
    percent=st.integers(0, 100),
    uncertain=st.booleans(),
)
def test_what_the_short_style_says_comes_back(key, side, site, length, grade, percent, uncertain):
    finding = Finding(
        "x",
        "s",
        code(key),
        "uncertain" if uncertain else "present",
        TRUTH,
        probability=percent / 100,
        laterality=code(side) if side else None,
        site=code(site) if site else None,
        grade=grade,
        measurements=(Measurement(code("long_axis"), float(length), "mm"),),
    )
    (read,) = parse_short(verbalise([finding]))
    assert read["concept"] == key
    assert read["presence"] == finding.presence
    assert (read.get("laterality"), read.get("site"), read.get("grade")) == (side, site, grade)
    assert read["measurements"] == {"Long axis": length}
    assert read["probability"] == pytest.approx(percent / 100)


@given(
    key=st.sampled_from([key for key, row in concepts().items() if row.kind in ("list", "line", "state")]),
    percent=st.integers(0, 100),
)
def test_how_surely_something_is_absent_comes_back(key, percent):
    finding = Finding("x", "s", code(key), "absent", TRUTH, probability=percent / 100)
    (read,) = parse_short(verbalise([finding]))
    assert (read["concept"], read["presence"]) == (key, "absent")
    assert read["probability"] == pytest.approx(percent / 100)
