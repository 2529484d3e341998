"""Findings → text.

`short` is what a vision-language model reads in a conversation: few tokens, one fact a line, numbers first cleaned of
false precision (whole millimetres). A probability is of what is said: `pleural effusion: none, p 0.96` is 0.96
sure that there is none. `parse_short` in `medvlm/findings/parse.py` is its inverse.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Literal

from medvlm.findings.codes import Concept, concept_of
from medvlm.findings.finding import Finding, Measurement

Style = Literal["short", "long", "table", "json"]
UNIT_TEXT = {"[hnsf'U]": "HU", "1": "", "{count}": "", "um": "µm", "um2": "µm2"}
# Measurements that the short style leaves to the longer ones.
_LONG_ONLY = {"short_axis", "mean", "standard_deviation", "largest_diameter"}


def verbalise(findings: Iterable[Finding], style: Style = "short") -> str:
    """Write findings as text.

    Args:
        findings: of one study; concepts appear in the order of their first finding, counted ones from the largest.
        style: `short` (for the model), `long` (sentences), `table` (Markdown) or `json`.
    """
    ordered = _ordered(findings)
    if style == "json":
        return json.dumps([finding.to_json() for finding in ordered], ensure_ascii=False)
    if style == "table":
        return _table(ordered)
    if style == "long":
        return "\n".join(sentence(finding) for finding in ordered)
    groups: dict[str, list[Finding]] = {}
    for finding in ordered:
        groups.setdefault(concept_of(finding.concept).key, []).append(finding)
    return "\n".join(line for group in groups.values() for line in _short(group))


def _ordered(findings: Iterable[Finding]) -> list[Finding]:
    """Grouped by concept in order of appearance; within one, the largest first."""
    groups: dict[str, list[Finding]] = {}
    for finding in findings:
        groups.setdefault(concept_of(finding.concept).key, []).append(finding)
    return [finding for group in groups.values() for finding in sorted(group, key=_size, reverse=True)]


def _size(finding: Finding) -> tuple[float, float]:
    return finding.measure("Long axis") or 0.0, finding.measure("Volume") or 0.0


def _short(group: Sequence[Finding]) -> list[str]:
    concept = concept_of(group[0].concept)
    positive = [finding for finding in group if finding.presence != "absent"]
    name = concept.plural or concept.text
    if concept.kind == "list":
        if not positive:
            return [f"{name}: {_facts(group[0], concept)}"]
        items = [f"{number}. {_facts(finding, concept)}" for number, finding in enumerate(positive, start=1)]
        return [f"{name}: {len(positive)}", *items]
    if not positive:
        return [f"{name}: {_facts(group[0], concept)}"]
    return [f"{name}: {_facts(finding, concept)}" for finding in positive]


def _facts(finding: Finding, concept: Concept) -> str:
    """The comma-separated facts after the concept's name."""
    parts = []
    if finding.presence == "absent":
        parts.append(f"not {concept.state}" if concept.state else "none")
    elif finding.presence == "uncertain":
        parts.append("possible")
    if finding.presence != "absent":
        if place := place_text(finding):
            parts.append(place)
        if grade := finding.grade or concept.state:
            parts.append(grade)
    if finding.presence != "absent" or concept.state:
        measured = [row for row in finding.measurements if concept_of(row.code).key not in _LONG_ONLY]
        parts += [measurement_text(row) for row in measured]
    if finding.confidence is not None:
        parts.append(f"p {finding.confidence:.2f}")
    return ", ".join(parts) or "present"


def place_text(finding: Finding) -> str:
    """`right upper lobe`, `right`, `liver`, or nothing."""
    words = [concept_of(part).text for part in (finding.laterality, finding.site) if part is not None]
    return " ".join(word for word in words if word)


def measurement_text(measurement: Measurement) -> str:
    """`14 mm`, `1.2 mL`, `cardiothoracic ratio 0.56`: a name where the unit does not say what it is."""
    name = concept_of(measurement.code).text
    number = number_text(measurement.value, measurement.unit)
    unit = UNIT_TEXT.get(measurement.unit, measurement.unit)
    return " ".join(word for word in (name, number, unit) if word)


def number_text(value: float, unit: str) -> str:
    """A number with the digits that its unit deserves: whole millimetres, two digits of a small volume."""
    if unit in ("mm", "[hnsf'U]", "{count}"):
        return f"{value:.0f}"
    if unit == "1":
        return f"{value:.0f}" if float(value).is_integer() and abs(value) >= 2 else f"{value:.2f}"
    digits = 2 if abs(value) < 0.095 else 1 if abs(value) < 9.95 else 0
    return f"{value:.{digits}f}"


_LONG_NAMES = {"long_axis": "long axis", "volume": "volume", "count": "count", "mean": "mean"}


def sentence(finding: Finding) -> str:
    """One finding as a sentence, hedged by its probability."""
    concept = concept_of(finding.concept)
    measured = ", ".join(_long_measurement(row) for row in finding.measurements)
    if finding.presence == "absent":
        text = f"The {concept.text} is not {concept.state}" if concept.state else f"No {concept.text}"
        inside = [measured] if concept.state and measured else []
        inside += [] if finding.confidence is None else [f"probability {finding.confidence:.2f}"]
        tail = f" ({', '.join(inside)})" if inside else ""
        return f"{text}{tail}."
    hedge = hedge_text(finding)
    place = place_text(finding)
    if concept.kind == "state":
        adverb = {"possible ": "possibly ", "probable ": "probably "}.get(hedge, "")
        subject = f"The {concept.text} is {adverb}{finding.grade or concept.state}"
    else:
        subject = f"{hedge}{f'{finding.grade} ' if finding.grade else ''}{concept.text}"
        if place:
            subject += f" in the {place}" if finding.site else f" on the {place}"
        subject = subject[:1].upper() + subject[1:]
    tail = f" (probability {finding.probability:.2f})" if finding.probability is not None else ""
    return f"{subject}{f': {measured}' if measured else ''}{tail}."


def hedge_text(finding: Finding) -> str:
    """`possible ` or `probable `, only where the probability was calibrated or the presence is uncertain."""
    if finding.presence == "uncertain":
        return "possible "
    if not finding.calibrated or finding.probability is None or finding.probability >= 0.9:
        return ""
    return "probable " if finding.probability >= 0.6 else "possible "


def _long_measurement(row: Measurement) -> str:
    key = concept_of(row.code).key
    text = measurement_text(row)
    name = _LONG_NAMES.get(key, "")
    return text if not name or text.startswith(name) else f"{name} {text}"


def _table(findings: Sequence[Finding]) -> str:
    rows = ["| finding | present | place | grade | measurements | probability |", "|---|---|---|---|---|---|"]
    for finding in findings:
        cells = (
            concept_of(finding.concept).code.meaning,
            finding.presence,
            place_text(finding),
            finding.grade or "",
            ", ".join(_long_measurement(row) for row in finding.measurements),
            "" if finding.confidence is None else f"{finding.confidence:.2f}",
        )
        rows.append("| " + " | ".join(cell.replace("|", "/") for cell in cells) + " |")
    return "\n".join(rows)
