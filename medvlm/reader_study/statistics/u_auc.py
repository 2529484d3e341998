"""One-shot U-statistics of the reader-averaged AUC for arbitrary designs.

Gallas, Acad Radiol 2006;13:353-362; Gallas, Pennello, Myers, J Opt Soc Am A 2007;24:B70-B80; Gallas, Bandos, Samuelson,
Wagner, Commun Stat Theory 2009;38:2586-2603. The variance is a combination of eight second moments of the success
scores s[r, i, j] (normal case i, diseased case j): same or different reader, normal case and diseased case. Sums over
the reads that exist take the place of the counts of a crossed design, so that any reads may be missing.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np

from medvlm.errors import MedVLMError
from medvlm.reader_study.statistics.contrast import Contrast
from medvlm.reader_study.statistics.figures_of_merit import success
from medvlm.reader_study.statistics.ratings import Ratings

# Sums over (same or any reader) x (same or any normal case) x (same or any diseased case) → the eight moments proper:
# inclusion and exclusion over the three factors.
_PAIR = np.array([[1, 0, 0, 0], [-1, 1, 0, 0], [-1, 0, 1, 0], [1, -1, -1, 1]], dtype=float)
_FULL = np.block([[_PAIR, np.zeros((4, 4))], [-_PAIR, _PAIR]])
# Moments → components of variance (Gallas 2009, equation 19): N, D, ND, R, NR, DR, RND.
_TO_COMPONENTS = np.array(
    [
        [0, 0, 0, 0, 0, 0, 1, -1],
        [0, 0, 0, 0, 0, 1, 0, -1],
        [0, 0, 0, 0, 1, -1, -1, 1],
        [0, 0, 0, 1, 0, 0, 0, -1],
        [0, 0, 1, -1, 0, 0, -1, 1],
        [0, 1, 0, -1, 0, -1, 0, 1],
        [1, -1, -1, 1, -1, 1, 1, -1],
    ],
    dtype=float,
)
_TO_WEIGHTS = np.array(
    [
        [1, 0, 1, 0, 1, 0, 1, 0],
        [1, 1, 0, 0, 1, 1, 0, 0],
        [1, 0, 0, 0, 1, 0, 0, 0],
        [1, 1, 1, 1, 0, 0, 0, 0],
        [1, 0, 1, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0, 0, 0],
        [1, 0, 0, 0, 0, 0, 0, 0],
    ],
    dtype=float,
)
NORMAL_FROM = 50  # degrees of freedom above which the normal distribution is used, as iMRMC does


@dataclass(frozen=True, eq=False)
class _Moments:
    """Covariance of two reader-averaged AUCs: unbiased, biased (V-statistic), components and degrees of freedom."""

    first: float
    second: float
    unbiased: float
    biased: float
    components: np.ndarray
    dfs: tuple[float, float, float]
    moments: np.ndarray


@dataclass(frozen=True)
class UAUCResult:
    """A U-statistic analysis.

    Attributes:
        means: each modality's AUC.
        differences: all pairs, first minus second, on t with whole degrees of freedom (normal above 50).
        variances: `{name: (unbiased, biased)}` variances of means and differences.
        df: degrees of freedom before rounding, by name.
        moments: the eight unbiased moments of each modality.
    """

    means: tuple[Contrast, ...]
    differences: tuple[Contrast, ...]
    variances: dict[str, tuple[float, float]]
    df: dict[str, tuple[float, float]]
    moments: dict[str, tuple[float, ...]]


def u_statistic_auc(ratings: Ratings, biased: bool = False, level: float = 0.95) -> UAUCResult:
    """Reader-averaged AUCs and their differences under any design.

    Args:
        biased: use the V-statistic (maximum likelihood) variances, which are never negative.

    Raises:
        MedVLMError: no truth, or a modality without a reader who read cases of both kinds.
    """
    if ratings.truth is None:
        raise MedVLMError("the area under the ROC curve needs the truth of every case.")
    tables = [_tables(ratings.scores[index], ratings.truth) for index in range(len(ratings.modalities))]
    for name, table in zip(ratings.modalities, tables):
        if not table.design.any():
            raise MedVLMError(f"{name}: no reader read both normal and diseased cases.")
    single = [_moments(table, table) for table in tables]
    variances, dfs, means, differences = {}, {}, [], []
    for name, own in zip(ratings.modalities, single):
        variances[name] = (own.unbiased, own.biased)
        dfs[name] = _df(own.unbiased, own.components, own.dfs), _df(own.biased, own.components, own.dfs)
        means.append(_contrast(name, own.first, variances[name][biased], dfs[name][biased], level))
    for a, b in itertools.combinations(range(len(tables)), 2):
        cross = _moments(tables[a], tables[b])
        name = f"{ratings.modalities[a]} - {ratings.modalities[b]}"
        unbiased = single[a].unbiased + single[b].unbiased - 2 * cross.unbiased
        v_statistic = single[a].biased + single[b].biased - 2 * cross.biased
        parts = single[a].components + single[b].components - 2 * cross.components
        limits = tuple(min(pair) for pair in zip(single[a].dfs, single[b].dfs))
        variances[name] = (unbiased, v_statistic)
        dfs[name] = _df(unbiased, parts, limits), _df(v_statistic, parts, limits)  # type: ignore[arg-type]
        estimate = single[a].first - single[b].first
        differences.append(_contrast(name, estimate, variances[name][biased], dfs[name][biased], level))
    moments = {name: tuple(map(float, own.moments)) for name, own in zip(ratings.modalities, single)}
    return UAUCResult(tuple(means), tuple(differences), variances, dfs, moments)


def _contrast(name: str, estimate: float, variance: float, df: float, level: float) -> Contrast:
    """A negative variance estimate gives no test; otherwise t with whole degrees of freedom, as iMRMC rounds them."""
    if variance < 0 or math.isnan(df):
        return Contrast(name, estimate, math.nan, math.inf, level)
    whole = math.inf if df > NORMAL_FROM else max(math.floor(df), 1)
    return Contrast(name, estimate, math.sqrt(variance), whole, level)


@dataclass(frozen=True, eq=False)
class _Table:
    """Successes (0 where not read), the design, and their sums over normal and diseased cases: `[R, N0, N1]`."""

    won: np.ndarray
    design: np.ndarray


def _tables(scores: np.ndarray, truth: np.ndarray) -> _Table:
    table = success(scores, truth)
    design = ~np.isnan(table)
    return _Table(np.where(design, table, 0.0), design.astype(float))


def _sums(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """The eight sums of products: same reader with (same ij, same j, same i, any), then any reader with the same."""
    found = []
    for x, y in ((first, second), (first.sum(axis=0, keepdims=True), second.sum(axis=0, keepdims=True))):
        found += [
            float(np.vdot(x, y)),
            float(np.vdot(x.sum(axis=1), y.sum(axis=1))),
            float(np.vdot(x.sum(axis=2), y.sum(axis=2))),
            float(np.vdot(x.sum(axis=(1, 2)), y.sum(axis=(1, 2)))),
        ]
    return np.array(found)


def _divide(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    return np.divide(above, below, out=above.copy(), where=below != 0)


def _moments(a: _Table, b: _Table) -> _Moments:
    above, below = _sums(a.won, b.won), _sums(a.design, b.design)
    proper_above, proper_below = _FULL @ above, np.round(_FULL @ below)
    moments, raw = _divide(proper_above, proper_below), _divide(above, below)
    weights = proper_below / below[7]
    weights[7] -= 1
    own = _TO_WEIGHTS @ weights
    parts = _TO_COMPONENTS @ raw
    parts[own == 0] = 0.0  # readers or cases that the modalities do not share
    with np.errstate(divide="ignore"):
        dfs = tuple(float(np.round(1 / own[index] - 1)) for index in (0, 1, 3))
    return _Moments(
        first=float(a.won.sum() / a.design.sum()),
        second=float(b.won.sum() / b.design.sum()),
        unbiased=float(weights @ moments),
        biased=float(weights @ raw),
        components=parts,
        dfs=dfs,  # type: ignore[arg-type]
        moments=moments,
    )


def _df(variance: float, parts: np.ndarray, dfs: tuple[float, float, float]) -> float:
    """Satterthwaite degrees of freedom from the components of normal cases, diseased cases and readers.

    Never below the smallest of the three (Gaylor, Hopper, Technometrics 1969;11:691-706); nan for a negative variance.
    """
    if variance < 0:
        return math.nan
    spread = sum(
        parts[index] ** 2 / df**3 if df > 0 else math.inf * (parts[index] != 0)
        for index, df in zip((0, 1, 3), dfs)
        if not math.isinf(df)
    )
    if math.isnan(spread):
        spread = 0.0
    if spread == 0:
        return math.inf if variance > 0 else min(dfs)
    return max(variance**2 / spread, min(dfs))


def pair_moments(first: np.ndarray, second: np.ndarray, truth: np.ndarray) -> float:
    """The unbiased covariance of two readers' AUCs over cases, from four moments; zero without shared cases."""
    a, b = _tables(first[None], truth), _tables(second[None], truth)
    above, below = _sums(a.won, b.won)[:4], _sums(a.design, b.design)[:4]
    if below[3] == 0:
        return 0.0
    proper_below = np.round(_PAIR @ below)
    moments = _divide(_PAIR @ above, proper_below)
    weights = proper_below / below[3]
    weights[3] -= 1
    return float(weights @ moments)
