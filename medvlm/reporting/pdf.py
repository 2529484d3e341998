"""Write a Report as PDF, laid out for paper: impression and doubt first, then the pictures, then the method."""

from __future__ import annotations

from pathlib import Path

from medvlm.reporting.report import Report


def write_pdf(report: Report, folder: Path) -> Path:
    """Write `report.pdf` beside the key images."""
    import weasyprint

    from medvlm.reporting.html import render_print

    path = folder / "report.pdf"
    page = render_print(report, folder)
    weasyprint.HTML(string=page, base_url=str(folder)).write_pdf(path)
    return path
