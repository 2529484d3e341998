"""Ordered ratings: cumulative link mixed model and a marginal model with robust errors.

Both are proportional-odds models, logit P(Y <= k) = threshold_k - eta.

* `fit_clmm`: crossed random intercepts (reader, case, ...), maximised under the Laplace approximation, as `clmm` of the
  R package ordinal does (Christensen 2019); standard errors from the numerical Hessian.
* `fit_gee`: generalised estimating equations with the multinomial variance of each rating and independence between
  ratings, and a sandwich that is clustered by case, by reader or by both (Liang, Zeger, Biometrika 1986;73:13-22;
  two-way: Cameron, Gelbach, Miller, J Bus Econ Stat 2011;29:238-249).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from medvlm.errors import MedVLMError
from medvlm.reader_study.statistics.contrast import Contrast

MIN_LOG_SD = -7.0
FEW_CLUSTERS = 30


@dataclass(frozen=True, eq=False)
class OrdinalFit:
    """A fitted model.

    Attributes:
        thresholds: `[K - 1]`, increasing.
        effects: coefficients (log odds of a higher rating) with their errors.
        sds: standard deviation of each random intercept, by name (empty for the marginal model).
        loglik: log-likelihood (Laplace), or of independent ratings for the marginal model.
        covariance: `[p, p]` of the effects.
    """

    thresholds: np.ndarray
    effects: tuple[Contrast, ...]
    sds: dict[str, float]
    loglik: float
    converged: bool
    covariance: np.ndarray

    def difference(self, first: int, second: int, name: str) -> Contrast:
        """The contrast of two effects."""
        gap = self.effects[first].estimate - self.effects[second].estimate
        c = self.covariance
        variance = float(c[first, first] + c[second, second] - 2 * c[first, second])
        return Contrast(name, gap, math.sqrt(max(variance, 0.0)), level=self.effects[first].level)


def _sigmoid(x: np.ndarray) -> np.ndarray:
    from scipy.special import expit

    return np.asarray(expit(x))


@dataclass(frozen=True, eq=False)
class _Data:
    y: np.ndarray  # [n] 0..K-1
    x: np.ndarray  # [n, p]
    groups: tuple[np.ndarray, ...]  # each [n]; the last one has the most levels
    sizes: tuple[int, ...]
    levels: int


def _bounds(data: _Data, thresholds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    padded = np.concatenate([[-np.inf], thresholds, [np.inf]])
    return padded[data.y], padded[data.y + 1]


def _pieces(low: np.ndarray, high: np.ndarray, eta: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Log-probabilities, first derivative and negative second derivative by eta (logistic closed forms)."""
    below, above = _sigmoid(low - eta), _sigmoid(high - eta)
    probability = np.maximum(above - below, 1e-300)
    return np.log(probability), above + below - 1.0, above * (1 - above) + below * (1 - below)


def _unpack(parameters: np.ndarray, levels: int) -> np.ndarray:
    """Increasing thresholds from a first one and log steps."""
    return np.concatenate([parameters[:1], parameters[0] + np.cumsum(np.exp(parameters[1 : levels - 1]))])


def _start(y: np.ndarray, levels: int) -> np.ndarray:
    share = np.clip(np.cumsum(np.bincount(y, minlength=levels))[:-1] / len(y), 1e-3, 1 - 1e-3)
    logits = np.log(share / (1 - share))
    return np.concatenate([logits[:1], np.log(np.maximum(np.diff(logits), 1e-2))])


