"""Answers back from every format; validation; tampering; unblinding and analysis."""

import csv
import hashlib
import io
import json

import pytest

from medvlm.errors import MedVLMError
from medvlm.reader_study import audit
from medvlm.reader_study.answers import Span, parse_spans, read_answers
from medvlm.reader_study.collect import collect, verify_packets
from medvlm.reader_study.seal import canonical
from medvlm.reader_study.tidy import read_table
from medvlm.reader_study.unblind import unblind_collected, verify_study
from tests.reader_study import sample


@pytest.fixture
def phrase(tmp_path):
    file = tmp_path / "phrase"
    file.write_text(sample.PASSPHRASE)
    return file


def test_simulated_answers_come_back_complete(study, tmp_path):
    result = collect(study / "out", [study / "answers"], tmp_path / "c")
    assert result.problems == []
    items = sum(len(row) for row in result.done)
    assert items
    frame = read_table(tmp_path / "c/answers")
    assert {"item_code", "response_code", "error_category", "read_seconds"} <= set(frame.columns)
    assert "modality" not in frame.columns  # still blinded
    assert (tmp_path / "c/answers.csv").is_file()


def filled(study):
    """Packet folder, and what to answer for each code of R01's first sitting."""
    folder = study / "out/packets/R01/session-1"
    codes = [row["data"]["item_code"] for row in json.loads((folder / "labelstudio/tasks.json").read_text())]
    return folder, {code: str(1 + number % 5) for number, code in enumerate(codes)}


