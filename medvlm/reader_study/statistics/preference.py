"""Pairwise preferences with ties: worth of the sources on one scale.

Davidson, J Am Stat Assoc 1970;65:317-328: P(i wins) : P(tie) : P(j wins) = w_i : nu sqrt(w_i w_j) : w_j. Intervals come
from a bootstrap over readers and cases, so that repeated judgements do not count as independent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Worth:
    """Log worth against the first source (0), with its interval, and the tie parameter nu."""

    names: tuple[str, ...]
    log_worth: np.ndarray
    low: np.ndarray
    high: np.ndarray
    ties: float


@dataclass(frozen=True, eq=False)
class Comparisons:
    """Judgements: numbers of the two sources, 1 first better, 0.5 tie, 0 second better; who judged and which case."""

    first: np.ndarray
    second: np.ndarray
    outcome: np.ndarray
    reader: np.ndarray
    case: np.ndarray


def davidson(data: Comparisons, names: Sequence[str], count: int = 500, seed: int = 0, level: float = 0.95) -> Worth:
    """Fit the model and bootstrap readers and cases."""
    rng = np.random.default_rng(seed)
    estimate, ties = _fit(data, len(names), np.ones(len(data.first)))
    readers, cases = int(data.reader.max()) + 1, int(data.case.max()) + 1
    draws = []
    for _ in range(count):
        people = rng.multinomial(readers, np.full(readers, 1 / readers))
        items = rng.multinomial(cases, np.full(cases, 1 / cases))
        draws.append(_fit(data, len(names), (people[data.reader] * items[data.case]).astype(float))[0])
    low, high = np.quantile(np.array(draws), [(1 - level) / 2, (1 + level) / 2], axis=0)
    return Worth(tuple(names), estimate, low, high, ties)


def _fit(data: Comparisons, count: int, weights: np.ndarray) -> tuple[np.ndarray, float]:
    from scipy.optimize import minimize

    # A little of each outcome keeps a source that never lost finite.
    table = np.full((count, count, 3), 0.0)
    column = np.where(data.outcome == 1, 0, np.where(data.outcome == 0.5, 1, 2))
    np.add.at(table, (data.first, data.second, column), weights)
    seen = table.sum(axis=2) > 0
    table[seen] += 0.05

    def negative(parameters: np.ndarray) -> float:
        worth = np.concatenate([[0.0], parameters[:-1]])
        a, b = worth[:, None], worth[None, :]
        logs = np.stack([a + 0 * b, parameters[-1] + (a + b) / 2, b + 0 * a], axis=2)
        logs = logs - np.logaddexp.reduce(logs, axis=2, keepdims=True)
        return -float((table * logs).sum())

    found = minimize(negative, np.zeros(count), method="BFGS")
    return np.concatenate([[0.0], found.x[:-1]]), float(np.exp(found.x[-1]))