class _Laplace:
    """The log-likelihood with random intercepts integrated out by Laplace's method.

    The random effects are scaled to unit variance. All factors but the last are one dense block; the last, which has
    the most levels, is diagonal given the others, so that a Newton step costs no more than the dense block.
    """

    def __init__(self, data: _Data) -> None:
        self.data = data
        self.mode: list[np.ndarray] = [np.zeros(size) for size in data.sizes]
        small = data.sizes[:-1]
        self.offsets = np.concatenate([[0], np.cumsum(small)]).astype(int)

    def __call__(self, parameters: np.ndarray) -> float:
        """The negative log-likelihood."""
        data, k = self.data, self.data.levels
        thresholds, beta = _unpack(parameters, k), parameters[k - 1 : k - 1 + data.x.shape[1]]
        sds = np.exp(np.clip(parameters[k - 1 + data.x.shape[1] :], MIN_LOG_SD, 4.0))
        low, high = _bounds(data, thresholds)
        fixed = data.x @ beta
        value = self._penalised(low, high, fixed, sds, self.mode)
        for _ in range(60):
            eta = fixed + self._random(sds, self.mode)
            _, slope, curve = _pieces(low, high, eta)
            step, logdet = self._solve(slope, curve, sds)
            size = 1.0
            while True:
                trial: list[np.ndarray] = [mode + size * part for mode, part in zip(self.mode, step)]
                new = self._penalised(low, high, fixed, sds, trial)
                if new >= value - 1e-12 or size < 1e-4:
                    break
                size /= 2
            self.mode, gain, value = trial, new - value, new
            if gain < 1e-10:
                break
        _, _, curve = _pieces(low, high, fixed + self._random(sds, self.mode))
        _, logdet = self._solve(np.zeros(len(data.y)), curve, sds)
        return -(value - 0.5 * logdet)

    def _random(self, sds: np.ndarray, modes: Sequence[np.ndarray]) -> np.ndarray:
        total = np.zeros(len(self.data.y))
        for sd, mode, group in zip(sds, modes, self.data.groups):
            total += sd * mode[group]
        return total

    def _penalised(
        self, low: np.ndarray, high: np.ndarray, fixed: np.ndarray, sds: np.ndarray, modes: Sequence[np.ndarray]
    ) -> float:
        logs, _, _ = _pieces(low, high, fixed + self._random(sds, modes))
        return float(logs.sum() - 0.5 * sum(float(mode @ mode) for mode in modes))

    def _solve(self, slope: np.ndarray, curve: np.ndarray, sds: np.ndarray) -> tuple[list[np.ndarray], float]:
        """The Newton step and the log-determinant of the negative Hessian."""
        data = self.data
        big, big_size, big_sd = data.groups[-1], data.sizes[-1], sds[-1]
        diagonal = 1 + big_sd**2 * np.bincount(big, curve, big_size)
        gradients = [
            sd * np.bincount(group, slope, size) - mode
            for sd, group, size, mode in zip(sds, data.groups, data.sizes, self.mode)
        ]
        if len(data.groups) == 1:
            return [gradients[0] / diagonal], float(np.log(diagonal).sum())
        width = int(self.offsets[-1])
        dense, mixed = np.eye(width), np.zeros((width, big_size))
        for i, (first, sd) in enumerate(zip(data.groups[:-1], sds)):
            place = self.offsets[i] + first
            mixed += np.bincount(place * big_size + big, sd * big_sd * curve, width * big_size).reshape(mixed.shape)
            for j, (second, other) in enumerate(zip(data.groups[:-1], sds)):
                cell = place * width + self.offsets[j] + second
                dense += np.bincount(cell, sd * other * curve, width * width).reshape(dense.shape)
        schur = dense - (mixed / diagonal) @ mixed.T
        factor = np.linalg.cholesky(schur)
        small_gradient = np.concatenate(gradients[:-1])
        right = small_gradient - mixed @ (gradients[-1] / diagonal)
        small = np.linalg.solve(factor.T, np.linalg.solve(factor, right))
        large = (gradients[-1] - mixed.T @ small) / diagonal
        logdet = float(np.log(diagonal).sum() + 2 * np.log(np.diag(factor)).sum())
        return [*np.split(small, self.offsets[1:-1]), large], logdet


def _codes(y: Sequence[float] | np.ndarray) -> tuple[np.ndarray, int]:
    values, codes = np.unique(np.asarray(y, dtype=float), return_inverse=True)
    if len(values) < 2:
        raise MedVLMError("all ratings are the same: an ordinal model has nothing to fit.")
    if len(values) > 40:
        raise MedVLMError(f"{len(values)} different ratings are too many for an ordinal model; compare means instead.")
    return codes, len(values)


