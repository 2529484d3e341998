"""What a written report says against a reference, finding by finding, read by the package's own pathway parser.

Both texts are read with the phrases of a pathway (`curricula/*/pathway.yaml`): denials, doubt, sides and sizes. A
positive finding of one text is then matched, contradicted or not spoken of in the other.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from medvlm.pathways.reports import ReportReader, ReportReading, sentences
from medvlm.pathways.spec import NOT_ASSESSABLE

VERSION = "1"
Uncertain = Literal["ignore", "positive", "negative"]
_SIDE = re.compile(r"\b(left|right|bilateral|both)\b")


@dataclass(frozen=True)
class FindingScore:
    """Counts of one report or of many.

    Attributes:
        matched: positive in both, with the same value, side and size within the pathway's tolerance.
        omitted: positive in the reference, not spoken of.
        added: positive in the report, not spoken of in the reference.
        contradicted: spoken of in both, with another value, side or size.
        errors: `|stated - true|` of every number that both give, in the unit of its variable.
    """

    matched: int = 0
    omitted: int = 0
    added: int = 0
    contradicted: int = 0
    errors: tuple[float, ...] = ()

    def __add__(self, other: FindingScore) -> FindingScore:
        return FindingScore(
            self.matched + other.matched,
            self.omitted + other.omitted,
            self.added + other.added,
            self.contradicted + other.contradicted,
            self.errors + other.errors,
        )

    @property
    def precision(self) -> float:
        """Share of the report's findings that are true; 1 where it states none and none is true."""
        stated = self.matched + self.added + self.contradicted
        return self.matched / stated if stated else float(self.omitted == 0)

    @property
    def recall(self) -> float:
        """Share of the true findings that the report states; 1 where there are none and it states none."""
        true = self.matched + self.omitted + self.contradicted
        return self.matched / true if true else float(self.added == 0)

    @property
    def f1(self) -> float:
        total = self.precision + self.recall
        return 2 * self.precision * self.recall / total if total else 0.0

    def to_json(self) -> dict[str, Any]:
        mean = sum(self.errors) / len(self.errors) if self.errors else None
        return {
            "matched": self.matched,
            "omitted": self.omitted,
            "added": self.added,
            "contradicted": self.contradicted,
            "precision": round(self.precision, 4),
            "recall": round(self.recall, 4),
            "f1": round(self.f1, 4),
            "measured": len(self.errors),
            "mean_error": None if mean is None else round(mean, 4),
        }


class FindingScorer:
    """Compares reports by one pathway."""

    def __init__(self, pathway: str, uncertain: Uncertain = "ignore") -> None:
        """
        Args:
            pathway: name or file of a pathway.
            uncertain: what a doubted finding counts as ("possible effusion"); CheXbert's F1 counts it as positive.
        """
        from medvlm.pathways import load_pathway

        self.reader = ReportReader(load_pathway(pathway))
        self.uncertain = uncertain

    def score(self, report: str, reference: str) -> FindingScore:
        """Compare one report with its reference."""
        stated, true = self._facts(report), self._facts(reference)
        matched = omitted = added = contradicted = 0
        errors: list[float] = []
        for slot in dict.fromkeys([*true, *stated]):
            here, there = stated.get(slot), true.get(slot)
            if there is None or here is None:
                positive = here or there
                assert positive is not None
                if positive.positive:
                    added, omitted = added + (there is None), omitted + (here is None)
                continue
            if isinstance(here.value, float) and isinstance(there.value, float):
                errors.append(abs(here.value - there.value))
            if not (here.positive or there.positive):
                continue
            if self._same(slot, here, there):
                matched += 1
            else:
                contradicted += 1
        return FindingScore(matched, omitted, added, contradicted, tuple(errors))

    def total(self, reports: Sequence[str], references: Sequence[str]) -> tuple[FindingScore, list[FindingScore]]:
        """All reports together (micro average), and each."""
        each = [self.score(report, reference) for report, reference in zip(reports, references, strict=True)]
        return sum(each, FindingScore()), each

    def _same(self, slot: str, here: _Fact, there: _Fact) -> bool:
        variable = self.reader.pathway.slots[slot].variable
        sides = not here.side or not there.side or here.side == there.side
        if isinstance(here.value, float) and isinstance(there.value, float):
            return sides and abs(here.value - there.value) <= variable.tolerance + 1e-9
        return sides and here.value == there.value

    def _facts(self, text: str) -> dict[str, _Fact]:
        reading = self.reader.read(text)
        facts: dict[str, _Fact] = {}
        for name, found in reading.readings.items():
            if found.state == "value" and found.symbol != NOT_ASSESSABLE:
                value = float(found.symbol) if _is_number(found.symbol) else found.symbol
                facts[name] = _Fact(value, value is not False, _side(text, reading, name))
            elif found.state == "unknown" and self.uncertain != "ignore":
                facts[name] = _Fact(self.uncertain == "positive", self.uncertain == "positive", "")
        return facts


@dataclass(frozen=True)
class _Fact:
    """A value that a report states; `positive` unless it is a denial; `side` as said in its sentence."""

    value: Any
    positive: bool
    side: str


def _is_number(symbol: object) -> bool:
    return isinstance(symbol, (int, float)) and not isinstance(symbol, bool)


def _side(text: str, reading: ReportReading, name: str) -> str:
    """The one side that the sentences of a finding name; empty where none or both are."""
    spans = reading.readings[name].spans
    named: Counter[str] = Counter()
    for start, sentence in sentences(text):
        if any(start <= begin < start + len(sentence) for begin, _ in spans):
            named.update(_SIDE.findall(sentence.lower()))
    sides = {"bilateral" if side == "both" else side for side in named}
    return sides.pop() if len(sides) == 1 else ""
