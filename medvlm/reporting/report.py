"""Report: sections of sentences, each tied to the Findings that support it; the source of every format."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from medvlm.errors import MedVLMError
from medvlm.findings.finding import Finding
from medvlm.storage import read_json, write_json

SCHEMA_VERSION = 1
DISCLAIMER = "RESEARCH DRAFT - NOT FOR DIAGNOSIS"
SECTIONS = ("impression", "findings", "technique")

Source = Literal["measurement", "model", "notice"]
DoubtKind = Literal["removed", "omitted", "uncertain", "geometry", "input", "abstained"]


@dataclass(frozen=True)
class Sentence:
    """One sentence and its support.

    Attributes:
        text: plain text, no markup.
        findings: ids of the Findings that support it.
        source: `measurement` (verbalised from Findings), `model` (written by the VLM and checked against Findings) or
            `notice` (about the input or the method; asserts no clinical fact and so needs no Finding).
    """

    text: str
    findings: tuple[str, ...] = ()
    source: Source = "measurement"


@dataclass(frozen=True)
class Section:
    """A titled list of sentences; `key` is one of `SECTIONS`."""

    key: str
    title: str
    sentences: tuple[Sentence, ...]


@dataclass(frozen=True)
class Doubt:
    """Something the reader must know before believing the report.

    `kind`: `removed` (the model wrote it, no Finding supports it), `omitted` (measured, the model left it out),
    `uncertain` (an expert is not sure), `geometry` (no millimetres or no sides), `input` (the reader of the files
    skipped or repaired something), `abstained` (no expert fits).
    """

    kind: DoubtKind
    text: str
    findings: tuple[str, ...] = ()


@dataclass(frozen=True)
class KeyImage:
    """A picture of the evidence.

    Attributes:
        file: PNG without overlay, relative to the report folder.
        overlay: the same picture with the expert's mask, or None.
        caption: one line.
        series: uid of the series.
        findings: ids of the Findings it shows.
        slice: index along the canonical superior axis, or None (an overview).
        window: `(centre, width)` shown, or None where the whole range is.
    """

    file: str
    caption: str
    series: str
    overlay: str | None = None
    findings: tuple[str, ...] = ()
    slice: int | None = None
    window: tuple[float, float] | None = None


@dataclass(frozen=True)
class ExpertUse:
    """One known expert: whether it ran, on what, why (not), and what it cannot do."""

    name: str
    version: str
    summary: str
    ran: bool
    reason: str
    weights: str = ""
    series: str | None = None
    seconds: float | None = None
    limits: str = ""


@dataclass(frozen=True)
class SeriesUse:
    """One series of the study as it was read. `spacing` in mm; None where the pixels are not calibrated."""

    uid: str
    modality: str
    description: str
    body_part: str
    used: bool
    shape: tuple[int, ...] = ()
    spacing: tuple[float, ...] | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Method:
    """How the report was made. `model` is None when the text comes from the measurements alone."""

    medvlm: str
    created: str
    text: str
    model: str | None = None
    model_weights: str = ""


@dataclass(frozen=True)
class Report:
    """A structured result.

    The constructor refuses a report that asserts what nothing supports: a sentence that is not a notice cites at
    least one Finding, and every id cited anywhere is a Finding of this report.
    """

    study: str
    title: str
    sections: tuple[Section, ...]
    method: Method
    findings: tuple[Finding, ...] = ()
    doubts: tuple[Doubt, ...] = ()
    images: tuple[KeyImage, ...] = ()
    experts: tuple[ExpertUse, ...] = ()
    series: tuple[SeriesUse, ...] = ()
    disclaimer: str = field(default=DISCLAIMER)

    def __post_init__(self) -> None:
        known = {finding.id for finding in self.findings}
        for section in self.sections:
            if section.key not in SECTIONS:
                raise ValueError(f"unknown section {section.key!r}")
        for sentence in self.sentences():
            if sentence.source != "notice" and not sentence.findings:
                raise ValueError(f"no Finding supports the sentence {sentence.text!r}")
        cited: list[Sentence | Doubt | KeyImage] = [*self.sentences(), *self.doubts, *self.images]
        unknown = {identifier for item in cited for identifier in item.findings} - known
        if unknown:
            raise ValueError(f"findings that are not in the report: {sorted(unknown)}")
        if self.disclaimer != DISCLAIMER:
            raise ValueError("the disclaimer of a report cannot be changed")

    @property
    def abstained(self) -> bool:
        """No expert ran, so nothing is asserted."""
        return not any(expert.ran for expert in self.experts)

    def sentences(self) -> Iterator[Sentence]:
        """All sentences in reading order."""
        for section in self.sections:
            yield from section.sentences

    def section(self, key: str) -> Section | None:
        """The section with that key, or None."""
        return next((section for section in self.sections if section.key == key), None)

    def finding(self, identifier: str) -> Finding:
        """The Finding with that id."""
        return next(finding for finding in self.findings if finding.id == identifier)

    def to_json(self) -> dict[str, Any]:
        """A JSON object that `reporting/schema.json` describes."""
        data = asdict(self) | {"findings": [finding.to_json() for finding in self.findings]}
        return {"schema": SCHEMA_VERSION, "abstained": self.abstained} | _lists(data)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Report:
        """The inverse of `to_json`.

        Raises:
            MedVLMError: a field is missing or of the wrong type, or the schema version is not ours.
        """
        fields = dict(data)
        version = fields.pop("schema", None)
        if version != SCHEMA_VERSION:
            raise MedVLMError(f"a report of schema {version!r} cannot be read; this version reads {SCHEMA_VERSION}.")
        fields.pop("abstained", None)
        try:
            sections = (
                Section(row["key"], row["title"], tuple(Sentence(**_tuples(s)) for s in row["sentences"]))
                for row in fields["sections"]
            )
            return cls(
                **fields
                | {
                    "sections": tuple(sections),
                    "method": Method(**fields["method"]),
                    "findings": tuple(Finding.from_json(row) for row in fields["findings"]),
                    "doubts": tuple(Doubt(**_tuples(row)) for row in fields["doubts"]),
                    "images": tuple(KeyImage(**_tuples(row)) for row in fields["images"]),
                    "experts": tuple(ExpertUse(**row) for row in fields["experts"]),
                    "series": tuple(SeriesUse(**_tuples(row)) for row in fields["series"]),
                }
            )
        except (KeyError, TypeError, ValueError) as error:
            raise MedVLMError(f"not a report: {error}.") from None


def _lists(value: Any) -> Any:
    """Tuples as lists, all the way down: what JSON gives back."""
    if isinstance(value, dict):
        return {key: _lists(item) for key, item in value.items()}
    return [_lists(item) for item in value] if isinstance(value, list | tuple) else value


def _tuples(row: dict[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in row.items()}


def read_report(path: Path) -> Report:
    """Read a report from its folder or its `report.json`.

    Raises:
        MedVLMError: the file is missing or is not a report (names the file).
    """
    path = Path(path)
    path = path / "report.json" if path.is_dir() else path
    try:
        return Report.from_json(read_json(path))
    except MedVLMError as error:
        raise MedVLMError(str(error) if str(path) in str(error) else f"{path}: {error}") from None


def write_report_json(path: Path, report: Report) -> None:
    """Write `report.json`, the source of every other format."""
    write_json(path, report.to_json())
