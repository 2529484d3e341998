"""Collect: answers of every format → one tidy table; nothing is overwritten, everything goes into the audit log."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medvlm.errors import MedVLMError
from medvlm.reader_study import audit
from medvlm.reader_study.answers import AnsweredItem, AnswerFile, read_answers
from medvlm.reader_study.forms import Form, form_from_json
from medvlm.reader_study.packet import hashes
from medvlm.reader_study.seal import canonical
from medvlm.reader_study.tidy import write_table
from medvlm.storage import atomic_path, read_json, write_json


@dataclass(frozen=True)
class PacketRow:
    """A packet as the coordinator knows it: no sources in here."""

    packet: str
    reader: str
    session: int
    earliest: str
    items: tuple[str, ...]
    sentences: tuple[dict[str, int], ...]
    files: dict[str, str]


@dataclass(frozen=True)
class StudyFile:
    """`coordinator/study.json`."""

    study: str
    title: str
    commitment: str
    form: Form
    groups: dict[str, str]
    packets: tuple[PacketRow, ...]


@dataclass
class Collected:
    """What came in: rows of the tidy table, what is wrong, and how much of each packet is there."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    problems: list[tuple[str, str, str]] = field(default_factory=list)  # (kind, file, what)
    done: dict[str, int] = field(default_factory=dict)
    files: list[AnswerFile] = field(default_factory=list)


def read_study(packets: Path) -> StudyFile:
    """The coordinator's file of an exported study, checked against the audit log.

    Raises:
        MedVLMError: not an exported study, or it was changed.
    """
    path = packets / "coordinator" / "study.json"
    if not path.is_file():
        raise MedVLMError(f"{packets}: no coordinator/study.json here; give the folder that 'export' made.")
    data = read_json(path)
    entries = audit.read_log(path.with_name("audit.jsonl"))
    exported = [entry for entry in entries if entry.action == "export"]
    if not exported or exported[0].detail["study_json_sha256"] != hashlib.sha256(canonical(data)).hexdigest():
        raise MedVLMError(f"{path}: not as it was exported; it or the audit log was changed.")
    rows = tuple(
        PacketRow(
            row["packet"], row["reader"], row["session"], row["earliest"] or "", tuple(row["items"]),
            tuple(row["sentences"]), row["files"],
        )
        for row in data["packets"]
    )  # fmt: skip
    return StudyFile(
        data["study"], data["title"], data["commitment"], form_from_json(data["form"]),
        data["groups"], rows,
    )  # fmt: skip


def verify_packets(packets: Path, study: StudyFile | None = None) -> list[str]:
    """What differs from the export: changed, missing and foreign files of packets, one sentence each."""
    study = study or read_study(packets)
    found = []
    for row in study.packets:
        folder = packets / "packets" / row.reader / f"session-{row.session}"
        present = hashes(folder, (path for path in folder.rglob("*") if path.is_file())) if folder.is_dir() else {}
        found += [f"{row.reader}/session-{row.session}/{name} is missing" for name in set(row.files) - set(present)]
        found += [f"{row.reader}/session-{row.session}/{name} was added" for name in set(present) - set(row.files)]
        found += [
            f"{row.reader}/session-{row.session}/{name} was changed"
            for name, digest in present.items()
            if row.files.get(name, digest) != digest
        ]
    return sorted(found)


def collect(packets: Path, files: Sequence[Path], out: Path) -> Collected:
    """Read, validate and merge answers; files given before and kept in `out` are read again with the new ones.

    Raises:
        MedVLMError: a file is no answers file or was changed, or `out` belongs to another study.
    """
    study = read_study(packets)
    log = packets / "coordinator" / "audit.jsonl"
    _check_same_study(out, study, log)
    kept = sorted((out / "imports").glob("*")) if (out / "imports").is_dir() else []
    _check_imports(kept, log)
    # Every file is read and checked before anything is written.
    known = {path.name.partition("-")[0] for path in kept}
    fresh = [file for file in map(read_answers, _expanded(files)) if file.sha256[:16] not in known]
    fresh = list({file.sha256: file for file in fresh}.values())
    numbers = {path.name: int(path.name.split("-")[1]) for path in kept}
    kept.sort(key=lambda path: numbers[path.name])
    result = merge(study, [read_answers(path) for path in kept] + fresh)
    for offset, file in enumerate(fresh, start=len(kept) + 1):
        target = out / "imports" / f"{file.sha256[:16]}-{offset:04d}-{file.path.name}"
        with atomic_path(target) as temporary:
            shutil.copyfile(file.path, temporary)
        audit.append(
            log, "collect",
            {"file": file.path.name, "sha256": file.sha256, "format": file.format, "items": len(file.items)},
        )  # fmt: skip
    write_table(out / "answers", result.rows)
    _write_side_tables(out, study, result)
    entry = audit.append(
        log, "merge", {"rows": len(result.rows), "problems": len(result.problems), "files": len(kept) + len(fresh)}
    )
    head = {"number": entry.number, "hash": entry.hash}
    coordinator = str((packets / "coordinator").resolve())
    write_json(
        out / "collected.json",
        {"schema": 1, "study": study.study, "commitment": study.commitment, "audit_head": head,
         "coordinator": coordinator, "form": study.form.to_json(), "groups": study.groups,
         "table_sha256": hashlib.sha256((out / "answers.csv").read_bytes()).hexdigest()},
    )  # fmt: skip
    return result


def _expanded(files: Iterable[Path]) -> list[Path]:
    """Files, and all files in folders."""
    found: list[Path] = []
    for file in files:
        found += sorted(path for path in file.iterdir() if path.is_file()) if file.is_dir() else [file]
    return found


