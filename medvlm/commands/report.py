"""`medvlm report`: from a study to a report that can be checked."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from medvlm.reporting.report import Report


def report(
    study: Path,
    out: Path = Path("report"),
    experts: list[str] | None = None,
    model: str | None = None,
    modality: str | None = None,
    device: str = "auto",
) -> None:
    """Write a report for a DICOM folder, NIfTI file or image, and print its summary.

    Example:
        medvlm report path/to/dicom --out out/

    Args:
        study: DICOM file or folder, NIfTI file or image.
        out: folder for report.html, report.txt, report.json and the key images.
        experts: names of the experts that may run (default: every installed expert that applies).
        model: folder or hub id of a vision-language model that writes the text (default: text from the measurements).
        modality: DICOM modality code (CT, MR, DX, ...) for files that carry none: NIfTI and plain images.
        device: where experts and model run: auto, cpu, cuda, cuda:1.
    """
    from rich.console import Console

    from medvlm.imaging.reader import load_study
    from medvlm.reporting.generate import open_experts, write_report

    console = Console()
    loaded = load_study(study, modality)
    with console.status("experts at work"):
        opened, untrained = open_experts(experts, device)
        written = write_report(loaded, opened, out, model, device, untrained)
    print_summary(console, written, out)


def print_summary(console: Console, report: Report, out: Path) -> None:
    """The report in a few lines: what was read, impression with its support, doubts, files."""
    from rich.table import Table
    from rich.text import Text

    from medvlm.reporting.text import cite

    used = [f"series {i} of {len(report.series)}" for i, series in enumerate(report.series, 1) if series.used]
    ran = [expert.name for expert in report.experts if expert.ran]
    head = [report.title, *used, f"experts: {', '.join(ran) or 'none applies'}", f"text: {report.method.text}"]
    console.print(Text(" · ".join(head), style="bold"))

    table = Table.grid(padding=(0, 2))
    for style, no_wrap in (("bold cyan", True), ("", False), ("dim", True)):
        table.add_column(style=style, no_wrap=no_wrap, overflow="fold")
    impression = report.section("impression")
    for number, sentence in enumerate(impression.sentences if impression else (), start=1):
        line = sentence.text if report.abstained else f"{number}. {sentence.text}"
        table.add_row("IMPRESSION" if number == 1 else "", Text(line), Text(cite(report, sentence)))
    console.print(table)
    notes = Table.grid(padding=(0, 2))
    notes.add_column(style="bold yellow", min_width=len("IMPRESSION"))
    notes.add_column(overflow="fold")
    for doubt in report.doubts:
        notes.add_row("WHY" if doubt.kind == "abstained" else "DOUBT", Text(doubt.text))
    console.print(notes)
    console.print(Text("wrote ") + Text(str(out / "report.html"), style="bold") + Text("  .txt  .json  key/"))
    console.print(Text(report.disclaimer, style="bold black on yellow"))


COMMAND = report
