"""Where each number of a sentence comes from. A number that comes from nowhere must not leave the house."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from medvlm.errors import MedVLMError
from medvlm.findings.finding import Finding
from medvlm.reporting.report import Change, Report, Sentence
from medvlm.reporting.support import QUANTITY, UNITS, slack


@dataclass(frozen=True)
class Trace:
    """One number as written and its origin (`nodule-1: Long axis 14.2 mm`); origin `""`: none."""

    written: str
    origin: str


def trace_sentence(sentence: Sentence, known: Sequence[Finding], changes: Sequence[Change] = ()) -> list[Trace]:
    """Each number of a sentence with its origin among the Findings that the sentence cites.

    A number agrees with a measurement at the precision it is written with and in the unit it is written with.
    """
    cited = [finding for finding in known if finding.id in sentence.findings]
    traces = []
    for match in QUANTITY.finditer(sentence.text):
        unit, factor = UNITS.get((match[2] or "").lower(), ("1", 1.0))
        value, near = float(match[1]) * factor, slack(match[1], unit) * factor + 1e-6
        origin = _origin(value, near, unit, cited) or _change(value, near, unit, sentence, changes)
        if not origin and unit == "1" and value == len(sentence.findings):
            origin = f"number of findings: {len(sentence.findings)}"
        traces.append(Trace(match[0].strip(), origin))
    return traces


def _origin(value: float, near: float, unit: str, cited: Sequence[Finding]) -> str:
    for finding in cited:
        for row in finding.measurements:
            if row.unit == unit and abs(row.value - value) <= near:
                return f"{finding.id}: {row.code.meaning} {row.value:g} {row.unit}"
        if finding.confidence is not None:
            scale = 100.0 if unit == "%" else 1.0
            if unit in ("1", "%") and abs(finding.confidence * scale - value) <= near:
                return f"{finding.id}: probability {finding.confidence:g}"
        if unit == "1" and any(place.slice == value for place in finding.evidence):
            return f"{finding.id}: slice {value:g}"
    return ""


def _change(value: float, near: float, unit: str, sentence: Sentence, changes: Sequence[Change]) -> str:
    for change in changes:
        if not {change.finding, change.prior} & set(sentence.findings) or change.before is None or change.after is None:
            continue
        numbers = {"before": change.before, "after": change.after, "difference": abs(change.after - change.before)}
        for name, number in numbers.items():
            if unit == change.unit and abs(number - value) <= near:
                return f"{change.finding}: {change.measure} {name} {number:g} {unit}"
        share = 100 * abs(change.after - change.before) / change.before if change.before else 0.0
        if unit == "%" and abs(share - value) <= near:
            return f"{change.finding}: {change.measure} changed by {share:.1f} %"
    return ""


def trace_report(report: Report) -> list[Trace]:
    """The traces of every sentence that asserts something."""
    known = (*report.findings, *report.prior)
    return [
        trace
        for sentence in report.sentences()
        if sentence.source != "notice"
        for trace in trace_sentence(sentence, known, report.changes)
    ]


def require_traced(report: Report) -> None:
    """Refuse a report with a number that no measurement carries.

    Raises:
        MedVLMError: names the number and the sentence.
    """
    known = (*report.findings, *report.prior)
    for sentence in report.sentences():
        if sentence.source == "notice":
            continue
        for trace in trace_sentence(sentence, known, report.changes):
            if not trace.origin:
                raise MedVLMError(
                    f"the report was not written: {trace.written!r} in {sentence.text!r} is in no measurement."
                )