def fit_clmm(
    y: Sequence[float] | np.ndarray,
    x: np.ndarray,
    names: Sequence[str],
    groups: dict[str, Sequence[object] | np.ndarray],
    level: float = 0.95,
) -> OrdinalFit:
    """Cumulative link mixed model with a random intercept for each grouping.

    Args:
        y: `[n]` ratings; only their order counts.
        x: `[n, p]` covariates without intercept.
        names: of the covariates.
        groups: name → `[n]` labels of a random intercept.

    Raises:
        MedVLMError: fewer than two different ratings, or too many.
    """
    from scipy.optimize import minimize

    codes, levels = _codes(y)
    indexed = {name: np.unique(np.asarray(labels), return_inverse=True)[1] for name, labels in groups.items()}
    order = sorted(indexed, key=lambda name: int(indexed[name].max()))
    sizes = tuple(int(indexed[name].max()) + 1 for name in order)
    data = _Data(codes, np.asarray(x, dtype=float), tuple(indexed[name] for name in order), sizes, levels)
    objective = _Laplace(data)
    count = data.x.shape[1]
    start = np.concatenate([_start(codes, levels), np.zeros(count), np.full(len(order), -0.5)])
    with np.errstate(over="ignore"):
        found = minimize(objective, start, method="L-BFGS-B", jac=lambda p: _gradient(objective, p),
                         bounds=[(None, None)] * (levels - 1 + count) + [(MIN_LOG_SD, 4.0)] * len(order),
                         options={"maxiter": 300, "ftol": 1e-12, "gtol": 1e-5})  # fmt: skip
        best = found.x
        # A variance at its lower bound is not a free parameter: the others' errors are taken with it held.
        free = np.concatenate([np.ones(levels - 1 + count, bool), best[levels - 1 + count :] > MIN_LOG_SD + 1])
        hessian = _hessian(objective, best, free)
    inverse = np.linalg.pinv(hessian)
    rows = slice(levels - 1, levels - 1 + count)
    covariance = inverse[rows, rows]
    errors = np.sqrt(np.maximum(np.diag(covariance), 0))
    effects = tuple(
        Contrast(name, float(value), float(error), level=level) for name, value, error in zip(names, best[rows], errors)
    )
    sds = {name: float(np.exp(value)) for name, value in zip(order, best[levels - 1 + count :])}
    return OrdinalFit(_unpack(best, levels), effects, sds, -float(found.fun), bool(found.success), covariance)


def _gradient(function: _Laplace, point: np.ndarray) -> np.ndarray:
    slope = np.empty_like(point)
    for index in range(len(point)):
        step = np.zeros_like(point)
        step[index] = 1e-5 * max(1.0, abs(point[index]))
        slope[index] = (function(point + step) - function(point - step)) / (2 * step[index])
    return slope


def _hessian(function: _Laplace, point: np.ndarray, free: np.ndarray) -> np.ndarray:
    index = np.flatnonzero(free)
    steps = 1e-3 * np.maximum(1.0, np.abs(point))
    centre = function(point)
    result = np.zeros((len(index), len(index)))
    shifts = np.eye(len(point)) * steps
    for a, i in enumerate(index):
        result[a, a] = (function(point + shifts[i]) - 2 * centre + function(point - shifts[i])) / steps[i] ** 2
        for b, j in enumerate(index[:a]):
            cross = function(point + shifts[i] + shifts[j]) - function(point + shifts[i] - shifts[j])
            cross += function(point - shifts[i] - shifts[j]) - function(point - shifts[i] + shifts[j])
            result[a, b] = result[b, a] = cross / (4 * steps[i] * steps[j])
    return result


