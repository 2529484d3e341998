"""Which rows of a guideline a data set ever reaches."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from medvlm.pathways.dialogues import read_truth
from medvlm.pathways.lint import rows_reached
from medvlm.pathways.reward import Scorer


@dataclass(frozen=True)
class RowCoverage:
    """How many cases a table row decides."""

    table: str
    line: int
    text: str
    cases: int


def branch_coverage(scorer: Scorer, rows: Iterable[Mapping[str, Any]]) -> tuple[list[RowCoverage], int]:
    """Cases a table row decides, for all rows of all tables, and the number of cases read.

    Args:
        rows: conversation rows with `symbols.truth`, or plain rows slot → symbol.
    """
    counts: Counter[int] = Counter()
    total = 0
    for number, row in enumerate(rows, start=1):
        truth = (row.get("symbols") or {}).get("truth") if "symbols" in row else row
        if not truth:
            continue
        total += 1
        counts.update(rows_reached(scorer, read_truth(scorer.pathway, truth, f"row {number}")))
    found: dict[int, RowCoverage] = {}
    for decision in scorer.pathway.decisions:
        for branch in decision.rows:
            found.setdefault(branch.line, RowCoverage(decision.id, branch.line, branch.text, counts[branch.line]))
    return list(found.values()), total
