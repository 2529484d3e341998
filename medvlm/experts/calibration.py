"""From a network's score to a probability that means what it says.

Scores are mapped by a logistic curve on their log odds (Platt scaling; temperature scaling for classes), fitted on
studies that the network did not learn from. Split-conformal thresholds come from the same studies: among those that
are like them, at least the stated share of true findings has a probability at or above its threshold.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict

import numpy as np

from medvlm.experts.spec import Rule

LEVELS = (0.8, 0.9, 0.95)
# A little weight decay on the slope: with few cases the fit would otherwise become certain.
RIDGE = 0.01


class Probability(TypedDict):
    """The two fields of a Finding that say how sure it is."""

    probability: float
    calibrated: bool


def calibrated_probability(
    rule: Rule, score: float, calibration: Mapping[str, Any], long_axis: float | None = None
) -> Probability:
    """The probability of a Finding from its raw score, through the bundle's calibration where there is one.

    Args:
        rule: what the score is about.
        score: mean foreground probability of the object or region, 0..1.
        calibration: `calibration.json` of the bundle; `rules` → id → slope, offset and size on the logit scale.
        long_axis: of an object, mm; None where it is not known.
    """
    fitted = calibration.get("rules", {}).get(rule.id)
    if fitted is None:
        return {"probability": min(1.0, max(0.0, score)), "calibrated": False}
    curve = Curve(fitted["slope"], fitted["offset"], fitted.get("size", 0.0))
    sizes = None if long_axis is None else np.array([long_axis])
    return {"probability": float(curve(np.array([score]), sizes)[0]), "calibrated": True}


@dataclass(frozen=True)
class Curve:
    """Probability = logistic(slope * log odds of the score + size * ln(long axis / 10 mm) + offset).

    Small objects are more often none: where sizes are known they say more than the network's own score.
    """

    slope: float
    offset: float
    size: float = 0.0

    def __call__(self, scores: np.ndarray, sizes: np.ndarray | None = None) -> np.ndarray:
        """Probabilities of scores (0..1) of objects with these long axes in mm; unknown ones count as 10 mm."""
        value = self.slope * _logits(scores) + self.offset
        if sizes is not None:
            value = value + self.size * _log_size(sizes)
        return 1.0 / (1.0 + np.exp(-value))


def fit_curve(scores: np.ndarray, true: np.ndarray, sizes: np.ndarray | None = None) -> Curve:
    """The most likely curve for scores of findings that were true or not.

    The targets are drawn in a little from 0 and 1 (Platt, 1999), so that separable data give a finite curve.

    Args:
        scores: `[N]`, 0..1.
        true: `[N]`.
        sizes: `[N]` long axes in mm; None for what has no size.
    """
    from scipy.optimize import minimize

    x, wanted = [_logits(scores), np.ones(len(scores))], true
    if sizes is not None:
        x.append(_log_size(sizes))
    columns = np.stack(x, axis=1)
    ridge = np.array([RIDGE, 0.0, RIDGE])[: columns.shape[1]]
    positive, negative = int(wanted.sum()), int((~wanted).sum())
    target = np.where(wanted, (positive + 1) / (positive + 2), 1 / (negative + 2))

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        value = columns @ weights
        # log(1 + e^v) - target v is the negative log likelihood; logaddexp keeps it finite.
        total = float((np.logaddexp(0.0, value) - target * value).sum() + ridge @ weights**2 / 2)
        slack = 0.5 * (1.0 + np.tanh(value / 2)) - target
        return total, slack @ columns + ridge * weights

    fitted = minimize(loss, np.eye(columns.shape[1])[0], jac=True, method="BFGS").x
    return Curve(*(float(weight) for weight in fitted))


def fit_temperature(logits: np.ndarray, target: np.ndarray) -> float:
    """The temperature (0.05..20) that makes class probabilities most likely.

    Args:
        logits: `[N, K]`.
        target: `[N]` true class numbers.
    """
    from scipy.optimize import minimize_scalar

    def loss(log_temperature: float) -> float:
        scaled = logits / math.exp(log_temperature)
        scaled = scaled - scaled.max(axis=1, keepdims=True)
        return float((np.log(np.exp(scaled).sum(axis=1)) - scaled[np.arange(len(target)), target]).mean())

    return math.exp(minimize_scalar(loss, bounds=(math.log(0.05), math.log(20.0)), method="bounded").x)


def expected_calibration_error(probabilities: np.ndarray, true: np.ndarray, bins: int = 10) -> float:
    """Mean gap between probability and frequency over bins of equal width, weighted by their size."""
    place = np.minimum((probabilities * bins).astype(int), bins - 1)
    gaps = [
        abs(float(probabilities[place == one].mean()) - float(true[place == one].mean())) * float((place == one).mean())
        for one in range(bins)
        if (place == one).any()
    ]
    return float(sum(gaps))


def conformal_threshold(probabilities: Sequence[float], level: float) -> float | None:
    """The probability that at least `level` of future true findings reach (split conformal prediction).

    Args:
        probabilities: of the true findings of the calibration studies; a missed one counts as 0.
        level: wanted share, such as 0.9.

    Returns:
        None where there are too few cases to promise that level, or too many are missed altogether.
    """
    ordered = np.sort(np.asarray(probabilities, float))
    # The k-th smallest of n leaves at least (n + 1 - k) / (n + 1) of future cases at or above it.
    rank = math.floor((1.0 - level) * (len(ordered) + 1))
    threshold = float(ordered[rank - 1]) if rank >= 1 else 0.0
    return threshold or None


def coverage_in_halves(probabilities: Sequence[float], level: float, repeats: int = 400) -> float | None:
    """How often a threshold that one half of the cases gives is reached in the other, in the mean of random halves.

    Args:
        probabilities: of true findings; a missed one counts as 0.
        level: wanted share.
        repeats: random halves; seeded.

    Returns:
        None where a half cannot promise the level.
    """
    values, random = np.asarray(probabilities, float), np.random.default_rng(0)
    covered = []
    for _ in range(repeats):
        mixed = random.permutation(values)
        threshold = conformal_threshold(mixed[: len(mixed) // 2].tolist(), level)
        if threshold is None:
            return None
        covered.append(float((mixed[len(mixed) // 2 :] >= threshold).mean()))
    return float(np.mean(covered))


def _log_size(sizes: np.ndarray) -> np.ndarray:
    return np.log(np.maximum(sizes, 1.0) / 10.0)


def _logits(scores: np.ndarray) -> np.ndarray:
    safe = np.clip(scores, 1e-4, 1.0 - 1e-4)
    return np.log(safe / (1.0 - safe))
