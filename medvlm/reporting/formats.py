"""The formats of a report. `report.json` is the source; every other format is written from it and the kept masks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from medvlm.errors import MedVLMError
from medvlm.imaging.study import Study
from medvlm.reporting.masks import Mask
from medvlm.reporting.report import Report

if TYPE_CHECKING:
    from medvlm.reporting.dicom.seg import SegKind


@dataclass(frozen=True, eq=False)
class Material:
    """What a writer gets.

    Attributes:
        report: what to write.
        study: the images, for formats that show slices or refer to instances.
        masks: the experts' label maps.
        folder: where to write; holds the key images.
        seg: how DICOM segmentations store masks, `binary` or `labelmap`.
    """

    report: Report
    study: Study
    masks: tuple[Mask, ...]
    folder: Path
    seg: SegKind = "binary"


@dataclass(frozen=True)
class Format:
    """One format: its name on the command line, what it is, which extra it needs, and its writer."""

    name: str
    summary: str
    write: Callable[[Material], None]
    extra: str = ""
    modules: tuple[str, ...] = ()

    @property
    def installed(self) -> bool:
        return all(_present(module) for module in self.modules)


def _present(module: str) -> bool:
    """Whether a module can be imported; `find_spec` itself fails where the package around it is missing."""
    packages = [module[:place] for place, sign in enumerate(module) if sign == "."]
    return all(find_spec(name) is not None for name in (*packages, module))


def _text(material: Material) -> None:
    from medvlm.reporting.text import render_text

    (material.folder / "report.txt").write_text(render_text(material.report), encoding="utf-8")


def _markdown(material: Material) -> None:
    from medvlm.reporting.markdown import render_markdown

    (material.folder / "report.md").write_text(render_markdown(material.report), encoding="utf-8")


def _html(material: Material) -> None:
    from medvlm.reporting.html import render_html

    page = render_html(material.report, material.folder, material.study, material.masks)
    (material.folder / "report.html").write_text(page, encoding="utf-8")


def _pdf(material: Material) -> None:
    from medvlm.reporting.pdf import write_pdf

    write_pdf(material.report, material.folder)


def _csv(material: Material) -> None:
    from medvlm.reporting.tables import write_csv

    write_csv(material.report, material.folder / "findings.csv")


def _grounded(material: Material) -> None:
    from medvlm.reporting.grounded import write_grounded

    write_grounded(material.report, material.folder / "grounded.json")


def _fhir(material: Material) -> None:
    from medvlm.reporting.fhir import write_fhir

    write_fhir(material.report, material.folder, material.study)


def _dicom(material: Material) -> None:
    from medvlm.reporting.dicom.write import write_dicom

    pdf = material.folder / "report.pdf"
    pdf_or_none = pdf if pdf.is_file() else None
    write_dicom(material.report, material.study, material.masks, material.folder, pdf_or_none, material.seg)


# In the order of writing: the PDF goes into the FHIR and DICOM envelopes.
FORMATS = {
    one.name: one
    for one in (
        Format("text", "plain text, for a terminal or a mail", _text),
        Format("markdown", "Markdown", _markdown),
        Format("html", "one self-contained page with slices and overlays", _html),
        Format("csv", "one row a measurement", _csv),
        Format("grounded", "sentences with boxes, for scorers", _grounded),
        Format("pdf", "for printing and sending", _pdf, "pdf", ("weasyprint",)),
        Format(
            "fhir", "HL7 FHIR R4 bundle: DiagnosticReport, Observations, Devices", _fhir, "fhir", ("fhir.resources",)
        ),
        Format("dicom", "SEG, SR, Encapsulated PDF, key images and their selection", _dicom, "dicom", ("highdicom",)),
    )
}


def choose_formats(names: Sequence[str] | None) -> tuple[list[Format], list[Format]]:
    """The formats of these names, or every one whose packages are installed.

    Returns:
        The formats to write and, where no names are given, those that cannot be written for want of a package.

    Raises:
        MedVLMError: an unknown name, or a named format whose packages are missing (names the extra).
    """
    if names is None:
        return [f for f in FORMATS.values() if f.installed], [f for f in FORMATS.values() if not f.installed]
    for name in names:
        if name not in FORMATS and name != "json":
            raise MedVLMError(f"no report format '{name}'; there are: json, {', '.join(FORMATS)}.")
        if name in FORMATS and not FORMATS[name].installed:
            extra = FORMATS[name].extra
            raise MedVLMError(f"the format '{name}' needs: pip install 'medvlm-specialist[{extra}]'.")
    return [one for name, one in FORMATS.items() if name in names], []
