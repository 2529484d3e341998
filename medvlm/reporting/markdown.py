"""Write a Report as Markdown: for an issue, a chat or a notebook."""

from __future__ import annotations

import re

from medvlm.findings.verbalise import place_text
from medvlm.reporting.html import number_text, unit_name
from medvlm.reporting.report import Report
from medvlm.reporting.text import cite


def render_markdown(report: Report) -> str:
    """The report as Markdown; text from the study cannot become markup."""
    lines = [f"> **{report.disclaimer}**", "", f"# {escape(report.title)}"]
    for section in report.sections:
        if section.sentences:
            lines += ["", f"## {section.title}", ""]
            numbered = section.key == "impression" and not report.abstained
            for number, sentence in enumerate(section.sentences, start=1):
                lead = f"{number}." if numbered else "-"
                lines.append(f"{lead} {escape(sentence.text)} {_small(cite(report, sentence))}".rstrip())
        if section.key == "impression":
            lines += _guidelines(report) + _doubts(report)
    if report.findings:
        lines += ["", "## Measurements", "", "| finding | present | where | measured | p |", "|---|---|---|---|---|"]
    for finding in report.findings:
        measured = "; ".join(
            f"{row.code.meaning} {number_text(row.value)} {unit_name(row.unit)}".strip() for row in finding.measurements
        )
        probability = "" if finding.probability is None else f"{finding.probability:.2f}"
        cells = (finding.id, finding.presence, place_text(finding), measured, probability)
        lines.append("| " + " | ".join(escape(cell) for cell in cells) + " |")
    for image in report.images:
        lines += ["", f"![{escape(image.caption)}]({image.overlay or image.file})"]
    model = f", model {escape(report.method.model)}" if report.method.model else ""
    made = f"medvlm {report.method.medvlm}, {report.method.created}, text: {report.method.text}{model}"
    return "\n".join([*lines, "", f"{made}, study `{report.study}`", ""])


def _guidelines(report: Report) -> list[str]:
    lines = []
    for guideline in report.guidelines:
        lines += ["", f"**Guideline** {escape(guideline.title)}", ""]
        lines += [f"- {escape(name)}: **{escape(value)}**" for name, value in guideline.decided]
        lines += [f"- {escape(name)}, still open: {escape(' or '.join(values))}" for name, values in guideline.open]
        lines += [f"- violated: {escape(conflict)}" for conflict in guideline.conflicts]
    return lines


def _doubts(report: Report) -> list[str]:
    rows = [f"- {doubt.kind}: {escape(doubt.text)}" for doubt in report.doubts]
    rows += [f"- limits of {e.name}: {escape(e.limits)}" for e in report.experts if e.ran and e.limits]
    return ["", "## Doubts", "", *(rows or ["none"])]


def _small(text: str) -> str:
    return f"`{text[1:-1]}`" if text else ""


def escape(text: str) -> str:
    """Text from elsewhere as plain words: no markup, links or HTML."""
    return re.sub(r"([\\`*_{}\[\]<>|#!~])", r"\\\1", " ".join(text.split()))
