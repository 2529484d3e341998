"""Was the blinding kept? Indices from what readers guess about the source."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class BlindingIndex:
    """An index with its normal interval: Bang's is 0 for random guessing, 1 for all right, -1 for all wrong."""

    name: str
    value: float
    low: float
    high: float
    guesses: int


def bang_index(name: str, right: int, wrong: int, unsure: int) -> BlindingIndex:
    """Bang, Ni, Davis, Control Clin Trials 2004;25:143-156, for one arm: (right - wrong) / all.

    Its variance is that of a multinomial difference. Ratings of one reader depend on each other, so the interval is
    rather too narrow.
    """
    total = right + wrong + unsure
    if total == 0:
        return BlindingIndex(name, math.nan, math.nan, math.nan, 0)
    value = (right - wrong) / total
    half = 1.959964 * math.sqrt(max((right + wrong) / total - value**2, 0.0) / total)
    return BlindingIndex(name, value, max(-1.0, value - half), min(1.0, value + half), total)


def james_index(table: Sequence[tuple[int, int, int]]) -> float:
    """James, Bloch, Lee, Kraemer, Fuller, Stat Med 1996;15:1421-1434: 1 all unsure, 0.5 random, 0 all right.

    Args:
        table: for each arm the guesses (arm 1, arm 2, unsure).
    """
    total = sum(map(sum, table))
    if total == 0:
        return math.nan
    unsure = sum(row[2] for row in table) / total
    if unsure == 1:
        return 1.0
    shares = [[count / total for count in row[:2]] for row in table]
    rows, columns = [sum(row) for row in shares], [sum(row[k] for row in shares) for k in range(2)]
    # Weight 0 for a right guess, 0.5 for a wrong one.
    observed = sum(0.5 * shares[i][j] for i in range(2) for j in range(2) if i != j) / (1 - unsure)
    expected = sum(0.5 * rows[i] * columns[j] for i in range(2) for j in range(2) if i != j) / (1 - unsure) ** 2
    kappa = (observed - expected) / expected if expected else 0.0
    return (1 + unsure + (1 - unsure) * kappa) / 2
