"""A network's output and the rules of `findings.yaml` → Findings."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from medvlm.experts.bundle import Bundle
from medvlm.experts.calibration import calibrated_probability
from medvlm.experts.infer import Prediction
from medvlm.experts.spec import Rule
from medvlm.experts.symmetry import asymmetry
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
    argument: str = ""

    @property
    def mask(self) -> np.ndarray:
        return self.prediction.mask

    def mask_of(self, structure: str) -> np.ndarray:
        """The label map in which a structure has its own number; of a union, all parts carry that of the first."""
        parts = self.numbers(self.bundle.spec.unions.get(structure, ()))
        if len(parts) < 2:
            return self.mask
        return np.where(np.isin(self.mask, parts), np.array(parts[0], self.mask.dtype), np.array(0, self.mask.dtype))

    def field(self, structure: str) -> np.ndarray:
        """Probability of a structure or union on the working grid."""
        row = getattr(self.prediction, "named", {}).get(structure)
        if row is not None:
            return self.prediction.probabilities[row].float().numpy()
        parts = self.bundle.spec.unions.get(structure, (structure,))
        return np.clip(sum(self.prediction.channel(number) for number in self.numbers(parts)), 0.0, 1.0)

    def score(self, structure: str, voxels: np.ndarray) -> float:
        """Mean probability of a structure or union at voxels `[N, 3]`, 0..1."""
        prediction = self.prediction
        parts = self.bundle.spec.unions.get(structure, (structure,))
        if (row := getattr(prediction, "named", {}).get(structure)) is not None:
            return float(replace(prediction, rows={0: row}).at(0, voxels, self.volume).mean())  # type: ignore[call-arg]
        total = sum(prediction.at(number, voxels, self.volume) for number in self.numbers(parts))
        return float(np.clip(total, 0.0, 1.0).mean())

    @property
    def provenance(self) -> Provenance:
        return Provenance(self.bundle.name, self.bundle.version, self.weights)

    def number(self, structure: str) -> int:
        """The label number of a structure's name; of a union, that of its first part (see `mask_of`)."""
        first = self.bundle.spec.unions.get(structure, (structure,))[0]
        return next(number for number, name in self.bundle.labels.items() if name == first)

    def numbers(self, structures: tuple[str, ...]) -> list[int]:
        return [self.number(name) for name in structures]


def read_findings_of(reading: Reading) -> tuple[Finding, ...]:
    """All Findings of one run, in the order of the rules."""
    kinds = {
        "components": _components,
        "region": _region,
        "ratio": _ratio,
        "class": _class,
        "volume": _volumes,
        "count": _count,
        "score": _scores,
    }
    spec = reading.bundle.spec
    # What a prompted network was not asked for, it did not look for: no Finding says that it is not there.
    rules = spec.rules_of(reading.argument) if spec.prompt else spec.rules
    return tuple(finding for rule in rules for finding in kinds[rule.kind](rule, reading))


def _components(rule: Rule, reading: Reading) -> Iterator[Finding]:
    """One Finding an object, from the largest long axis to the smallest, or one that says there is none."""
    label = reading.number(rule.label)
    kept = []
    best_rejected = 0.0
    mask = reading.mask_of(rule.label)
    for part in components(mask, reading.volume, label, rule.minimum_ml, rule.minimum_px):
        voxels = np.argwhere(part.mask) + _start(part)
        score = reading.score(rule.label, voxels)
        peak = float(reading.prediction.at(label, voxels, reading.volume).max())
        if peak < rule.minimum_peak or (part.long_axis or math.inf) < rule.minimum_mm:
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
            **calibrated_probability(rule, score, reading.bundle.calibration, part.long_axis),
        )


def _region(rule: Rule, reading: Reading) -> Iterator[Finding]:
    """One Finding a side that holds the structure (one in all where sides are unknown), or one that says none does."""
    label = reading.number(rule.label)
    volume = reading.volume
    mask = reading.mask_of(rule.label)
    parts = components(mask, volume, label, rule.minimum_ml, rule.minimum_px)
    middle = None
    if parts and rule.sides and volume.oriented:
        middle = midline(np.isin(reading.mask, [*reading.numbers(rule.sides), label]), volume)
    grouped: dict[Code | None, list[Component]] = {}
    for part in parts:
        where = side(part.centroid, middle, volume) if middle is not None else None
        grouped.setdefault(where, []).append(part)
    if not grouped:
        yield _absent(rule, reading, _best_evidence(rule, reading))
    for where, members in grouped.items():
        voxels = np.concatenate([np.argwhere(part.mask) + _start(part) for part in members])
        score = reading.score(rule.label, voxels)
        whole = not any(part.touches_border for part in members)
        total = sum(part.volume or 0.0 for part in members)
        measured: tuple[Measurement, ...] = ()
        if "area" in rule.measurements and volume.calibrated:
            measured = (Measurement(code("area"), round(len(voxels) * _pixel_area(volume), 4), "mm2"),)
        elif whole and volume.calibrated:
            measured = (Measurement(code("volume"), round(total, 2), "mL"),)
        yield Finding(
            id=f"{rule.id}-{where.meaning.lower()}" if where else f"{rule.id}-1",
            study=reading.study,
            concept=code(rule.concept),
            presence="present",
            laterality=where,
            grade=_width_grade(rule, members) if volume.calibrated else None,
            measurements=measured,
            evidence=tuple(part.evidence(reading.series) for part in members),
            provenance=reading.provenance,
            **calibrated_probability(rule, score, reading.bundle.calibration),
        )


