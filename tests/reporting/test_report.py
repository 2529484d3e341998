"""Report: what the constructor refuses, and the way to JSON and back."""

import dataclasses
import json
from importlib import resources

import jsonschema
import pytest

from medvlm.errors import MedVLMError
from medvlm.reporting.report import KeyImage, Report, Section, Sentence, read_report, write_report_json
from tests.reporting import sample


def schema() -> dict:
    return json.loads(resources.files("medvlm.reporting").joinpath("schema.json").read_text(encoding="utf-8"))


def test_json_round_trip_gives_the_same_report():
    report = sample.report()
    assert Report.from_json(json.loads(json.dumps(report.to_json()))) == report


def test_json_follows_the_schema():
    jsonschema.validate(sample.report().to_json(), schema())


def test_schema_refuses_a_sentence_without_support():
    data = sample.report().to_json()
    data["sections"][0]["sentences"][0]["findings"] = []
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(data, schema())


def test_a_sentence_without_findings_cannot_be_in_a_report():
    unsupported = Section("findings", "Findings", (Sentence("The heart is enlarged."),))
    with pytest.raises(ValueError, match="no Finding supports"):
        dataclasses.replace(sample.report(), sections=(unsupported,))


def test_a_notice_needs_no_finding():
    notice = Section("technique", "Technique", (Sentence("24 slices.", source="notice"),))
    assert dataclasses.replace(sample.report(), sections=(notice,)).section("technique") == notice


def test_an_id_that_is_no_finding_is_refused():
    stray = KeyImage("key/x.png", "x", sample.SERIES, findings=("nodule-9",))
    with pytest.raises(ValueError, match="nodule-9"):
        dataclasses.replace(sample.report(), images=(stray,))


def test_the_disclaimer_cannot_be_changed():
    with pytest.raises(ValueError, match="disclaimer"):
        dataclasses.replace(sample.report(), disclaimer="")


def test_read_report_takes_the_folder(tmp_path):
    write_report_json(tmp_path / "report.json", sample.report())
    assert read_report(tmp_path) == sample.report()


def test_read_report_names_the_file_and_the_missing_field(tmp_path):
    data = sample.report().to_json()
    del data["method"]
    (tmp_path / "report.json").write_text(json.dumps(data))
    with pytest.raises(MedVLMError, match=r"report\.json.*method"):
        read_report(tmp_path)


def test_another_schema_version_is_refused():
    with pytest.raises(MedVLMError, match="schema 9"):
        Report.from_json(sample.report().to_json() | {"schema": 9})
