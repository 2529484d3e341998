"""Finding: one typed, coded clinical fact. The only way clinical facts travel through the package."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from medvlm.errors import MedVLMError
from medvlm.storage import read_jsonl, write_jsonl

SCHEMA_VERSION = 1
Presence = Literal["present", "absent", "uncertain"]


@dataclass(frozen=True)
class Code:
    """A coded concept: `scheme` is `SCT`, `RADLEX`, `DCM`, `UCUM`, `LN` or `MEDVLM` (ours, where no code fits)."""

    value: str
    scheme: str
    meaning: str


@dataclass(frozen=True)
class Measurement:
    """A number with a coded meaning and a UCUM unit (`mm`, `mL`, `[hnsf'U]`, `1`)."""

    code: Code
    value: float
    unit: str


@dataclass(frozen=True)
class Evidence:
    """Where the fact can be seen.

    Attributes:
        series: uid of the series.
        label: number of the structure in the expert's mask, or None.
        component: number of the connected component within that label (1 = largest), or None.
        slice: index of the best slice along the canonical superior axis, or None.
        centroid: RAS+ millimetres, or None.
        box: RAS+ millimetres `(min x, min y, min z, max x, max y, max z)`, or None.
    """

    series: str
    label: int | None = None
    component: int | None = None
    slice: int | None = None
    centroid: tuple[float, float, float] | None = None
    box: tuple[float, float, float, float, float, float] | None = None


@dataclass(frozen=True)
class Provenance:
    """Who says so: `expert` (or `truth`, `reader`), its version and the SHA-256 of its weights."""

    expert: str
    version: str
    weights: str = ""


@dataclass(frozen=True)
class Finding:
    """One typed, coded clinical fact.

    Attributes:
        id: unique within the study (`nodule-1`).
        study: uid of the study.
        concept: what it is about.
        presence: `present`, `absent` or `uncertain`.
        probability: that it is present, 0..1, or None where not estimated.
        calibrated: `probability` was calibrated on held-out data.
        laterality: coded side, or None.
        site: coded location (a lobe), or None.
        grade: a graded attribute as text (`solid`, `part-solid`, `enlarged`), or None.
        measurements: numbers with units.
        evidence: where to look.
        provenance: who says so.
    """

    id: str
    study: str
    concept: Code
    presence: Presence
    provenance: Provenance
    probability: float | None = None
    calibrated: bool = False
    laterality: Code | None = None
    site: Code | None = None
    grade: str | None = None
    measurements: tuple[Measurement, ...] = ()
    evidence: tuple[Evidence, ...] = ()

    def __post_init__(self) -> None:
        if self.presence not in ("present", "absent", "uncertain"):
            raise ValueError(f"presence is present, absent or uncertain, not {self.presence!r}")
        if self.probability is not None and not 0.0 <= self.probability <= 1.0:
            raise ValueError(f"a probability is between 0 and 1, not {self.probability}")

    @property
    def confidence(self) -> float | None:
        """Probability of what the Finding says: of presence, or of absence where it says absent; None if unknown."""
        if self.probability is None or self.presence != "absent":
            return self.probability
        return 1.0 - self.probability

    def measure(self, meaning: str) -> float | None:
        """The value of the measurement with that code meaning (`"Long axis"`), or None."""
        for measurement in self.measurements:
            if measurement.code.meaning == meaning:
                return measurement.value
        return None

    def to_json(self) -> dict[str, Any]:
        """A JSON object that `findings/schema.json` describes; None and empty fields are left out."""
        return {"schema": SCHEMA_VERSION} | _prune(asdict(self))

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Finding:
        """The inverse of `to_json`.

        Raises:
            MedVLMError: a field is missing or of the wrong type, or the schema version is not ours.
        """
        fields: dict[str, Any] = dict(data)
        version = fields.pop("schema", None)
        if version != SCHEMA_VERSION:
            raise MedVLMError(f"a Finding of schema {version!r} cannot be read; this version reads {SCHEMA_VERSION}.")
        try:
            for name in ("concept", "laterality", "site"):
                if fields.get(name) is not None:
                    fields[name] = Code(**fields[name])
            fields["provenance"] = Provenance(**fields["provenance"])
            fields["measurements"] = tuple(
                Measurement(Code(**row["code"]), float(row["value"]), row["unit"])
                for row in fields.get("measurements", ())
            )
            fields["evidence"] = tuple(_evidence(row) for row in fields.get("evidence", ()))
            return cls(**fields)
        except (KeyError, TypeError, ValueError) as error:
            raise MedVLMError(f"not a Finding: {error}.") from None


def _evidence(row: dict[str, Any]) -> Evidence:
    fields: dict[str, Any] = {key: tuple(item) if isinstance(item, list) else item for key, item in row.items()}
    return Evidence(**fields)


def _prune(value: Any) -> Any:
    """Drop None and empty containers from nested dictionaries."""
    if isinstance(value, dict):
        pruned = {key: _prune(item) for key, item in value.items()}
        return {key: item for key, item in pruned.items() if item is not None and item != () and item != []}
    if isinstance(value, list | tuple):
        return [_prune(item) for item in value]
    return value


def write_findings(path: Path, findings: Iterable[Finding]) -> int:
    """Write Findings as JSON Lines and return their number."""
    return write_jsonl(path, (finding.to_json() for finding in findings))


def read_findings(path: Path) -> list[Finding]:
    """Read Findings from JSON Lines.

    Raises:
        MedVLMError: the file is missing or a line is not a Finding (names file and line).
    """
    findings = []
    for number, row in enumerate(read_jsonl(path), start=1):
        try:
            findings.append(Finding.from_json(row))
        except MedVLMError as error:
            raise MedVLMError(f"{path}, line {number}: {error}") from None
    return findings
