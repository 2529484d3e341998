"""Values that answer questions, read from Findings: presence, count, side, site, grade or a measurement, in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from medvlm.findings.codes import code, concept_of
from medvlm.findings.finding import Finding
from medvlm.findings.verbalise import number_text, place_text


@dataclass(frozen=True)
class Value:
    """A value as the text of an answer (`"14"`, `"yes"`, `"right upper lobe"`) and for scoring.

    `exact` is a bool (present), int (count), float (measurement, unrounded) or text (side, site, grade).
    `finding` is the one it was read from, where it is one.
    """

    words: str
    exact: bool | int | float | str
    finding: Finding | None = None


def of_concept(findings: Sequence[Finding], concept: str) -> list[Finding]:
    """The Findings of one concept (a key of `codes.csv`) that are not absent, in the order they are written in."""
    wanted = code(concept)
    present = [finding for finding in findings if finding.concept == wanted and finding.presence != "absent"]
    return sorted(present, key=_size, reverse=True)


def _size(finding: Finding) -> tuple[float, float]:
    return finding.measure("Long axis") or 0.0, finding.measure("Volume") or 0.0


def read_value(findings: Sequence[Finding], concept: str, what: str) -> Value | None:
    """One value of one concept, of its largest Finding where there are several; None where there is none to give.

    Nothing is concluded from silence: a concept that no Finding speaks of, not even an absent one, has no value. A
    measurement may also come from an absent Finding: a heart that is not enlarged has its ratio.
    """
    same = [finding for finding in findings if finding.concept == code(concept)]
    if not same:
        return None
    present = of_concept(findings, concept)
    match what:
        case "present":
            if present and all(finding.presence == "uncertain" for finding in present):
                return None
            return Value("yes" if present else "no", bool(present))
        case "count":
            return Value(str(len(present)), len(present))
        case "side":
            return _text(_side(present), present)
        case "site":
            return _text(place_text(present[0]) if present and present[0].site else "", present)
        case "grade":
            return _text(present[0].grade or "" if present else "", present)
    for finding in present or same:
        for measurement in finding.measurements:
            if measurement.code == code(what):
                return Value(number_text(measurement.value, measurement.unit), measurement.value, finding)
    return None


def _text(words: str, present: Sequence[Finding]) -> Value | None:
    return Value(words, words, present[0]) if words else None


def _side(present: Sequence[Finding]) -> str:
    """Side of the largest object; `both` where a concept has one Finding a side."""
    sides = [_side_of(finding) for finding in present]
    one_a_side = len(sides) == 2 and set(sides) == {"right", "left"} and not any(finding.site for finding in present)
    return "both" if one_a_side else (sides[0] if sides else "")


def _side_of(finding: Finding) -> str:
    return concept_of(finding.laterality).text if finding.laterality else ""


def describe(finding: Finding) -> dict[str, str]:
    """The words of one Finding by name, for sentence templates; `Side`, `Grade` ... begin with a capital letter.

    Measurements go by their key (`long_axis`).
    """
    words = {"side": _side_of(finding), "site": place_text(finding), "grade": finding.grade or ""}
    for measurement in finding.measurements:
        words[concept_of(measurement.code).key] = number_text(measurement.value, measurement.unit)
    return words | {key.capitalize(): text.capitalize() for key, text in words.items()}
