"""Write a Report as CSV: one row a measurement, one for a Finding without any."""

from __future__ import annotations

import csv
from pathlib import Path

from medvlm.findings.finding import Finding
from medvlm.findings.verbalise import place_text
from medvlm.reporting.report import Report

COLUMNS = (
    "study",
    "finding",
    "concept",
    "scheme",
    "code",
    "presence",
    "probability",
    "calibrated",
    "place",
    "grade",
    "measurement",
    "measurement_scheme",
    "measurement_code",
    "value",
    "unit",
    "series",
    "slice",
    "expert",
    "version",
    "weights",
)


def write_csv(report: Report, path: Path) -> None:
    """Write the table, UTF-8 with a mark so that spreadsheets read it."""
    with path.open("w", newline="", encoding="utf-8-sig") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for finding in report.findings:
            writer.writerows([_plain(cell) for cell in row] for row in _rows(finding))


def _rows(finding: Finding) -> list[tuple[object, ...]]:
    place = finding.evidence[0] if finding.evidence else None
    head = (
        finding.study,
        finding.id,
        finding.concept.meaning,
        finding.concept.scheme,
        finding.concept.value,
        finding.presence,
        "" if finding.probability is None else finding.probability,
        finding.calibrated,
        place_text(finding),
        finding.grade or "",
    )
    tail = (
        place.series if place else "",
        "" if place is None or place.slice is None else place.slice,
        finding.provenance.expert,
        finding.provenance.version,
        finding.provenance.weights,
    )
    measured: list[tuple[object, ...]] = [
        (row.code.meaning, row.code.scheme, row.code.value, row.value, row.unit) for row in finding.measurements
    ]
    return [(*head, *middle, *tail) for middle in measured or [("", "", "", "", "")]]


def _plain(cell: object) -> object:
    """A text that a spreadsheet would take for a formula is quoted."""
    return f"'{cell}" if isinstance(cell, str) and cell[:1] in ("=", "+", "-", "@", "\t", "\r") else cell
