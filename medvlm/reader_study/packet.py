"""Packet: what one reader gets for one sitting; blinded, and the same content for every format."""

from __future__ import annotations

import datetime
import hashlib
import os
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medvlm.reader_study.forms import ERROR_CATEGORIES, SIGNIFICANCE, Form
from medvlm.reader_study.normalise import Paragraph, to_json

# No letters or digits that can be taken for each other.
LETTERS = "ABCDEFGHJKMNPQRSTUVWXYZ"
ALPHABET = LETTERS + "23456789"
# Every file of a packet carries this time: when it was made would tell the order in which it was made.
FIXED_TIME = datetime.datetime(2000, 1, 1, tzinfo=datetime.UTC)
FIXED_ZIP_TIME = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True)
class Item:
    """One item as the reader sees it; `code` is all that ties it to its case and source.

    Attributes:
        right: the report on the right of a pair, else None.
        pictures: names of picture files, without suffix.
        note: shown above the report of a training item.
        reference: a reference report shown beside it, where the study has one.
    """

    code: str
    position: int
    report: tuple[Paragraph, ...]
    right: tuple[Paragraph, ...] | None = None
    pictures: tuple[str, ...] = ()
    note: str = ""
    reference: tuple[Paragraph, ...] = ()


@dataclass(frozen=True)
class Packet:
    """One sitting of one reader."""

    id: str
    title: str
    reader: str
    session: int
    earliest: datetime.date | None
    items: tuple[Item, ...]
    form: Form
    commitment: str

    @property
    def folder(self) -> str:
        """Where it lies below `packets/`."""
        return f"{self.reader}/session-{self.session}"

    def to_json(self) -> dict[str, Any]:
        """What the reading room reads."""
        rows = []
        for item in self.items:
            row: dict[str, Any] = {
                "code": item.code, "report": to_json(item.report), "pictures": list(item.pictures), "note": item.note
            }  # fmt: skip
            if item.right is not None:
                row["right"] = to_json(item.right)
            if item.reference:
                row["reference"] = to_json(item.reference)
            rows.append(row)
        return {
            "packet": self.id,
            "title": self.title,
            "reader": self.reader,
            "session": self.session,
            "earliest": self.earliest.isoformat() if self.earliest else "",
            "commitment": self.commitment,
            "form": self.form.to_json(),
            "categories": [[code, label] for code, (label, _) in ERROR_CATEGORIES.items()],
            "significance": [list(pair) for pair in SIGNIFICANCE.items()],
            "items": rows,
        }


class Codes:
    """Random names, each given once. They are drawn, not computed: nothing can be found out from one."""

    def __init__(self) -> None:
        self._given: set[str] = set()

    def draw(self, length: int = 6) -> str:
        """A new code: a letter at every other place, so that none reads like a number of a record or a date."""
        while True:
            code = "".join(secrets.choice(ALPHABET if place % 2 else LETTERS) for place in range(length))
            if code not in self._given:
                self._given.add(code)
                return code


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file of a packet with the fixed time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    settle(path)


def settle(path: Path) -> None:
    """Give a file or folder the fixed time."""
    stamp = FIXED_TIME.timestamp()
    os.utime(path, (stamp, stamp))


def settle_folders(root: Path) -> None:
    """Give all folders below `root` the fixed time, the deepest first."""
    for folder in sorted((path for path in root.rglob("*") if path.is_dir()), key=lambda p: -len(p.parts)):
        settle(folder)
    settle(root)


def hashes(root: Path, files: Iterable[Path], known: dict[tuple[int, int], str] | None = None) -> dict[str, str]:
    """SHA-256 of files by their path below `root`; hard links of one file are read once."""
    known = {} if known is None else known
    found = {}
    for file in sorted(files):
        stat = file.stat()
        key = (stat.st_dev, stat.st_ino)
        if key not in known:
            known[key] = hashlib.sha256(file.read_bytes()).hexdigest()
        found[file.relative_to(root).as_posix()] = known[key]
    return found
