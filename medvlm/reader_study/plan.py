"""Plan: who reads what, when and in which order; the result of a design."""

from __future__ import annotations

import datetime
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from medvlm.reader_study.spec import Role, StudySpec


@dataclass(frozen=True)
class Assignment:
    """One item in front of one reader.

    Attributes:
        period: 1..n, counted over washouts; `session` counts sittings, `position` items within a sitting, from 1.
        source: the source shown (the left one of a pair); `other` the right one of a pair, else empty.
        duplicate_of: `session/position` of the first showing, for a hidden duplicate.
        probe: type of the planted error, for a probe.
    """

    reader: str
    period: int
    session: int
    position: int
    case: str
    source: str
    other: str = ""
    role: Role = "main"
    duplicate_of: str = ""
    probe: str = ""

    @property
    def place(self) -> str:
        """`session/position`, unique for a reader."""
        return f"{self.session}/{self.position}"


@dataclass(frozen=True)
class Slot:
    """One sitting of one reader; `earliest` is the first day it may be read."""

    reader: str
    session: int
    period: int
    earliest: datetime.date | None
    items: int


@dataclass(frozen=True)
class Plan:
    """All assignments in reading order and the sittings they fill; `notes` say what is not perfect."""

    assignments: tuple[Assignment, ...]
    slots: tuple[Slot, ...]
    notes: tuple[str, ...] = ()

    def by_session(self) -> dict[tuple[str, int], list[Assignment]]:
        """Assignments of each (reader, session), in order."""
        groups: dict[tuple[str, int], list[Assignment]] = defaultdict(list)
        for item in self.assignments:
            groups[item.reader, item.session].append(item)
        return dict(groups)

    def to_json(self) -> dict[str, Any]:
        """A JSON object; dates are ISO."""
        slots = [asdict(slot) | {"earliest": slot.earliest and slot.earliest.isoformat()} for slot in self.slots]
        return {"assignments": [asdict(item) for item in self.assignments], "slots": slots, "notes": list(self.notes)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Plan:
        """The inverse of `to_json`."""
        slots = []
        for row in data["slots"]:
            day = row["earliest"]
            slots.append(Slot(**row | {"earliest": day and datetime.date.fromisoformat(day)}))
        return cls(tuple(Assignment(**row) for row in data["assignments"]), tuple(slots), tuple(data["notes"]))


@dataclass(frozen=True)
class Load:
    """What one reader has to do."""

    reader: str
    group: str
    sessions: int
    items: int
    minutes: float
    first: datetime.date | None
    last: datetime.date | None


def loads(spec: StudySpec, plan: Plan) -> list[Load]:
    """The load of every reader, in the order of the spec."""
    rows = []
    for reader in spec.readers:
        slots = [slot for slot in plan.slots if slot.reader == reader.id]
        items = sum(slot.items for slot in slots)
        days = [slot.earliest for slot in slots if slot.earliest]
        minutes = items * spec.sessions.minutes_per_item
        first, last = (min(days), max(days)) if days else (None, None)
        rows.append(Load(reader.id, reader.group, len(slots), items, minutes, first, last))
    return rows


def balance(assignments: Iterable[Assignment], key: str) -> dict[str, dict[Any, int]]:
    """Main items by source and by a field (`period`, `reader`, `session`): source → value → count.

    A pair counts for both of its sources.
    """
    table: dict[str, dict[Any, int]] = defaultdict(lambda: defaultdict(int))
    for item in assignments:
        if item.role != "main" or item.duplicate_of:
            continue
        for source in filter(None, (item.source, item.other)):
            table[source][getattr(item, key)] += 1
    return {source: dict(sorted(counts.items())) for source, counts in sorted(table.items())}