def _check_same_study(out: Path, study: StudyFile, log: Path) -> None:
    if not out.exists():
        return
    if not (out / "collected.json").is_file():
        if any(out.iterdir()):
            raise MedVLMError(f"{out}: holds other files; nothing is overwritten. Choose a new folder.")
        return
    before = read_json(out / "collected.json")
    if before["commitment"] != study.commitment:
        raise MedVLMError(f"{out}: holds answers of another study; choose a new folder.")
    audit.check_head(log, before["audit_head"]["number"], before["audit_head"]["hash"])


def _check_imports(kept: Iterable[Path], log: Path) -> None:
    logged = {entry.detail.get("sha256") for entry in audit.read_log(log) if entry.action == "collect"}
    for path in kept:
        if hashlib.sha256(path.read_bytes()).hexdigest() not in logged:
            raise MedVLMError(f"{path}: not as it was collected; it was changed since.")


def merge(study: StudyFile, files: Sequence[AnswerFile]) -> Collected:
    """Validate all files against the study and put their answers together; the first answer to a question stays."""
    result = Collected(files=list(files))
    packet_of = {code: (row, place) for row in study.packets for place, code in enumerate(row.items)}
    taken: dict[tuple[str, str], str] = {}
    for file in files:
        name = file.path.name
        result.problems += [("unreadable", name, what) for what in file.problems]
        if file.commitment and file.commitment != study.commitment:
            result.problems.append(("foreign", name, "the answers belong to another study (another commitment)"))
            continue
        for item in file.items:
            if item.code not in packet_of:
                result.problems.append(("foreign", name, f"no item {item.code} in this study"))
                continue
            row, place = packet_of[item.code]
            if (file.packet and file.packet != row.packet) or (file.reader and file.reader != row.reader):
                result.problems.append(("edited key", name, f"item {item.code} belongs to another packet"))
                continue
            if row.earliest and item.opened and item.opened[:10] < row.earliest:
                result.problems.append(("too early", name, f"item {item.code} was opened before {row.earliest}"))
            _take(study, result, file, item, row, place, taken)
    _completion(study, result)
    return result


def _take(
    study: StudyFile,
    result: Collected,
    file: AnswerFile,
    item: AnsweredItem,
    packet: PacketRow,
    place: int,
    taken: dict[tuple[str, str], str],
) -> None:
    base = {
        "study_id": study.study, "reader_id": packet.reader, "reader_group": study.groups.get(packet.reader, ""),
        "session": packet.session, "position": place + 1, "item_code": item.code, "read_seconds": item.seconds,
        "started_at": item.opened, "submitted_at": item.submitted, "form_version": study.form.version,
        "imported_from_sha256": file.sha256,
    }  # fmt: skip
    asked = {question.id: question for question in study.form.questions}
    for name in sorted(set(item.answers) - set(asked)):
        result.problems.append(("unknown question", file.path.name, f"{item.code}: {name}"))
    for name, question in asked.items():
        if question.kind == "spans":
            continue
        code, wrong = question.check(item.answers.get(name))
        if wrong:
            kind = "missing" if not code else "out of range"
            result.problems.append((kind, file.path.name, f"{item.code}: {wrong}"))
            continue
        if not code:
            continue
        if (item.code, name) in taken:  # the same answer again is fine
            if taken[item.code, name] != code:
                result.problems.append(("duplicate", file.path.name, f"{item.code}: a second, other answer to {name}"))
            continue
        taken[item.code, name] = code
        result.rows.append(base | {"question_id": name, "response_raw": item.answers[name], "response_code": code})
    _take_spans(result, file, item, base, packet.sentences[place], taken)


def _take_spans(
    result: Collected,
    file: AnswerFile,
    item: AnsweredItem,
    base: dict[str, Any],
    sentences: dict[str, int],
    taken: dict[tuple[str, str], str],
) -> None:
    key = (item.code, "spans")
    text = json.dumps([vars(span) for span in item.spans], sort_keys=True)
    if not item.spans or key in taken:
        if taken.get(key, text) != text and item.spans:
            result.problems.append(("duplicate", file.path.name, f"{item.code}: other marked sentences"))
        return
    taken[key] = text
    for span in item.spans:
        limit = sentences.get(span.side, max(sentences.values(), default=0))
        if not 0 <= span.sentence < limit:
            result.problems.append(("out of range", file.path.name, f"{item.code}: no sentence {span.sentence + 1}"))
            continue
        result.rows.append(
            base
            | {"question_id": "errors", "error_category": span.category, "error_significance": span.significance,
               "span_start": span.sentence, "span_end": span.sentence, "side": span.side}
        )  # fmt: skip


def _completion(study: StudyFile, result: Collected) -> None:
    required = {question.id for question in study.form.questions if question.required}
    given: dict[str, set[str]] = {}
    for row in result.rows:
        given.setdefault(row["item_code"], set()).add(row["question_id"])
    for packet in study.packets:
        result.done[packet.packet] = sum(required <= given.get(code, set()) for code in packet.items)


def _write_side_tables(out: Path, study: StudyFile, result: Collected) -> None:
    import csv

    completion = [["reader", "session", "packet", "items", "complete"]]
    for row in study.packets:
        completion.append([row.reader, str(row.session), row.packet, str(len(row.items)), str(result.done[row.packet])])
    tables = (("completion.csv", completion), ("problems.csv", [["kind", "file", "what"], *map(list, result.problems)]))
    for name, rows in tables:
        with atomic_path(out / name) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file, lineterminator="\n").writerows(rows)
