"""Bootstrap over readers, cases or both.

Resampling both at once is known to give variances that are too large in small studies, because the sampling noise of
each read enters twice (Wagner, Metz, Campbell, Acad Radiol 2007;14:723-748); its intervals are conservative.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from medvlm.reader_study.statistics.ratings import Ratings


@dataclass(frozen=True)
class Interval:
    """An estimate with its percentile interval, standard error and two-sided p-value against 0."""

    estimate: float
    low: float
    high: float
    se: float
    p: float


def case_weights(ratings: Ratings, count: int, rng: np.random.Generator) -> np.ndarray:
    """`[B, C]` how often each case is drawn: patients with replacement, within truth where all of a patient agree."""
    index = ratings.cluster_index
    patients = int(index.max()) + 1
    strata: np.ndarray = np.zeros(patients, dtype=int)
    if ratings.truth is not None:
        ill = np.bincount(index, ratings.truth, patients)
        size = np.bincount(index, minlength=patients)
        strata = np.where(ill == 0, 0, np.where(ill == size, 1, 2))
    weights = np.zeros((count, patients))
    for stratum in np.unique(strata):
        members = np.flatnonzero(strata == stratum)
        weights[:, members] = rng.multinomial(len(members), np.full(len(members), 1 / len(members)), size=count)
    return weights[:, index]


def weighted_merits(scores: np.ndarray, truth: np.ndarray | None, weights: np.ndarray) -> np.ndarray:
    """`[B, N]` AUC (with a truth) or mean (without) of each row of scores under case weights; NaN rows stay NaN."""
    read = ~np.isnan(scores)
    if truth is None:
        total = weights @ np.where(read, scores, 0.0).T
        mass = weights @ read.T.astype(float)
        return np.divide(total, mass, out=np.full_like(total, np.nan), where=mass > 0)
    ill, well = truth == 1, truth == 0
    values = np.full((len(weights), len(scores)), np.nan)
    for row, score in enumerate(scores):
        a, b = np.flatnonzero(read[row] & ill), np.flatnonzero(read[row] & well)
        if not len(a) or not len(b):
            continue
        won = 0.5 * (np.sign(score[a][:, None] - score[b][None, :]) + 1)
        top = np.einsum("bi,bi->b", weights[:, a] @ won, weights[:, b])
        mass = weights[:, a].sum(axis=1) * weights[:, b].sum(axis=1)
        values[:, row] = np.divide(top, mass, out=np.full_like(top, np.nan), where=mass > 0)
    return values


def two_way_bootstrap(
    ratings: Ratings,
    contrast: tuple[int, int],
    auc: bool = False,
    count: int = 2000,
    seed: int = 0,
    readers: bool = True,
    level: float = 0.95,
) -> Interval:
    """The difference of two modalities, readers and cases (patients) drawn with replacement.

    Args:
        contrast: numbers of the modalities; the difference is first minus second.
        readers: draw readers too; otherwise they are fixed.
    """
    rng = np.random.default_rng(seed)
    weights = case_weights(ratings, count, rng)
    people = len(ratings.readers)
    draws = rng.multinomial(people, np.full(people, 1 / people), size=count) if readers else np.ones((count, people))
    means, observed = [], []
    for modality in contrast:
        scores = ratings.scores[modality]
        truth = ratings.truth if auc else None
        values = weighted_merits(scores, truth, weights)
        own = weighted_merits(scores, truth, np.ones((1, scores.shape[1])))[0]
        # Readers count by how many cases they read, as in the U-statistic mean; with AUC each reader counts once.
        mass = np.ones(people) if auc else (~np.isnan(scores)).sum(axis=1).astype(float)
        used = draws * mass * ~np.isnan(values)
        means.append(np.nansum(np.nan_to_num(values) * used, axis=1) / np.maximum(used.sum(axis=1), 1e-12))
        observed.append(float(np.nansum(np.nan_to_num(own) * mass) / mass[~np.isnan(own)].sum()))
    return percentile_interval(means[0] - means[1], observed[0] - observed[1], level)


def percentile_interval(draws: np.ndarray, estimate: float, level: float = 0.95) -> Interval:
    """Percentile interval and p-value from bootstrap draws."""
    draws = draws[~np.isnan(draws)]
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    below = float(np.sum(draws <= 0) + 1) / (len(draws) + 1)
    above = float(np.sum(draws >= 0) + 1) / (len(draws) + 1)
    return Interval(estimate, float(low), float(high), float(draws.std(ddof=1)), min(1.0, 2 * min(below, above)))
