"""A sentence that contradicts a measurement, with the least changed that makes it agree: side, lobe, grade, numbers."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher

from medvlm.findings.finding import Finding
from medvlm.reporting.support import GRADES, LOBES, check_sentence
from medvlm.reporting.wording import Quantity, normal_form, quantities

UNIT_WRITTEN = {"mm": "mm", "mL": "mL", "%": "%", "[hnsf'U]": "HU", "1": ""}


def repairs(sentence: str, findings: Sequence[Finding]) -> list[str]:
    """The sentence as it would have to be for a Finding: those ways that the check supports and that change the least.

    A sentence about something that is not there has none: no exchange of words makes it true.
    """
    text = normal_form(sentence)
    made = dict.fromkeys(_agree(text, finding) for finding in findings)
    ways = [way for way in made if way != sentence and check_sentence(way, findings).findings]
    least = min((_changes(text, way) for way in ways), default=0)
    return [way for way in ways if _changes(text, way) == least]


def _changes(before: str, after: str) -> int:
    """How many words of one text are not in the other at their place."""
    matcher = SequenceMatcher(None, before.split(), after.split(), autojunk=False)
    return sum(max(b - a, d - c) for kind, a, b, c, d in matcher.get_opcodes() if kind != "equal")


def _agree(text: str, finding: Finding) -> str:
    site = " ".join(code.meaning.lower() for code in (finding.laterality, finding.site) if code is not None)
    for words, held in ((("left", "right"), site), (LOBES, site), (GRADES, (finding.grade or "").lower())):
        own = [word for word in words if re.search(rf"(?<![\w-]){word}\b", held)]
        if len(own) == 1:
            text = _exchanged(text, words, own[0])
    for number in reversed(list(quantities(text))):
        measured = next(_measured(number, finding), None)
        if measured is not None:
            start = number.span[0]
            text = text[:start] + measured + text[start + len(number.written) :]
    return text


def _exchanged(text: str, words: Sequence[str], word: str) -> str:
    """Each of these words as the one that was measured, keeping its capital."""

    def written(match: re.Match[str]) -> str:
        return word.capitalize() if match[0][:1].isupper() else word

    return re.sub(rf"(?<![\w-])(?:{'|'.join(words)})\b", written, text, flags=re.I)


def _measured(number: Quantity, finding: Finding) -> Iterator[str]:
    """The number as it was measured: as it is, in its own unit, or with the unit that belongs to its value."""
    rows = finding.measurements
    if any(number.agrees(row.value, row.unit) for row in rows):
        return
    digits = re.match(r"\d+(?:\.(\d+))?", number.written)
    decimals = len(digits[1] or "") if digits else 0
    value = float(digits[0]) if digits else 0.0
    for row in rows:
        if abs(row.value - value) <= 0.5 * 10.0**-decimals and row.unit != number.unit:
            yield f"{digits[0] if digits else ''} {UNIT_WRITTEN.get(row.unit, row.unit)}".strip()
    scale = {"cm": 0.1, "l": 0.001, "L": 0.001}.get(re.sub(r"[\d.\s]", "", number.written), 1.0)
    for row in rows:
        if row.unit == number.unit:
            yield f"{row.value * scale:.{decimals}f}{number.written[len(digits[0]) :] if digits else ''}"
