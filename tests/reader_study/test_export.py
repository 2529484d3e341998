"""Packets in every format: rules of REDCap and Label Studio, workbooks, the sealed key."""

import csv
import io
import json
import re
import zipfile
from xml.etree import ElementTree

import pytest

from medvlm.errors import MedVLMError
from medvlm.reader_study.forms import list_presets, load_form
from medvlm.reader_study.packet import FIXED_TIME
from medvlm.reader_study.seal import canonical, commitment_of, open_key, seal_key
from medvlm.reader_study.write_labelstudio import labelling_config
from medvlm.reader_study.write_redcap import COLUMNS, dictionary, write_redcap
from tests.reader_study import sample


def session(study):
    return study / "out/packets/R01/session-1"


def test_a_packet_holds_every_format_and_nothing_about_its_sources(study):
    names = {path.name for path in session(study).iterdir()}
    assert names == {"html", "xlsx", "redcap", "labelstudio", "images", "packet.json"}
    everything = b"".join(path.read_bytes() for path in session(study).rglob("*") if path.is_file()).lower()
    for word in (b"tinyvlm", b"radiologist", b"case_0", b"pat000", b"weber", b"2024"):
        assert word not in everything
    assert {path.stat().st_mtime for path in session(study).rglob("*")} == {FIXED_TIME.timestamp()}


def test_the_reading_room_asks_nothing_of_a_network(study):
    page = (session(study) / "html/room.html").read_text()
    assert "default-src 'none'" in page
    assert not re.findall(r"(?:src|href)=[\"']https?:", page)


def test_the_key_opens_with_its_passphrase_alone(study, tmp_path):
    file = study / "out/coordinator/key.sealed"
    assert len(open_key(file, sample.PASSPHRASE)["items"]) > 40
    with pytest.raises(MedVLMError, match="passphrase is wrong"):
        open_key(file, "another passphrase")
    data = json.loads(file.read_text())
    for name in ("box", "salt", "start"):
        changed = dict(data)
        changed[name] = ("A" if data[name][0] != "A" else "B") + data[name][1:]
        (tmp_path / "k").write_text(json.dumps(changed))
        with pytest.raises(MedVLMError, match="passphrase is wrong or the key was changed"):
            open_key(tmp_path / "k", sample.PASSPHRASE)
    with pytest.raises(MedVLMError, match="does not belong to these packets"):
        open_key(file, sample.PASSPHRASE, "0" * 64)


def test_the_commitment_binds_the_key(tmp_path):
    payload, nonce = {"a": 1}, b"n" * 32
    published = seal_key(tmp_path / "k", payload, sample.PASSPHRASE, nonce)
    assert published == commitment_of(canonical(payload), nonce)
    assert published != commitment_of(canonical({"a": 2}), nonce)
    with pytest.raises(MedVLMError, match="shorter than 12"):
        seal_key(tmp_path / "k", payload, "short", nonce)


def test_an_export_is_never_overwritten(study):
    from medvlm.reader_study.allocate import make_plan
    from medvlm.reader_study.export import export_study
    from medvlm.reader_study.spec import load_study_spec

    spec = load_study_spec(study / "study")
    with pytest.raises(MedVLMError, match="never overwritten"):
        export_study(spec, make_plan(spec), study / "out", sample.PASSPHRASE)


def test_probes_duplicates_and_training_are_in_the_key_only(key):
    items = list(key["items"].values())
    # Two readers, each with 2 probes, 1 training, 1 calibration item and 2 duplicates.
    assert sum(bool(item["probe"]) for item in items) == 4
    assert sum(bool(item["duplicate_of"]) for item in items) == 4
    assert all(item["duplicate_of"] in key["items"] for item in items if item["duplicate_of"])
    assert all(item["probe_sentence"] for item in items if item["probe"])


