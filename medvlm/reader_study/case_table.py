"""Tables of cases and texts of reports: CSV, JSON, JSONL, folders of `report.json`."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medvlm.errors import MedVLMError
from medvlm.reader_study.spec import ROLES, Case, StudySpec
from medvlm.storage import read_json, read_jsonl

_KNOWN = ("id", "patient", "stratum", "truth", "image", "role", "reference")
_TEXT_KEYS = ("text", "report", "report_text", "impression")
_CASE_KEYS = ("case", "case_id", "id", "study")


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Rows of a CSV, a JSON list (or mapping id → row) or a JSONL file.

    Raises:
        MedVLMError: no such file, or it holds something else.
    """
    suffix = path.suffix.lower()
    if suffix == ".jsonl":
        rows: Any = read_jsonl(path)
    elif suffix == ".json":
        rows = read_json(path)
    else:
        try:
            with path.open(newline="", encoding="utf-8-sig") as file:
                rows = list(csv.DictReader(file))
        except (FileNotFoundError, IsADirectoryError):
            raise MedVLMError(f"{path}: no such file.") from None
        except (UnicodeDecodeError, csv.Error) as error:
            raise MedVLMError(f"{path}: not a CSV file ({error}).") from None
    if isinstance(rows, Mapping):
        rows = [{"id": key} | (value if isinstance(value, dict) else {"text": value}) for key, value in rows.items()]
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise MedVLMError(f"{path}: expected a table of rows.")
    return rows


def read_cases(given: Any, folder: Path) -> tuple[Case, ...]:
    """Cases from a file name, a list of rows or ids, or a number (`40` makes c001 ... c040, for planning).

    Columns that are not known (names, accession numbers) are kept as secrets: the export must not contain them.
    """
    where = str(given) if isinstance(given, str) else "cases"
    if isinstance(given, int) and not isinstance(given, bool):
        return tuple(Case(f"c{number:03d}") for number in range(1, given + 1))
    rows = read_rows(folder / given) if isinstance(given, str) else given
    if not isinstance(rows, list):
        raise MedVLMError(f"{where}: give a file, a list of cases or their number.")
    cases = []
    for number, row in enumerate(rows, start=1):
        fields = dict(row) if isinstance(row, Mapping) else {"id": row}
        identifier = next((fields[key] for key in _CASE_KEYS if fields.get(key)), None)
        if not identifier:
            raise MedVLMError(f"{where}, row {number}: no 'id'.")
        role = fields.get("role") or None
        if role is not None and role not in ROLES:
            raise MedVLMError(f"{where}, row {number}: role '{role}' is none of {', '.join(ROLES)}.")
        base = folder / given if isinstance(given, str) else folder / "study.yaml"
        image = str(fields.get("image") or "")
        hidden = {key: str(value) for key, value in fields.items() if key not in (*_KNOWN, *_CASE_KEYS) and value}
        secrets = list(hidden.values())
        # Of a person's name each part identifies, too.
        secrets += [word for key, value in hidden.items() if "name" in key.lower() for word in value.split()]
        cases.append(
            Case(
                id=str(identifier),
                patient=str(fields.get("patient") or ""),
                stratum=str(fields.get("stratum") or ""),
                truth=_truth(fields.get("truth"), f"{where}, row {number}"),
                image=str(base.parent / image) if image else "",
                role=role,
                reference=str(fields.get("reference") or ""),
                secrets=tuple(secrets),
            )
        )
    return tuple(cases)


def _truth(value: Any, where: str) -> float | None:
    if value is None or str(value).strip() == "":
        return None
    if str(value).strip() not in ("0", "1", "0.0", "1.0"):
        raise MedVLMError(f"{where}: truth '{value}' is neither 0 nor 1.")
    return float(value)


def read_reports(spec: StudySpec) -> dict[tuple[str, str], str]:
    """Texts by (source, case) for all sources that have reports.

    Raises:
        MedVLMError: a case has no report of a source (names both).
    """
    texts: dict[tuple[str, str], str] = {}
    for source in spec.sources:
        if not source.reports:
            continue
        found = read_texts(spec.folder / source.reports)
        missing = [case.id for case in spec.cases if case.id not in found]
        if missing:
            raise MedVLMError(
                f"source {source.id}: no report for {len(missing)} cases (first: {missing[0]}) in {source.reports}."
            )
        texts |= {(source.id, case.id): found[case.id] for case in spec.cases}
    return texts


def read_texts(path: Path) -> dict[str, str]:
    """Case → text from a table, from a folder of report folders, or from a folder of `.txt` files."""
    if path.is_dir():
        texts = {file.parent.name: report_text(read_json(file)) for file in sorted(path.glob("*/report.json"))}
        texts |= {file.stem: file.read_text(encoding="utf-8") for file in sorted(path.glob("*.txt"))}
        if not texts:
            raise MedVLMError(f"{path}: neither */report.json nor *.txt in this folder.")
        return texts
    texts = {}
    for number, row in enumerate(read_rows(path), start=1):
        case = next((row[key] for key in _CASE_KEYS if row.get(key)), None)
        text = next((row[key] for key in _TEXT_KEYS if row.get(key)), None)
        if case is None or text is None:
            raise MedVLMError(f"{path}, row {number}: needs the columns 'case' and 'text'.")
        if str(case) in texts:
            raise MedVLMError(f"{path}, row {number}: a second report for '{case}'.")
        texts[str(case)] = text if isinstance(text, str) else json.dumps(text)
    return texts


def report_text(data: Mapping[str, Any]) -> str:
    """The clinical sentences of a `report.json`: impression and findings, no technique, method or disclaimer."""
    parts = []
    for section in data.get("sections", ()):
        sentences = [sentence["text"].strip() for sentence in section["sentences"]]
        if section["key"] in ("impression", "findings") and sentences:
            parts.append(f"{section['title'].upper()}:\n" + "\n".join(sentences))
    if not parts:
        raise MedVLMError("a report.json has neither an impression nor findings to show.")
    return "\n\n".join(parts)
