"""Workbooks: one a sitting, with lists to choose from, locked columns and a sheet of definitions."""

from __future__ import annotations

import io
import re
import zipfile
from pathlib import Path
from typing import Any

from medvlm.errors import MissingExtraError
from medvlm.reader_study.forms import ERROR_CATEGORIES, Question
from medvlm.reader_study.normalise import Paragraph
from medvlm.reader_study.packet import FIXED_ZIP_TIME, Packet, write_bytes

FIRST_ROW = 2
_HEAD = ("item", "report")


def write_xlsx(folder: Path, packet: Packet) -> None:
    """Write `ratings.xlsx`; the same packet gives the same bytes."""
    write_bytes(folder / "ratings.xlsx", clean_zip(_workbook(packet)))


def columns(packet: Packet) -> list[str]:
    """Names of the columns of the sheet of ratings."""
    right = ["report_right"] if any(item.right is not None for item in packet.items) else []
    return [*_HEAD, *right, *(question.id for question in packet.form.questions), "seconds"]


def _workbook(packet: Packet) -> bytes:
    try:
        from openpyxl import Workbook
        from openpyxl.formatting.rule import FormulaRule
        from openpyxl.styles import Alignment, Font, PatternFill, Protection
        from openpyxl.utils import get_column_letter
    except ImportError:
        raise MissingExtraError("openpyxl", "reader-study", "a workbook") from None

    book = Workbook()
    sheet = book.active
    sheet.title = "Instructions"
    for row, line in enumerate(_instructions(packet), start=1):
        sheet.cell(row, 1, line)
    sheet.column_dimensions["A"].width = 110
    sheet.protection.sheet = True

    ratings = book.create_sheet("Ratings")
    names = columns(packet)
    wrapped, open_cell = Alignment(wrap_text=True, vertical="top"), Protection(locked=False)
    for column, name in enumerate(names, start=1):
        ratings.cell(1, column, name).font = Font(bold=True)
    last = FIRST_ROW + len(packet.items) - 1
    for row, item in enumerate(packet.items, start=FIRST_ROW):
        values = [item.code, numbered(item.report)]
        if "report_right" in names:
            values.append(numbered(item.right or ()))
        for column, value in enumerate(values, start=1):
            ratings.cell(row, column, safe(value)).alignment = wrapped
        for column in range(len(values) + 1, len(names) + 1):
            ratings.cell(row, column).protection = open_cell
    missing = PatternFill(bgColor="FFF2CC", fill_type="solid")
    for column, name in enumerate(names, start=1):
        letter = get_column_letter(column)
        ratings.column_dimensions[letter].width = 70 if name.startswith("report") else max(12, len(name) + 2)
        question = next((q for q in packet.form.questions if q.id == name), None)
        if question is None:
            continue
        cells = f"{letter}{FIRST_ROW}:{letter}{last}"
        _validate(ratings, question, cells)
        if question.required:
            rule = FormulaRule(formula=[f"LEN({letter}{FIRST_ROW})=0"], fill=missing)
            ratings.conditional_formatting.add(cells, rule)
    ratings.freeze_panes = "B2"
    ratings.protection.sheet = True
    ratings.protection.formatColumns = False
    ratings.protection.formatRows = False

    definitions = book.create_sheet("Definitions")
    for row, definition in enumerate(_definitions(packet), start=1):
        for column, value in enumerate(definition, start=1):
            definitions.cell(row, column, safe(value))
    definitions.protection.sheet = True
    meta = book.create_sheet("_meta")
    meta.sheet_state = "hidden"
    for row, (key, value) in enumerate(_meta(packet).items(), start=1):
        meta.cell(row, 1, key)
        meta.cell(row, 2, value)
    meta.protection.sheet = True
    book.active = 1
    buffer = io.BytesIO()
    book.save(buffer)
    return buffer.getvalue()