@pytest.mark.parametrize("preset", list_presets())
def test_the_redcap_dictionary_keeps_the_eighteen_column_rules(preset):
    rows = dictionary(load_form(preset), paired=preset == "pairwise")
    assert len(COLUMNS) == 18
    assert all(len(row) == 18 for row in rows)
    names = [row[0] for row in rows]
    assert names[0] == "record_id"
    assert rows[0][3] == "text"
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"[a-z][a-z0-9_]*", name) for name in names)
    kinds = {
        "text",
        "notes",
        "dropdown",
        "radio",
        "checkbox",
        "yesno",
        "truefalse",
        "calc",
        "file",
        "slider",
        "descriptive",
    }
    for row in rows:
        assert row[3] in kinds
        assert row[12] in ("", "y")
        if row[3] == "radio":
            assert all(re.fullmatch(r"\s*[\w.]+, .+", part) for part in row[5].split("|"))
        assert row[7] in ("", "number", "integer")
    # A matrix is a run of neighbours of one kind with the same choices.
    groups = [row[15] for row in rows]
    for group in set(groups) - {""}:
        places = [index for index, name in enumerate(groups) if name == group]
        assert places == list(range(places[0], places[-1] + 1))
        assert len({(rows[index][3], rows[index][5]) for index in places}) == 1
        assert len(places) > 1


def test_redcap_files_fit_each_other(study):
    folder = session(study) / "redcap"
    assert next(csv.reader(io.StringIO((folder / "dictionary.csv").read_text()))) == list(COLUMNS)
    with zipfile.ZipFile(folder / "instrument.zip") as archive:
        assert set(archive.namelist()) == {"instrument.csv", "origin.txt"}
        fields = [row[0] for row in csv.reader(io.StringIO(archive.read("instrument.csv").decode()))]
    assert fields[0] == "field_name"
    assert "record_id" not in fields
    records = list(csv.DictReader(io.StringIO((folder / "records.csv").read_text())))
    assert set(records[0]) - {"record_id", "redcap_data_access_group", "rating_complete"} <= set(fields)
    assert write_redcap is not None


@pytest.mark.parametrize("preset", list_presets())
def test_label_studio_accepts_config_and_tasks(preset, study):
    sdk = pytest.importorskip("label_studio_sdk.label_interface")
    paired = preset == "pairwise"
    interface = sdk.LabelInterface(labelling_config(load_form(preset), paired, pictured=True))
    interface.validate()
    tasks = json.loads((session(study) / "labelstudio/tasks.json").read_text())
    for task in tasks:
        data = task["data"] | ({"report_right": "x"} if paired else {})
        assert interface.validate_task({"data": data})


def test_label_studio_stores_codes_not_labels():
    root = ElementTree.fromstring(labelling_config(load_form("retinavlm")))
    choices = root.find("Choices[@name='correctness']")
    assert [choice.get("alias") for choice in choices] == ["1", "2", "3", "4", "5"]


def test_workbooks_have_lists_locks_and_no_author(study):
    openpyxl = pytest.importorskip("openpyxl")
    path = session(study) / "xlsx/ratings.xlsx"
    book = openpyxl.load_workbook(path)
    assert book.sheetnames == ["Instructions", "Ratings", "Definitions", "_meta"]
    assert book["_meta"].sheet_state == "hidden"
    sheet = book["Ratings"]
    assert sheet.protection.sheet
    assert sheet["A2"].protection.locked
    assert not sheet["C2"].protection.locked
    rules = {str(rule.sqref): rule.formula1 for rule in sheet.data_validations.dataValidation}
    assert '"1,2,3,4,5"' in rules.values()
    assert book.properties.creator in (None, "", "openpyxl")  # what the reader fills in for an empty one
    with zipfile.ZipFile(path) as archive:
        assert b"creator" not in archive.read("docProps/core.xml")
        assert {entry.date_time for entry in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}


def test_a_formula_in_a_report_stays_text():
    from medvlm.reader_study.write_xlsx import safe

    assert [safe(text) for text in ("=1+1", "-2", "@x", "Clear.")] == ["'=1+1", "'-2", "'@x", "Clear."]
