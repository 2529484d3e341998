"""Exam types: what a report of this kind of study is called, must cover, and which guidelines go with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from typing import Any

import yaml

from medvlm.findings.codes import code
from medvlm.findings.finding import Code, Finding
from medvlm.imaging.study import Series


@dataclass(frozen=True)
class Exam:
    """One row of `exams.yaml`.

    Attributes:
        key: its name in the file.
        name: title of the report; `""`: made from modality and body part.
        procedure: LOINC code.
        covers: structure → codes of the concepts that speak of it.
        pathways: guideline → assumed values.
    """

    key: str
    name: str
    procedure: Code
    covers: Mapping[str, tuple[Code, ...]] = field(default_factory=dict)
    pathways: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    modality: tuple[str, ...] = ()
    body_part: tuple[str, ...] = ()

    def uncovered(self, findings: Sequence[Finding]) -> list[str]:
        """The structures that a reader expects in such a report and that no Finding speaks of."""
        known = {finding.concept for finding in findings}
        return [name for name, concepts in self.covers.items() if not known & set(concepts)]


@cache
def exams() -> tuple[Exam, ...]:
    """All exam types, in the order in which they are tried."""
    rows = yaml.safe_load(resources.files("medvlm.reporting").joinpath("exams.yaml").read_text("utf-8"))
    return tuple(
        Exam(
            key=key,
            name=row["name"],
            procedure=Code(row["procedure"][0], "LN", row["procedure"][1]),
            covers={name: tuple(code(concept) for concept in keys) for name, keys in row.get("covers", {}).items()},
            pathways={name: assumed or {} for name, assumed in row.get("pathways", {}).items()},
            modality=tuple(row.get("modality", ())),
            body_part=tuple(row.get("body_part", ())),
        )
        for key, row in rows.items()
    )


def exam_of(series: Sequence[Series]) -> Exam:
    """The exam type of the series that were read, by the first of them."""
    for exam in exams():
        if not exam.modality:
            return exam
        if series and series[0].modality in exam.modality and series[0].body_part in exam.body_part:
            return exam
    raise AssertionError("exams.yaml ends with an entry that fits everything")


def exam_named(title: str) -> Exam:
    """The exam type of a report, by its title."""
    return next((exam for exam in exams() if exam.name == title), exams()[-1])