def _validate(sheet: Any, question: Question, cells: str) -> None:
    from openpyxl.worksheet.datavalidation import DataValidation

    if question.options:
        codes = ",".join(option.code for option in question.options)
        rule = DataValidation(type="list", formula1=f'"{codes}"', allow_blank=True)
        rule.error = f"one of {codes}"
        rule.prompt = "; ".join(f"{option.code} {option.label}" for option in question.options)[:250]
    elif question.kind in ("count", "slider"):
        low, high = question.minimum or 0, question.maximum if question.maximum is not None else 10**6
        whole = "whole" if question.kind == "count" else "decimal"
        rule = DataValidation(
            type=whole, operator="between", formula1=f"{low:g}", formula2=f"{high:g}", allow_blank=True
        )
        rule.error = f"a number from {low:g} to {high:g}"
    else:
        return
    rule.showErrorMessage = rule.showInputMessage = True
    rule.promptTitle = question.text[:30]
    rule.add(cells)
    sheet.add_data_validation(rule)


def _instructions(packet: Packet) -> list[str]:
    categories = ", ".join(ERROR_CATEGORIES)
    lines = [
        packet.title,
        "",
        f"Reader {packet.reader}, session {packet.session}: {len(packet.items)} items on the sheet Ratings.",
        "One row is one item. Fill the cells to the right of the report; yellow cells are still needed.",
        "What the codes mean is on the sheet Definitions and in the notes of the cells.",
        "The images, where there are any, are in the folder images under the code of the item.",
    ]
    if any(question.kind == "spans" for question in packet.form.questions):
        lines.append(
            "Wrong sentences: number, category and, if you want, significant or insignificant; several with ';'. "
            f"Example: 2: location, significant; 5: omission. Categories: {categories}."
        )
    if packet.earliest:
        lines.append(f"Not to be read before {packet.earliest.isoformat()}.")
    training = [item.code for item in packet.items if item.note]
    if training:
        lines.append(f"Training items, not counted: {', '.join(training)}.")
        lines += [f"{item.code}: {item.note}" for item in packet.items if item.note]
    return lines


def _definitions(packet: Packet) -> list[tuple[str, str, str]]:
    rows = [("question", "code", "meaning")]
    for question in packet.form.questions:
        rows.append((question.id, "", " ".join(filter(None, (question.text, question.help)))))
        rows += [(question.id, option.code, option.label) for option in question.options]
    return rows


def _meta(packet: Packet) -> dict[str, str]:
    return {
        "schema": "1",
        "packet": packet.id,
        "reader": packet.reader,
        "session": str(packet.session),
        "form": packet.form.id,
        "form_version": packet.form.version,
        "commitment": packet.commitment,
    }


def numbered(report: tuple[Paragraph, ...]) -> str:
    """Report text with numbered sentences, as the marking of errors needs it."""
    lines: list[str] = []
    number = 0
    for part in report:
        if part.heading:
            lines.append(f"{part.heading}:")
        for sentence in part.sentences:
            number += 1
            lines.append(f"{number}. {sentence}")
    return "\n".join(lines)


def safe(text: str) -> str:
    """Text that a spreadsheet will not take for a formula."""
    return "'" + text if text[:1] in "=+-@\t\r" and text else text


def clean_zip(data: bytes) -> bytes:
    """An Office file without names, times and programs: fixed times in the zip, empty document properties."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as source, zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as target:
        for name in sorted(source.namelist()):
            content = source.read(name)
            if name == "docProps/core.xml":
                content = _CORE
            if name == "docProps/app.xml":
                content = re.sub(rb"<(Application|AppVersion|Company|Manager)>[^<]*</\1>", b"", content)
            entry = zipfile.ZipInfo(name, FIXED_ZIP_TIME)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.create_system = 3
            target.writestr(entry, content)
    return buffer.getvalue()


_CORE = (
    b'<?xml version="1.0" encoding="UTF-8" standalone="yes"?><cp:coreProperties '
    b'xmlns:cp="http://schemas.openxmlformats.org/package/2006/metadata/core-properties"/>'
)
