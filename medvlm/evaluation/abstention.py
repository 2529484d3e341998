"""When to say nothing: conformal gates for experts, and risk against coverage for answers with a confidence.

A gate turns the probability of a finding into one of three actions. Split conformal prediction (Vovk et al., 2005)
gives the set of answers, present or absent, that cannot be ruled out at a stated error level: one answer is injected,
both are hedged, none is an abstention. On cases like those it was fitted on, the truth is outside the set with at most
the stated probability.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

Action = Literal["inject", "hedge", "abstain"]


@dataclass(frozen=True)
class Gate:
    """Thresholds on the probability that a finding is present.

    Attributes:
        error: stated probability that the truth is ruled out.
        present: present is ruled out below this probability.
        absent: absent is ruled out above this probability.
        cases: number of calibration cases.
    """

    error: float
    present: float
    absent: float
    cases: int

    def action(self, probability: float) -> Action:
        """What to do with a finding of this probability."""
        possible = self.possible(probability)
        return "hedge" if len(possible) == 2 else "inject" if possible else "abstain"

    def possible(self, probability: float) -> tuple[bool, ...]:
        """The answers that are not ruled out."""
        answers = []
        if probability >= self.present:
            answers.append(True)
        if probability <= self.absent:
            answers.append(False)
        return tuple(answers)

    def to_json(self) -> dict[str, Any]:
        return {"error": self.error, "present": self.present, "absent": self.absent, "cases": self.cases}


def fit_gate(probabilities: Sequence[float], true: Sequence[bool], error: float = 0.1) -> Gate:
    """Fit a gate on held-out cases, for present and absent ones apart (Mondrian), so that the level holds for both.

    Args:
        probabilities: that the finding is present, 0 to 1, calibrated or not.
        true: whether it is.
        error: stated probability that the truth is ruled out, 0 to 1.

    Raises:
        ValueError: an error level outside (0, 1), or lists of different lengths.
    """
    if not 0 < error < 1 or len(probabilities) != len(true):
        raise ValueError("an error level between 0 and 1 and one truth a probability are needed")
    values, labels = np.asarray(probabilities, float), np.asarray(true, bool)
    present = 1 - _quantile(1 - values[labels], error)
    absent = _quantile(values[~labels], error)
    return Gate(error, float(present), float(absent), len(values))


def _quantile(scores: np.ndarray, error: float) -> float:
    """The ceil((n + 1)(1 - error))-th smallest score; 1 (nothing is ruled out) where n is too small for that."""
    rank = int(np.ceil((len(scores) + 1) * (1 - error)))
    return 1.0 if rank > len(scores) else float(np.sort(scores)[rank - 1])


def gate_report(gate: Gate, probabilities: Sequence[float], true: Sequence[bool]) -> dict[str, float]:
    """How a gate does on other cases: share of truths ruled out, and of each action."""
    actions = [gate.action(p) for p in probabilities]
    missed = [truth not in gate.possible(p) for p, truth in zip(probabilities, true, strict=True)]
    count = max(len(actions), 1)
    return {
        "error": float(np.mean(missed)),
        **{name: actions.count(name) / count for name in ("inject", "hedge", "abstain")},
    }


@dataclass(frozen=True)
class RiskCoverage:
    """Error among the answers kept, for every share of answers kept, the most confident first.

    Attributes:
        coverage: `[N]` share of answers kept, rising to 1.
        risk: `[N]` share of wrong ones among them.
        area: mean risk over all coverages (AURC; lower is better).
        best_area: what a perfect confidence would reach with the same answers.
    """

    coverage: np.ndarray
    risk: np.ndarray
    area: float
    best_area: float

    def risk_at(self, coverage: float) -> float:
        """Risk when at least this share is answered."""
        return float(self.risk[min(int(np.searchsorted(self.coverage, coverage - 1e-12)), len(self.risk) - 1)])

    def selective_accuracy(self, coverage: float) -> float:
        """Accuracy when at least this share is answered."""
        return 1 - self.risk_at(coverage)


def risk_coverage(confidence: Sequence[float], correct: Sequence[bool]) -> RiskCoverage:
    """The risk-coverage curve; answers of equal confidence are kept or dropped together.

    Raises:
        ValueError: no answers, or lists of different lengths.
    """
    if not len(confidence) or len(confidence) != len(correct):
        raise ValueError("one confidence an answer is needed")
    values, wrong = np.asarray(confidence, float), 1 - np.asarray(correct, float)
    order = np.argsort(-values, kind="stable")
    values, wrong = values[order], wrong[order]
    count = np.arange(1, len(values) + 1)
    risk = np.cumsum(wrong) / count
    # Within a tie the risk is that of the whole tie.
    last = np.append(np.flatnonzero(np.diff(values)), len(values) - 1)
    risk = risk[last[np.searchsorted(last, np.arange(len(values)))]]
    best = np.cumsum(np.sort(wrong)) / count
    return RiskCoverage(count / len(values), risk, float(risk.mean()), float(best.mean()))
