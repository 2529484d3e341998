"""What adapters share: finding files under the names they come with, and knowing which pictures belong together."""

from __future__ import annotations

import csv
import gzip
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from medvlm.errors import MedVLMError


def first_existing(root: Path, names: Sequence[str], what: str) -> Path:
    """The first of `names` that exists below `root`.

    Raises:
        MedVLMError: none does (lists them).
    """
    for name in names:
        if (root / name).exists():
            return root / name
    raise MedVLMError(f"{root}: no {what} here; expected {' or '.join(repr(name) for name in names)}.")


def csv_rows(path: Path, columns: Sequence[str], delimiter: str = ",") -> Iterator[dict[str, str]]:
    """The rows of a CSV file (`.csv` or `.csv.gz`), one after the other.

    Raises:
        MedVLMError: the file cannot be read or lacks a column.
    """
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rt", encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, delimiter=delimiter)
            missing = [column for column in columns if column not in (reader.fieldnames or ())]
            if missing:
                raise MedVLMError(f"{path}: no column '{missing[0]}' (expected: {', '.join(columns)}).")
            yield from reader
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise MedVLMError(f"{path}: not a readable CSV file ({error}).") from None


def file_digest(path: Path) -> str:
    """SHA-256 of a file: equal pictures are one picture, whatever they are called.

    Raises:
        MedVLMError: the file cannot be read.
    """
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise MedVLMError(f"{path}: cannot be read ({error.strerror}).") from None


def connected_groups(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Left item → name of its group: items that share a right item, directly or through others, are one group.

    The name is the smallest left item of the group.
    """
    parent: dict[str, str] = {}

    def find(item: str) -> str:
        root = item
        while parent.setdefault(root, root) != root:
            root = parent[root]
        while parent[item] != root:
            parent[item], item = root, parent[item]
        return root

    owner: dict[str, str] = {}
    for left, right in pairs:
        a, b = find(left), find(owner.setdefault(right, left))
        # The smaller name becomes the root, so that names do not depend on the order of the pairs.
        parent[max(a, b)] = min(a, b)
    return {item: find(item) for item in sorted(parent)}
