"""Power and sample size of a comparison of two modalities by several readers.

Hillis, Obuchowski, Berbaum, Acad Radiol 2011;18:129-142: with J readers and K cases, components from K* pilot cases,

    den  = VarTR + (K*/K) [Var - Cov1 + (J - 1) max(Cov2 - Cov3, 0)]
    df2  = den^2 / {[VarTR + (K*/K)(Var - Cov1 - max(Cov2 - Cov3, 0))]^2 / (J - 1)}
    ncp  = J d^2 / 2 / den,          power = P[F'(1, df2; ncp) > F_{1 - alpha}(1, df2)].

For a mean score the case components follow from variances: Var - Cov1 = (case x source + error) / K and
Cov2 - Cov3 = case x source / K.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from medvlm.errors import MedVLMError
from medvlm.reader_study.statistics.contrast import Contrast
from medvlm.reader_study.statistics.figures_of_merit import Merits, Metric
from medvlm.reader_study.statistics.or_hillis import components

# Standard deviations of a five-point scale, in steps, for a study without a pilot: of readers' leaning to a source, of
# a case under a source, of the rest. They are assumptions, and are printed as such.
LIKERT = {"reader_source_sd": 0.2, "case_source_sd": 0.5, "error_sd": 0.8}


@dataclass(frozen=True)
class PowerComponents:
    """What the formula needs: components at `cases` cases; `origin` says where they come from."""

    var_tr: float
    var_minus_cov1: float
    cov2_minus_cov3: float
    cases: float
    origin: str


@dataclass(frozen=True)
class Power:
    """Power for J readers and K cases."""

    readers: int
    cases: int
    power: float
    ncp: float
    df2: float


def components_from_merits(merits: Merits, cases: int, origin: str) -> PowerComponents:
    """From a pilot study's Obuchowski-Rockette components."""
    parts = components(merits)
    excess = max(parts.cov2 - parts.cov3, 0.0)
    var_tr = max(parts.ms_tr - parts.var + parts.cov1 + excess, 0.0)
    return PowerComponents(var_tr, parts.var - parts.cov1, excess, float(cases), origin)


def components_from_sds(given: Mapping[str, float], origin: str) -> PowerComponents:
    """From standard deviations of a mean score (see `LIKERT` for the names).

    Raises:
        MedVLMError: an unknown name.
    """
    unknown = set(given) - set(LIKERT)
    if unknown:
        raise MedVLMError(f"endpoint.components: '{sorted(unknown)[0]}' is none of {', '.join(LIKERT)}.")
    sds = LIKERT | dict(given)
    case, error = sds["case_source_sd"] ** 2, sds["error_sd"] ** 2
    return PowerComponents(sds["reader_source_sd"] ** 2, case + error, case, 1.0, origin)


def power(parts: PowerComponents, readers: int, cases: int, difference: float, alpha: float = 0.05) -> Power:
    """Power to find a difference with readers and cases random.

    Raises:
        MedVLMError: fewer than two readers or cases.
    """
    from scipy.stats import f, ncf

    if readers < 2 or cases < 2:
        raise MedVLMError("power needs at least two readers and two cases.")
    scale = parts.cases / cases
    excess = max(parts.cov2_minus_cov3, 0.0)
    den = parts.var_tr + scale * (parts.var_minus_cov1 + (readers - 1) * excess)
    inner = parts.var_tr + scale * (parts.var_minus_cov1 - excess)
    df2 = den**2 / (inner**2 / (readers - 1))
    ncp = readers * difference**2 / 2 / den
    return Power(readers, cases, float(ncf.sf(f.ppf(1 - alpha, 1, df2), 1, df2, ncp)), ncp, df2)


def cases_needed(
    parts: PowerComponents, readers: int, difference: float, alpha: float = 0.05, target: float = 0.8, most: int = 5000
) -> int | None:
    """The fewest cases with the wanted power, or None where even `most` are too few."""
    if power(parts, readers, most, difference, alpha).power < target:
        return None
    low, high = 2, most
    while low < high:
        middle = (low + high) // 2
        if power(parts, readers, middle, difference, alpha).power >= target:
            high = middle
        else:
            low = middle + 1
    return low


def simulated_power(
    parts: PowerComponents,
    design: np.ndarray,
    difference: float,
    alpha: float = 0.05,
    count: int = 500,
    seed: int = 0,
    metric: Metric = "mean",
) -> float | None:
    """Share of simulated studies that find the difference with the U-statistic of the mean; None for AUC.

    Args:
        design: `[R, C]` True where a reader reads a case (under both modalities).
    """
    from medvlm.reader_study.statistics.ratings import Ratings
    from medvlm.reader_study.statistics.u_mean import u_statistic_mean

    if metric != "mean" or parts.cases != 1:
        return None
    rng = np.random.default_rng(seed)
    readers, cases = design.shape
    error = np.sqrt(max(parts.var_minus_cov1 - parts.cov2_minus_cov3, 0))
    names = tuple(map(str, range(readers))), tuple(map(str, range(cases)))
    found = 0
    for _ in range(count):
        scores = rng.standard_normal((2, readers, cases)) * error
        scores += rng.standard_normal((2, readers, 1)) * np.sqrt(parts.var_tr)
        scores += rng.standard_normal((2, 1, cases)) * np.sqrt(parts.cov2_minus_cov3)
        scores[0] += difference
        scores[:, ~design] = np.nan
        contrast: Contrast = u_statistic_mean(Ratings(scores, ("a", "b"), *names)).differences[0]
        found += contrast.p < alpha
    return found / count
