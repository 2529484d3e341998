"""Reporting checklists: what the study itself can fill in; an item that only an author can know is never filled."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

import medvlm
from medvlm.storage import write_text

if TYPE_CHECKING:
    from medvlm.reader_study.analyze import Analysis

CONTENT = Path(__file__).with_name("checklists.yaml")


@dataclass(frozen=True)
class ChecklistRow:
    """One item: its number, our label, `auto` or `needs_author`, and what the study says."""

    item: str
    label: str
    status: str
    value: str


@cache
def _content() -> dict[str, list[dict[str, str]]]:
    data: dict[str, list[dict[str, str]]] = yaml.safe_load(CONTENT.read_text(encoding="utf-8"))
    return data


def filled(analysis: Analysis) -> dict[str, list[ChecklistRow]]:
    """The rows of every guideline."""
    facts = {key: _words(value) for key, value in analysis.facts.items()} | {"version": medvlm.__version__}
    return {name: [_row(row, facts) for row in rows] for name, rows in _content().items()}


def _row(row: dict[str, str], facts: dict[str, str]) -> ChecklistRow:
    template = row.get("value", "")
    wanted = set(re.findall(r"\{(\w+)\}", template))
    if not template or not wanted <= set(facts):
        return ChecklistRow(row["item"], row["label"], "needs_author", "")
    return ChecklistRow(row["item"], row["label"], "auto", template.format_map(facts))


def _words(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{count} {name}" for name, count in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def summary_of(analysis: Analysis) -> list[tuple[str, int, int, list[ChecklistRow]]]:
    """Guideline, filled items, open items, rows."""
    found = []
    for name, rows in filled(analysis).items():
        done = sum(row.status == "auto" for row in rows)
        found.append((name, done, len(rows) - done, rows))
    return found


def write_checklists(folder: Path, analysis: Analysis) -> None:
    """One CSV a guideline."""
    for name, rows in filled(analysis).items():
        buffer = io.StringIO(newline="")
        writer = csv.writer(buffer, lineterminator="\n")
        writer.writerow(["item", "short_label", "status", "value"])
        writer.writerows([row.item, row.label, row.status, row.value] for row in rows)
        write_text(folder / f"checklist_{name.lower().replace(' ', '_').replace('-', '_')}.csv", buffer.getvalue())
