"""Sittings: items of a period in a random order within limits, cut to the cap, with dates."""

from __future__ import annotations

import datetime
import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from medvlm.errors import MedVLMError
from medvlm.reader_study.plan import Assignment
from medvlm.reader_study.spec import Case, Role, StudySpec

LONGEST_RUN = 3


@dataclass(frozen=True)
class Draft:
    """An item that has a period but no sitting yet."""

    case: Case
    source: str
    other: str
    period: int
    role: Role = "main"
    probe: str = ""


def arrange(
    spec: StudySpec, main: list[Draft], opening: list[Draft], probes: list[Draft], rng: np.random.Generator
) -> list[tuple[int, list[Draft]]]:
    """(period, items) of every sitting in order. Training and calibration items open the first one."""
    periods: dict[int, list[Draft]] = defaultdict(list)
    for draft in (*main, *probes):
        periods[draft.period].append(draft)
    sittings = []
    for period in sorted(periods):
        items = periods[period]
        room = spec.sessions.max_items
        first = opening if period == min(periods) else []
        if first and len(first) >= room:
            raise MedVLMError(
                f"{len(first)} training and calibration items leave no room in a sitting of {room}; "
                "raise sessions.max_items."
            )
        count = math.ceil((len(items) + len(first)) / room)
        for index, part in enumerate(_cut(items, count, len(first), rng)):
            ordered = mixed(part, rng)
            sittings.append((period, [*first, *ordered] if index == 0 else ordered))
    return sittings


def _cut(items: list[Draft], count: int, lead: int, rng: np.random.Generator) -> list[list[Draft]]:
    """Deal items to sittings, sources and strata evenly; the first one keeps `lead` places free."""
    shuffled = [items[index] for index in rng.permutation(len(items))]
    shuffled.sort(key=lambda draft: (draft.role, draft.source, draft.case.stratum))
    parts: list[list[Draft]] = [[] for _ in range(count)]
    taken = [lead] + [0] * (count - 1)
    for place, draft in enumerate(shuffled):
        index = min(range(count), key=lambda part: (taken[part], (part + place) % count))
        parts[index].append(draft)
        taken[index] += 1
    return parts


def mixed(items: Sequence[Draft], rng: np.random.Generator) -> list[Draft]:
    """A random order with at most three of one stratum and three of one source in a row, where that is possible."""
    left = [items[index] for index in rng.permutation(len(items))]
    done: list[Draft] = []
    while left:
        counts = Counter(draft.case.stratum for draft in left)
        rare = len(left) - max(counts.values())
        # A stratum that fills more than its share must be placed whenever it may, or a run is left at the end.
        urgent = max(counts, key=lambda name: counts[name]) if max(counts.values()) > LONGEST_RUN * (rare + 1) else None
        allowed = [index for index, draft in enumerate(left) if _fits(done, draft)]
        pressing = [index for index in allowed if left[index].case.stratum == urgent]
        done.append(left.pop((pressing or allowed or [0])[0]))
    return done


def _fits(done: list[Draft], draft: Draft) -> bool:
    tail = done[-LONGEST_RUN:]
    if len(tail) < LONGEST_RUN:
        return True
    same_stratum = bool(draft.case.stratum) and all(item.case.stratum == draft.case.stratum for item in tail)
    return not same_stratum and not all(item.source == draft.source for item in tail)


def session_dates(spec: StudySpec, assignments: Sequence[Assignment]) -> dict[int, datetime.date | None]:
    """The earliest day of every sitting: a gap between sittings, a washout between periods.

    Raises:
        MedVLMError: more sittings than allowed, or the last day is after the end of the study.
    """
    limits = spec.sessions
    periods = {item.session: item.period for item in assignments}
    if limits.max_sessions is not None and len(periods) > limits.max_sessions:
        raise MedVLMError(
            f"reader {assignments[0].reader} would need {len(periods)} sittings of at most {limits.max_items} items, "
            f"more than sessions.max_sessions = {limits.max_sessions}: fewer cases, or longer sittings."
        )
    if limits.start is None:
        return dict.fromkeys(periods)
    dates: dict[int, datetime.date | None] = {}
    day = limits.start
    previous = None
    for session in sorted(periods):
        if previous is not None:
            days = limits.gap_days if periods[session] == previous else max(limits.washout_days, limits.gap_days)
            day += datetime.timedelta(days=days)
        dates[session], previous = day, periods[session]
    if limits.end is not None and day > limits.end:
        raise MedVLMError(
            f"the last sitting of reader {assignments[0].reader} cannot be before {day}, and the study ends "
            f"{limits.end}: start earlier, shorten the washout or read longer sittings."
        )
    return dates
