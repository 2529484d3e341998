"""FHIR, PDF, CSV, Markdown, grounded phrases and outlines."""

import csv
import dataclasses
import json
import shutil
import subprocess

import numpy as np
import pytest

from medvlm.errors import MedVLMError
from medvlm.reporting import formats
from medvlm.reporting.fhir import make_bundle
from medvlm.reporting.formats import Format
from medvlm.reporting.generate import write_report
from medvlm.reporting.grounded import grounded
from medvlm.reporting.markdown import render_markdown
from medvlm.reporting.outline import outline_path
from medvlm.reporting.pdf import write_pdf
from medvlm.reporting.report import Sentence
from medvlm.reporting.tables import write_csv
from tests.reporting import sample
from tests.reporting.test_generate import expert, study


def test_fhir_resources_validate_as_r4():
    bundle_model = pytest.importorskip("fhir.resources.R4B.bundle", reason="needs medvlm-specialist[fhir]").Bundle
    made = bundle_model.model_validate(make_bundle(sample.report()))
    kinds = [type(entry.resource).__name__ for entry in made.entry]
    assert kinds == ["DiagnosticReport", "Observation", "Observation", "ImagingStudy", "Device", "Patient"]
    report, nodule = made.entry[0].resource, made.entry[1].resource
    assert report.status == "preliminary"
    assert nodule.component[0].valueQuantity.code == "mm"
    assert float(nodule.component[0].valueQuantity.value) == 14.2
    urls = {entry.fullUrl for entry in made.entry}
    assert {reference.reference for reference in report.result} <= urls
    assert nodule.device.reference in urls


@pytest.mark.skipif(not shutil.which("pdftoppm"), reason="poppler-utils is not installed")
def test_the_pdf_opens_and_says_impression_and_disclaimer(tmp_path):
    pytest.importorskip("weasyprint", reason="needs medvlm-specialist[pdf]")
    sample.write_images(tmp_path)
    path = write_pdf(sample.report(), tmp_path)
    subprocess.run(["pdftoppm", "-r", "20", "-png", path, tmp_path / "page"], check=True)
    text = subprocess.run(["pdftotext", "-layout", path, "-"], check=True, capture_output=True, text=True).stdout
    assert "NOT FOR DIAGNOSIS" in text
    assert "Solid nodule, right upper lobe" in text


def test_csv_has_a_row_a_measurement_and_no_formula(tmp_path):
    report = sample.report()
    evil = dataclasses.replace(sample.nodule(), grade="=1+1")
    write_csv(dataclasses.replace(report, findings=(evil, sample.no_effusion())), tmp_path / "t.csv")
    rows = list(csv.DictReader((tmp_path / "t.csv").read_text("utf-8-sig").splitlines()))
    assert [(row["finding"], row["measurement"], row["value"]) for row in rows] == [
        ("nodule-1", "Long axis", "14.2"),
        ("nodule-1", "Volume", "1.23"),
        ("effusion-1", "", ""),
    ]
    assert rows[0]["grade"] == "'=1+1"


def test_markdown_keeps_text_from_becoming_markup():
    report = sample.report()
    section = dataclasses.replace(
        report.sections[1], sentences=(Sentence("<b>x</b> [y](http://z) *w*", ("nodule-1",), "model"),)
    )
    text = render_markdown(dataclasses.replace(report, sections=(report.sections[0], section)))
    assert "<b>" not in text.replace("\\<b\\>", "")
    assert "](http://z)" not in text.replace("\\](http://z)", "")
    assert text.startswith("> **RESEARCH DRAFT")


def test_grounded_boxes_are_fractions_of_the_slice(tmp_path):
    report = write_report(study(), [expert()], tmp_path / "out", formats=("grounded",))
    data = json.loads((tmp_path / "out" / "grounded.json").read_text())
    assert data == json.loads(json.dumps(grounded(report)))
    (box,) = data["findings"][0]["boxes"]
    # 32 voxels of 2.5 mm from -1.25 to 78.75 mm, the patient's right on the left: the box 30..42.5 mm spans
    # (78.75 - 42.5) / 80 to (78.75 - 30) / 80 across and the same down.
    for low, high in (("x_min", "x_max"), ("y_min", "y_max")):
        assert (box[low], box[high]) == pytest.approx((0.453, 0.609), abs=0.002)
    assert data["findings"][1]["boxes"] == []


def test_a_format_whose_package_is_missing_names_the_extra(monkeypatch):
    monkeypatch.setattr(formats, "find_spec", lambda name: None)
    with pytest.raises(MedVLMError, match=r"medvlm-specialist\[pdf\]"):
        formats.choose_formats(["pdf"])
    chosen, missing = formats.choose_formats(None)
    assert "html" in {one.name for one in chosen}
    assert {one.name for one in missing} == {"pdf", "fhir", "dicom"}
    with pytest.raises(MedVLMError, match="no report format 'docx'"):
        formats.choose_formats(["docx"])


def test_an_outline_encloses_exactly_the_voxels():
    mask = np.zeros((6, 8), bool)
    mask[1:4, 2:5] = True
    mask[2, 3] = False  # a hole
    path = outline_path(mask)
    assert path.count("M") == 2
    assert path.count("z") == 2
    # The outer loop begins at the corner (2, 1) and is 3 wide and high; the hole is 1 x 1.
    assert "M2 1h3v3h-3z" in path
    assert outline_path(np.zeros((3, 3), bool)) == ""


def test_a_format_whose_package_is_missing_altogether_is_not_installed():
    assert not Format("x", "", print, modules=("no_such_package.part",)).installed
    assert not Format("x", "", print, modules=("json.no_such_part",)).installed
    assert Format("x", "", print, modules=("json.decoder",)).installed
