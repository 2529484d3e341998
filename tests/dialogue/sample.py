"""Findings of a chest, and an expert that needs no weights."""

from __future__ import annotations

from dataclasses import dataclass, field

from medvlm.dialogue.build import StudyFacts
from medvlm.errors import MedVLMError
from medvlm.experts.card import ExpertCard, ExpertResult
from medvlm.findings.codes import code
from medvlm.findings.finding import Finding, Measurement, Provenance
from medvlm.imaging.cohort import CohortEntry

CONCEPTS = {"nodules": "lung_nodule", "effusion": "pleural_effusion", "heart": "cardiomegaly"}
SOURCE = Provenance("chest_ct", "1.0")


def nodule(number: int, size: float, side: str = "right", lobe: str = "upper_lobe", grade: str = "solid") -> Finding:
    measured = (Measurement(code("long_axis"), size, "mm"), Measurement(code("volume"), size**3 / 1910, "mL"))
    return Finding(
        f"nodule-{number}",
        "study",
        code("lung_nodule"),
        "present",
        SOURCE,
        0.9,
        laterality=code(side),
        site=code(lobe),
        grade=grade,
        measurements=measured,
    )


def effusion(side: str, volume: float) -> Finding:
    measured = (Measurement(code("volume"), volume, "mL"),)
    concept = code("pleural_effusion")
    return Finding(
        f"effusion-{side}", "study", concept, "present", SOURCE, 0.98, laterality=code(side), measurements=measured
    )


def heart(ratio: float) -> Finding:
    measured = (Measurement(code("cardiothoracic_ratio"), ratio, "1"),)
    presence = "present" if ratio > 0.5 else "absent"
    return Finding("heart", "study", code("cardiomegaly"), presence, SOURCE, 0.97, measurements=measured)


def absent(concept: str) -> Finding:
    return Finding(f"{concept}-0", "study", code(concept), "absent", SOURCE, 0.02)


@dataclass
class FakeExpert:
    """Says what it is given; counts its runs."""

    findings: tuple[Finding, ...] = ()
    failure: str = ""
    runs: list[str] = field(default_factory=list)
    card = ExpertCard(
        name="chest_ct",
        version="1.0",
        modality=("CT",),
        body_part=("chest",),
        task="segmentation",
        summary="finds nodules, effusion and an enlarged heart",
        arguments={
            "nodules": "number and size",
            "effusion": "side and volume",
            "heart": "ratio",
            "everything": "all of these",
        },
        accuracy={"nodule_dice": 0.871},
        limits="never saw a patient",
    )

    def run(self, study) -> ExpertResult:
        self.runs.append(study.uid)
        if self.failure:
            raise MedVLMError(self.failure)
        return ExpertResult("chest_ct", self.findings, "series")

    def select(self, findings: tuple[Finding, ...], argument: str) -> tuple[Finding, ...]:
        if argument in ("", "everything"):
            return findings
        return tuple(finding for finding in findings if finding.concept == code(CONCEPTS[argument]))


def study_facts(identity: str, split: str, truth: tuple[Finding, ...], shown: tuple[Finding, ...]) -> StudyFacts:
    entry = CohortEntry(identity, f"patient-{identity}", split, f"studies/{identity}")  # type: ignore[arg-type]
    return StudyFacts(entry, f"images/{identity}.png", truth, shown)