def fit_gee(
    y: Sequence[float] | np.ndarray,
    x: np.ndarray,
    names: Sequence[str],
    clusters: Sequence[Sequence[object] | np.ndarray],
    level: float = 0.95,
) -> OrdinalFit:
    """Marginal proportional-odds model with errors robust to clustering in one or two ways.

    The errors carry the factor G / (G - 1). With fewer than 30 clusters of a kind the statistic is taken as t with one
    degree of freedom less than these, otherwise as normal.

    Args:
        clusters: one or two `[n]` label lists; ratings that share a label may depend on each other.
    """
    from scipy.optimize import minimize

    codes, levels = _codes(y)
    data = _Data(codes, np.asarray(x, dtype=float), (), (), levels)

    def negative(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        logs, scores, _ = _scores(data, parameters, levels)
        return -float(logs.sum()), -scores.sum(axis=0)

    start = np.concatenate([_start(codes, levels), np.zeros(data.x.shape[1])])
    found = minimize(negative, start, jac=True, method="BFGS", options={"gtol": 1e-8, "maxiter": 500})
    _, scores, _ = _scores(data, found.x, levels)
    bread = np.linalg.pinv(_information(data, found.x, levels))
    indexed = [np.unique(np.asarray(labels), return_inverse=True)[1] for labels in clusters]
    meat = sum((_meat(scores, index) for index in indexed), np.zeros((scores.shape[1],) * 2))
    if len(indexed) == 2:
        meat = meat - _meat(scores, indexed[0] * (int(indexed[1].max()) + 1) + indexed[1])
    rows = slice(levels - 1, None)
    covariance = (bread @ meat @ bread)[rows, rows]
    fewest = min(int(index.max()) + 1 for index in indexed)
    df = float(fewest - 1) if fewest < FEW_CLUSTERS else math.inf
    errors = np.sqrt(np.maximum(np.diag(covariance), 0))
    effects = tuple(
        Contrast(name, float(value), float(error), df, level)
        for name, value, error in zip(names, found.x[rows], errors)
    )
    converged = bool(np.abs(scores.sum(axis=0)).max() < 1e-3)
    return OrdinalFit(_unpack(found.x, levels), effects, {}, -float(found.fun), converged, covariance)


def _scores(data: _Data, parameters: np.ndarray, levels: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Log-probabilities and `[n, q]` derivatives by all parameters."""
    thresholds = _unpack(parameters, levels)
    low, high = _bounds(data, thresholds)
    eta = data.x @ parameters[levels - 1 :]
    logs, slope, curve = _pieces(low, high, eta)
    above, below = _sigmoid(high - eta), _sigmoid(low - eta)
    probability = np.exp(logs)
    by_threshold = np.zeros((len(data.y), levels - 1))
    rows = np.arange(len(data.y))
    top, bottom = data.y < levels - 1, data.y > 0
    by_threshold[rows[top], data.y[top]] += (above * (1 - above) / probability)[top]
    by_threshold[rows[bottom], data.y[bottom] - 1] -= (below * (1 - below) / probability)[bottom]
    # The thresholds are a first one and log steps.
    jacobian = np.tril(np.ones((levels - 1, levels - 1)))
    jacobian[:, 1:] *= np.exp(parameters[1 : levels - 1])
    return logs, np.hstack([by_threshold @ jacobian, data.x * slope[:, None]]), curve


def _information(data: _Data, parameters: np.ndarray, levels: int) -> np.ndarray:
    """The observed information by differences of the exact scores."""
    size = len(parameters)
    result = np.zeros((size, size))
    for index in range(size):
        step = np.zeros(size)
        step[index] = 1e-5
        forward = _scores(data, parameters + step, levels)[1].sum(axis=0)
        backward = _scores(data, parameters - step, levels)[1].sum(axis=0)
        result[index] = -(forward - backward) / 2e-5
    return (result + result.T) / 2


def _meat(scores: np.ndarray, index: np.ndarray) -> np.ndarray:
    count = int(index.max()) + 1
    sums = np.zeros((count, scores.shape[1]))
    np.add.at(sums, index, scores)
    return sums.T @ sums * count / max(count - 1, 1)
