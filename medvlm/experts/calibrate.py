"""`medvlm experts calibrate`: fit probabilities and conformal thresholds of an expert on held-out studies."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from medvlm.errors import MedVLMError
from medvlm.experts.bundle import Bundle
from medvlm.experts.calibration import (
    LEVELS,
    Curve,
    conformal_threshold,
    coverage_in_halves,
    expected_calibration_error,
    fit_curve,
    fit_temperature,
)
from medvlm.experts.card import ExpertResult
from medvlm.experts.evaluate import match_objects
from medvlm.experts.expert import Expert
from medvlm.experts.infer import choose_device
from medvlm.experts.registry import find_expert
from medvlm.experts.spec import Rule
from medvlm.findings.codes import code
from medvlm.findings.finding import Finding, read_findings
from medvlm.imaging.cohort import Cohort, Split, read_cohort
from medvlm.imaging.reader import load_study
from medvlm.storage import write_json

FEWEST = 8  # of true and of false cases; with fewer a curve would be made up


@dataclass
class Cases:
    """Raw scores and whether they were right, of one rule over all studies.

    Attributes:
        scores: of the expert's findings, 0..1.
        true: whether each was.
        sizes: long axis of each, mm, where the findings are objects.
        missed: true findings that the expert looks for and did not make.
        errors: measured minus true ratio.
    """

    scores: list[float] = field(default_factory=list)
    true: list[bool] = field(default_factory=list)
    missed: int = 0
    errors: list[float] = field(default_factory=list)
    sizes: list[float] = field(default_factory=list)

    def add(self, score: float | None, true: bool) -> None:
        if score is not None:
            self.scores.append(score)
            self.true.append(true)

    @property
    def long_axes(self) -> np.ndarray | None:
        """`[N]` mm, where every finding has one."""
        return np.array(self.sizes) if len(self.sizes) == len(self.scores) else None

    def detected(self, curve: Curve) -> list[float]:
        """Probability of every true finding; 0 of a missed one."""
        fitted = curve(np.array(self.scores), self.long_axes)
        return [*fitted[np.array(self.true, bool)].tolist(), *[0.0] * self.missed]


@dataclass
class Gathered:
    """What one split says about an expert: cases by rule id, and log probabilities and true classes of studies."""

    cases: dict[str, Cases] = field(default_factory=lambda: defaultdict(Cases))
    logits: list[np.ndarray] = field(default_factory=list)
    targets: list[int] = field(default_factory=list)
    studies: int = 0


def calibrate_expert(
    name: str | Path, root: Path, split: Split = "validation", check: Split | None = None, device: str = "auto"
) -> dict[str, Any]:
    """Fit the calibration of an expert and write it as `calibration.json` into its folder.

    Args:
        name: name or path of the expert.
        root: cohort with true findings; the expert must not have learned from the splits.
        split: the studies that the curves and thresholds are fitted on.
        check: other studies, on which calibration error and coverage are measured; none if not given.
        device: where the expert runs.

    Returns:
        What was written: per rule slope, offset, number of cases, calibration error before and after, thresholds, and
        (`checked`) the same error and the coverage of the thresholds on the studies of `check`.

    Raises:
        MedVLMError: no truth in a split, too few cases for every rule, or `check` is the split that is fitted on.
    """
    if check == split:
        raise MedVLMError(f"a fit is not checked on its own studies: give another split than '{split}' to check on.")
    bundle = replace(find_expert(name), calibration={})
    expert = Expert(bundle, choose_device(device))
    cohort = read_cohort(root)
    fitted = gather(expert, cohort, split)
    held_out = None if check is None else gather(expert, cohort, check)
    written: dict[str, Any] = {
        "cohort": cohort.name,
        "split": split,
        "studies": fitted.studies,
        "weights": expert.weights,
    }
    written |= summarise(bundle, fitted.cases)
    if len(fitted.targets) >= 2 * FEWEST:
        written["class_temperature"] = round(fit_temperature(np.stack(fitted.logits), np.array(fitted.targets)), 4)
    if not written["rules"] and not written["tolerances"] and "class_temperature" not in written:
        raise MedVLMError(
            f"{root}: the split '{split}' has too few cases to calibrate {bundle.name}; use more studies."
        )
    if held_out is not None:
        written["checked"] = {"split": check, "studies": held_out.studies} | verify(written["rules"], held_out.cases)
    write_json(bundle.root / "calibration.json", written)
    return written


def gather(expert: Expert, cohort: Cohort, split: Split) -> Gathered:
    """Run the uncalibrated expert over a split and compare with its truth, behind a progress bar.

    Raises:
        MedVLMError: no study of the split has true findings.
    """
    from rich.progress import track

    entries = [entry for entry in cohort.split(split) if entry.truth]
    if not entries:
        raise MedVLMError(f"{cohort.root}: no study with true findings in the split '{split}'.")
    gathered = Gathered(studies=len(entries))
    classes = expert.bundle.classes
    for entry in track(entries, f"calibrating ({split})", transient=True):
        assert entry.truth is not None
        result = expert.run(load_study(cohort.root / entry.study))
        truth = read_findings(cohort.root / entry.truth)
        for rule in expert.bundle.spec.rules:
            collect(gathered.cases[rule.id], rule, result, truth)
        named = next((classes.index(f.grade) for f in truth if f.grade in classes), None)
        if named is not None:
            gathered.logits.append(np.log(np.maximum(list(result.classes.values()), 1e-9)))
            gathered.targets.append(named)
    return gathered


def collect(cases: Cases, rule: Rule, result: ExpertResult, truth: Sequence[Finding]) -> None:
    """Add one study's scores of a rule."""
    concept = code(rule.concept)
    ours = [finding for finding in result.findings if finding.concept == concept]
    true = [finding for finding in truth if finding.concept == concept and finding.presence == "present"]
    found = [finding for finding in ours if finding.presence == "present"]
    if rule.kind == "components":
        pairs = match_objects(found, true)
        matched = {id(ours_) for _, ours_ in pairs if ours_ is not None}
        cases.missed += sum(ours_ is None and in_scope(rule, theirs) for theirs, ours_ in pairs)
        for finding in found:
            cases.add(finding.probability, id(finding) in matched)
            size = finding.measure("Long axis")
            if finding.probability is not None and size is not None:
                cases.sizes.append(size)
    elif rule.kind == "region":
        sides = {finding.laterality for finding in true}
        for finding in found:
            cases.add(finding.probability, finding.laterality in sides)
        cases.missed += len(sides - {finding.laterality for finding in found})
        if not found:
            cases.add(next((f.probability for f in ours), None), bool(true))
    elif rule.kind == "ratio":
        measure = code(rule.measure).meaning
        wanted = next((f.measure(measure) for f in truth if f.concept == concept), None)
        value = next((f.measure(measure) for f in ours), None)
        if wanted is not None and value is not None:
            cases.errors.append(value - wanted)


