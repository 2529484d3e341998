"""`medvlm report`: from a study to a report that can be checked and that a hospital's systems can open."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from medvlm.errors import MedVLMError

if TYPE_CHECKING:
    from rich.console import Console

    from medvlm.reporting.draft import VLMWriter
    from medvlm.reporting.generate import Options
    from medvlm.reporting.report import Report

# `medvlm report PATH` is the same as `medvlm report --study PATH`.
POSITIONAL = "study"


def report(
    study: str | None = None,
    out: Path = Path("report"),
    experts: list[str] | None = None,
    model: str | None = None,
    modality: str | None = None,
    device: str = "auto",
    formats: list[str] | None = None,
    indication: str = "",
    prior: Path | None = None,
    pathways: list[str] | None = None,
    correct: bool = False,
    seg: Literal["binary", "labelmap"] = "binary",
    each: bool = False,
    from_: str | None = None,
    to: str | None = None,
    watch: str | None = None,
    interval: float = 5.0,
    passes: int | None = None,
    tls_authority: Path | None = None,
    tls_certificate: Path | None = None,
) -> None:
    """Write a report for a study (or every study of a folder or a PACS), and print its summary.

    Example:
        medvlm report path/to/dicom --out out/

    Args:
        study: DICOM file, folder, ZIP or DICOMDIR, NIfTI file or image; with --from the StudyInstanceUID.
        out: folder for the report in every format, its key images and masks.
        experts: names of the experts that may run (default: every installed expert that applies).
        model: folder or hub id of a vision-language model that writes the text (default: text from the measurements).
        modality: DICOM modality code (CT, MR, DX, ...) for files that carry none: NIfTI and plain images.
        device: where experts and model run: auto, cpu, cuda, cuda:1.
        formats: json, text, markdown, html, csv, grounded, pdf, fhir, dicom (default: all that are installed).
        indication: why the study was made, in words; printed, never obeyed.
        prior: report folder, report.json, SR or text (.txt, .md) of an earlier study to compare with.
        pathways: guidelines to judge by (default: that of the exam type).
        correct: have sentences of the model that contradict a measurement written again, with a trace.
        seg: how DICOM segmentations store masks: binary, or labelmap (smaller; few viewers read it yet).
        each: the study is a folder of studies or a cohort; write one report each into out/NAME, resuming.
        from_: fetch the study by DICOMweb from this PACS (dicomweb://host:port/path, dicomwebs:// with TLS).
        to: send the DICOM objects there (dicomweb://..., or dicom://AETITLE@host:port for C-STORE).
        watch: report each study that arrives in this folder or PACS, once.
        interval: seconds between two looks of --watch.
        passes: looks before --watch ends (default: until interrupted).
        tls_authority: PEM file of the certificate authority of the PACS.
        tls_certificate: PEM file with our certificate and key, for mutual TLS.
    """
    from rich.console import Console

    from medvlm.reporting.draft import VLMWriter
    from medvlm.reporting.formats import choose_formats
    from medvlm.reporting.generate import Options, open_experts
    from medvlm.reporting.pacs.address import Credentials, parse_address
    from medvlm.reporting.prior import read_prior

    console = Console()
    if study is None and watch is None:
        raise MedVLMError("what is to be reported? Give a study: medvlm report PATH. See 'medvlm report --help'.")
    chosen, _ = choose_formats(formats)
    if to is not None:
        parse_address(to)
        if "dicom" not in {one.name for one in chosen}:
            raise MedVLMError(
                "--to sends DICOM objects: --formats must hold 'dicom' and the extra [dicom] be installed."
            )
    options = Options(
        formats=None if formats is None else tuple(formats),
        indication=indication,
        prior=read_prior(prior) if prior is not None else (),
        pathways=None if pathways is None else tuple(pathways),
        correct=correct,
        seg=seg,
    )
    credentials = Credentials.from_environment(tls_authority, tls_certificate)
    desk = _Desk(console, options, modality, to, credentials, from_)
    with console.status("opening experts and model"):
        desk.experts, desk.untrained = open_experts(experts, device)
        desk.writer = VLMWriter(model, device) if model is not None else None
    if watch is not None:
        desk.watch(watch, out, interval, passes)
    elif each:
        desk.report_each(Path(str(study)), out)
    else:
        desk.report_one(str(study), out)


class _Desk:
    """What every report of one call shares."""

    def __init__(
        self,
        console: Console,
        options: Options,
        modality: str | None,
        to: str | None,
        credentials: object,
        source: str | None,
    ) -> None:
        self.console, self.options, self.modality = console, options, modality
        self.to, self.credentials, self.source = to, credentials, source
        self.experts: list = []
        self.untrained: tuple = ()
        self.writer: VLMWriter | None = None

    def report_one(self, study: str, out: Path) -> None:
        """One study, from a path or a PACS; what was fetched stays until the report is sent."""
        import shutil

        from medvlm.reporting.pacs.transfer import INCOMING, open_source

        path = Path(study)
        if self.source is not None:
            path = out / INCOMING / study
            with self.console.status("fetching the study"):
                open_source(self.source, self.credentials).fetch(study, path)  # type: ignore[arg-type]
        with self.console.status("experts at work"):
            written = self.write(path, out)
        self.send(out)
        if self.source is not None:
            shutil.rmtree(out / INCOMING)
        print_summary(self.console, written, out)

    def write(self, path: Path, out: Path) -> Report:
        """Read a study and write its report."""
        from medvlm.imaging.reader import load_study
        from medvlm.reporting.generate import write_report

        study = load_study(path, self.modality)
        return write_report(study, self.experts, out, self.writer, untrained=self.untrained, options=self.options)

    def send(self, out: Path) -> None:
        """Send the DICOM objects of a report, where that is asked for."""
        if self.to is None:
            return
        from medvlm.reporting.pacs.transfer import open_target, report_objects

        files = report_objects(out)
        sent = open_target(self.to, self.credentials).store(files)  # type: ignore[arg-type]
        self.console.print(f"sent {sent} objects to {self.to}, {len(files) - sent} were there")

    def watch(self, where: str, out: Path, interval: float, passes: int | None) -> None:
        """Report what arrives."""
        import shutil

        from medvlm.reporting.pacs.address import is_address
        from medvlm.reporting.pacs.transfer import open_source
        from medvlm.reporting.watch import FolderSource, PacsSource, watch

        pacs = is_address(where)
        if not pacs and not Path(where).is_dir():
            raise MedVLMError(f"--watch {where}: no such folder.")
        source = PacsSource(open_source(where, self.credentials)) if pacs else FolderSource(Path(where))  # type: ignore[arg-type]

        def handle(path: Path, folder: Path) -> None:
            self.write(path, folder)
            self.send(folder)
            if pacs:
                shutil.rmtree(path)

        self.console.print(f"watching {where}; reports go to {out}")
        watch(source, out, handle, self.console.print, interval, passes)

    def report_each(self, folder: Path, out: Path) -> None:
        """Every study of a folder, with a progress bar."""
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        from medvlm.reporting.batch import find_jobs, report_batch

        jobs = find_jobs(folder)
        columns = (TextColumn("reports"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=self.console) as bar:
            todo = sum(not (out / job.name / "report.json").is_file() for job in jobs)
            task = bar.add_task("reports", total=todo)
            outcome = report_batch(
                jobs,
                self.experts,
                out,
                self.options,
                self.writer,
                self.untrained,
                self.modality,
                lambda name: bar.advance(task),
            )
        for name in (*outcome.before, *outcome.done):
            if self.to is not None and (out / name / "dicom").is_dir():
                self.send(out / name)
        self.console.print(f"{len(outcome.done)} reports in {out}, {len(outcome.before)} were there already")
        for count, reason in outcome.retried:
            said = (
                f"the model failed on {count} studies side by side ({reason}); they were asked for in smaller batches"
            )
            self.console.print(said, style="yellow", markup=False)
        for name, reason in outcome.failed:
            self.console.print(f"{name}: failed ({reason})", style="yellow", markup=False)
        if outcome.failed and not outcome.done and not outcome.before:
            raise MedVLMError(f"{folder}: no study could be reported.")


def print_summary(console: Console, report: Report, out: Path) -> None:
    """The report in a few lines: what was read, impression with its support, guideline, doubts, files."""
    from rich.panel import Panel
    from rich.table import Table
    from rich.text import Text

    from medvlm.reporting.text import cite

    used = [f"series {i} of {len(report.series)}" for i, series in enumerate(report.series, 1) if series.used]
    ran = [expert.name for expert in report.experts if expert.ran]
    head = [*used, f"experts: {', '.join(ran) or 'none applies'}", f"text: {report.method.text}"]
    console.print(Text(report.title, style="bold") + Text(" · " + " · ".join(head), style="dim"))

    table = Table.grid(padding=(0, 2))
    for style, no_wrap in (("bold cyan", True), ("", False), ("dim", True)):
        table.add_column(style=style, no_wrap=no_wrap, overflow="fold")
    impression = report.section("impression")
    for number, sentence in enumerate(impression.sentences if impression else (), start=1):
        absent = bool(sentence.findings) and report.finding(sentence.findings[0]).presence == "absent"
        line = sentence.text if report.abstained else f"{number}. {sentence.text}"
        lead = "IMPRESSION" if number == 1 else ""
        table.add_row(
            lead, Text(line, style="" if absent or report.abstained else "bold"), Text(cite(report, sentence))
        )
    comparison = report.section("comparison")
    for number, sentence in enumerate(comparison.sentences if comparison else ()):
        table.add_row("" if number else "COMPARISON", Text(sentence.text), "")
    for guideline in report.guidelines:
        said = [f"{name} {value}" for name, value in guideline.decided]
        said += [f"{name} open: {' or '.join(values)}" for name, values in guideline.open]
        said += [f"violated: {conflict}" for conflict in guideline.conflicts]
        table.add_row("GUIDELINE", Text(f"{guideline.title}: {'; '.join(said)}"), "")
    console.print(Panel(table, border_style="cyan", padding=(0, 1)))
    notes = Table.grid(padding=(0, 2))
    notes.add_column(style="bold yellow", min_width=len("IMPRESSION"))
    notes.add_column(overflow="fold")
    for doubt in report.doubts:
        notes.add_row("WHY" if doubt.kind == "abstained" else "DOUBT", Text(doubt.text))
    console.print(notes)
    names = sorted(path.name for path in out.iterdir() if path.name.startswith("report.") and path.suffix != ".html")
    others = [name for name in ("dicom/", "fhir.json", "findings.csv", "key/", "masks/") if (out / name).exists()]
    files = "  ".join([*(Path(name).suffix for name in names), *others])
    console.print(Text("wrote ") + Text(str(out / "report.html"), style="bold") + Text(f"  {files}"))
    console.print(Text(report.disclaimer, style="bold black on yellow"))


COMMAND = report
