"""Design → Plan: which reader meets which case from which source in which period.

A reader meets every case of theirs once from each source, each time in another period; periods are a washout apart.
Cases are dealt into as many blocks as a Williams square has rows; block b of reader r follows row b + r, so that
within each reader every source is met equally often in every period and follows every other equally often, and over
readers the assignment of blocks to rows rotates. Cases of one patient stay in one block.
"""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from medvlm.errors import MedVLMError
from medvlm.reader_study.checks import check_plan
from medvlm.reader_study.plan import Assignment, Plan, Slot
from medvlm.reader_study.schedule import Draft, arrange, session_dates
from medvlm.reader_study.spec import Case, Reader, StudySpec
from medvlm.reader_study.williams import williams_square

Treatment = tuple[str, str]


def make_plan(spec: StudySpec) -> Plan:
    """Allocate, counterbalance, order and date everything; the same spec gives the same plan.

    Raises:
        MedVLMError: the design is impossible or not balanced (says why and what would help).
    """
    rng = np.random.default_rng([spec.seed, 0])
    roles = _roles(spec, rng)
    treatments = _treatments(spec)
    cases = _cases_of_readers(spec, roles["main"], rng)
    rows = williams_square(len(treatments))
    assignments: list[Assignment] = []
    slots: list[Slot] = []
    for number, reader in enumerate(spec.readers):
        order = np.random.default_rng([spec.seed, 1, number])
        drafts = _main_items(spec, reader, number, cases[reader.id], treatments, rows)
        own, own_slots = _reader_sessions(spec, reader, number, drafts, roles, treatments, order)
        assignments += own
        slots += own_slots
    plan = Plan(tuple(assignments), tuple(slots), tuple(_notes(spec, rows)))
    check_plan(spec, plan)
    return plan


def _treatments(spec: StudySpec) -> list[Treatment]:
    """Sources, or pairs of sources."""
    names = [source.id for source in spec.sources]
    if spec.design.kind != "pairwise":
        return [(name, "") for name in names]
    if len(names) < 2:
        raise MedVLMError("a pairwise design needs two sources or more.")
    return list(itertools.combinations(names, 2))


def _roles(spec: StudySpec, rng: np.random.Generator) -> dict[str, list[Case]]:
    """Cases by role: as the table says, the rest drawn so that the pool is left for the main part."""
    roles: dict[str, list[Case]] = {"main": [], "training": [], "calibration": [], "probe": []}
    pool = []
    for case in spec.cases:
        if case.role is None:
            pool.append(case)
        else:
            roles[case.role].append(case)
    wanted = {"training": spec.training, "calibration": spec.calibration, "probe": spec.probes}
    shuffled = [pool[index] for index in rng.permutation(len(pool))]
    for role, count in wanted.items():
        for _ in range(count - len(roles[role])):
            if not shuffled:
                raise MedVLMError(f"{len(spec.cases)} cases are too few for {count} {role} cases and a study.")
            roles[role].append(shuffled.pop())
    left = {case.id for case in shuffled}
    roles["main"] += [case for case in pool if case.id in left]
    if not roles["main"]:
        raise MedVLMError("no case is left for the main part of the study.")
    return roles


def deal(cases: Sequence[Case], count: int, rng: np.random.Generator) -> list[list[Case]]:
    """Deal cases into `count` blocks, balanced within strata; patients stay whole. Larger patients go first."""
    clusters: dict[str, list[Case]] = defaultdict(list)
    for case in cases:
        clusters[case.cluster].append(case)
    names = list(clusters)
    names = [names[index] for index in rng.permutation(len(names))]
    names.sort(key=lambda name: (-len(clusters[name]), clusters[name][0].stratum))
    blocks: list[list[Case]] = [[] for _ in range(count)]
    strata: list[dict[str, int]] = [defaultdict(int) for _ in range(count)]
    for name in names:
        stratum = clusters[name][0].stratum
        index = min(range(count), key=lambda block: (len(blocks[block]), strata[block][stratum]))
        blocks[index] += clusters[name]
        strata[index][stratum] += len(clusters[name])
    return blocks


def _cases_of_readers(spec: StudySpec, cases: list[Case], rng: np.random.Generator) -> dict[str, list[Case]]:
    """The main cases of each reader under the design."""
    readers = [reader.id for reader in spec.readers]
    design = spec.design
    if design.kind == "split-plot":
        blocks = design.blocks
        if blocks < 2 or len(readers) % blocks:
            raise MedVLMError(
                f"split-plot: {len(readers)} readers cannot be dealt evenly to {blocks} blocks; "
                "change design.blocks or the number of readers."
            )
        parts = deal(cases, blocks, rng)
        by_group = sorted(range(len(readers)), key=lambda index: (spec.readers[index].group, index))
        return {readers[index]: parts[place % blocks] for place, index in enumerate(by_group)}
    if design.kind == "anchor-rotate":
        return _anchor_rotate(spec, cases, readers, rng)
    return {reader: list(cases) for reader in readers}


