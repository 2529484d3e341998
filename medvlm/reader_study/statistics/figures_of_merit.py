"""Figures of merit of each reader and modality, and how they vary and covary over cases.

`AUC` is the trapezoidal area (Wilcoxon statistic with ties as one half), `mean` the mean score: of Likert ratings, or
sensitivity and specificity of binary calls over the cases of one truth. Covariances over cases:

* DeLong, DeLong, Clarke-Pearson, Biometrics 1988;44:837-845 (for a mean: the sample covariance over n);
* jackknife, Efron 1982, times (n - 1) / n;
* unbiased, Gallas, Pennello, Myers, J Opt Soc Am A 2007;24:B70-B80 (U-statistics of the four moments);
* bootstrap over cases (patients), within truth.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from medvlm.errors import MedVLMError
from medvlm.reader_study.statistics.ratings import Ratings

Metric = Literal["auc", "mean"]
Covariance = Literal["delong", "jackknife", "unbiased", "bootstrap"]
Nesting = Literal["none", "cases in readers", "cases in modalities"]


@dataclass(frozen=True, eq=False)
class Merits:
    """Figures of merit and their covariance over cases.

    Attributes:
        theta: `[M, R]`; NaN where a reader did not read a modality.
        covariance: `[M * R, M * R]` in the order of `theta.ravel()`; zero in rows and columns of NaN cells.
    """

    theta: np.ndarray
    covariance: np.ndarray
    metric: Metric
    method: Covariance
    modalities: tuple[str, ...]
    readers: tuple[str, ...]
    nesting: Nesting = "none"


def figures_of_merit(
    ratings: Ratings,
    metric: Metric = "auc",
    method: Covariance = "delong",
    bootstraps: int = 1000,
    seed: int = 0,
) -> Merits:
    """Figures of merit with the covariance that the Obuchowski-Rockette method needs.

    Raises:
        MedVLMError: AUC without truth, or a reader without cases of both kinds.
    """
    scores = ratings.scores.reshape(-1, ratings.scores.shape[2])
    if metric == "auc":
        truth = _truth(ratings, scores)
        theta, positive, negative = auc_components(scores, truth)
        parts = [(positive, truth == 1), (negative, truth == 0)]
    else:
        theta = _means(scores)
        parts = [(scores, np.ones(scores.shape[1], dtype=bool))]
    if method == "jackknife":
        covariance = _jackknife(scores, theta, parts)
    elif method == "delong":
        covariance = _delong(theta, parts)
    elif method == "bootstrap":
        covariance = _bootstrap(ratings, scores, metric, bootstraps, seed)
    elif metric == "mean":
        covariance = _delong(theta, parts)  # already unbiased
    else:
        covariance = _unbiased(scores, _truth(ratings, scores))
    shape = ratings.scores.shape[:2]
    return Merits(
        theta.reshape(shape), covariance, metric, method, ratings.modalities, ratings.readers, _nesting(ratings)
    )


def _nesting(ratings: Ratings) -> Nesting:
    """Whether each reader, or each modality, has cases of its own."""
    read = ~np.isnan(ratings.scores)
    if len(ratings.readers) > 1 and read.any(axis=0).sum(axis=0).max() == 1:
        return "cases in readers"
    if len(ratings.modalities) > 1 and read.any(axis=1).sum(axis=0).max() == 1:
        return "cases in modalities"
    return "none"


def _truth(ratings: Ratings, scores: np.ndarray) -> np.ndarray:
    if ratings.truth is None:
        raise MedVLMError("the area under the ROC curve needs the truth of every case.")
    for row, values in enumerate(scores):
        read = ~np.isnan(values)
        if read.any() and len(set(ratings.truth[read])) < 2:
            modality, reader = divmod(row, len(ratings.readers))
            raise MedVLMError(
                f"reader {ratings.readers[reader]} read only cases of one truth under {ratings.modalities[modality]}."
            )
    return ratings.truth


def _means(scores: np.ndarray) -> np.ndarray:
    count = (~np.isnan(scores)).sum(axis=1)
    return np.where(count > 0, np.nansum(scores, axis=1) / np.maximum(count, 1), np.nan)


def success(scores: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """`[..., C]` scores → `[..., N0, N1]`: 1 where the diseased case scores higher, 1/2 for a tie, NaN if missing."""
    normal, diseased = scores[..., truth == 0][..., :, None], scores[..., truth == 1][..., None, :]
    return 0.5 * (np.sign(diseased - normal) + 1.0)


def auc_components(scores: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """AUC and its structural components.

    Returns:
        `[N]` areas; `[N, C]` components of diseased cases (NaN elsewhere); `[N, C]` components of normal cases.
    """
    theta = np.full(len(scores), np.nan)
    positive, negative = np.full(scores.shape, np.nan), np.full(scores.shape, np.nan)
    for row, values in enumerate(scores):
        read = ~np.isnan(values)
        ill, well = np.flatnonzero(read & (truth == 1)), np.flatnonzero(read & (truth == 0))
        if not len(ill) or not len(well):
            continue
        # Ranks give the components without the table of all pairs: the number of normal cases below each diseased one.
        ordered, other = np.sort(values[well]), np.sort(values[ill])
        below = np.searchsorted(ordered, values[ill], "left") + np.searchsorted(ordered, values[ill], "right")
        above = np.searchsorted(other, values[well], "left") + np.searchsorted(other, values[well], "right")
        positive[row, ill] = below / (2 * len(well))
        negative[row, well] = 1 - above / (2 * len(ill))
        theta[row] = positive[row, ill].mean()
    return theta, positive, negative


def _delong(theta: np.ndarray, parts: list[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """Sum over the kinds of cases of the covariance of components, over shared cases."""
    total = np.zeros((len(theta), len(theta)))
    for components, kind in parts:
        values = components[:, kind]
        read = ~np.isnan(values)
        deviations = np.where(read, values - theta[:, None], 0.0)
        shared = read.astype(float) @ read.T.astype(float)
        count = read.sum(axis=1).astype(float)
        scale = np.divide(shared, shared - 1, out=np.zeros_like(shared), where=shared > 1)
        total += (deviations @ deviations.T) * scale / np.maximum(np.outer(count, count), 1)
    return total


def leave_one_out(theta: np.ndarray, parts: list[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """`[N, C]` figures of merit without each case: from the components, exactly."""
    without = np.repeat(theta[:, None], parts[0][0].shape[1], axis=1)
    for components, kind in parts:
        read = ~np.isnan(components) & kind
        count = read.sum(axis=1, keepdims=True)
        safe = np.maximum(count - 1, 1)
        without = np.where(read, (count * theta[:, None] - np.where(read, components, 0)) / safe, without)
    return without


def _jackknife(scores: np.ndarray, theta: np.ndarray, parts: list[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    used = ~np.isnan(scores).all(axis=0)
    values = leave_one_out(theta, parts)[:, used]
    values = np.where(np.isnan(values), 0.0, values)
    count = values.shape[1]
    centred = values - values.mean(axis=1, keepdims=True)
    return centred @ centred.T * (count - 1) / count


def jackknife_pseudovalues(ratings: Ratings, metric: Metric = "auc") -> np.ndarray:
    """`[M, R, C]` pseudovalues `C * theta - (C - 1) * theta without the case`, for the Dorfman-Berbaum-Metz analysis.

    Raises:
        MedVLMError: a read is missing.
    """
    if not ratings.crossed:
        raise MedVLMError("pseudovalues need every read of every case; use the U-statistics for other designs.")
    scores = ratings.scores.reshape(-1, ratings.scores.shape[2])
    if metric == "auc":
        truth = _truth(ratings, scores)
        theta, positive, negative = auc_components(scores, truth)
        parts = [(positive, truth == 1), (negative, truth == 0)]
    else:
        theta, parts = _means(scores), [(scores, np.ones(scores.shape[1], dtype=bool))]
    count = scores.shape[1]
    return (count * theta[:, None] - (count - 1) * leave_one_out(theta, parts)).reshape(ratings.scores.shape)


def _bootstrap(ratings: Ratings, scores: np.ndarray, metric: Metric, count: int, seed: int) -> np.ndarray:
    from medvlm.reader_study.statistics.resample import case_weights, weighted_merits

    weights = case_weights(ratings, count, np.random.default_rng(seed))
    values = weighted_merits(scores, ratings.truth if metric == "auc" else None, weights)
    return np.nan_to_num(np.cov(values.T, ddof=1)).reshape(len(scores), len(scores))


def _unbiased(scores: np.ndarray, truth: np.ndarray) -> np.ndarray:
    from medvlm.reader_study.statistics.u_auc import pair_moments

    read = [~np.isnan(row).all() for row in scores]
    total = np.zeros((len(scores), len(scores)))
    for first in np.flatnonzero(read):
        for second in range(first, len(scores)):
            if read[second]:
                total[first, second] = total[second, first] = pair_moments(scores[first], scores[second], truth)
    return total
