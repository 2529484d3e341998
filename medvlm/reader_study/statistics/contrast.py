"""A difference with its standard error and degrees of freedom: test, interval, non-inferiority and equivalence."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Contrast:
    """An estimate (first minus second), its standard error and the degrees of freedom of its t statistic (or inf).

    A standard error of 0 gives an interval of no width; the p-value is then 0, or 1 where the estimate is 0 too.
    """

    name: str
    estimate: float
    se: float
    df: float = math.inf
    level: float = 0.95

    @property
    def t(self) -> float:
        """The test statistic against 0."""
        if math.isnan(self.se):
            return math.nan
        if self.se == 0:
            return 0.0 if self.estimate == 0 else math.copysign(math.inf, self.estimate)
        return self.estimate / self.se

    @property
    def p(self) -> float:
        """Two-sided p-value; nan where the standard error is not defined."""
        if math.isnan(self.t):
            return math.nan
        return min(1.0, 2 * self._upper(abs(self.t)))

    @property
    def interval(self) -> tuple[float, float]:
        """Two-sided confidence interval."""
        return self.interval_at(self.level)

    def interval_at(self, level: float) -> tuple[float, float]:
        """Two-sided confidence interval of another level."""
        from scipy.stats import norm, t

        quantile = norm.ppf((1 + level) / 2) if math.isinf(self.df) else t.ppf((1 + level) / 2, self.df)
        half = float(quantile) * self.se if self.se else 0.0
        return self.estimate - half, self.estimate + half

    def _upper(self, statistic: float) -> float:
        from scipy.stats import norm, t

        return float(norm.sf(statistic) if math.isinf(self.df) else t.sf(statistic, self.df))

    def non_inferiority(self, margin: float) -> float:
        """One-sided p-value of `first is worse than second by margin or more`; the margin is positive.

        With two-sided level alpha it is to be compared with alpha / 2 (ICH E9, FDA guidance on non-inferiority).
        """
        return self._upper(self._shifted(self.estimate + margin))

    def equivalence(self, margin: float) -> float:
        """p-value of two one-sided tests (Schuirmann, J Pharmacokinet Biopharm 1987;15:657-680)."""
        return max(
            self._upper(self._shifted(self.estimate + margin)), self._upper(self._shifted(margin - self.estimate))
        )

    def _shifted(self, distance: float) -> float:
        if self.se == 0:
            return math.copysign(math.inf, distance) if distance else 0.0
        return distance / self.se
