"""One question of the form: every analysis that its ratings allow."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from medvlm.errors import MedVLMError
from medvlm.reader_study.statistics.agreement import (
    Agreement,
    intraclass_correlation,
    krippendorff_alpha,
    weighted_kappa,
    with_interval,
)
from medvlm.reader_study.statistics.contrast import Contrast
from medvlm.reader_study.statistics.dbm import dorfman_berbaum_metz
from medvlm.reader_study.statistics.figures_of_merit import Metric, figures_of_merit
from medvlm.reader_study.statistics.or_hillis import Components, OverallTest, obuchowski_rockette
from medvlm.reader_study.statistics.ordinal import fit_clmm, fit_gee
from medvlm.reader_study.statistics.ratings import Ratings
from medvlm.reader_study.statistics.resample import two_way_bootstrap
from medvlm.reader_study.statistics.u_auc import u_statistic_auc
from medvlm.reader_study.statistics.u_mean import u_statistic_mean

# Above so many ratings the ordinal models are fitted for the primary question only.
ORDINAL_LIMIT = 6000


@dataclass(frozen=True)
class MethodRow:
    """One comparison under one method: estimate, interval and p-value on the scale of the method."""

    method: str
    comparison: str
    estimate: float
    low: float
    high: float
    se: float
    df: float
    p: float
    scale: str = "difference"


@dataclass(frozen=True, eq=False)
class QuestionResult:
    """All results of one question.

    Attributes:
        primary: name of the method whose p-values count; the others are sensitivity analyses.
        differences: primary differences, source minus reference first.
        skipped: analyses that do not fit these data, with the reason.
    """

    question: str
    text: str
    metric: Metric
    ratings: Ratings
    primary: str
    means: tuple[Contrast, ...]
    differences: tuple[Contrast, ...]
    methods: tuple[MethodRow, ...]
    components: Components | None
    test: OverallTest | None
    per_reader: np.ndarray
    agreement: tuple[Agreement, ...]
    kappas: np.ndarray
    better: Literal["high", "low"] = "high"
    skipped: tuple[str, ...] = ()
    categories: tuple[tuple[float, str], ...] = field(default=())


def analyze_question(
    question: str,
    text: str,
    ratings: Ratings,
    metric: Metric,
    level: float = 0.95,
    bootstrap: int = 2000,
    seed: int = 0,
    better: Literal["high", "low"] = "high",
    ordinal: bool = True,
    categories: tuple[tuple[float, str], ...] = (),
) -> QuestionResult:
    """Run every method; one that does not fit is skipped with the reason, never silently."""
    runner = _Runner(ratings, metric, level, bootstrap, seed)
    runner.u_statistics()
    runner.variance_analyses()
    if len(ratings.modalities) > 1:
        runner.resampling()
        if ordinal and metric == "mean":
            runner.ordinal_models()
    theta = figures_of_merit(ratings, metric).theta
    return QuestionResult(
        question,
        text,
        metric,
        ratings,
        runner.primary,
        runner.means,
        runner.differences,
        tuple(runner.rows),
        runner.components,
        runner.test,
        theta,
        tuple(agreement_of(ratings, seed, level)),
        kappa_matrix(ratings),
        better,
        tuple(runner.skipped),
        categories,
    )


class _Runner:
    """Collects the rows of all methods; the first analysis that fits is the primary one."""

    def __init__(self, ratings: Ratings, metric: Metric, level: float, bootstrap: int, seed: int) -> None:
        self.ratings, self.metric, self.level = ratings, metric, level
        self.bootstrap, self.seed = bootstrap, seed
        self.rows: list[MethodRow] = []
        self.skipped: list[str] = []
        self.primary = ""
        self.means: tuple[Contrast, ...] = ()
        self.differences: tuple[Contrast, ...] = ()
        self.components: Components | None = None
        self.test: OverallTest | None = None

    def _add(self, method: str, contrasts: tuple[Contrast, ...], scale: str = "difference") -> None:
        for item in contrasts:
            low, high = item.interval
            self.rows.append(MethodRow(method, item.name, item.estimate, low, high, item.se, item.df, item.p, scale))

    def _lead(self, method: str, means: tuple[Contrast, ...], differences: tuple[Contrast, ...]) -> None:
        if not self.primary:
            self.primary, self.means, self.differences = method, means, differences

    def u_statistics(self) -> None:
        """Gallas' one-shot estimates: the primary analysis of means, and of AUC where the design is not factorial."""
        if self.metric == "mean":
            result = u_statistic_mean(self.ratings, level=self.level)
            self._lead("U-statistic mean", result.means, result.differences)
            self._add("U-statistic mean", result.differences)
            return
        auc = u_statistic_auc(self.ratings, level=self.level)
        if np.isnan(figures_of_merit(self.ratings, "auc").theta).any() or len(self.ratings.readers) < 2:
            self._lead("U-statistic AUC", auc.means, auc.differences)
        self._add("U-statistic AUC", auc.differences)
        self._add("V-statistic AUC", u_statistic_auc(self.ratings, biased=True, level=self.level).differences)

    def variance_analyses(self) -> None:
        """Obuchowski-Rockette with three covariances, fixed readers, fixed cases, and Dorfman-Berbaum-Metz."""
        methods: tuple[str, ...] = (
            ("delong", "jackknife") if self.metric == "mean" else ("delong", "jackknife", "unbiased", "bootstrap")
        )
        if len(self.ratings.readers) * len(self.ratings.modalities) > 45:
            methods = tuple(name for name in methods if name != "unbiased")  # all pairs of cells: minutes
        for method in methods:
            merits = figures_of_merit(self.ratings, self.metric, method, seed=self.seed)  # type: ignore[arg-type]
            try:
                result = obuchowski_rockette(merits, level=self.level)
            except MedVLMError as error:
                self.skipped.append(f"Obuchowski-Rockette: {error}")
                return
            name = {"delong": "DeLong" if self.metric == "auc" else "sample"}.get(method, method)
            label = f"Obuchowski-Rockette ({name} covariance)"
            if method == "delong":
                self.components, self.test = result.components, result.test
                if self.metric == "auc":
                    self._lead(label, result.means, result.differences)
            self._add(label, result.differences)
            if method == "delong":
                for random, words in (("cases", "readers fixed"), ("readers", "cases fixed")):
                    fixed = obuchowski_rockette(merits, random, self.level)  # type: ignore[arg-type]
                    self._add(f"Obuchowski-Rockette, {words}", fixed.differences)
        try:
            dbm = dorfman_berbaum_metz(self.ratings, self.metric, level=self.level)
            self._add("Dorfman-Berbaum-Metz", dbm.differences)
        except MedVLMError as error:
            self.skipped.append(f"Dorfman-Berbaum-Metz: {error}")

    def resampling(self) -> None:
        """Bootstrap of readers and cases for every comparison."""
        names = self.ratings.modalities
        for a in range(len(names)):
            for b in range(a + 1, len(names)):
                found = two_way_bootstrap(
                    self.ratings, (a, b), self.metric == "auc", self.bootstrap, self.seed, level=self.level
                )
                self.rows.append(
                    MethodRow(
                        "two-way bootstrap", f"{names[a]} - {names[b]}", found.estimate, found.low, found.high,
                        found.se, math.inf, found.p,
                    )
                )  # fmt: skip

    def ordinal_models(self) -> None:
        """Cumulative link mixed model and marginal model; log odds of a higher rating."""
        names = self.ratings.modalities
        m, r, c = np.nonzero(~np.isnan(self.ratings.scores))
        y = self.ratings.scores[m, r, c]
        x = np.stack([(m == index).astype(float) for index in range(len(names) - 1)], axis=1)
        patients = self.ratings.cluster_index[c]
        try:
            mixed = fit_clmm(y, x, names[:-1], {"reader": r, "case": c}, self.level)
            marginal = fit_gee(
                y, x, names[:-1], [patients, r] if len(self.ratings.readers) > 2 else [patients], self.level
            )
        except MedVLMError as error:
            self.skipped.append(f"ordinal models: {error}")
            return
        for label, fit in (("cumulative link mixed model", mixed), ("marginal ordinal model (GEE)", marginal)):
            if not fit.converged:
                self.skipped.append(f"{label}: did not converge")
                continue
            against = [
                Contrast(f"{names[index]} - {names[-1]}", effect.estimate, effect.se, effect.df, self.level)
                for index, effect in enumerate(fit.effects)
            ]
            others = [
                fit.difference(a, b, f"{names[a]} - {names[b]}")
                for a in range(len(names) - 1)
                for b in range(a + 1, len(names) - 1)
            ]
            self._add(label, (*against, *others), "log odds")


