"""Write a Report as plain text: the same facts as the page, readable in a terminal or a mail."""

from __future__ import annotations

import textwrap

from medvlm.reporting.html import number_text, sure_text, unit_name
from medvlm.reporting.report import Report, Sentence

_WIDTH = 100


def render_text(report: Report) -> str:
    """The report as text of at most 100 columns; every sentence is followed by its support in brackets."""
    lines = [report.disclaimer, "", report.title]
    for key in ("impression", "findings", "technique"):
        section = report.section(key)
        if section is None or not section.sentences:
            continue
        lines += ["", section.title.upper()]
        for number, sentence in enumerate(section.sentences, start=1):
            lead = f"{number}. " if key == "impression" and not report.abstained else ""
            lines += _wrap(f"{lead}{sentence.text}   {cite(report, sentence)}".rstrip(), " " * len(lead))
    lines += ["", "DOUBTS"]
    for doubt in report.doubts:
        lines += _wrap(f"- {doubt.kind}: {doubt.text}", "  ")
    for expert in report.experts:
        if expert.ran and expert.limits:
            lines += _wrap(f"- limits of {expert.name}: {expert.limits}", "  ")
    if lines[-1] == "DOUBTS":
        lines.append("none")
    lines += _measurements(report)
    lines += ["", "EXPERTS"]
    for expert in report.experts:
        state = "ran" if expert.ran else "did not run"
        weights = f", weights {expert.weights[:16]}" if expert.weights else ""
        lines += _wrap(f"- {expert.name} {expert.version} {state}: {expert.reason}{weights}", "  ")
    if not report.experts:
        lines.append("none is installed")
    method = report.method
    model = f", model {method.model}" if method.model else ""
    lines += ["", "HOW THIS WAS MADE"]
    lines += _wrap(f"medvlm {method.medvlm}, {method.created}, text: {method.text}{model}, study {report.study}", "")
    lines += [f"series {series.uid}" for series in report.series if series.used]
    return "\n".join([*lines, "", report.disclaimer, ""])


def cite(report: Report, sentence: Sentence) -> str:
    """The support of a sentence: `[chest_ct, p 0.94, slice 88]`; of the first Finding where there are several."""
    if not sentence.findings:
        return ""
    finding = report.finding(sentence.findings[0])
    parts = [finding.provenance.expert]
    if finding.confidence is not None:
        parts.append(f"p {sure_text(finding.confidence)}")
    if finding.evidence and finding.evidence[0].slice is not None and finding.presence != "absent":
        parts.append(f"slice {finding.evidence[0].slice}")
    return f"[{', '.join(parts)}]"


def _measurements(report: Report) -> list[str]:
    lines = []
    for finding in report.findings:
        values = [f"{m.code.meaning} {number_text(m.value)} {unit_name(m.unit)}".strip() for m in finding.measurements]
        if values:
            lines += _wrap(f"- {finding.id}: {'; '.join(values)}", "  ")
    return ["", "MEASUREMENTS", *lines] if lines else []


def _wrap(text: str, indent: str) -> list[str]:
    return textwrap.wrap(text, _WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