def in_scope(rule: Rule, finding: Finding) -> bool:
    """Whether a true object is large enough for the rule to look for it."""
    return (finding.measure("Long axis") or math.inf) >= rule.minimum_mm


def verify(rules: dict[str, Any], cases: dict[str, Cases]) -> dict[str, Any]:
    """Calibration error and coverage of fitted rules on other cases than those of the fit.

    Args:
        rules: `calibration.json`'s rules.
        cases: of studies that the rules were not fitted on.

    Returns:
        Rule id → `cases`, `error` (expected calibration error of the fitted probabilities), `true` (true findings, the
        missed ones included), `coverage`: level → share of the true findings at or above the fitted threshold, and
        `coverage_in_halves`: the same for thresholds of random halves of these cases, in the mean, which is what split
        conformal prediction promises; a level that cannot be promised is left out.
    """
    checked: dict[str, Any] = {}
    for name, fitted in rules.items():
        own = cases[name]
        if not own.scores:
            continue
        true = np.array(own.true, bool)
        curve = Curve(fitted["slope"], fitted["offset"], fitted["size"])
        probabilities = curve(np.array(own.scores), own.long_axes)
        detected = np.array(own.detected(curve))
        checked[name] = {
            "cases": len(true),
            "error": round(expected_calibration_error(probabilities, true), 4),
            "true": len(detected),
            "coverage": {
                level: round(float((detected >= threshold).mean()), 4)
                for level, threshold in fitted["conformal"].items()
                if threshold is not None and len(detected)
            },
            "coverage_in_halves": {
                str(level): round(share, 4)
                for level in LEVELS
                if (share := coverage_in_halves(detected.tolist(), level)) is not None
            },
        }
    return checked


def summarise(bundle: Bundle, cases: dict[str, Cases]) -> dict[str, Any]:
    """Curves and thresholds of the rules that have enough cases; the others stay as they are."""
    rules: dict[str, Any] = {}
    tolerances: dict[str, float] = {}
    for rule in bundle.spec.rules:
        own = cases[rule.id]
        if len(own.errors) >= FEWEST:
            tolerances[rule.id] = round(max(1e-4, float(np.sqrt(np.mean(np.square(own.errors))))), 5)
        true = np.array(own.true, bool)
        if min(int(true.sum()), int((~true).sum())) < FEWEST:
            continue
        scores = np.array(own.scores)
        curve = fit_curve(scores, true, own.long_axes)
        fitted = curve(scores, own.long_axes)
        detected = own.detected(curve)
        thresholds = {str(level): conformal_threshold(detected, level) for level in LEVELS}
        rules[rule.id] = {
            "slope": round(curve.slope, 5),
            "offset": round(curve.offset, 5),
            "size": round(curve.size, 5),
            "cases": len(scores),
            "missed": own.missed,
            "error_before": round(expected_calibration_error(scores, true), 4),
            "error_after": round(expected_calibration_error(fitted, true), 4),
            "conformal": {level: value if value is None else round(value, 4) for level, value in thresholds.items()},
        }
    return {"rules": rules, "tolerances": tolerances}
