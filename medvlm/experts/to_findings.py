"""A network's output and the rules of `findings.yaml` → Findings."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from medvlm.experts.bundle import Bundle
from medvlm.experts.calibration import calibrated_probability
from medvlm.experts.infer import Prediction
from medvlm.experts.spec import Rule
from medvlm.findings.codes import code
from medvlm.findings.finding import Code, Evidence, Finding, Measurement, Provenance
from medvlm.findings.measure import (
    Component,
    cardiothoracic_ratio,
    components,
    midline,
    side,
    superior_axis,
    surrounding_label,
)
from medvlm.imaging.study import Volume


@dataclass(frozen=True, eq=False)
class Reading:
    """One run of an expert on one series: what the rules read."""

    bundle: Bundle
    study: str
    series: str
    volume: Volume
    prediction: Prediction
    weights: str

    @property
    def mask(self) -> np.ndarray:
        return self.prediction.mask

    @property
    def provenance(self) -> Provenance:
        return Provenance(self.bundle.name, self.bundle.version, self.weights)

    def number(self, structure: str) -> int:
        """The label number of a structure's name."""
        return next(number for number, name in self.bundle.labels.items() if name == structure)

    def numbers(self, structures: tuple[str, ...]) -> list[int]:
        return [self.number(name) for name in structures]


def read_findings_of(reading: Reading) -> tuple[Finding, ...]:
    """All Findings of one run, in the order of the rules."""
    kinds = {"components": _components, "region": _region, "ratio": _ratio, "class": _class}
    return tuple(finding for rule in reading.bundle.spec.rules for finding in kinds[rule.kind](rule, reading))


def _components(rule: Rule, reading: Reading) -> Iterator[Finding]:
    """One Finding an object, from the largest long axis to the smallest, or one that says there is none."""
    label = reading.number(rule.label)
    kept = []
    best_rejected = 0.0
    for part in components(reading.mask, reading.volume, label, rule.minimum_ml):
        inside = reading.prediction.at(label, np.argwhere(part.mask) + _start(part), reading.volume)
        score = float(inside.mean())
        if float(inside.max()) < rule.minimum_peak or (part.long_axis or math.inf) < rule.minimum_mm:
            best_rejected = max(best_rejected, score)
        else:
            kept.append((part, score))
    if not kept:
        yield _absent(rule, reading, best_rejected)
    kept.sort(key=lambda item: (-(item[0].long_axis or 0.0), item[0].number))
    for number, (part, score) in enumerate(kept, start=1):
        laterality, site = _place(rule, part, reading)
        yield Finding(
            id=f"{rule.id}-{number}",
            study=reading.study,
            concept=code(rule.concept),
            presence="present",
            laterality=laterality,
            site=site,
            grade=_grade(rule, part, reading.volume),
            measurements=_measurements(rule, part),
            evidence=(part.evidence(reading.series),),
            provenance=reading.provenance,
            **calibrated_probability(rule, score, reading.bundle.calibration),
        )


def _region(rule: Rule, reading: Reading) -> Iterator[Finding]:
    """One Finding a side that holds the structure (one in all where sides are unknown), or one that says none does."""
    label = reading.number(rule.label)
    volume = reading.volume
    parts = components(reading.mask, volume, label, rule.minimum_ml)
    middle = None
    if parts and rule.sides and volume.oriented:
        middle = midline(np.isin(reading.mask, [*reading.numbers(rule.sides), label]), volume)
    grouped: dict[Code | None, list[Component]] = {}
    for part in parts:
        where = side(part.centroid, middle, volume) if middle is not None else None
        grouped.setdefault(where, []).append(part)
    if not grouped:
        yield _absent(rule, reading, _best_evidence(rule, label, reading))
    for where, members in grouped.items():
        voxels = np.concatenate([np.argwhere(part.mask) + _start(part) for part in members])
        score = float(reading.prediction.at(label, voxels, volume).mean())
        whole = not any(part.touches_border for part in members)
        total = sum(part.volume or 0.0 for part in members)
        measured = (Measurement(code("volume"), round(total, 2), "mL"),) if whole and volume.calibrated else ()
        yield Finding(
            id=f"{rule.id}-{where.meaning.lower()}" if where else f"{rule.id}-1",
            study=reading.study,
            concept=code(rule.concept),
            presence="present",
            laterality=where,
            measurements=measured,
            evidence=tuple(part.evidence(reading.series) for part in members),
            provenance=reading.provenance,
            **calibrated_probability(rule, score, reading.bundle.calibration),
        )


