"""REDCap: data dictionary, instrument ZIP and records to import, one set a sitting.

The dictionary has the 18 columns of a REDCap export in their order. Uploading a dictionary replaces all instruments of
a project; the instrument ZIP (one form, without the record id) adds the form to a live project. A record is one item
of one reader; the data access group is the reader.
"""

from __future__ import annotations

import csv
import io
import zipfile
from collections.abc import Iterable
from pathlib import Path

from medvlm.reader_study.forms import Form, Question
from medvlm.reader_study.packet import FIXED_ZIP_TIME, Packet, write_bytes
from medvlm.reader_study.write_xlsx import numbered, safe

COLUMNS = (
    "Variable / Field Name", "Form Name", "Section Header", "Field Type", "Field Label",
    "Choices, Calculations, OR Slider Labels", "Field Note", "Text Validation Type OR Show Slider Number",
    "Text Validation Min", "Text Validation Max", "Identifier?", "Branching Logic (Show field only if...)",
    "Required Field?", "Custom Alignment", "Question Number (surveys only)", "Matrix Group Name", "Matrix Ranking?",
    "Field Annotation",
)  # fmt: skip
# The same columns as the API and instrument.csv call them.
API_COLUMNS = (
    "field_name", "form_name", "section_header", "field_type", "field_label", "select_choices_or_calculations",
    "field_note", "text_validation_type_or_show_slider_number", "text_validation_min", "text_validation_max",
    "identifier", "branching_logic", "required_field", "custom_alignment", "question_number", "matrix_group_name",
    "matrix_ranking", "field_annotation",
)  # fmt: skip
FORM = "rating"
_GIVEN = ("item_code", "packet_id", "session_number", "item_position", "report_text", "report_right")


def write_redcap(folder: Path, packet: Packet) -> None:
    """Write `dictionary.csv`, `instrument.zip` and `records.csv`."""
    paired = any(item.right is not None for item in packet.items)
    rows = dictionary(packet.form, paired)
    write_bytes(folder / "dictionary.csv", _csv([COLUMNS, *rows]))
    write_bytes(folder / "instrument.zip", _instrument(rows))
    names = ["record_id", "redcap_data_access_group", *(name for name in _GIVEN if paired or name != "report_right")]
    records: list[list[str]] = [[*names, f"{FORM}_complete"]]
    for item in packet.items:
        row = [item.code, packet.reader.lower(), item.code, packet.id, str(packet.session), str(item.position)]
        row.append(numbered(item.report))
        if paired:
            row.append(numbered(item.right or ()))
        records.append([*(safe(value) for value in row), "0"])
    write_bytes(folder / "records.csv", _csv(records))


def dictionary(form: Form, paired: bool = False) -> list[list[str]]:
    """Rows of the data dictionary after its header."""
    rows = [_row("record_id", "text", "Record ID")]
    labels = ("Item", "Packet", "Session", "Position", "Report", "Report on the right")
    for name, label in zip(_GIVEN, labels):
        if name == "report_right" and not paired:
            continue
        kind = "notes" if name.startswith("report") else "text"
        rows.append(_row(name, kind, label, annotation="@READONLY"))
    previous: tuple[tuple[str, str], ...] = ()
    group = ""
    for index, question in enumerate(form.questions):
        own = tuple((option.code, option.label) for option in question.options)
        # Neighbouring questions with the same answers are one matrix.
        following = form.questions[index + 1] if index + 1 < len(form.questions) else None
        same_next = bool(own) and following is not None and following.options == question.options
        same_before = bool(own) and own == previous and bool(group)
        if not same_before:
            group = f"{question.id[:20]}_group" if same_next else ""
        rows.append(_question(question, group))
        previous = own
    return rows


def _question(question: Question, group: str) -> list[str]:
    choices, kind, validation, low, high = "", "notes", "", "", ""
    if question.options:
        kind = "radio"
        choices = " | ".join(f"{option.code}, {option.label.replace('|', '/')}" for option in question.options)
    elif question.kind == "slider":
        kind, validation, choices = "text", "number", ""
        low, high = f"{question.minimum or 0:g}", f"{question.maximum or 100:g}"
    elif question.kind == "count":
        kind, validation, low = "text", "integer", f"{question.minimum or 0:g}"
        high = "" if question.maximum is None else f"{question.maximum:g}"
    note = question.help
    if question.kind == "spans":
        note = "number: category, significant or insignificant; several with ;"
    row = _row(question.id, kind, question.text, choices, note, validation, low, high)
    row[2] = question.section
    row[12] = "y" if question.required else ""
    row[15] = group
    return row


def _row(
    name: str, kind: str, label: str, choices: str = "", note: str = "", validation: str = "", low: str = "",
    high: str = "", annotation: str = "",
) -> list[str]:  # fmt: skip
    row = [""] * len(COLUMNS)
    row[0], row[1], row[3], row[4], row[5], row[6] = name, FORM, kind, label, choices, note
    row[7], row[8], row[9], row[17] = validation, low, high, annotation
    return row


def _instrument(rows: list[list[str]]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as target:
        for name, data in (("instrument.csv", _csv([API_COLUMNS, *rows[1:]])), ("origin.txt", b"reader-study")):
            entry = zipfile.ZipInfo(name, FIXED_ZIP_TIME)
            entry.compress_type, entry.create_system = zipfile.ZIP_DEFLATED, 3
            target.writestr(entry, data)
    return buffer.getvalue()


def _csv(rows: Iterable[Iterable[str]]) -> bytes:
    buffer = io.StringIO(newline="")
    csv.writer(buffer, lineterminator="\n").writerows(rows)
    return buffer.getvalue().encode()
