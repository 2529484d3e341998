"""Answers as they come back: reading-room JSON, workbooks, REDCap exports, Label Studio exports."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medvlm.errors import MedVLMError, MissingExtraError
from medvlm.reader_study.forms import ERROR_CATEGORIES, SIGNIFICANCE
from medvlm.reader_study.seal import canonical


@dataclass(frozen=True)
class Span:
    """A marked sentence: its number from 0, the side of a pair, category and significance."""

    sentence: int
    side: str
    category: str
    significance: str = ""


@dataclass(frozen=True)
class AnsweredItem:
    """What a reader answered about one item; `answers` are raw texts by question."""

    code: str
    answers: Mapping[str, str]
    spans: tuple[Span, ...] = ()
    seconds: float | None = None
    opened: str = ""
    submitted: str = ""


@dataclass(frozen=True)
class AnswerFile:
    """One file that came back. `packet`, `reader` and `commitment` are empty where the format does not carry them."""

    path: Path
    sha256: str
    format: str
    items: tuple[AnsweredItem, ...]
    packet: str = ""
    reader: str = ""
    commitment: str = ""
    problems: tuple[str, ...] = field(default=())


def read_answers(path: Path) -> AnswerFile:
    """Read an answers file of any of the formats, judged by its content.

    Raises:
        MedVLMError: it is none of them, or a reading-room file was changed after it was saved.
    """
    try:
        data = path.read_bytes()
    except (FileNotFoundError, IsADirectoryError):
        raise MedVLMError(f"{path}: no such file of answers.") from None
    digest = hashlib.sha256(data).hexdigest()
    if data.startswith(b"PK"):
        return _workbook(path, digest, data)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise MedVLMError(f"{path}: neither a workbook nor text; not a file of answers.") from None
    if text.lstrip()[:1] in ("{", "["):
        try:
            parsed = json.loads(text)
        except json.JSONDecodeError as error:
            raise MedVLMError(f"{path}: not valid JSON ({error.msg}, line {error.lineno}); was it cut short?") from None
        if isinstance(parsed, dict) and parsed.get("format") == "medvlm-answers":
            return _room(path, digest, parsed)
        if isinstance(parsed, list):
            return _labelstudio(path, digest, parsed)
        raise MedVLMError(f"{path}: JSON, but neither of the reading room nor of Label Studio.")
    return _redcap(path, digest, text)


def _room(path: Path, digest: str, data: dict[str, Any]) -> AnswerFile:
    body = {key: value for key, value in data.items() if key != "digest"}
    if hashlib.sha256(canonical(body)).hexdigest() != data.get("digest"):
        raise MedVLMError(f"{path}: its digest does not fit: the file was changed after the reader saved it.")
    items = []
    for row in data["items"]:
        if not row.get("visits"):
            continue
        spans = tuple(
            Span(int(span["sentence"]), str(span["side"]), str(span["category"]), str(span["significance"]))
            for span in row.get("spans", ())
        )
        answers = {str(key): str(value) for key, value in row["answers"].items()}
        seconds = float(row.get("seconds", 0))
        items.append(
            AnsweredItem(row["code"], answers, spans, seconds, row.get("opened", ""), row.get("submitted", ""))
        )
    return AnswerFile(
        path, digest, "reading room", tuple(items), str(data["packet"]), str(data["reader"]), str(data["commitment"])
    )


def _workbook(path: Path, digest: str, data: bytes) -> AnswerFile:
    try:
        from openpyxl import load_workbook
    except ImportError:
        raise MissingExtraError("openpyxl", "reader-study", "reading a workbook") from None
    try:
        book = load_workbook(io.BytesIO(data), data_only=True, read_only=False)
        rows = list(book["Ratings"].iter_rows(values_only=True))
        meta = {str(row[0]): str(row[1]) for row in book["_meta"].iter_rows(values_only=True) if row and row[0]}
    except (KeyError, ValueError, OSError, zipfile.BadZipFile):
        raise MedVLMError(f"{path}: not a workbook of this study (its sheets Ratings and _meta are missing).") from None
    names = [str(name) if name is not None else "" for name in rows[0]]
    items, problems = [], []
    for row in rows[1:]:
        values = {name: value for name, value in zip(names, row) if name}
        code = str(values.pop("item", "") or "").strip()
        if not code:
            continue
        spans: tuple[Span, ...] = ()
        try:
            spans = parse_spans(values.pop("errors", None))
        except ValueError as error:
            problems.append(f"{code}: {error}")
        seconds = values.pop("seconds", None)
        answers = {key: _text(value) for key, value in values.items() if not key.startswith("report")}
        answers = {key: value for key, value in answers.items() if value}
        if answers or spans:
            number = float(seconds) if isinstance(seconds, int | float) else None
            items.append(AnsweredItem(code, answers, spans, number))
    return AnswerFile(
        path, digest, "workbook", tuple(items), meta.get("packet", ""), meta.get("reader", ""),
        meta.get("commitment", ""), tuple(problems),
    )  # fmt: skip


def _text(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:g}" if isinstance(value, float) else str(value).strip()


def parse_spans(text: object) -> tuple[Span, ...]:
    """`2: location, significant; R5: omission` → spans; sentences are numbered from 1, R is the right one of a pair.

    Raises:
        ValueError: a part cannot be read.
    """
    spans = []
    for part in str(text or "").split(";"):
        if not part.strip():
            continue
        match = re.fullmatch(r"\s*([LR]?)\s*(\d+)\s*:\s*([\w ]+?)\s*(?:,\s*(\w+))?\s*", part, re.I)
        category = match[3].lower() if match else ""
        if match is None or category not in ERROR_CATEGORIES:
            raise ValueError(f"the marked error '{part.strip()[:40]}' cannot be read")
        weight = (match[4] or "").lower()
        weight = next((code for code in SIGNIFICANCE if weight and code.startswith(weight)), "")
        side = {"R": "right", "L": "left"}.get(match[1].upper(), "")
        spans.append(Span(int(match[2]) - 1, side, category, weight))
    return tuple(spans)


def _redcap(path: Path, digest: str, text: str) -> AnswerFile:
    rows = list(csv.DictReader(io.StringIO(text)))
    if not rows or "record_id" not in rows[0]:
        raise MedVLMError(f"{path}: a CSV without the column record_id; not an export of REDCap records.")
    given = {"record_id", "redcap_data_access_group", "item_code", "packet_id", "session_number", "item_position"}
    items, packets, problems = [], set(), []
    for row in rows:
        code = (row.get("item_code") or row["record_id"] or "").strip()
        if row.get("packet_id"):
            packets.add(row["packet_id"])
        answers = {
            key: value.strip()
            for key, value in row.items()
            if key and value and key not in given and not key.startswith("report_") and not key.endswith("_complete")
        }
        spans: tuple[Span, ...] = ()
        try:
            spans = parse_spans(answers.pop("errors", ""))
        except ValueError as error:
            problems.append(f"{code}: {error}")
        if answers or spans:
            items.append(AnsweredItem(code, answers, spans))
    packet = packets.pop() if len(packets) == 1 else ""
    return AnswerFile(path, digest, "REDCap", tuple(items), packet, problems=tuple(problems))


def _labelstudio(path: Path, digest: str, tasks: list[Any]) -> AnswerFile:
    items, packets, readers = [], set(), set()
    for task in tasks:
        try:
            data, annotations = task["data"], task.get("annotations") or []
            code = str(data["item_code"])
        except (KeyError, TypeError):
            raise MedVLMError(f"{path}: a task without data.item_code; not an export of this study.") from None
        packets.add(str(data.get("packet", "")))
        readers.add(str(data.get("reader_code", "")))
        kept = [annotation for annotation in annotations if not annotation.get("was_cancelled")]
        if not kept:
            continue
        annotation = kept[-1]
        answers, spans = _label_results(annotation.get("result") or [], str(data.get("report_text", "")))
        items.append(
            AnsweredItem(code, answers, spans, annotation.get("lead_time"), "", annotation.get("created_at", "") or "")
        )
    return AnswerFile(
        path, digest, "Label Studio", tuple(items), packets.pop() if len(packets) == 1 else "",
        readers.pop() if len(readers) == 1 else "",
    )  # fmt: skip


def _label_results(results: list[dict[str, Any]], text: str) -> tuple[dict[str, str], tuple[Span, ...]]:
    answers: dict[str, str] = {}
    regions: dict[str, dict[str, Any]] = {}
    for result in results:
        value = result.get("value", {})
        if "labels" in value:
            regions.setdefault(result["id"], {}).update(start=value["start"], category=value["labels"][0])
        elif "start" in value and "choices" in value:
            regions.setdefault(result["id"], {}).update(significance=value["choices"][0])
        elif "choices" in value:
            answers[result["from_name"]] = str(value["choices"][0])
        elif "number" in value:
            answers[result["from_name"]] = f"{value['number']:g}"
        elif "rating" in value:
            answers[result["from_name"]] = str(value["rating"])
        elif "text" in value:
            answers[result["from_name"]] = (
                "\n".join(value["text"]) if isinstance(value["text"], list) else value["text"]
            )
    return answers, tuple(_regions(regions.values(), text))


def _regions(regions: Any, text: str) -> Iterator[Span]:
    """Label Studio marks characters; the sentence is the numbered line in which the mark starts."""
    labels = {label: code for code, (label, _) in ERROR_CATEGORIES.items()}
    weights = {label: code for code, label in SIGNIFICANCE.items()}
    for region in regions:
        if "start" not in region:
            continue
        before = text[: int(region["start"]) + 1]
        numbers = re.findall(
            r"(?m)^(\d+)\. ", text[: text.find("\n", len(before))] if "\n" in text[len(before) :] else text
        )
        number = int(numbers[-1]) - 1 if numbers else 0
        category, weight = region["category"], region.get("significance", "")
        yield Span(number, "", labels.get(category, category), weights.get(weight, weight))
