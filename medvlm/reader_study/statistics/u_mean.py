"""One-shot U-statistics of a mean score over readers and cases, for arbitrary designs.

The score of one reader for one case (a Likert rating, a binary call, a count) has the moments c1r1, c1r0, c0r1, c0r0:
same or different case, same or different reader. `joint` weighs every read equally and takes its moments from sums over
the whole design; `conditional` takes them reader by reader (iMRMC's uStat11.jointD and uStat11.conditionalD).
Source of the moments: Gallas, Bandos, Samuelson, Wagner, Commun Stat Theory 2009;38:2586-2603.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from medvlm.reader_study.statistics.contrast import Contrast
from medvlm.reader_study.statistics.ratings import Ratings
from medvlm.reader_study.statistics.u_mean_conditional import conditional_moments

Kind = Literal["joint", "conditional"]
_PROPER = np.array([[1, -1, -1, 1], [0, 1, 0, -1], [0, 0, 1, -1], [0, 0, 0, 1]], dtype=float)  # c0r0 c1r0 c0r1 c1r1


@dataclass(frozen=True)
class UMeanResult:
    """Means of the modalities, differences of all pairs, and the unbiased variances by name."""

    means: tuple[Contrast, ...]
    differences: tuple[Contrast, ...]
    variances: dict[str, float]


def u_statistic_mean(ratings: Ratings, kind: Kind = "joint", level: float = 0.95) -> UMeanResult:
    """Mean scores and their differences with readers and cases random.

    Cases of one patient count as one (their scores are added up), so that patients are the random unit.
    """
    kernels = [by_cluster(ratings, index) for index in range(len(ratings.modalities))]
    variances, means, differences = {}, [], []
    for name, (total, count) in zip(ratings.modalities, kernels):
        variances[name] = _covariance((total, count), (total, count), kind)
        means.append(_contrast(name, (total, count), None, variances[name], level))
    for a, b in itertools.combinations(range(len(kernels)), 2):
        name = f"{ratings.modalities[a]} - {ratings.modalities[b]}"
        cross = _covariance(kernels[a], kernels[b], kind)
        variances[name] = variances[ratings.modalities[a]] + variances[ratings.modalities[b]] - 2 * cross
        differences.append(_contrast(name, kernels[a], kernels[b], variances[name], level))
    return UMeanResult(tuple(means), tuple(differences), variances)


Kernel = tuple[np.ndarray, np.ndarray]


def by_cluster(ratings: Ratings, modality: int) -> Kernel:
    """`[R, P]` sums of scores and `[R, P]` numbers of reads by patient."""
    scores = ratings.scores[modality]
    read = ~np.isnan(scores)
    values = np.where(read, scores, 0.0)
    if not ratings.clusters:
        return values, read.astype(float)
    index = ratings.cluster_index
    patients = int(index.max()) + 1
    total, count = np.zeros((len(scores), patients)), np.zeros((len(scores), patients))
    np.add.at(total.T, index, values.T)
    np.add.at(count.T, index, read.T.astype(float))
    return total, count


def _covariance(a: Kernel, b: Kernel, kind: Kind) -> float:
    if kind == "conditional":
        coefficients, moments = conditional_moments(a, b)
        return float(coefficients @ moments)
    above, below = _sums(a[0], b[0]), _sums(a[1], b[1])
    proper_above, proper_below = _PROPER @ above, _PROPER @ below
    moments = np.divide(proper_above, proper_below, out=np.zeros(4), where=proper_below > 1e-9)
    coefficients = proper_below / (a[1].sum() * b[1].sum())
    coefficients[0] -= 1
    return float(coefficients @ moments)


def _sums(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Sums of products over any pair, the same case, the same reader, the same read."""
    return np.array(
        [
            first.sum() * second.sum(),
            np.vdot(first.sum(axis=0), second.sum(axis=0)),
            np.vdot(first.sum(axis=1), second.sum(axis=1)),
            np.vdot(first, second),
        ],
        dtype=float,
    )


def _contrast(name: str, a: Kernel, b: Kernel | None, variance: float, level: float) -> Contrast:
    """The mean or difference with a t interval.

    The degrees of freedom follow Hillis: the part of the variance that shows as differences between readers has
    R - 1, the part of the cases is taken as known; a variance below the readers' part is raised to it, as a negative
    component of the cases is set to zero.
    """
    residual_r, residual_c = _residuals(a)
    estimate = float(a[0].sum() / a[1].sum())
    if b is not None:
        other_r, other_c = _residuals(b)
        residual_r, residual_c = residual_r - other_r, residual_c - other_c
        estimate -= float(b[0].sum() / b[1].sum())
    readers, cases = _part(residual_r), _part(residual_c)
    people = int(np.count_nonzero(residual_r.size))
    people = len(residual_r)
    if people < 2:  # one reader: the cases alone are random
        return Contrast(name, estimate, math.sqrt(max(variance, cases, 0.0)), float(len(residual_c) - 1), level)
    total = max(variance, readers)
    if total <= 0:
        return Contrast(name, estimate, 0.0, float(people - 1), level)
    df = (people - 1) * (total / readers) ** 2 if readers > 0 else math.inf
    return Contrast(name, estimate, math.sqrt(total), df, level)


def _residuals(kernel: Kernel) -> tuple[np.ndarray, np.ndarray]:
    """What each reader and each case adds to the mean: (sum - reads x mean) / all reads."""
    total, count = kernel
    mean = total.sum() / count.sum()
    gap = (total - count * mean) / count.sum()
    return gap.sum(axis=1), gap.sum(axis=0)


def _part(residuals: np.ndarray) -> float:
    """The variance of a sum of independent parts that add up to zero."""
    used = residuals[residuals != 0]
    count = len(residuals)
    return float((used**2).sum() * count / (count - 1)) if count > 1 else 0.0
