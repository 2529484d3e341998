"""Dorfman-Berbaum-Metz analysis: a three-way analysis of variance of jackknife pseudovalues.

Dorfman, Berbaum, Metz, Invest Radiol 1992;27:723-731, with the degrees of freedom and the model reduction of Hillis,
Obuchowski, Schartz, Berbaum, Stat Med 2005;24:1579-1607 and Hillis, Berbaum, Metz, Acad Radiol 2008;15:647-661: with
them it equals the Obuchowski-Rockette analysis with the jackknife covariance.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np

from medvlm.errors import MedVLMError
from medvlm.reader_study.statistics.contrast import Contrast
from medvlm.reader_study.statistics.figures_of_merit import Metric, jackknife_pseudovalues
from medvlm.reader_study.statistics.or_hillis import OverallTest, Randomness, _overall, _positive, _ratio
from medvlm.reader_study.statistics.ratings import Ratings


@dataclass(frozen=True)
class DBMResult:
    """Mean squares of the pseudovalues (T modality, R reader, C case), variance components, test and differences."""

    random: Randomness
    mean_squares: dict[str, float]
    variances: dict[str, float]
    test: OverallTest
    differences: tuple[Contrast, ...]


def dorfman_berbaum_metz(
    ratings: Ratings, metric: Metric = "auc", random: Randomness = "readers and cases", level: float = 0.95
) -> DBMResult:
    """Compare the modalities.

    Raises:
        MedVLMError: a read is missing, or there is only one modality or reader.
    """
    values = jackknife_pseudovalues(ratings, metric)
    m, r, c = values.shape
    if m < 2 or (r < 2 and random != "cases"):
        raise MedVLMError("the analysis needs two modalities and, where readers are random, two readers.")
    squares = mean_squares(values)
    tr, tc, trc = squares["TR"], squares["TC"], squares["TRC"]
    if random == "readers and cases":
        denominator = tr + _positive(tc - trc)
        df2 = _ratio(denominator**2, tr**2 / ((m - 1) * (r - 1)))
    elif random == "cases":
        denominator, df2 = tc, float((m - 1) * (c - 1))
    else:
        denominator, df2 = tr, float((m - 1) * (r - 1))
    test = _overall(squares["T"], denominator, m - 1, df2)
    means = values.mean(axis=(1, 2))
    se = math.sqrt(2 / (r * c) * denominator)
    differences = tuple(
        Contrast(f"{ratings.modalities[a]} - {ratings.modalities[b]}", float(means[a] - means[b]), se, df2, level)
        for a, b in itertools.combinations(range(m), 2)
    )
    return DBMResult(random, squares, _variances(squares, m, r, c), test, differences)


def mean_squares(values: np.ndarray) -> dict[str, float]:
    """Mean squares of a complete `[M, R, C]` table; a factor of one level gives nan."""
    sizes = dict(zip("TRC", values.shape))
    found: dict[str, float] = {}
    effects: dict[str, np.ndarray] = {}
    grand = values.mean()
    for count in (1, 2, 3):
        for names in itertools.combinations("TRC", count):
            axes = tuple(axis for axis, name in enumerate("TRC") if name not in names)
            effect = values.mean(axis=axes, keepdims=True) - grand
            for inner, known in effects.items():
                if set(inner) < set(names):
                    effect = effect - known
            key = "".join(names)
            effects[key] = effect
            df = math.prod(sizes[name] - 1 for name in names)
            repeats = math.prod(sizes[name] for name in "TRC" if name not in names)
            found[key] = float(repeats * (effect**2).sum() / df) if df else math.nan
    return found


def _variances(squares: dict[str, float], m: int, r: int, c: int) -> dict[str, float]:
    """Variance components of the pseudovalues from the expected mean squares."""
    s = squares
    return {
        "R": (s["R"] - s["TR"] - s["RC"] + s["TRC"]) / (m * c),
        "C": (s["C"] - s["TC"] - s["RC"] + s["TRC"]) / (m * r),
        "TR": (s["TR"] - s["TRC"]) / c,
        "TC": (s["TC"] - s["TRC"]) / r,
        "RC": (s["RC"] - s["TRC"]) / m,
        "error": s["TRC"],
    }
