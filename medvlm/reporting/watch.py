"""Watch mode: new studies in, reports out, each once, whatever crashes in between.

What happened is kept in `watch.jsonl` of the output folder, one line a step, written through to the disk before the
step goes on. A study that was started twice and never finished crashed the program: it is left alone and named.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from medvlm.errors import MedVLMError
from medvlm.reporting.failures import reason_of
from medvlm.reporting.pacs.web import WebPacs

LEDGER = "watch.jsonl"
MOST_STARTS = 2


@dataclass(frozen=True)
class Arrival:
    """A study that is there: a key that never changes, a mark that changes while files still arrive, a folder name."""

    key: str
    mark: str
    name: str


class Source(Protocol):
    """Where studies arrive."""

    def arrivals(self) -> list[Arrival]: ...

    def path(self, arrival: Arrival, out: Path) -> Path: ...


@dataclass(frozen=True)
class FolderSource:
    """Every folder or file right below a folder is a study; names that begin with a dot are still being written."""

    root: Path

    def arrivals(self) -> list[Arrival]:
        found = []
        for entry in sorted(self.root.iterdir()):
            if not entry.name.startswith("."):
                digest = hashlib.sha256(entry.name.encode("utf-8", "surrogateescape")).hexdigest()[:16]
                found.append(Arrival(digest, _mark(entry), f"study-{digest}"))
        return found

    def path(self, arrival: Arrival, out: Path) -> Path:
        return next(
            entry
            for entry in self.root.iterdir()
            if hashlib.sha256(entry.name.encode("utf-8", "surrogateescape")).hexdigest()[:16] == arrival.key
        )


@dataclass(frozen=True)
class PacsSource:
    """Every study that a DICOMweb service lists."""

    pacs: WebPacs

    def arrivals(self) -> list[Arrival]:
        return [Arrival(row.uid, str(row.instances), f"study-{row.uid}") for row in self.pacs.studies()]

    def path(self, arrival: Arrival, out: Path) -> Path:
        folder = out / "incoming" / arrival.key
        self.pacs.fetch(arrival.key, folder)
        return folder


def _mark(entry: Path) -> str:
    files = [entry] if entry.is_file() else [file for file in sorted(entry.rglob("*")) if file.is_file()]
    states = []
    for file in files:
        try:
            state = file.stat()
        except FileNotFoundError:  # moved while we looked: not settled yet
            return f"moving {time.monotonic_ns()}"
        states.append((file.name, state.st_size, state.st_mtime_ns))
    return hashlib.sha256(repr(states).encode("utf-8", "surrogateescape")).hexdigest()


class Ledger:
    """What happened to each study, on disk."""

    def __init__(self, out: Path) -> None:
        self.path = out / LEDGER
        self.finished: dict[str, str] = {}
        self.starts: dict[str, int] = {}
        for key, state, _ in self._read():
            if state == "started":
                self.starts[key] = self.starts.get(key, 0) + 1
            else:
                self.finished[key] = state

    def _read(self) -> Iterator[tuple[str, str, str]]:
        if not self.path.is_file():
            return
        for line in self.path.read_text("utf-8").splitlines():
            try:
                row = json.loads(line)
                yield row["study"], row["state"], row.get("reason", "")
            except (ValueError, KeyError, TypeError):
                continue  # the last line of a crash

    def write(self, key: str, state: str, reason: str = "") -> None:
        """Append one step; when this returns it is on the disk."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a+b") as file:
            file.seek(0, os.SEEK_END)
            if file.tell():
                file.seek(-1, os.SEEK_END)
                if file.read(1) != b"\n":
                    file.write(b"\n")  # half a line of a crash must not swallow this one
            file.write(json.dumps({"study": key, "state": state, "reason": reason}).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        if state == "started":
            self.starts[key] = self.starts.get(key, 0) + 1
        else:
            self.finished[key] = state


def watch(
    source: Source,
    out: Path,
    handle: Callable[[Path, Path], None],
    say: Callable[[str], None],
    interval: float = 5.0,
    passes: int | None = None,
) -> None:
    """Report every study that arrives and has settled.

    Args:
        source: where studies arrive.
        out: a report goes to `out/<name>`.
        handle: `(study, report folder)`; a MedVLMError means that this study failed, others go on.
        say: prints one line.
        interval: seconds between two looks; a study whose files did not change in between has settled.
        passes: looks before it ends; None: until interrupted.
    """
    ledger = Ledger(out)
    marks: dict[str, str] = {}
    number = 0
    while passes is None or number < passes:
        if number:
            time.sleep(interval)
        number += 1
        for arrival in _look(source, say):
            settled = marks.get(arrival.key) == arrival.mark
            marks[arrival.key] = arrival.mark
            if settled and arrival.key not in ledger.finished:
                _report_one(source, arrival, ledger, out, handle, say)


def _look(source: Source, say: Callable[[str], None]) -> list[Arrival]:
    try:
        return source.arrivals()
    except (MedVLMError, OSError) as error:
        say(f"cannot look for studies: {error}")
        return []


def _report_one(
    source: Source,
    arrival: Arrival,
    ledger: Ledger,
    out: Path,
    handle: Callable[[Path, Path], None],
    say: Callable[[str], None],
) -> None:
    if ledger.starts.get(arrival.key, 0) >= MOST_STARTS:
        ledger.write(arrival.key, "failed", "the program stopped twice at this study")
        say(f"{arrival.name}: left out, the program stopped twice at this study")
        return
    ledger.write(arrival.key, "started")
    path = out / arrival.name
    try:
        path = source.path(arrival, out)
        handle(path, out / arrival.name)
    except Exception as error:  # whatever one study does, the others go on; the reason is kept
        reason = reason_of(error, path)
        ledger.write(arrival.key, "failed", reason)
        say(f"{arrival.name}: failed ({reason})")
        return
    ledger.write(arrival.key, "done")
    say(f"{arrival.name}: reported")
