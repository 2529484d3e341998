"""Intervals by resampling patients: questions about one patient are not independent, patients are."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

# Counts of drawn patients held at a time.
BLOCK = 1_000_000


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
    rows = [np.asarray(values, dtype=float) for values in columns]
    # Sums of each patient, the number of its questions last: never 0, so that it can be divided by.
    sums = np.stack([np.bincount(owner, weights=row) for row in [*rows, np.ones(len(owner))]], axis=1)
    return resampled(sums, lambda total: total[:, :-1] / total[:, -1:], resamples, level, seed)


def resampled(
    sums: np.ndarray,
    statistics: Callable[[np.ndarray], np.ndarray],
    resamples: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> list[Interval]:
    """Intervals of anything that is computed from sums over patients.

    Args:
        sums: `[patients, K]` what each patient adds.
        statistics: `[R, K]` totals → `[R, S]` values.
        resamples: bootstrap samples.
        level: coverage.
        seed: of the resampling.
    """
    drawn = statistics(np.concatenate([draws @ sums for draws in _draws(len(sums), resamples, seed)]))
    value, tail = statistics(sums.sum(0, keepdims=True))[0], (1 - level) / 2
    low, high = np.quantile(drawn, [tail, 1 - tail], axis=0)
    return [Interval(*map(float, row)) for row in zip(value, low, high)]


def _draws(number: int, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """How often each of `number` patients is drawn in each resample: blocks of rows `[rows, patients]`."""
    rng = np.random.default_rng(seed)
    rows = max(1, BLOCK // number)
    for start in range(0, resamples, rows):
        count = min(rows, resamples - start)
        drawn = rng.integers(number, size=(count, number)) + number * np.arange(count)[:, None]
        yield np.bincount(drawn.ravel(), minlength=count * number).reshape(count, number).astype(float)
