"""The one currency of clinical facts: Finding, its codes, how masks become numbers and numbers become text."""

from medvlm.findings.codes import code, concept_of
from medvlm.findings.finding import (
    Code,
    Evidence,
    Finding,
    Measurement,
    Provenance,
    read_findings,
    write_findings,
)
from medvlm.findings.parse import parse_short
from medvlm.findings.verbalise import verbalise

__all__ = [
    "Code",
    "Evidence",
    "Finding",
    "Measurement",
    "Provenance",
    "code",
    "concept_of",
    "parse_short",
    "read_findings",
    "verbalise",
    "write_findings",
]