def agreement_of(ratings: Ratings, seed: int, level: float) -> list[Agreement]:
    """Krippendorff's alpha and ICC of each modality, and of all together."""
    found = []
    clusters = ratings.cluster_index
    parts = [(name, ratings.scores[index]) for index, name in enumerate(ratings.modalities)]
    if len(ratings.readers) < 2:
        return []
    for name, scores in parts:
        levels = len(np.unique(scores[~np.isnan(scores)]))
        kind: Literal["ordinal", "interval"] = "ordinal" if levels <= 20 else "interval"
        units = int(((~np.isnan(scores)).sum(axis=0) > 1).sum())

        def alpha(weights: np.ndarray | None, scores: np.ndarray = scores, kind: str = kind) -> float:
            return krippendorff_alpha(scores, kind, weights)  # type: ignore[arg-type]

        def icc(weights: np.ndarray | None, scores: np.ndarray = scores) -> float:
            return intraclass_correlation(scores, "ICC2", weights)

        draws = 1000 if scores.size * levels < 200_000 else 300
        found.append(with_interval(f"{name}: Krippendorff alpha ({kind})", alpha, clusters, units, draws, seed, level))
        found.append(with_interval(f"{name}: ICC(2,1)", icc, clusters, units, draws, seed, level))
    return found


def kappa_matrix(ratings: Ratings) -> np.ndarray:
    """`[R, R]` quadratic weighted kappa of each pair of readers over all modalities; 1 on the diagonal."""
    flat = ratings.scores.transpose(1, 0, 2).reshape(len(ratings.readers), -1)
    size = len(flat)
    result = np.eye(size)
    for a in range(size):
        for b in range(a + 1, size):
            result[a, b] = result[b, a] = weighted_kappa(flat[a], flat[b])
    return result
