"""Moments of a mean score taken reader by reader (the conditional estimator of iMRMC's uStat11.conditionalD)."""

from __future__ import annotations

import numpy as np


def conditional_moments(
    a: tuple[np.ndarray, np.ndarray], b: tuple[np.ndarray, np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Coefficients and moments (c1r1, c0r1, c1r0, c0r0) of the covariance of two mean scores.

    Args:
        a: `[R, C]` scores (0 where not read) and `[R, C]` design of the first mean; `b` of the second.
    """
    (sum_a, design_a), (sum_b, design_b) = a, b
    reads_a, reads_b = design_a.sum(axis=1), design_b.sum(axis=1)
    weight_a, weight_b = reads_a / reads_a.sum(), reads_b / reads_b.sum()
    diagonal = np.eye(len(reads_a), dtype=bool)
    products, shared = sum_a @ sum_b.T, design_a @ design_b.T
    pairs = np.outer(reads_a, reads_b)
    both, same = np.outer(weight_a, weight_b), np.sqrt(weight_a * weight_b)

    share = _over(shared, pairs)
    # The other cases of the second reader, for each case of the first.
    others = _over(sum_b.sum(axis=1, keepdims=True) - sum_b, reads_b[:, None] - design_b)
    apart = _over(sum_a, reads_a[:, None]) @ others.T

    within, across = _over(np.diag(products), np.diag(shared)), _over(products, shared)
    moments = np.array(
        [
            _mean(within, same),
            _mean(np.diag(apart), same),
            _mean(across[~diagonal], both[~diagonal]),
            _mean(apart[~diagonal], both[~diagonal]),
        ]
    )
    both_same = weight_a * weight_b
    read = np.outer(reads_a > 0, reads_b > 0)
    coefficients = np.array(
        [
            (both_same * np.diag(share)).sum(),
            (both_same * (1 - np.diag(share)))[np.diag(read)].sum(),
            (both * share)[~diagonal].sum(),
            (both * (1 - share))[~diagonal & read].sum() - 1,
        ]
    )
    return coefficients, moments


def _over(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    below = np.broadcast_to(below, above.shape)
    return np.divide(above, below, out=np.zeros_like(above, dtype=float), where=below != 0)


def _mean(values: np.ndarray, weights: np.ndarray) -> float:
    return float((values * weights).sum() / weights.sum()) if weights.sum() else 0.0
