"""Experts gone wrong, on purpose: flipped, doubtful or irrelevant Findings, for trust training and for the trust audit.

A flip changes what a question asks about and nothing else: presence and count turn round, a side, place, grade or
measurement becomes another one that some patient has.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from medvlm.dialogue.practice import PracticePool, scale_finding
from medvlm.dialogue.questions import Family
from medvlm.findings.codes import code
from medvlm.findings.finding import Finding

DOUBTFUL = 0.51
SURE = (0.8, 1.0)
# Far outside every tolerance of a measurement, so that the flipped value is wrong beyond dispute.
LARGER = (1.8, 2.5)


def flip(findings: Sequence[Finding], family: Family, pool: PracticePool, rng: np.random.Generator) -> list[Finding]:
    """Findings that answer a question wrongly.

    Args:
        findings: what is true, or what an expert said.
        family: the question; Findings of other concepts stay as they are.
        pool: gives Findings of other patients where something has to be made up.
        rng: of the draws.
    """
    if not family.concept:
        return list(findings)
    concept = code(family.concept)
    own = [finding for finding in findings if finding.concept == concept]
    others = [finding for finding in findings if finding.concept != concept]
    present = [finding for finding in own if finding.presence == "present"]
    if family.what in ("present", "count"):
        changed = [_absent(present[0])] if present else pool.some(concept, rng)
    elif family.what in ("side", "site", "grade"):
        changed = [_other(finding, family.what, pool, rng) for finding in own]
    else:
        factor = float(rng.uniform(*LARGER)) ** (1 if rng.random() < 0.5 else -1)
        changed = [scale_finding(finding, factor, family.what) for finding in own]
    first = next((index for index, finding in enumerate(findings) if finding.concept == concept), len(others))
    return [*others[:first], *(changed or own), *others[first:]]


def doubt(findings: Sequence[Finding], confidence: float = DOUBTFUL) -> list[Finding]:
    """The same Findings, said with little confidence."""
    return [_stated(finding, confidence) for finding in findings]


def confident(findings: Sequence[Finding], rng: np.random.Generator) -> tuple[Finding, ...]:
    """The same Findings, each said with a confidence drawn evenly from `SURE`.

    Right and wrong Findings go through it alike, so that the number does not give the wrong ones away.
    """
    return tuple(_stated(finding, round(float(rng.uniform(*SURE)), 2)) for finding in findings)


def _stated(finding: Finding, confidence: float) -> Finding:
    return replace(finding, probability=1 - confidence if finding.presence == "absent" else confidence)


def irrelevant(findings: Sequence[Finding], family: Family) -> list[Finding]:
    """What the same expert says about everything but the question."""
    return [finding for finding in findings if finding.concept != code(family.concept)]


def _absent(finding: Finding) -> Finding:
    stem = finding.id.rpartition("-")[0] or finding.id
    bare = replace(finding, id=f"{stem}-0", presence="absent", laterality=None, site=None, grade=None, evidence=())
    measured = tuple(replace(row, value=row.value * 0.8) for row in finding.measurements if row.unit == "1")
    return replace(bare, measurements=measured, probability=0.05)


def _other(finding: Finding, what: str, pool: PracticePool, rng: np.random.Generator) -> Finding:
    """The same Finding with another side, place or grade."""
    if what == "side":
        left = finding.laterality == code("left")
        return replace(finding, laterality=code("right" if left else "left"), evidence=())
    donors = pool.present.get(finding.concept, [])
    if what == "grade":
        grades = sorted({donor.grade for donor in donors if donor.grade} - {finding.grade or ""})
        return replace(finding, grade=grades[int(rng.integers(len(grades)))]) if grades else finding
    places = {(donor.laterality, donor.site) for donor in donors if (donor.laterality, donor.site) != _place(finding)}
    ordered = sorted(places, key=str)
    if not ordered:
        return finding
    laterality, site = ordered[int(rng.integers(len(ordered)))]
    return replace(finding, laterality=laterality, site=site, evidence=())


def _place(finding: Finding) -> tuple[object, object]:
    return finding.laterality, finding.site
