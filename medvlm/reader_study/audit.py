"""The audit log: JSON Lines, each entry holding the hash of the one before, so that no entry can be changed."""

from __future__ import annotations

import datetime
import getpass
import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import medvlm
from medvlm.errors import MedVLMError
from medvlm.reader_study.seal import canonical

START = "0" * 64


@dataclass(frozen=True)
class Entry:
    """One thing that was done: number from 1, UTC time, who, what, details, the previous hash and its own."""

    number: int
    time: str
    who: str
    action: str
    detail: Mapping[str, Any]
    previous: str
    hash: str


def read_log(path: Path) -> list[Entry]:
    """All entries, the chain verified.

    Raises:
        MedVLMError: an entry was changed, removed or put in (names the line).
    """
    if not path.exists():
        return []
    entries: list[Entry] = []
    previous = START
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            row = json.loads(line)
            entry = Entry(**row)
            body = {key: value for key, value in row.items() if key != "hash"}
        except (ValueError, TypeError):
            raise MedVLMError(f"{path}, line {number}: not an entry of the log; it was changed.") from None
        digest = hashlib.sha256(canonical(body)).hexdigest()
        if entry.number != number or entry.previous != previous or entry.hash != digest:
            raise MedVLMError(
                f"{path}, line {number}: the chain of hashes is broken; this entry or the one before changed."
            )
        entries.append(entry)
        previous = digest
    return entries


def append(path: Path, action: str, detail: Mapping[str, Any]) -> Entry:
    """Add one entry; the log is verified first, and the line reaches the disk before this returns."""
    entries = read_log(path)
    previous = entries[-1].hash if entries else START
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    body: dict[str, Any] = {
        "number": len(entries) + 1,
        "time": now,
        "who": f"{_user()} (medvlm {medvlm.__version__})",
        "action": action,
        "detail": dict(detail),
        "previous": previous,
    }
    body["hash"] = hashlib.sha256(canonical(body)).hexdigest()
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(body, ensure_ascii=False) + "\n")
        file.flush()
        os.fsync(file.fileno())
    return Entry(**body)


def check_head(path: Path, number: int, digest: str) -> None:
    """The entry that was seen elsewhere must still be in the log: this finds a log that was cut short.

    Raises:
        MedVLMError: it is not.
    """
    entries = read_log(path)
    if len(entries) < number or (number and entries[number - 1].hash != digest):
        raise MedVLMError(
            f"{path}: entry {number}, which was seen before, is gone or another; the log was cut or replaced."
        )


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "unknown"
