"""Obuchowski-Rockette analysis with the degrees of freedom of Hillis, for factorial and nested designs.

Obuchowski, Rockette, Commun Stat Simul 1995;24:285-308; Hillis, Stat Med 2007;26:596-619 (degrees of freedom) and
2014;33:330-360 (readers nested in modalities). Covariances of the figures of merit over cases are averaged into

* Var (same reader, same modality), Cov1 (same reader, different modalities), Cov2 (different readers, same modality),
  Cov3 (both different);
* random readers and cases: F = MS(T) / [MS(T:R) + max(R (Cov2 - Cov3), 0)],
  df2 = denominator^2 / {MS(T:R)^2 / [(M - 1)(R - 1)]};
* fixed readers: chi2 = (M - 1) MS(T) / [Var - Cov1 + (R - 1) max(Cov2 - Cov3, 0)];
* fixed cases: F = MS(T) / MS(T:R).

A Cov2 - Cov3 below zero is set to zero, so that df2 becomes (M - 1)(R - 1). Where cases or readers are nested, the
covariances that cannot exist are zero.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from medvlm.errors import MedVLMError
from medvlm.reader_study.statistics.contrast import Contrast
from medvlm.reader_study.statistics.figures_of_merit import Merits

Randomness = Literal["readers and cases", "cases", "readers"]


@dataclass(frozen=True)
class Components:
    """Mean squares and covariance components; `nan` where the design does not have one."""

    ms_t: float
    ms_r: float
    ms_tr: float
    var: float
    cov1: float
    cov2: float
    cov3: float


@dataclass(frozen=True)
class OverallTest:
    """Are all modalities equal? F(df1, df2), or chi-squared / df1 with df2 = inf."""

    f: float
    df1: float
    df2: float
    p: float
    denominator: float


@dataclass(frozen=True)
class ORResult:
    """An Obuchowski-Rockette analysis.

    Attributes:
        means: the reader-averaged figure of merit of each modality with its interval (from its own data).
        differences: all pairs of modalities, first minus second.
        per_reader: differences of each reader, readers fixed (empty where cases are fixed or readers nested).
    """

    random: Randomness
    components: Components
    test: OverallTest
    means: tuple[Contrast, ...]
    differences: tuple[Contrast, ...]
    per_reader: tuple[Contrast, ...]


def obuchowski_rockette(merits: Merits, random: Randomness = "readers and cases", level: float = 0.95) -> ORResult:
    """Compare the modalities.

    Raises:
        MedVLMError: the design is neither factorial (every reader every modality) nor nested (each reader one
            modality), or it has too few readers for what is random.
    """
    read = ~np.isnan(merits.theta)
    if read.all():
        return _factorial(merits, random, level)
    if (read.sum(axis=0) == 1).all() and (read.sum(axis=1) > 0).all():
        return _nested(merits, random, level)
    raise MedVLMError(
        "Obuchowski-Rockette needs every reader under every modality, or each reader under one; "
        "use the U-statistics for other designs."
    )


def components(merits: Merits) -> Components:
    """Mean squares and mean covariances of a factorial design."""
    theta = merits.theta
    m, r = theta.shape
    by_modality, by_reader, grand = theta.mean(axis=1), theta.mean(axis=0), theta.mean()
    ms_t = r * _square(by_modality - grand) / (m - 1) if m > 1 else math.nan
    ms_r = m * _square(by_reader - grand) / (r - 1) if r > 1 else math.nan
    residual = theta - by_modality[:, None] - by_reader[None, :] + grand
    ms_tr = _square(residual) / ((m - 1) * (r - 1)) if m > 1 and r > 1 else math.nan
    var, cov1, cov2, cov3 = mean_covariances(merits)
    return Components(ms_t, ms_r, ms_tr, var, cov1, cov2, cov3)


def _square(values: np.ndarray) -> float:
    """The sum of squares; what rounding leaves of equal values is zero."""
    total = float((values**2).sum())
    return total if total > 1e-24 else 0.0


def mean_covariances(merits: Merits) -> tuple[float, float, float, float]:
    """Var, Cov1, Cov2, Cov3 over the cells that were read; 0 where there is no such pair."""
    m, r = merits.theta.shape
    modality, reader = np.repeat(np.arange(m), r), np.tile(np.arange(r), m)
    used = ~np.isnan(merits.theta.ravel())
    both = np.outer(used, used)
    same_m, same_r = modality[:, None] == modality, reader[:, None] == reader
    masks = (same_m & same_r, ~same_m & same_r, same_m & ~same_r, ~same_m & ~same_r)
    found = [merits.covariance[mask & both] for mask in masks]
    var, cov1, cov2, cov3 = (float(values.mean()) if values.size else 0.0 for values in found)
    # Pairs that share no case do not covary; what a jackknife over all cases leaves there is noise.
    if merits.nesting == "cases in readers":
        cov2 = cov3 = 0.0
    elif merits.nesting == "cases in modalities":
        cov1 = cov3 = 0.0
    return var, cov1, cov2, cov3


def _positive(value: float) -> float:
    return max(value, 0.0)


def _factorial(merits: Merits, random: Randomness, level: float) -> ORResult:
    m, r = merits.theta.shape
    if r < 2 and random != "cases":
        raise MedVLMError("one reader cannot stand for others: with one reader only the cases can be random.")
    parts = components(merits)
    excess = parts.cov2 - parts.cov3 if r > 1 else 0.0
    if random == "readers and cases":
        denominator = parts.ms_tr + r * _positive(excess)
        df2 = _ratio(denominator**2, parts.ms_tr**2 / max((m - 1) * (r - 1), 1))
    elif random == "cases":
        denominator, df2 = parts.var - parts.cov1 + (r - 1) * _positive(excess), math.inf
    else:
        denominator, df2 = parts.ms_tr, float((m - 1) * (r - 1))
    test = _overall(parts.ms_t, denominator, m - 1, df2)
    se = math.sqrt(2 / r * denominator) if denominator >= 0 else math.nan
    means = tuple(_mean(merits, index, random, level) for index in range(m))
    differences = tuple(
        Contrast(
            f"{merits.modalities[a]} - {merits.modalities[b]}", means[a].estimate - means[b].estimate, se, df2, level
        )
        for a, b in itertools.combinations(range(m), 2)
    )
    per_reader = _per_reader(merits, level) if random != "readers" else ()
    return ORResult(random, parts, test, means, differences, per_reader)


def _nested(merits: Merits, random: Randomness, level: float) -> ORResult:
    """Each reader under one modality: MS[R(T)] takes the place of MS(T:R)."""
    theta = merits.theta
    read = ~np.isnan(theta)
    counts = read.sum(axis=1)
    m, total = len(counts), int(counts.sum())
    if (counts < 2).any() and random != "cases":
        raise MedVLMError("readers nested in modalities: each modality needs two readers or more.")
    averages = np.nansum(theta, axis=1) / counts
    grand = float(np.nansum(theta) / total)
    ms_t = float((counts * (averages - grand) ** 2).sum() / (m - 1))
    within = np.where(read, theta - averages[:, None], 0.0)
    ms_r = _square(within) / (total - m) if total > m else math.nan
    var, _, cov2, cov3 = mean_covariances(merits)
    # The mean number of readers, for unequal groups.
    size = (total - float((counts**2).sum()) / total) / (m - 1)
    excess = size * _positive(cov2 - cov3)
    if random == "readers and cases":
        denominator = ms_r + excess
        df2 = _ratio(denominator**2, ms_r**2 / (total - m))
    elif random == "cases":
        denominator, df2 = var - cov2 + excess, math.inf
    else:
        denominator, df2 = ms_r, float(total - m)
    means = tuple(_mean(merits, index, random, level) for index in range(m))
    differences = tuple(
        Contrast(
            f"{merits.modalities[a]} - {merits.modalities[b]}",
            float(averages[a] - averages[b]),
            math.sqrt((1 / counts[a] + 1 / counts[b]) * denominator) if denominator >= 0 else math.nan,
            df2,
            level,
        )
        for a, b in itertools.combinations(range(m), 2)
    )
    parts = Components(ms_t, ms_r, math.nan, var, 0.0, cov2, cov3)
    return ORResult(random, parts, _overall(ms_t, denominator, m - 1, df2), means, differences, ())


def _overall(ms_t: float, denominator: float, df1: float, df2: float) -> OverallTest:
    from scipy.stats import chi2, f

    if df1 == 0 or math.isnan(ms_t):
        return OverallTest(math.nan, df1, df2, math.nan, denominator)
    statistic = _ratio(ms_t, denominator)
    if denominator < 0:
        return OverallTest(math.nan, df1, df2, math.nan, denominator)
    p = float(chi2.sf(df1 * statistic, df1) if math.isinf(df2) else f.sf(statistic, df1, df2))
    if ms_t == 0:
        p = 1.0
    return OverallTest(statistic, float(df1), df2, p, denominator)


def _ratio(above: float, below: float) -> float:
    """A quotient; 0 / 0 is 0 (nothing differs) and x / 0 is infinite."""
    if below == 0:
        return 0.0 if above == 0 else math.inf
    return above / below


def _mean(merits: Merits, index: int, random: Randomness, level: float) -> Contrast:
    """The mean of one modality from its own data: MS(R), Cov2 and Var of that modality."""
    theta = merits.theta[index]
    used = ~np.isnan(theta)
    r = int(used.sum())
    own = theta[used]
    first = index * merits.theta.shape[1]
    block = merits.covariance[first : first + len(theta), first : first + len(theta)][np.ix_(used, used)]
    ms_r = _square(own - own.mean()) / (r - 1) if r > 1 else math.nan
    cov2 = float(block[~np.eye(r, dtype=bool)].mean()) if r > 1 else 0.0
    if merits.nesting == "cases in readers":
        cov2 = 0.0
    df = math.inf
    if random == "cases":
        variance = (float(np.diag(block).mean()) + (r - 1) * _positive(cov2)) / r
    elif random == "readers":
        variance, df = ms_r / r, float(r - 1)
    else:
        total = ms_r + r * _positive(cov2)
        variance, df = total / r, _ratio(total**2, ms_r**2 / (r - 1))
    return Contrast(merits.modalities[index], float(own.mean()), math.sqrt(variance), df, level)


def _per_reader(merits: Merits, level: float) -> tuple[Contrast, ...]:
    """Each reader's differences with the reader's own Var and Cov1: se = sqrt(2 (Var - Cov1))."""
    m, r = merits.theta.shape
    found = []
    for reader in range(r):
        cells = np.arange(m) * r + reader
        block = merits.covariance[np.ix_(cells, cells)]
        var = float(np.diag(block).mean())
        cov1 = float(block[~np.eye(m, dtype=bool)].mean()) if m > 1 else 0.0
        if merits.nesting == "cases in modalities":
            cov1 = 0.0
        se = math.sqrt(max(2 * (var - cov1), 0.0))
        for a, b in itertools.combinations(range(m), 2):
            name = f"{merits.readers[reader]}: {merits.modalities[a]} - {merits.modalities[b]}"
            found.append(Contrast(name, float(merits.theta[a, reader] - merits.theta[b, reader]), se, level=level))
    return tuple(found)


def standalone_against_readers(merits: Merits, standalone: str, level: float = 0.95) -> Contrast:
    """A machine that reads alone against the mean of readers, readers and cases random: readers minus machine.

    The machine is a modality whose row holds its one figure of merit for every reader. The differences of each reader
    from it are one sample of readers: MS(R) of the differences and the mean covariance Cov2 of different readers'
    differences give the variance [MS(R) + max(R Cov2, 0)] / R and its degrees of freedom.
    Source: Hillis, Obuchowski, Berbaum, Acad Radiol 2011;18:129-142; Chakraborty 2017, chapter 22.

    Raises:
        MedVLMError: there are not exactly two modalities, or the machine's figures differ between readers.
    """
    m, r = merits.theta.shape
    if m != 2 or standalone not in merits.modalities or r < 2:
        raise MedVLMError("a standalone comparison needs two modalities, one of them the machine, and two readers.")
    machine = merits.modalities.index(standalone)
    human = 1 - machine
    if np.ptp(merits.theta[machine]) > 1e-12:
        raise MedVLMError(f"{standalone}: a machine has one figure of merit, but its rows differ.")
    differences = merits.theta[human] - merits.theta[machine]
    cells = np.arange(r)
    transform = np.zeros((r, m * r))
    transform[cells, human * r + cells], transform[cells, machine * r + cells] = 1.0, -1.0
    covariance = transform @ merits.covariance @ transform.T
    ms_r = _square(differences - differences.mean()) / (r - 1)
    total = ms_r + r * _positive(float(covariance[~np.eye(r, dtype=bool)].mean()))
    name = f"{merits.modalities[human]} - {standalone}"
    return Contrast(name, float(differences.mean()), math.sqrt(total / r), _ratio(total**2, ms_r**2 / (r - 1)), level)
