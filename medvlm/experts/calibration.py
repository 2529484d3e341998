"""From a network's score to a probability that means what it says."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, TypedDict

from medvlm.experts.spec import Rule


class Probability(TypedDict):
    """The two fields of a Finding that say how sure it is."""

    probability: float
    calibrated: bool


def calibrated_probability(rule: Rule, score: float, calibration: Mapping[str, Any]) -> Probability:
    """The probability of a Finding from its raw score, through the bundle's calibration where there is one.

    Args:
        rule: what the score is about.
        score: mean foreground probability of the object or region, 0..1.
        calibration: `calibration.json` of the bundle; `rules` → id → slope and offset on the logit scale.
    """
    fitted = calibration.get("rules", {}).get(rule.id)
    if fitted is None:
        return {"probability": min(1.0, max(0.0, score)), "calibrated": False}
    value = fitted["slope"] * logit(score) + fitted["offset"]
    return {"probability": 1.0 / (1.0 + math.exp(-value)), "calibrated": True}


def logit(score: float) -> float:
    """Log odds, with the score kept away from 0 and 1."""
    safe = min(1.0 - 1e-4, max(1e-4, score))
    return math.log(safe / (1.0 - safe))
