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
SECTIONS = ("indication", "impression", "comparison", "findings", "technique")

Source = Literal["measurement", "model", "notice"]
DoubtKind = Literal[
    "removed", "contradiction", "omitted", "uncertain", "guideline", "not assessed", "geometry", "input", "abstained"
]


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

    `kind`: `removed` (the model wrote it, no Finding supports it), `contradiction` (the model wrote it, a Finding says
    otherwise), `omitted` (measured, the model left it out), `uncertain` (an expert is not sure), `guideline` (the
    findings do not go together under the guideline), `not assessed` (no expert looked at it), `geometry` (no
    millimetres or no sides), `input` (the reader of the files skipped or repaired something), `abstained` (no expert
    fits).
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
        slice: index along the canonical axis that `plane` cuts, or None (an overview, a single image).
        window: `(centre, width)` shown, or None where the whole range is.
        plane: how the volume is cut.
        box: `(x min, y min, x max, y max)` of the finding as fractions of the slice without margins, or None.
    """

    file: str
    caption: str
    series: str
    overlay: str | None = None
    findings: tuple[str, ...] = ()
    slice: int | None = None
    window: tuple[float, float] | None = None
    plane: str = "axial"
    box: tuple[float, float, float, float] | None = None


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
class MaskFile:
    """The label map of one expert, kept with the report so that every writer draws and counts the same voxels.

    Attributes:
        file: NIfTI on the grid of the series, relative to the report folder.
        series: uid of the series.
        expert: who drew it.
        labels: `(label number, structure)`.
    """

    file: str
    series: str
    expert: str
    labels: tuple[tuple[int, str], ...] = ()


@dataclass(frozen=True)
class Guideline:
    """What a clinical pathway says about the findings.

    Attributes:
        pathway: its id.
        title: guideline and version, as people cite it.
        known: `(variable, value)` that the findings decide.
        decided: `(outcome, value)` that follow, whatever is still unknown.
        open: `(outcome, values still possible)`.
        missing: questions whose answers would narrow an open outcome.
        conflicts: why the known values cannot all be true, one sentence each.
        findings: ids of the Findings it was decided from.
    """

    pathway: str
    title: str
    known: tuple[tuple[str, str], ...] = ()
    decided: tuple[tuple[str, str], ...] = ()
    open: tuple[tuple[str, tuple[str, ...]], ...] = ()
    missing: tuple[str, ...] = ()
    conflicts: tuple[str, ...] = ()
    findings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Change:
    """One Finding against the earlier study.

    `status`: `new`, `larger`, `smaller`, `stable`, `resolved` (only in the earlier study: `finding` is None) or
    `unchanged` (nothing to measure). `before` and `after` are values of `measure` in `unit`.
    """

    status: str
    finding: str | None = None
    prior: str | None = None
    measure: str = ""
    unit: str = ""
    before: float | None = None
    after: float | None = None


@dataclass(frozen=True)
class Revision:
    """One step of the corrected mode: a sentence, why it could not stay, and what stands in its place (or nothing).

    `source`: `model` (it wrote another one), `constrained` (it chose among its own sentence with measured sides, sites,
    grades and numbers), `measurement` (the sentence of a Finding) or `nothing`.
    """

    written: str
    reason: str
    replaced: str = ""
    source: Literal["model", "constrained", "measurement", "nothing"] = "nothing"


@dataclass(frozen=True)
class Method:
    """How the report was made. `model` is None when the text comes from the measurements alone; it then needs no seed:
    models write greedily, so the same model and study give the same text."""

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
    masks: tuple[MaskFile, ...] = ()
    guidelines: tuple[Guideline, ...] = ()
    changes: tuple[Change, ...] = ()
    prior: tuple[Finding, ...] = ()
    revisions: tuple[Revision, ...] = ()
    disclaimer: str = field(default=DISCLAIMER)

    def __post_init__(self) -> None:
        known = {finding.id for finding in (*self.findings, *self.prior)}
        for section in self.sections:
            if section.key not in SECTIONS:
                raise ValueError(f"unknown section {section.key!r}")
        for sentence in self.sentences():
            if sentence.source != "notice" and not sentence.findings:
                raise ValueError(f"no Finding supports the sentence {sentence.text!r}")
        cited: list[Sentence | Doubt | KeyImage | Guideline]
        cited = [*self.sentences(), *self.doubts, *self.images, *self.guidelines]
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
        """The Finding with that id, of this study or of the earlier one (`prior-nodule-1`)."""
        return next(finding for finding in (*self.findings, *self.prior) if finding.id == identifier)

    def to_json(self) -> dict[str, Any]:
        """A JSON object that `reporting/schema.json` describes."""
        written = {name: [finding.to_json() for finding in getattr(self, name)] for name in ("findings", "prior")}
        data = asdict(self) | written
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
                    "prior": tuple(Finding.from_json(row) for row in fields.get("prior", ())),
                    "masks": tuple(MaskFile(**_deep(row)) for row in fields.get("masks", ())),
                    "guidelines": tuple(Guideline(**_deep(row)) for row in fields.get("guidelines", ())),
                    "changes": tuple(Change(**row) for row in fields.get("changes", ())),
                    "revisions": tuple(Revision(**row) for row in fields.get("revisions", ())),
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


def _deep(row: dict[str, Any]) -> dict[str, Any]:
    """A row with lists as tuples, all the way down."""

    def made(value: Any) -> Any:
        return tuple(made(item) for item in value) if isinstance(value, list) else value

    return {key: made(value) for key, value in row.items()}


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
