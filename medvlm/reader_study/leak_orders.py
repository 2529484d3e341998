"""Orders and names that tell: items sorted by source or case, codes that go with a source."""

from __future__ import annotations

import csv
import itertools
import json
from collections.abc import Sequence
from pathlib import Path

LEAST = 8  # with fewer items an order says nothing
LEAST_CODES = 20  # with fewer codes they may go with the sources by chance


def order_leaks(folder: Path, truth_of: dict[str, tuple[str, str]]) -> list[tuple[str, str, str]]:
    """(kind, file, what) for every list of items below a folder whose order or codes follow the key."""
    found = []
    everywhere: dict[str, str] = {}
    for path in sorted(folder.rglob("*")):
        codes = [code for code in _codes(path) if code in truth_of]
        known = [truth_of[code] for code in codes]
        everywhere |= {code: source for code, (_, source) in zip(codes, known)}
        if len(known) < LEAST:
            continue
        name = path.relative_to(folder).as_posix()
        sources, cases = [source for _, source in known], [case for case, _ in known]
        if path.is_file() and _in_blocks(sources, 4):
            found.append(("order", name, "items are sorted by source"))
        if path.is_file() and cases in (sorted(cases), sorted(cases, reverse=True)) and len(set(cases)) > 2:
            found.append(("order", name, "items are sorted by case"))
    codes = sorted(everywhere)
    sources = [everywhere[code] for code in codes]
    if len(codes) >= LEAST_CODES and (_in_blocks(sources, 6) or _first_letters_tell(codes, sources)):
        found.append(("code", ".", "codes go with the source"))
    return found


def _codes(path: Path) -> list[str]:
    """Codes in the order in which a file lists them."""
    if path.name == "packet.js":
        text = path.read_text(encoding="utf-8")
        if text.startswith("readingRoom.open(") and text.endswith(");\n"):
            try:
                return [row.get("code", "") for row in json.loads(text[17:-3]).get("items", [])]
            except (json.JSONDecodeError, AttributeError):
                return []
    if path.name == "tasks.json":
        try:
            return [row["data"]["item_code"] for row in json.loads(path.read_text(encoding="utf-8"))]
        except (json.JSONDecodeError, KeyError, TypeError):
            return []
    if path.name == "records.csv":
        with path.open(newline="", encoding="utf-8") as file:
            return [row[0] for row in list(csv.reader(file))[1:] if row]
    if path.is_dir() and path.name == "images":
        return sorted(file.stem for file in path.iterdir())
    return []


def _in_blocks(labels: Sequence[str], least: int) -> bool:
    """As few changes as there are labels: the list is sorted by them. The plan allows no run of four."""
    kinds = len(set(labels))
    if kinds < 2 or min(labels.count(label) for label in set(labels)) < least:
        return False
    changes = sum(before != after for before, after in itertools.pairwise(labels))
    return changes <= kinds - 1


def _first_letters_tell(codes: Sequence[str], sources: Sequence[str]) -> bool:
    """Some place of the code has, for every source, letters of its own."""
    if len(set(sources)) < 2 or min(sources.count(source) for source in set(sources)) < 3:
        return False
    for place in range(min(map(len, codes), default=0)):
        letters: dict[str, set[str]] = {}
        for code, source in zip(codes, sources):
            letters.setdefault(source, set()).add(code[place])
        groups = list(letters.values())
        disjoint = all(not a & b for index, a in enumerate(groups) for b in groups[index + 1 :])
        if disjoint and sum(map(len, groups)) <= len(codes) // 3:
            return True
    return False
