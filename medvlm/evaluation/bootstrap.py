"""Intervals by resampling patients: questions about one patient are not independent, patients are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Interval:
    """An estimate with its percentile interval (95 % unless said otherwise)."""

    value: float
    low: float
    high: float

    def to_json(self) -> dict[str, float]:
        return {"value": round(self.value, 4), "low": round(self.low, 4), "high": round(self.high, 4)}


def mean_interval(
    values: Sequence[float], patients: Sequence[str], resamples: int = 2000, level: float = 0.95, seed: int = 0
) -> Interval:
    """Mean over questions with an interval from a bootstrap over patients.

    For a paired gain, give the difference of the two arms on each question.

    Args:
        values: one number a question.
        patients: the patient of each question, in the same order.
        resamples: bootstrap samples.
        level: coverage.
        seed: of the resampling.

    Raises:
        ValueError: no values, or not one patient each.
    """
    return mean_intervals([values], patients, resamples, level, seed)[0]


def mean_intervals(
    columns: Sequence[Sequence[float]],
    patients: Sequence[str],
    resamples: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> list[Interval]:
    """`mean_interval` of several scores of the same questions, with the patients drawn once for all of them."""
    if not patients or any(len(values) != len(patients) for values in columns):
        sizes = [len(values) for values in columns]
        raise ValueError(f"one patient a value is needed, got {sizes} values and {len(patients)} patients")
    _, owner = np.unique(np.asarray(patients), return_inverse=True)
    counts = np.bincount(owner).astype(float)
    number = len(counts)
    draws = np.random.default_rng(seed).multinomial(number, np.full(number, 1 / number), size=resamples).astype(float)
    total = draws @ counts  # [resamples]; every patient has a question, so never 0
    tail = (1 - level) / 2
    intervals = []
    for values in columns:
        sums = np.bincount(owner, weights=np.asarray(values, dtype=float))  # [patients]
        low, high = np.quantile((draws @ sums) / total, [tail, 1 - tail])
        intervals.append(Interval(float(sums.sum() / counts.sum()), float(low), float(high)))
    return intervals
