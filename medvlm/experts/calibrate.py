"""`medvlm experts calibrate`: fit probabilities and conformal thresholds of an expert on held-out studies."""

from __future__ import annotations

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
    conformal_threshold,
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
from medvlm.imaging.cohort import Split, read_cohort
from medvlm.imaging.reader import load_study
from medvlm.storage import write_json

FEWEST = 8  # of true and of false cases; with fewer a curve would be made up


@dataclass
class Cases:
    """Raw scores and whether they were right, of one rule over all studies."""

    scores: list[float] = field(default_factory=list)
    true: list[bool] = field(default_factory=list)
    missed: int = 0
    errors: list[float] = field(default_factory=list)

    def add(self, score: float | None, true: bool) -> None:
        if score is not None:
            self.scores.append(score)
            self.true.append(true)


def calibrate_expert(name: str | Path, root: Path, split: Split = "validation", device: str = "auto") -> dict[str, Any]:
    """Fit the calibration of an expert and write it as `calibration.json` into its folder.

    Args:
        name: name or path of the expert.
        root: cohort with true findings; the expert must not have learned from the split.
        split: which studies.
        device: where the expert runs.

    Returns:
        What was written: per rule slope, offset, number of cases, calibration error before and after, thresholds.

    Raises:
        MedVLMError: no truth in the split, or too few cases for every rule.
    """
    from rich.progress import track

    bundle = replace(find_expert(name), calibration={})
    expert = Expert(bundle, choose_device(device))
    cohort = read_cohort(root)
    entries = [entry for entry in cohort.split(split) if entry.truth]
    if not entries:
        raise MedVLMError(f"{root}: no study with true findings in the split '{split}'.")
    cases: dict[str, Cases] = defaultdict(Cases)
    logits: list[np.ndarray] = []
    targets: list[int] = []
    for entry in track(entries, "calibrating", transient=True):
        assert entry.truth is not None
        result = expert.run(load_study(cohort.root / entry.study))
        truth = read_findings(cohort.root / entry.truth)
        for rule in bundle.spec.rules:
            collect(cases[rule.id], rule, result, truth)
        named = next((bundle.classes.index(f.grade) for f in truth if f.grade in bundle.classes), None)
        if named is not None:
            logits.append(np.log(np.maximum(list(result.classes.values()), 1e-9)))
            targets.append(named)
    written = {"cohort": cohort.name, "split": split, "studies": len(entries), "weights": expert.weights}
    written |= summarise(bundle, cases)
    if len(targets) >= 2 * FEWEST:
        written["class_temperature"] = round(fit_temperature(np.stack(logits), np.array(targets)), 4)
    if not written["rules"] and not written["tolerances"] and "class_temperature" not in written:
        raise MedVLMError(
            f"{root}: the split '{split}' has too few cases to calibrate {bundle.name}; use more studies."
        )
    write_json(bundle.root / "calibration.json", written)
    return written


def collect(cases: Cases, rule: Rule, result: ExpertResult, truth: Sequence[Finding]) -> None:
    """Add one study's scores of a rule."""
    concept = code(rule.concept)
    ours = [finding for finding in result.findings if finding.concept == concept]
    true = [finding for finding in truth if finding.concept == concept and finding.presence == "present"]
    found = [finding for finding in ours if finding.presence == "present"]
    if rule.kind == "components":
        pairs = match_objects(found, true)
        matched = {id(ours_) for _, ours_ in pairs if ours_ is not None}
        cases.missed += sum(ours_ is None for _, ours_ in pairs)
        for finding in found:
            cases.add(finding.probability, id(finding) in matched)
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
        curve = fit_curve(scores, true)
        fitted = curve(scores)
        detected = [*fitted[true].tolist(), *[0.0] * own.missed]
        thresholds = {str(level): conformal_threshold(detected, level) for level in LEVELS}
        rules[rule.id] = {
            "slope": round(curve.slope, 5),
            "offset": round(curve.offset, 5),
            "cases": len(scores),
            "missed": own.missed,
            "error_before": round(expected_calibration_error(scores, true), 4),
            "error_after": round(expected_calibration_error(fitted, true), 4),
            "conformal": {level: value if value is None else round(value, 4) for level, value in thresholds.items()},
        }
    return {"rules": rules, "tolerances": tolerances}
