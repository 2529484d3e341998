"""The leak scan: every byte of the exported packets, searched for persons, sources and tells.

A file passes only if it is of a kind that the export writes and holds nothing but what that kind needs; what is text is
searched for the identifiers and source names of the study and for what looks like one (dates, record numbers,
addresses). Orders and names are compared with the key: neither may tell the source.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from medvlm.errors import MedVLMError
from medvlm.reader_study.leak_files import inspect_bytes
from medvlm.reader_study.leak_orders import order_leaks
from medvlm.reader_study.leak_text import LeakFound, TextScanner
from medvlm.reader_study.packet import FIXED_TIME
from medvlm.reader_study.study_secrets import StudySecrets
from medvlm.reader_study.write_room import room_page

# What is looked for; every leak has one of these names.
KINDS = {
    "patient identifier": "an identifier of a patient, case or reader in text, a tag or a name",
    "source name": "the name or a label of a source",
    "file name": "an identifier or source in the name of a file or folder",
    "time stamp": "a file time that differs from the fixed one",
    "link or attribute": "a symbolic link or an extended attribute",
    "unknown file": "a kind of file that the export does not write",
    "DICOM identity": "a DICOM element that names or numbers a person, or a file not marked as de-identified",
    "DICOM private tag": "a private element",
    "DICOM preamble": "bytes in the preamble of a DICOM file",
    "DICOM date or uid": "a date or uid of the original",
    "burned-in text": "a header that says that text is burned into the pixels",
    "image metadata": "a text, EXIF, time, profile or comment chunk in a PNG or JPEG",
    "trailing bytes": "bytes after the end of an image, an archive or a picture",
    "archive metadata": "a comment, extra field or date in a ZIP or Office file",
    "document properties": "creator, company, program or time of an Office file",
    "HTML comment": "a comment or a generator in a page",
    "unknown key": "a key or column that packets do not have",
    "order": "an order of items that follows the source or the case",
    "code": "codes from which the source can be told",
    "hidden character": "zero-width, control or private characters",
    "spacing": "double or trailing spaces, tabs or other layout that normalised text does not have",
    "date": "something that reads like a date or time",
    "address": "a web, mail or file address, or a telephone number",
    "record number": "something that reads like a record number or uid",
    "named person": "a name with a title",
    "signature": "words that say who or what wrote it",
}


@dataclass(frozen=True)
class Leak:
    """Something found: its kind, the file below the scanned folder, and what (shortened)."""

    kind: str
    file: str
    what: str


def scan(folder: Path, secrets: StudySecrets) -> list[Leak]:
    """All leaks below a folder, in the order of files; an empty list is a clean export."""
    text = TextScanner(secrets)
    leaks: list[Leak] = []
    seen: dict[tuple[int, int], list[LeakFound]] = {}
    trusted = {room_page()}
    stamp = FIXED_TIME.timestamp()
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        found = [("file name", what) for _, what in text.find_names(path.name)]
        status = path.lstat()
        if path.is_symlink():
            leaks.append(Leak("link or attribute", name, "a symbolic link"))
            continue
        if status.st_mtime != stamp:
            found.append(("time stamp", "modified at another time than the rest"))
        if attributes := [item for item in os.listxattr(path) if item.startswith("user.")]:
            found.append(("link or attribute", attributes[0]))
        if path.is_file():
            key = (status.st_dev, status.st_ino)
            if key not in seen or status.st_nlink == 1:
                data = path.read_bytes()
                seen[key] = [] if data in trusted else inspect_bytes(path.suffix.lower(), data, text)
            found += seen[key]
        leaks += [Leak(kind, name, _short(what)) for kind, what in found]
    leaks += [Leak(kind, name, what) for kind, name, what in order_leaks(folder, secrets.truth_of)]
    return leaks


def refuse_leaks(folder: Path, secrets: StudySecrets) -> None:
    """Raise where the scan finds anything.

    Raises:
        MedVLMError: says how many leaks of which kinds and names the first file; never the leaked words.
    """
    leaks = scan(folder, secrets)
    if not leaks:
        return
    kinds = ", ".join(f"{count} x {kind}" for kind, count in Counter(leak.kind for leak in leaks).most_common())
    first = leaks[0]
    raise MedVLMError(
        f"the leak scan found {len(leaks)} problems ({kinds}); nothing was exported. First: {first.kind} in "
        f"{re.sub('[A-Z0-9]{6}', 'CODE', first.file)}. Clean the source, or list the words under 'sensitive'."
    )


def _short(what: str) -> str:
    return what if len(what) <= 60 else what[:57] + "..."
