"""Practice findings: made-up expert results that teach a model to read what it is shown, not to recall a patient.

They are recombined from the training cohort: as many Findings as some study has, each drawn from some study, with its
size varied. The picture of no patient fits them, so practice conversations are shown without one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from medvlm.findings.codes import code
from medvlm.findings.finding import Code, Finding, Measurement

# One factor scales a Finding: lengths by it, areas by its square, volumes by its cube.
_POWER = {"mm": 1, "mm2": 2, "cm2": 2, "mm3": 3, "cm3": 3, "mL": 3}


class PracticePool:
    """The Findings of a training cohort, ready to be recombined."""

    def __init__(self, studies: Sequence[Sequence[Finding]]) -> None:
        """
        Args:
            studies: Findings of each training study (and of no other split).
        """
        self.counts: dict[Code, list[int]] = defaultdict(list)
        self.present: dict[Code, list[Finding]] = defaultdict(list)
        self.absent: dict[Code, list[Finding]] = defaultdict(list)
        concepts = list(dict.fromkeys(finding.concept for study in studies for finding in study))
        for study in studies:
            for concept in concepts:
                same = [finding for finding in study if finding.concept == concept]
                shown = [finding for finding in same if finding.presence == "present"]
                self.counts[concept].append(len(shown))
                self.present[concept] += shown
                self.absent[concept] += [finding for finding in same if finding.presence != "present"]

    def draw(self, rng: np.random.Generator) -> tuple[Finding, ...]:
        """One made-up set of Findings, in the order an expert gives them: by concept, the largest first."""
        drawn: list[Finding] = []
        for concept, counts in self.counts.items():
            number = int(rng.choice(counts))
            if number:
                present = [self._vary(_pick(self.present[concept], rng), rng) for _ in range(number)]
                drawn += _number(sorted(_one_a_side(present), key=_length, reverse=True))
            elif self.absent[concept]:
                drawn.append(_pick(self.absent[concept], rng))
        return tuple(drawn)

    def some(self, concept: Code, rng: np.random.Generator) -> list[Finding]:
        """Findings of one concept that are present, as many as some study has; none where no study has any."""
        numbers = [count for count in self.counts.get(concept, []) if count]
        if not numbers:
            return []
        drawn = [self._vary(_pick(self.present[concept], rng), rng) for _ in range(int(rng.choice(numbers)))]
        return _number(sorted(_one_a_side(drawn), key=_length, reverse=True))

    def _vary(self, finding: Finding, rng: np.random.Generator) -> Finding:
        """The same Finding in another size; a length is drawn evenly over the range of its concept."""
        length = _length(finding)
        if length:
            lengths = [_length(other) for other in self.present[finding.concept]]
            factor = rng.uniform(min(lengths), max(lengths)) / length
        else:
            factor = float(np.exp(rng.uniform(-0.25, 0.25)))
        measurements = tuple(_scale(measurement, factor) for measurement in finding.measurements)
        probability = None if finding.probability is None else round(float(rng.uniform(0.5, 1.0)), 2)
        return replace(finding, measurements=measurements, probability=probability, evidence=())


def _pick(findings: Sequence[Finding], rng: np.random.Generator) -> Finding:
    return findings[int(rng.integers(len(findings)))]


def _scale(measurement: Measurement, factor: float) -> Measurement:
    power = _POWER.get(measurement.unit)
    return measurement if power is None else replace(measurement, value=measurement.value * factor**power)


def scale_finding(finding: Finding, factor: float, measurement: str) -> Finding:
    """A Finding in another size: all lengths, areas and volumes, and the named measurement whatever its unit is."""
    wanted = code(measurement)
    changed = []
    for row in finding.measurements:
        scaled = _scale(row, factor)
        if row.code == wanted and row.unit not in _POWER:
            scaled = replace(row, value=row.value * factor)
        changed.append(scaled)
    return replace(finding, measurements=tuple(changed), evidence=())


def _length(finding: Finding) -> float:
    for measurement in finding.measurements:
        if measurement.code == code("long_axis"):
            return measurement.value
    return 0.0


def _one_a_side(findings: list[Finding]) -> list[Finding]:
    """Findings without a site (an effusion) are at most one a side; the ones with a site (a nodule) are free."""
    kept: dict[object, Finding] = {}
    for index, finding in enumerate(findings):
        kept.setdefault(finding.laterality if finding.site is None else index, finding)
    return list(kept.values())


def _number(findings: list[Finding]) -> list[Finding]:
    """Ids of their own, so that two draws of one Finding differ."""
    stems = [finding.id.rpartition("-")[0] or finding.id for finding in findings]
    return [replace(finding, id=f"{stem}-{number}") for number, (stem, finding) in enumerate(zip(stems, findings), 1)]