def _anchor_rotate(
    spec: StudySpec, cases: list[Case], readers: list[str], rng: np.random.Generator
) -> dict[str, list[Case]]:
    """`anchor` cases for all, each other case for `readings` readers, in rotation.

    Each reader reads anchor + others x readings / readers cases.
    """
    anchor, readings = spec.design.anchor, spec.design.readings
    if not 0 < anchor < len(cases):
        raise MedVLMError(f"anchor-rotate: design.anchor must lie between 1 and {len(cases) - 1}, it is {anchor}.")
    if not 1 <= readings < len(readers):
        raise MedVLMError(f"anchor-rotate: design.readings must lie between 1 and {len(readers) - 1}.")
    shuffled = [cases[index] for index in rng.permutation(len(cases))]
    shuffled.sort(key=lambda case: case.stratum)
    # Anchors are taken evenly along the sorted strata, so that they look like the whole.
    picked = {math.floor((place + 0.5) * len(shuffled) / anchor) for place in range(anchor)}
    own = {reader: [shuffled[index] for index in sorted(picked)] for reader in readers}
    others = [case for index, case in enumerate(shuffled) if index not in picked]
    turn = 0
    for case in others:
        for _ in range(readings):
            own[readers[turn % len(readers)]].append(case)
            turn += 1
    return own


def _main_items(
    spec: StudySpec, reader: Reader, number: int, cases: list[Case], treatments: list[Treatment], rows: list[list[int]]
) -> list[Draft]:
    # The deal is one for all readers of the same cases, so that blocks mean the same to each of them.
    blocks = deal(cases, len(rows), np.random.default_rng([spec.seed, 2]))
    if any(not block for block in blocks):
        raise MedVLMError(
            f"{len(treatments)} {'pairs' if spec.design.kind == 'pairwise' else 'sources'} need {len(rows)} orders, "
            f"and the cases of reader {reader.id} come from fewer patients: add cases or leave a source out."
        )
    drafts = []
    for index, block in enumerate(blocks):
        row = rows[(index + number) % len(rows)]
        for rank, case in enumerate(block):
            for period, treatment in enumerate(row, start=1):
                source, other = treatments[treatment]
                if other and (rank + index + number) % 2:
                    source, other = other, source
                drafts.append(Draft(case, source, other, period))
    return drafts


def _reader_sessions(
    spec: StudySpec,
    reader: Reader,
    number: int,
    drafts: list[Draft],
    roles: dict[str, list[Case]],
    treatments: list[Treatment],
    rng: np.random.Generator,
) -> tuple[list[Assignment], list[Slot]]:
    """Fill the sittings of one reader: training and calibration first, probes spread, duplicates in a last period."""
    periods = max(draft.period for draft in drafts)
    opening = []
    for role in ("training", "calibration"):
        for index, case in enumerate(roles[role]):
            source, other = treatments[index % len(treatments)]
            opening.append(Draft(case, source, other, 1, role))
    types = spec.probe_types or ("laterality", "negation", "severity", "fabrication", "omission")
    probes = []
    for index, case in enumerate(roles["probe"]):
        source, other = treatments[(index + number) % len(treatments)]
        probes.append(Draft(case, source, other, 1 + index % periods, "probe", probe=types[index % len(types)]))
    sittings = arrange(spec, drafts, opening, probes, rng)
    assignments = []
    for session, (period, items) in enumerate(sittings, start=1):
        for position, draft in enumerate(items, start=1):
            assignments.append(
                Assignment(
                    reader.id, period, session, position, draft.case.id, draft.source, draft.other, draft.role,
                    probe=draft.probe,
                )
            )  # fmt: skip
    assignments += _duplicates(spec, assignments, len(sittings), periods, rng)
    dates = session_dates(spec, assignments)
    counts: dict[int, int] = defaultdict(int)
    for item in assignments:
        counts[item.session] += 1
    period_of = {item.session: item.period for item in assignments}
    slots = [Slot(reader.id, session, period_of[session], dates[session], counts[session]) for session in counts]
    return assignments, slots


def _duplicates(
    spec: StudySpec, assignments: list[Assignment], sessions: int, periods: int, rng: np.random.Generator
) -> list[Assignment]:
    """Hidden duplicates: main items again, in further sittings after one more washout; no case twice among them."""
    main = [item for item in assignments if item.role == "main"]
    wanted = round(spec.duplicates * len(main)) if spec.duplicates < 1 else int(spec.duplicates)
    cases = {item.case for item in main}
    if wanted > len(cases):
        raise MedVLMError(
            f"{wanted} hidden duplicates of {len(cases)} cases would show a case twice in the last period; "
            f"lower 'duplicates' to {len(cases) / len(main):.2f} or less."
        )
    picked: list[Assignment] = []
    # Sources in turn, so that the duplicates are as balanced as the study.
    by_source: dict[str, list[Assignment]] = defaultdict(list)
    for index in rng.permutation(len(main)):
        by_source[main[index].source].append(main[index])
    seen: set[str] = set()
    queue = itertools.cycle(sorted(by_source))
    while len(picked) < wanted:
        source = next(queue)
        while by_source[source]:
            item = by_source[source].pop()
            if item.case not in seen:
                seen.add(item.case)
                picked.append(item)
                break
        if not any(by_source.values()):
            break
    count = math.ceil(len(picked) / spec.sessions.max_items)
    found = []
    for index, item in enumerate(picked):
        session, position = sessions + 1 + index % max(count, 1), 1 + index // max(count, 1)
        found.append(
            Assignment(
                item.reader, periods + 1, session, position, item.case, item.source, item.other,
                duplicate_of=item.place,
            )
        )  # fmt: skip
    return sorted(found, key=lambda item: (item.session, item.position))


def _notes(spec: StudySpec, rows: list[list[int]]) -> list[str]:
    notes = []
    if len(spec.readers) % len(rows):
        notes.append(
            f"{len(spec.readers)} readers are no multiple of the {len(rows)} orders: "
            "orders are balanced within each reader, but not complete over readers."
        )
    if not any(case.truth is not None for case in spec.cases) and spec.endpoint.metric == "auc":
        raise MedVLMError("endpoint: the metric auc needs the column 'truth' (0 or 1) in the table of cases.")
    return notes
