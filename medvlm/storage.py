"""Files written whole or not at all, and JSON Lines.

Everything the package writes goes to a temporary name beside its target and is renamed at the end, so that a
reader (or a run that resumes) never meets half a file.
"""

from __future__ import annotations

import json
import shutil
import uuid
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from medvlm.errors import MedVLMError


@contextmanager
def atomic_path(target: Path) -> Iterator[Path]:
    """Yield a temporary path beside `target`; rename it to `target` on success, remove it on failure.

    The caller may create a file or a folder at the temporary path. A folder replaces an existing folder whole.
    """
    target = Path(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    # The suffixes stay at the end: some writers choose the format by them.
    temporary = target.parent / f".{uuid.uuid4().hex[:8]}.{target.name}"
    try:
        yield temporary
        if temporary.is_dir() and target.is_dir():
            retired = target.parent / f".{uuid.uuid4().hex[:8]}.old"
            target.replace(retired)
            temporary.replace(target)
            shutil.rmtree(retired)
        else:
            temporary.replace(target)
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary, ignore_errors=True)
        else:
            temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, data: Any) -> None:
    """Write JSON atomically: indented, keys in the given order, non-ASCII kept."""
    write_text(path, json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def write_jsonl(path: Path, rows: Iterable[Any]) -> int:
    """Write one JSON value a line atomically and return the number of lines."""
    count = 0
    with JsonLines(path) as file:
        for row in rows:
            file.write(row)
            count += 1
    return count


class JsonLines:
    """A JSON Lines file that grows line by line and gets its name when the block ends well.

    Example:
        with JsonLines(path) as file:
            file.write(row)
    """

    def __init__(self, path: Path) -> None:
        self._stack = ExitStack()
        self._path = path

    def __enter__(self) -> JsonLines:
        temporary = self._stack.enter_context(atomic_path(self._path))
        self._file = self._stack.enter_context(temporary.open("w", encoding="utf-8"))
        return self

    def write(self, row: Any) -> None:
        self._file.write(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n")

    def __exit__(self, *error: Any) -> None:
        self._stack.__exit__(*error)


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        MedVLMError: the file is missing or is not JSON (names the file and the line).
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (FileNotFoundError, IsADirectoryError):
        raise MedVLMError(f"{path}: no such file.") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise MedVLMError(f"{path}: not valid JSON ({error}).") from None


def read_jsonl(path: Path) -> list[Any]:
    """Read a JSON Lines file; blank lines are skipped.

    Raises:
        MedVLMError: the file is missing or a line is not JSON (names the line).
    """
    return list(iterate_jsonl(path))


def iterate_jsonl(path: Path) -> Iterator[Any]:
    """The values of a JSON Lines file one after the other, without holding them all.

    Raises:
        MedVLMError: as `read_jsonl`.
    """
    try:
        # Lines end at "\n" only: JSON text may hold other line separators (U+2028) as they are.
        with Path(path).open(encoding="utf-8", newline="\n") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield _json_line(path, number, line)
    except (FileNotFoundError, IsADirectoryError):
        raise MedVLMError(f"{path}: no such file.") from None
    except UnicodeDecodeError as error:
        raise MedVLMError(f"{path}: not a text file ({error}).") from None


def _json_line(path: Path, number: int, line: str) -> Any:
    try:
        return json.loads(line)
    except json.JSONDecodeError as error:
        raise MedVLMError(f"{path}, line {number}: not valid JSON ({error.msg}).") from None