def _pixel_area(volume: Volume) -> float:
    """Square millimetres of a pixel of a single image."""
    return float(np.linalg.norm(np.cross(volume.affine[:3, 0], volume.affine[:3, 1])))


def _width_grade(rule: Rule, members: Sequence[Component]) -> str | None:
    """The first grade whose limit the widest part keeps."""
    widest = max(part.box[3] - part.box[0] for part in members)
    return next((grade for grade, limit in rule.widths.items() if widest <= limit), None)


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


def _volumes(rule: Rule, reading: Reading) -> Iterator[Finding]:
    """One Finding a structure that is there: its whole volume (unless the edge cuts it) and the asymmetry of its sides.

    A structure that was not found is not reported: the scan may not cover it.
    """
    volume = reading.volume
    for structure, key in rule.structures.items():
        label = reading.number(structure)
        mask = reading.mask_of(structure) == label
        voxels = int(mask.sum())
        if voxels < rule.minimum_px or (volume.calibrated and voxels * volume.voxel_volume / 1000 < rule.minimum_ml):
            continue
        measured = []
        if volume.calibrated and not is_cut(mask, volume, rule.open_ends):
            measured.append(Measurement(code("volume"), round(voxels * volume.voxel_volume / 1000, 2), "mL"))
            if "asymmetry" in rule.measurements and volume.oriented:
                measured.append(Measurement(code("asymmetry"), round(asymmetry(mask, volume), 4), "1"))
        yield Finding(
            id=f"{rule.id}-{re.sub(r'[^a-z0-9]+', '-', structure.lower())}",
            study=reading.study,
            concept=_concept(structure, key),
            presence="present",
            measurements=tuple(measured),
            evidence=(_organ_evidence(label, reading),),
            provenance=reading.provenance,
            **calibrated_probability(rule, reading.score(structure, np.argwhere(mask)), reading.bundle.calibration),
        )


def _count(rule: Rule, reading: Reading) -> Iterator[Finding]:
    """One Finding with the number of objects; the middle ones stand for their whole, so that touching ones count."""
    label = reading.number(rule.label)
    parts = components(reading.mask_of(rule.label), reading.volume, label, rule.minimum_ml, rule.minimum_px)
    sure = [reading.score(rule.label, np.argwhere(part.mask) + _start(part)) for part in parts]
    yield Finding(
        id=rule.id,
        study=reading.study,
        concept=code(rule.concept),
        presence="present" if parts else "absent",
        measurements=(Measurement(code("count"), float(len(parts)), "{count}"),),
        evidence=tuple(part.evidence(reading.series) for part in parts[:1]),
        provenance=reading.provenance,
        probability=round(float(np.mean(sure)), 4) if sure else None,
    )


def _scores(rule: Rule, reading: Reading) -> Iterator[Finding]:
    """One Finding a class, present from a probability of one half (the operating point of a calibrated classifier)."""
    for name, key in rule.structures.items():
        if name not in reading.prediction.classes:
            continue
        score = reading.prediction.classes[name]
        yield Finding(
            id=f"{rule.id}-{re.sub(r'[^a-z0-9]+', '-', name.lower())}",
            study=reading.study,
            concept=_concept(name, key),
            presence="present" if score >= 0.5 else "absent",
            evidence=(Evidence(reading.series),),
            provenance=reading.provenance,
            **calibrated_probability(rule, score, reading.bundle.calibration),
        )


def _concept(name: str, key: str) -> Code:
    """The code of a key, or one made from the name where the table has none."""
    return code(key) if key else Code(re.sub(r"[^a-z0-9]+", "_", name.lower()), "MEDVLM", name[:1].upper() + name[1:])


def is_cut(mask: np.ndarray, volume: Volume, open_ends: Mapping[str, float]) -> bool:
    """A structure touches the edge of the volume, so that its size is not its whole size.

    Args:
        mask: boolean `[I, J, K]`.
        volume: gives the geometry.
        open_ends: `right`, `left`, `anterior`, `posterior`, `superior` or `inferior` → cm² that may be cut there.
    """
    from nibabel.orientations import aff2axcodes

    codes = aff2axcodes(volume.affine)
    names = {"R": "right", "L": "left", "A": "anterior", "P": "posterior", "S": "superior", "I": "inferior"}
    opposite = dict(zip("RLAPSI", "LRPAIS", strict=True))
    for axis, end in enumerate(codes):
        if mask.shape[axis] == 1:
            continue
        face = volume.voxel_volume / volume.spacing[axis] / 100
        for index, direction in ((-1, end), (0, opposite[end])):
            area = float(np.take(mask, index, axis).sum()) * face
            if area > (open_ends.get(names[direction], 0.0) if volume.oriented else 0.0):
                return True
    return False


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


def _best_evidence(rule: Rule, reading: Reading) -> float:
    """How strongly the network hints at a structure it did not draw: the mean of its likeliest `minimum_ml`."""
    affine = reading.prediction.affine
    field = reading.field(rule.label).ravel()
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
