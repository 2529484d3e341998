"""Two models on the same questions: paired differences, McNemar's test, Holm's correction, worst cases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from medvlm.evaluation.bootstrap import Interval, mean_interval


@dataclass(frozen=True)
class Paired:
    """Two models on one set of questions.

    Attributes:
        first, second: accuracies.
        difference: second minus first, with the interval of a bootstrap over patients.
        only_first, only_second: questions that only one of them answers rightly.
        p: exact McNemar test of these two numbers (two-sided), which takes questions as independent.
        p_holm: the same after Holm's correction over all comparisons made together.
    """

    first: float
    second: float
    difference: Interval
    only_first: int
    only_second: int
    p: float
    p_holm: float

    def to_json(self) -> dict[str, Any]:
        return {
            "first": round(self.first, 4),
            "second": round(self.second, 4),
            "difference": self.difference.to_json(),
            "only_first": self.only_first,
            "only_second": self.only_second,
            "p_mcnemar": self.p,
            "p_holm": self.p_holm,
        }


def mcnemar(only_first: int, only_second: int) -> float:
    """Two-sided exact p value: a fair coin decides each discordant pair (McNemar 1947, exact binomial form)."""
    from scipy.stats import binomtest

    total = only_first + only_second
    return 1.0 if total == 0 else float(binomtest(only_first, total, 0.5).pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjusted p values, in the given order (Holm 1979)."""
    order = np.argsort(p_values)
    adjusted = np.empty(len(p_values))
    running = 0.0
    for rank, index in enumerate(order):
        running = max(running, (len(p_values) - rank) * p_values[index])
        adjusted[index] = min(running, 1.0)
    return adjusted.tolist()


def compare_paired(
    groups: Mapping[str, tuple[Sequence[float], Sequence[float], Sequence[str]]], seed: int = 0
) -> dict[str, Paired]:
    """Compare two models in several groups of questions at once.

    Args:
        groups: name → scores of the first model, of the second, and patients, question by question.
        seed: of the bootstrap.
    """
    rows: dict[str, Paired] = {}
    p_values = []
    for name, (first, second, patients) in groups.items():
        a, b = np.asarray(first, float), np.asarray(second, float)
        difference = mean_interval((b - a).tolist(), patients, seed=seed)
        right_a, right_b = a >= 1, b >= 1
        only_first, only_second = int((right_a & ~right_b).sum()), int((~right_a & right_b).sum())
        p = mcnemar(only_first, only_second)
        p_values.append(p)
        rows[name] = Paired(float(a.mean()), float(b.mean()), difference, only_first, only_second, p, p)
    for (name, row), adjusted in zip(list(rows.items()), holm(p_values), strict=True):
        values = {field: getattr(row, field) for field in row.__dataclass_fields__}
        rows[name] = Paired(**{**values, "p_holm": adjusted})
    return rows