def _ratio(rule: Rule, reading: Reading) -> Iterator[Finding]:
    """One Finding with the ratio, present where it is above the threshold; none where a structure is missing."""
    above, below = reading.numbers(rule.numerator), reading.numbers(rule.denominator)
    if rule.measure == "cardiothoracic_ratio":
        widths = cardiothoracic_ratio(reading.mask, reading.volume, above, below)
        value = None if widths is None else widths.ratio
    else:
        whole = int(np.isin(reading.mask, below).sum())
        value = float(np.isin(reading.mask, above).sum() / whole) if whole else None
    if value is None:
        return
    probability = None
    if rule.threshold is not None:
        tolerance = reading.bundle.calibration.get("tolerances", {}).get(rule.id, rule.tolerance)
        # The chance that the true ratio is above the threshold, with a normal error of the measured one.
        probability = 0.5 * (1.0 + math.erf((value - rule.threshold) / tolerance / math.sqrt(2.0)))
    yield Finding(
        id=rule.id,
        study=reading.study,
        concept=code(rule.concept),
        presence="present" if rule.threshold is None or value > rule.threshold else "absent",
        probability=probability,
        measurements=(Measurement(code(rule.measure), round(value, 4), "1"),),
        evidence=(_organ_evidence(above[0], reading),),
        provenance=reading.provenance,
    )


def _organ_evidence(label: int, reading: Reading) -> Evidence:
    """Where a large structure shows best: the slice with the most of it, without the cost of measuring it whole."""
    plane, flipped = superior_axis(reading.volume.affine)
    own = reading.mask == label
    areas = own.sum(axis=tuple(axis for axis in range(3) if axis != plane))
    best = int(areas.argmax())
    return Evidence(reading.series, label, slice=len(areas) - 1 - best if flipped else best)


def _class(rule: Rule, reading: Reading) -> Iterator[Finding]:
    """The likeliest class as a grade, with its probability."""
    shares = reading.prediction.classes
    best = max(shares, key=lambda name: shares[name])
    yield Finding(
        id=rule.id,
        study=reading.study,
        concept=code(rule.concept),
        presence="present",
        probability=shares[best],
        calibrated="class_temperature" in reading.bundle.calibration,
        grade=best,
        evidence=(Evidence(reading.series),),
        provenance=reading.provenance,
    )


def _absent(rule: Rule, reading: Reading, score: float) -> Finding:
    return Finding(
        id=f"{rule.id}-0",
        study=reading.study,
        concept=code(rule.concept),
        presence="absent",
        evidence=(Evidence(reading.series),),
        provenance=reading.provenance,
        **calibrated_probability(rule, score, reading.bundle.calibration),
    )


def _best_evidence(rule: Rule, label: int, reading: Reading) -> float:
    """How strongly the network hints at a structure it did not draw: the mean of its likeliest `minimum_ml`."""
    affine = reading.prediction.affine
    field = reading.prediction.channel(label).ravel()
    voxel = 1.0 if affine is None else abs(float(np.linalg.det(affine[:3, :3]))) / 1000
    count = min(field.size, max(1, round(rule.minimum_ml / voxel)))
    return float(np.partition(field, -count)[-count:].mean())


def _start(part: Component) -> np.ndarray:
    return np.array([cut.start for cut in part.region])


def _place(rule: Rule, part: Component, reading: Reading) -> tuple[Code | None, Code | None]:
    """Side and site of an object from the structures around it; none where left and right are unknown."""
    if not rule.sites or not reading.volume.oriented:
        return None, None
    number = surrounding_label(part, reading.mask, reading.numbers(tuple(rule.sites)))
    if number is None:
        return None, None
    place = rule.sites[reading.bundle.labels[number]]
    return code(place.side) if place.side else None, code(place.code) if place.code else None


def _grade(rule: Rule, part: Component, volume: Volume) -> str | None:
    if not rule.grades or volume.is_rgb:
        return None
    median = float(np.median(volume.array[part.region][part.mask]))
    return next((grade for grade, limit in rule.grades.items() if median < limit), None)


def _measurements(rule: Rule, part: Component) -> tuple[Measurement, ...]:
    wanted = {code(key) for key in rule.measurements}
    sizes = [row for row in part.measurements() if row.code in wanted]
    if code("mean") in wanted and not math.isnan(part.mean):
        sizes.append(Measurement(code("mean"), part.mean, "[hnsf'U]"))
    return tuple(Measurement(row.code, round(row.value, 3), row.unit) for row in sizes)
