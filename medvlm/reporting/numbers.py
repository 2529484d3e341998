"""Where each number of a sentence comes from. A number that comes from nowhere must not leave the house."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from medvlm.errors import MedVLMError
from medvlm.findings.finding import Finding
from medvlm.reporting.report import Change, Report, Sentence
from medvlm.reporting.wording import Quantity, normal_form, quantities


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
    for number in quantities(normal_form(sentence.text)):
        origin = _origin(number, cited) or _change(number, sentence, changes)
        if not origin and number.unit == "1" and number.value in _counts(cited):
            origin = f"number of findings: {number.value:g}"
        traces.append(Trace(number.written, origin))
    return traces


def _origin(number: Quantity, cited: Sequence[Finding]) -> str:
    for finding in cited:
        for row in finding.measurements:
            if number.agrees(row.value, row.unit):
                return f"{finding.id}: {row.code.meaning} {row.value:g} {row.unit}"
        if finding.confidence is not None and number.agrees(finding.confidence, "1"):
            return f"{finding.id}: probability {finding.confidence:g}"
        if number.unit == "1" and any(place.slice == number.value for place in finding.evidence):
            return f"{finding.id}: slice {number.value:g}"
    return ""


def _counts(cited: Sequence[Finding]) -> set[int]:
    """How many findings a sentence cites, in all and on each side."""
    return {len(cited), *Counter(finding.laterality for finding in cited).values()}


def _change(number: Quantity, sentence: Sentence, changes: Sequence[Change]) -> str:
    for change in changes:
        if not {change.finding, change.prior} & set(sentence.findings) or change.before is None or change.after is None:
            continue
        values = {"before": change.before, "after": change.after, "difference": abs(change.after - change.before)}
        for name, value in values.items():
            if number.agrees(value, change.unit):
                return f"{change.finding}: {change.measure} {name} {value:g} {change.unit}"
        share = 100 * abs(change.after - change.before) / change.before if change.before else 0.0
        if number.agrees(share, "%"):
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
