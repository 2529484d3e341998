"""How good an expert is: its Findings and masks against the truth of a cohort, rule by rule."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from medvlm.errors import MedVLMError
from medvlm.experts.card import ExpertResult
from medvlm.experts.expert import Expert
from medvlm.experts.registry import load_expert
from medvlm.experts.spec import Rule
from medvlm.findings.codes import code
from medvlm.findings.finding import Finding, read_findings
from medvlm.imaging.cohort import SPLITS, Cohort, Split, read_cohort
from medvlm.imaging.reader import load_study

# Smaller objects count in no number: they are below the resolution that the cards promise.
SMALLEST_MM = 6.0


@dataclass
class Tally:
    """Sums over studies; `metrics` turns them into numbers."""

    means: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    def add(self, name: str, value: float | bool) -> None:
        self.means[name].append(float(value))

    def metrics(self) -> dict[str, float]:
        """Metric → mean over what it was counted on, in alphabetic order, with the numbers of cases."""
        rows = {name: round(float(np.mean(values)), 4) for name, values in sorted(self.means.items())}
        return rows | {f"n_{name}": float(len(values)) for name, values in sorted(self.means.items())}


def evaluate_expert(name: str | Path, root: Path, split: Split = "test", device: str = "auto") -> dict[str, float]:
    """Run an expert over a split and compare with its truth.

    Objects of 6 mm and more are matched by distance (within half their long axis, at least 5 mm).

    Returns:
        Metric → mean, and `n_<metric>` → number of cases. For objects `<rule>_sensitivity`, `_dice`, `_side`, `_place`
        (side and site right), `_grade`, `_long_axis_error` (mm) and `_false_positives_per_study`; for regions
        `_accuracy` (side by side) and `_volume_error` (mL); for ratios `_ratio_error` and `_accuracy`; for classes
        `_accuracy`; for masks `dice_<structure>`; and `seconds_per_study`.

    Raises:
        MedVLMError: no such expert or cohort, or no study with truth in the split.
    """
    return tally_split(load_expert(name, device), read_cohort(root), split).metrics()


def tally_split(expert: Expert, cohort: Cohort, split: Split) -> Tally:
    """Every measured value of an expert on a split, one a study and metric; see `evaluate_expert`."""
    from rich.progress import track

    if split not in SPLITS:
        raise MedVLMError(f"a split is one of {', '.join(SPLITS)}, not '{split}'.")
    entries = [entry for entry in cohort.split(split) if entry.truth or entry.mask]
    if not entries:
        raise MedVLMError(f"{cohort.root}: no study with truth in the split '{split}'.")
    tally = Tally()
    for entry in track(entries, "measuring", transient=True):
        result = expert.run(load_study(cohort.root / entry.study))
        tally.add("seconds_per_study", result.seconds)
        theirs = load_study(cohort.root / entry.mask).series[0].volume.array if entry.mask else None
        if theirs is not None and result.mask is not None:
            score_mask(tally, cohort, result, theirs, expert.bundle.spec.unions)
        if entry.truth:
            truth = read_findings(cohort.root / entry.truth)
            for rule in expert.bundle.spec.rules:
                score_rule(tally, rule, result, truth, theirs, _number(cohort, rule))
    return tally


def score_mask(
    tally: Tally,
    cohort: Cohort,
    result: ExpertResult,
    theirs: np.ndarray,
    unions: Mapping[str, Sequence[str]],
) -> None:
    """Dice of every structure (and union of structures) that is in the true mask."""
    assert result.mask is not None
    for name, parts in {**{name: (name,) for name in result.labels.values()}, **unions}.items():
        true = np.isin(theirs, [number for number, part in cohort.labels.items() if part in parts])
        if true.any():
            ours = np.isin(result.mask, [number for number, part in result.labels.items() if part in parts])
            tally.add(f"dice_{name.replace(' ', '_')}", 2 * (ours & true).sum() / (ours.sum() + true.sum()))


def score_rule(
    tally: Tally,
    rule: Rule,
    result: ExpertResult,
    truth: Sequence[Finding],
    mask: np.ndarray | None,
    number: int | None,
) -> None:
    """Compare the Findings of one rule with the true ones."""
    concept = code(rule.concept)
    ours = [finding for finding in result.findings if finding.concept == concept]
    true = [finding for finding in truth if finding.concept == concept]
    if rule.kind == "components":
        _score_objects(tally, rule, result, _present(ours), _present(true), mask, number)
    elif rule.kind == "region":
        _score_region(tally, rule, _present(ours), _present(true), bool(true))
    elif rule.kind == "ratio" and true:
        measure = code(rule.measure).meaning
        found, wanted = ours[0].measure(measure), true[0].measure(measure)
        if found is not None and wanted is not None:
            tally.add(f"{rule.id}_ratio_error", abs(found - wanted))
        if rule.threshold is not None:
            tally.add(f"{rule.id}_accuracy", ours[0].presence == true[0].presence)
    elif rule.kind == "count" and true:
        found, wanted = ours[0].measure("Count") or 0.0, true[0].measure("Count") or 0.0
        tally.add(f"{rule.id}_count_error", abs(found - wanted))
        tally.add(f"{rule.id}_count_bias", found - wanted)
        tally.add(f"{rule.id}_true_count", wanted)
    elif rule.kind == "class" and true:
        tally.add(f"{rule.id}_accuracy", ours[0].grade == true[0].grade)


def _score_objects(
    tally: Tally,
    rule: Rule,
    result: ExpertResult,
    ours: list[Finding],
    true: list[Finding],
    mask: np.ndarray | None,
    number: int | None,
) -> None:
    pairs = match_objects(ours, true)
    for wanted, found in pairs:
        size = wanted.measure("Long axis") or 0.0
        if size < SMALLEST_MM:
            continue
        tally.add(f"{rule.id}_sensitivity", found is not None)
        if found is None:
            continue
        length = found.measure("Long axis")
        if length is not None:
            tally.add(f"{rule.id}_long_axis_error", abs(length - size))
        tally.add(f"{rule.id}_side", found.laterality == wanted.laterality)
        tally.add(f"{rule.id}_place", (found.laterality, found.site) == (wanted.laterality, wanted.site))
        if wanted.grade:
            tally.add(f"{rule.id}_grade", found.grade == wanted.grade)
        if mask is not None and number is not None:
            tally.add(f"{rule.id}_dice", _object_dice(found, result, mask, number))
    # A false alarm that claims to be below the promised resolution is not counted, as a missed small one is not.
    matched = [found for _, found in pairs if found is not None]
    alarms = [
        finding for finding in ours if finding not in matched and (finding.measure("Long axis") or 0.0) >= SMALLEST_MM
    ]
    tally.add(f"{rule.id}_false_positives_per_study", len(alarms))


def match_objects(ours: Sequence[Finding], true: Sequence[Finding]) -> list[tuple[Finding, Finding | None]]:
    """Each true object with ours that is nearest to it (within half its long axis, at least 5 mm), each used once."""
    unmatched = list(ours)
    pairs: list[tuple[Finding, Finding | None]] = []
    for wanted in true:
        found = _nearest(wanted, unmatched, max(5.0, (wanted.measure("Long axis") or 0.0) / 2))
        if found is not None:
            unmatched.remove(found)
        pairs.append((wanted, found))
    return pairs


def _score_region(tally: Tally, rule: Rule, ours: list[Finding], true: list[Finding], stated: bool) -> None:
    if not stated:
        return  # the truth says neither yes nor no, as of a picture that cannot be judged
    # Without sides in the rule, a side in the truth is that of the eye or limb, not of the place.
    by_side = {finding.laterality if rule.sides else None: finding for finding in ours}
    wanted = {finding.laterality if rule.sides else None: finding for finding in true}
    sides = [code("right"), code("left")] if rule.sides else [None]
    for side in sides:
        tally.add(f"{rule.id}_accuracy", (side in by_side) == (side in wanted))
        tally.add(
            f"{rule.id}_{'sensitivity' if side in wanted else 'specificity'}", (side in by_side) == (side in wanted)
        )
        if side in by_side and side in wanted:
            for measure in ("Volume", "Area"):
                found, size = by_side[side].measure(measure), wanted[side].measure(measure)
                if found is not None and size is not None:
                    tally.add(f"{rule.id}_{measure.lower()}_error", abs(found - size))
            if wanted[side].grade and by_side[side].grade:
                tally.add(f"{rule.id}_grade", by_side[side].grade == wanted[side].grade)


def _object_dice(found: Finding, result: ExpertResult, mask: np.ndarray, number: int) -> float:
    """Dice of one object: our component against the true components that it touches."""
    from scipy import ndimage

    assert result.mask is not None
    ours, _ = ndimage.label(result.mask == found.evidence[0].label, structure=np.ones((3, 3, 3)))
    theirs, _ = ndimage.label(mask == number, structure=np.ones((3, 3, 3)))
    # Components are numbered from the largest, as `medvlm.findings.measure.components` does.
    sizes = np.bincount(ours.ravel())[1:]
    order = np.argsort(-sizes, kind="stable")
    own = ours == int(order[(found.evidence[0].component or 1) - 1]) + 1
    touched = np.unique(theirs[own])
    other = np.isin(theirs, touched[touched > 0])
    return float(2 * (own & other).sum() / (own.sum() + other.sum()))


def _present(findings: Iterable[Finding]) -> list[Finding]:
    return [finding for finding in findings if finding.presence == "present"]


def _nearest(wanted: Finding, candidates: Sequence[Finding], reach: float) -> Finding | None:
    centre = wanted.evidence[0].centroid if wanted.evidence else None
    if centre is None:
        return None
    near = [(_distance(centre, finding), finding) for finding in candidates]
    near = [item for item in near if item[0] <= reach]
    return min(near, key=lambda item: item[0])[1] if near else None


def _distance(centre: tuple[float, float, float], finding: Finding) -> float:
    other = finding.evidence[0].centroid
    return float("inf") if other is None else float(np.linalg.norm(np.subtract(centre, other)))


def _number(cohort: Cohort, rule: Rule) -> int | None:
    return next((number for number, name in cohort.labels.items() if name == rule.label), None)