def test_workbook_redcap_and_label_studio_give_the_same_table(study, tmp_path):
    openpyxl = pytest.importorskip("openpyxl")
    folder, wanted = filled(study)
    book = openpyxl.load_workbook(folder / "xlsx/ratings.xlsx")
    sheet = book["Ratings"]
    names = [cell.value for cell in sheet[1]]
    for row in sheet.iter_rows(min_row=2):
        score = wanted[row[0].value]
        for name in ("correctness", "completeness", "conciseness"):
            row[names.index(name)].value = int(score)
        row[names.index("guess")].value = "A person"
        row[names.index("errors")].value = "1: location, sig"
    book.save(tmp_path / "a.xlsx")

    records = list(csv.DictReader(io.StringIO((folder / "redcap/records.csv").read_text())))
    for record in records:
        score = wanted[record["item_code"]]
        record |= dict.fromkeys(("correctness", "completeness", "conciseness"), score)
        record |= {"guess": "human", "errors": "1: location, significant"}
    with (tmp_path / "r.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, records[0].keys())
        writer.writeheader()
        writer.writerows(records)

    tasks = json.loads((folder / "labelstudio/tasks.json").read_text())
    for task in tasks:
        score = wanted[task["data"]["item_code"]]
        start = task["data"]["report_text"].index("1. ") + 4
        result = [
            {"id": "x", "from_name": name, "to_name": "report", "type": "choices", "value": {"choices": [score]}}
            for name in ("correctness", "completeness", "conciseness")
        ]
        result.append({"id": "g", "from_name": "guess", "type": "choices", "value": {"choices": ["human"]}})
        mark = {"start": start, "end": start + 3}
        result.append({"id": "m", "from_name": "errors", "type": "labels", "value": mark | {"labels": ["location"]}})
        result.append({"id": "m", "from_name": "errors_significance", "type": "choices",
                       "value": mark | {"choices": ["significant"]}})  # fmt: skip
        task["annotations"] = [{"result": result, "lead_time": 12.5, "was_cancelled": False}]
    (tmp_path / "l.json").write_text(json.dumps(tasks))

    tables = []
    for name in ("a.xlsx", "r.csv", "l.json"):
        result = collect(study / "out", [tmp_path / name], tmp_path / f"c-{name}")
        assert result.problems == []
        keys = ("item_code", "question_id", "response_code", "error_category", "error_significance", "span_start")
        tables.append(sorted(tuple(str(row.get(key, "")) for key in keys) for row in result.rows))
    assert tables[0] == tables[1] == tables[2]
    assert len(tables[0]) == len(wanted) * 5


def answers_of(study, name="answers-R01-session-1.json"):
    return json.loads((study / "answers" / name).read_text())


def write_answers(path, data):
    data.pop("digest", None)
    data["digest"] = hashlib.sha256(canonical(data)).hexdigest()
    path.write_text(json.dumps(data))
    return path


def test_what_is_wrong_is_reported_and_left_out(study, tmp_path):
    data = answers_of(study)
    data["items"][0]["answers"]["correctness"] = "9"
    del data["items"][1]["answers"]["completeness"]
    data["items"][2]["code"] = "ZZZZZZ"
    data["items"][3]["spans"] = [{"sentence": 40, "side": "", "category": "other", "significance": ""}]
    data["items"][4]["opened"] = "2025-01-01T00:00:00Z"
    result = collect(study / "out", [write_answers(tmp_path / "a.json", data)], tmp_path / "c")
    assert sorted(kind for kind, _, _ in result.problems) == [
        "foreign", "missing", "out of range", "out of range", "too early"
    ]  # fmt: skip
    text = (tmp_path / "c/problems.csv").read_text()
    assert "9' is none of 1, 2, 3, 4, 5" in text


def test_a_second_other_answer_is_a_duplicate_and_the_first_one_stays(study, tmp_path):
    data = answers_of(study)
    first = write_answers(tmp_path / "1.json", data)
    before = data["items"][0]["answers"]["correctness"]
    data["items"][0]["answers"]["correctness"] = "1" if before != "1" else "2"
    second = write_answers(tmp_path / "2.json", data)
    collect(study / "out", [first], tmp_path / "c")
    result = collect(study / "out", [second], tmp_path / "c")
    assert [kind for kind, _, _ in result.problems] == ["duplicate"]
    row = next(
        r for r in result.rows if r["item_code"] == data["items"][0]["code"] and r["question_id"] == "correctness"
    )
    assert row["response_code"] == before
    assert len(list((tmp_path / "c/imports").iterdir())) == 2


def test_answers_of_another_reader_or_study_are_not_taken(study, tmp_path):
    data = answers_of(study)
    data["packet"] = "QQQQQQQQQQ"
    result = collect(study / "out", [write_answers(tmp_path / "a.json", data)], tmp_path / "c")
    assert {kind for kind, _, _ in result.problems} == {"edited key"}
    assert result.rows == []
    data["commitment"] = "0" * 64
    result = collect(study / "out", [write_answers(tmp_path / "b.json", data)], tmp_path / "d")
    assert [kind for kind, _, _ in result.problems] == ["foreign"]


def test_a_changed_byte_in_answers_packet_or_log_is_detected(copy, tmp_path):
    text = (copy / "answers/answers-R01-session-1.json").read_text()
    (tmp_path / "a.json").write_text(text.replace('"seconds": ', '"seconds": 1', 1))
    with pytest.raises(MedVLMError, match="changed after the reader saved it"):
        collect(copy / "out", [tmp_path / "a.json"], tmp_path / "c")

    collect(copy / "out", [copy / "answers"], tmp_path / "d")
    assert verify_study(copy / "out", tmp_path / "d") == []
    page = copy / "out/packets/R01/session-1/html/packet.js"
    data = page.read_bytes()
    page.unlink()
    page.write_bytes(data.replace(b"nodule", b"nodulf", 1))
    assert verify_packets(copy / "out") == ["R01/session-1/html/packet.js was changed"]
    page.write_bytes(data)

    table = tmp_path / "d/answers.csv"
    original = table.read_text()
    table.write_text(original.replace(",4,", ",5,", 1))
    assert "answers.csv was changed" in verify_study(copy / "out", tmp_path / "d")[0]
    table.write_text(original)
    kept = next((tmp_path / "d/imports").iterdir())
    kept.write_text(kept.read_text() + " ")
    assert "was changed since it was collected" in verify_study(copy / "out", tmp_path / "d")[0]
    with pytest.raises(MedVLMError, match="not as it was collected"):
        collect(copy / "out", [tmp_path / "a.json"], tmp_path / "d")

    log = copy / "out/coordinator/audit.jsonl"
    lines = log.read_text().splitlines()
    log.write_text("\n".join([lines[0], lines[1].replace('"items": ', '"items": 1'), *lines[2:]]) + "\n")
    with pytest.raises(MedVLMError, match="chain of hashes is broken"):
        audit.read_log(log)
    log.write_text("\n".join(lines[:-2]) + "\n")  # cut short: the chain holds, but the end is known
    with pytest.raises(MedVLMError, match="is gone or another"):
        verify_study(copy / "out", tmp_path / "d")


def test_the_key_stays_closed_while_answers_are_missing(copy, tmp_path, phrase):
    collect(copy / "out", [copy / "answers/answers-R01-session-1.json"], tmp_path / "c")
    file = copy / "out/coordinator/key.sealed"
    with pytest.raises(MedVLMError, match="required answers are missing"):
        unblind_collected(tmp_path / "c", file, phrase)
    frame, _ = unblind_collected(tmp_path / "c", file, phrase, emergency="safety board")
    assert set(frame["modality"]) == {"tinyvlm", "radiologist"}
    last = audit.read_log(copy / "out/coordinator/audit.jsonl")[-1]
    assert (last.action, last.detail["emergency"]) == ("unblind", "safety board")


def test_marked_errors_are_read_from_cells():
    spans = parse_spans("2: location, significant; R5: omission")
    assert spans == (Span(1, "", "location", "significant"), Span(4, "right", "omission"))
    with pytest.raises(ValueError, match="cannot be read"):
        parse_spans("second: bad")


def test_other_files_are_no_answers(tmp_path):
    for name, content in (("a.json", '{"x": 1}'), ("b.csv", "a,b\n1,2\n"), ("c.bin", "\x00"), ("d.json", "{")):
        (tmp_path / name).write_text(content)
        with pytest.raises(MedVLMError):
            read_answers(tmp_path / name)


def test_from_answers_to_the_report_by_command(copy, tmp_path, phrase, medvlm_command):
    collected, results = tmp_path / "c", tmp_path / "r"
    answers = sorted((copy / "answers").glob("*.json"))
    done = medvlm_command("reader-study", "collect", copy / "out", *answers, "--out", collected)
    assert done.code == 0, done.err
    key = copy / "out/coordinator/key.sealed"
    done = medvlm_command("reader-study", "analyze", collected, "--unblind", key, "--passphrase_file", phrase,
                          "--bootstrap", "200", "--out", results)  # fmt: skip
    assert done.code == 0, done.err
    assert "correctness      tinyvlm - radiologist" in done.out
    page = (results / "report.html").read_text()
    assert "<svg" in page
    assert "http" not in page.replace("http://www.w3.org", "").replace("http://purl.org", "").replace(
        "http://creativecommons.org", "").replace("https://matplotlib.org", "")  # fmt: skip
    names = {path.stem for path in (results / "tables").iterdir()}
    assert {"differences", "intra_reader", "probes", "blinding", "time", "order", "correctness_methods"} <= names
    assert names == {path.stem for path in (results / "latex").iterdir()}
    rows = list(csv.DictReader((results / "checklists/checklist_claim_2024.csv").open()))
    assert {row["status"] for row in rows} == {"auto", "needs_author"}
    assert all(bool(row["value"]) == (row["status"] == "auto") for row in rows)
    methods = (results / "methods.md").read_text()
    assert "2 readers rated 12 cases" in methods
    assert (results / "ratings/correctness.imrmc").is_file()


def test_a_study_of_readings_is_analysed_by_auc(tmp_path, medvlm_command):
    from medvlm.reader_study.statistics import write_imrmc
    from tests.reader_study.test_mrmc import crossed

    write_imrmc(tmp_path / "a.imrmc", crossed())
    done = medvlm_command(
        "reader-study", "analyze", tmp_path / "a.imrmc", "--out", tmp_path / "r", "--bootstrap", "100"
    )
    assert done.code == 0, done.err
    assert "ROC curves" in (tmp_path / "r/report.html").read_text()
