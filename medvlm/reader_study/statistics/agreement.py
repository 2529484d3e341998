"""Agreement between readers and within a reader, with intervals over patients.

Krippendorff's alpha (Krippendorff, Content Analysis, 2004, chapter 11), weighted kappa (Cohen, Psychol Bull
1968;70:213-220) and the intraclass correlations ICC(2,1) and ICC(3,1) (Shrout, Fleiss, Psychol Bull 1979;86:420-428).
Intervals are percentiles of a bootstrap in which patients are drawn with replacement.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

Distance = Literal["nominal", "ordinal", "interval"]


@dataclass(frozen=True)
class Agreement:
    """A coefficient with its interval; `units` is how many cases it rests on."""

    name: str
    value: float
    low: float
    high: float
    units: int


def krippendorff_alpha(ratings: np.ndarray, distance: Distance = "ordinal", weights: np.ndarray | None = None) -> float:
    """Alpha of `[R, C]` ratings with NaN where there is none; nan where nothing varies.

    Args:
        weights: `[C]` how often each case counts.
    """
    values = np.unique(ratings[~np.isnan(ratings)])
    if len(values) < 2:
        return float("nan")
    counts = np.stack([(ratings == value).sum(axis=0) for value in values]).astype(float)  # [K, C]
    size = counts.sum(axis=0)
    weight = (np.ones(ratings.shape[1]) if weights is None else weights) * (size > 1)
    share = weight / np.maximum(size - 1, 1)
    observed = (counts * share) @ counts.T - np.diag(counts @ share)
    margin = observed.sum(axis=1)
    total = margin.sum()
    if total <= 1:
        return float("nan")
    delta = _distances(values, margin, distance)
    expected = (np.outer(margin, margin) - np.diag(margin)) / (total - 1)
    below = (expected * delta).sum()
    return float(1 - (observed * delta).sum() / below) if below > 0 else float("nan")


def _distances(values: np.ndarray, margin: np.ndarray, distance: Distance) -> np.ndarray:
    if distance == "nominal":
        return 1.0 - np.eye(len(values))
    if distance == "interval":
        return (values[:, None] - values[None, :]) ** 2
    cumulative = np.cumsum(margin) - margin / 2
    return (cumulative[:, None] - cumulative[None, :]) ** 2


def weighted_kappa(
    first: np.ndarray,
    second: np.ndarray,
    kind: Literal["unweighted", "linear", "quadratic"] = "quadratic",
    weights: np.ndarray | None = None,
) -> float:
    """Kappa of two `[C]` lists of ratings; cases that one of them lacks are left out; nan where nothing varies."""
    both = ~np.isnan(first) & ~np.isnan(second)
    if not both.any():
        return float("nan")
    values = np.unique(np.concatenate([first[both], second[both]]))
    if len(values) < 2:
        return float("nan")
    a, b = np.searchsorted(values, first[both]), np.searchsorted(values, second[both])
    table = np.zeros((len(values), len(values)))
    np.add.at(table, (a, b), 1.0 if weights is None else weights[both])
    table /= table.sum()
    gap = np.abs(values[:, None] - values[None, :])
    penalty = {"unweighted": (gap > 0).astype(float), "linear": gap, "quadratic": gap**2}[kind]
    expected = np.outer(table.sum(axis=1), table.sum(axis=0))
    below = (penalty * expected).sum()
    return float(1 - (penalty * table).sum() / below) if below > 0 else float("nan")


def intraclass_correlation(
    ratings: np.ndarray, kind: Literal["ICC2", "ICC3"] = "ICC2", weights: np.ndarray | None = None
) -> float:
    """ICC(2,1) (absolute agreement, readers random) or ICC(3,1) (consistency) of the cases that all readers read."""
    complete = ~np.isnan(ratings).any(axis=0)
    table = ratings[:, complete]
    weight = np.ones(table.shape[1]) if weights is None else weights[complete]
    readers, cases = len(table), float(weight.sum())
    if readers < 2 or cases < 2:
        return float("nan")
    grand = float((table * weight).sum() / (readers * cases))
    by_case, by_reader = table.mean(axis=0), (table * weight).sum(axis=1) / cases
    ms_case = readers * float((weight * (by_case - grand) ** 2).sum()) / (cases - 1)
    ms_reader = cases * float(((by_reader - grand) ** 2).sum()) / (readers - 1)
    rest = table - by_case - by_reader[:, None] + grand
    ms_error = float((weight * rest**2).sum()) / ((readers - 1) * (cases - 1))
    above = ms_case - ms_error
    below = ms_case + (readers - 1) * ms_error
    if kind == "ICC2":
        below += readers * (ms_reader - ms_error) / cases
    return above / below if below > 0 else float("nan")


def with_interval(
    name: str,
    coefficient: Callable[[np.ndarray | None], float],
    clusters: np.ndarray,
    units: int,
    count: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> Agreement:
    """A coefficient with a percentile interval over patients.

    Args:
        coefficient: the coefficient for case weights `[C]`, or for None.
        clusters: `[C]` number of the patient of each case.
    """
    rng = np.random.default_rng(seed)
    patients = int(clusters.max()) + 1
    value = coefficient(None)
    draws = []
    if patients > 1 and not np.isnan(value):
        weights = rng.multinomial(patients, np.full(patients, 1 / patients), size=count)[:, clusters]
        draws = [coefficient(row.astype(float)) for row in weights]
    kept = np.array([draw for draw in draws if not np.isnan(draw)])
    if len(kept) < 20:
        return Agreement(name, value, float("nan"), float("nan"), units)
    low, high = np.quantile(kept, [(1 - level) / 2, (1 + level) / 2])
    return Agreement(name, value, float(low), float(high), units)
