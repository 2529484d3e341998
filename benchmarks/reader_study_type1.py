"""Type-I error and interval coverage of every test, by simulated studies of usual size; writes JSON and a plot.

    python benchmarks/reader_study_type1.py --studies 2000 --out benchmarks/reader_study_type1.json

Two worlds. AUC: the binormal model of Roe and Metz (Acad Radiol 1997;4:298-303), 5 readers, 60 + 60 cases, two
modalities. Ratings: a latent normal value cut into five categories with readers, cases, readers x sources and cases x
sources, 6 readers, 60 cases. Each null study gives one rejection (true difference 0) and one coverage count; the Monte
Carlo error of 2,000 studies is 0.5 percentage points. The mixed model takes most of the time (about 25 minutes).
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import time
from pathlib import Path

import numpy as np

from medvlm.reader_study.statistics.dbm import dorfman_berbaum_metz
from medvlm.reader_study.statistics.figures_of_merit import figures_of_merit
from medvlm.reader_study.statistics.or_hillis import obuchowski_rockette
from medvlm.reader_study.statistics.ordinal import fit_clmm, fit_gee
from medvlm.reader_study.statistics.ratings import Ratings
from medvlm.reader_study.statistics.resample import two_way_bootstrap
from medvlm.reader_study.statistics.u_auc import u_statistic_auc
from medvlm.reader_study.statistics.u_mean import u_statistic_mean

NAMES = ("A", "B")


def roe_metz(rng: np.random.Generator, readers: int, normal: int, diseased: int) -> Ratings:
    """Scores of the Roe-Metz model, structure HL-like: var R .011, C .1, TR .011, TC .1, RC .2, error .6; AUC 0.85."""
    cases = normal + diseased
    truth = np.r_[np.zeros(normal), np.ones(diseased)]
    draw = rng.standard_normal
    scores = 1.466 * truth + np.zeros((2, readers, cases))
    for kind in (0.0, 1.0):  # readers and cases have effects of their own for each truth
        own = truth == kind
        scores[:, :, own] += math.sqrt(0.011) * draw((1, readers, 1)) + math.sqrt(0.011) * draw((2, readers, 1))
    scores += math.sqrt(0.1) * draw((1, 1, cases)) + math.sqrt(0.1) * draw((2, 1, cases))
    scores += math.sqrt(0.2) * draw((1, readers, cases)) + math.sqrt(0.6) * draw((2, readers, cases))
    return Ratings(scores, NAMES, _names(readers), _names(cases), truth)


def likert(
    rng: np.random.Generator, readers: int, cases: int, reader_source: float = 0.2, missing: float = 0.0
) -> Ratings:
    """Five-point ratings from a latent value."""
    draw = rng.standard_normal
    latent = 0.4 * draw((1, readers, 1)) + reader_source * draw((2, readers, 1)) + 0.5 * draw((1, 1, cases))
    latent = latent + 0.5 * draw((2, 1, cases)) + 0.8 * draw((2, readers, cases))
    scores = np.digitize(latent, [-1.6, -0.8, 0.0, 0.9]) + 1.0
    if missing:
        # Split-plot reading: each reader reads a random part of the cases, under both sources.
        scores[:, rng.random((readers, cases)) < missing] = np.nan
    return Ratings(scores, NAMES, _names(readers), _names(cases))


def _names(count: int) -> tuple[str, ...]:
    return tuple(map(str, range(count)))


def auc_tests(study: Ratings, seed: int) -> dict[str, tuple[float, float, float]]:
    """Method → p, low, high of a study with a truth."""
    found = {}
    for method in ("delong", "jackknife"):
        merits = figures_of_merit(study, "auc", method)
        found[f"OR/Hillis, {method}"] = obuchowski_rockette(merits).differences[0]
    found["Dorfman-Berbaum-Metz"] = dorfman_berbaum_metz(study).differences[0]
    found["Gallas U-statistic"] = u_statistic_auc(study).differences[0]
    found["Gallas V-statistic"] = u_statistic_auc(study, biased=True).differences[0]
    rows = {name: (item.p, *item.interval) for name, item in found.items()}
    boot = two_way_bootstrap(study, (0, 1), True, 400, seed)
    return rows | {"two-way bootstrap": (boot.p, boot.low, boot.high)}


def mean_tests(study: Ratings, seed: int) -> dict[str, tuple[float, float, float]]:
    """Method → p, low, high of mean ratings."""
    found = {"U-statistic mean": u_statistic_mean(study).differences[0]}
    found["U-statistic mean, conditional"] = u_statistic_mean(study, "conditional").differences[0]
    if study.crossed:
        found["OR/Hillis of means"] = obuchowski_rockette(figures_of_merit(study, "mean")).differences[0]
    rows = {name: (item.p, *item.interval) for name, item in found.items()}
    boot = two_way_bootstrap(study, (0, 1), False, 400, seed)
    return rows | {"two-way bootstrap": (boot.p, boot.low, boot.high)}


def _long(study: Ratings) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    m, r, c = np.nonzero(~np.isnan(study.scores))
    return study.scores[m, r, c], (m == 0).astype(float)[:, None], r, c


def mixed_tests(study: Ratings, seed: int) -> dict[str, tuple[float, float, float]]:
    """The cumulative link mixed model, on studies without the reader x source effects that it does not have."""
    y, x, r, c = _long(study)
    found = fit_clmm(y, x, ["A"], {"reader": r, "case": c}).effects[0]
    return {"CLMM": (found.p, *found.interval)}


def marginal_tests(study: Ratings, seed: int) -> dict[str, tuple[float, float, float]]:
    """The marginal ordinal model with errors clustered by case; readers are fixed."""
    y, x, _, c = _long(study)
    found = fit_gee(y, x, ["A"], [c]).effects[0]
    return {"GEE, clusters of cases": (found.p, *found.interval)}


def plain(rng: np.random.Generator) -> Ratings:
    """Ratings with reader and case effects alone: the model that CLMM fits."""
    draw = rng.standard_normal
    latent = 0.5 * draw((1, 6, 1)) + 0.7 * draw((1, 1, 40)) + rng.logistic(size=(2, 6, 40)) * 0.55
    return Ratings(np.digitize(latent, [-1.4, -0.6, 0.2, 1.0]) + 1.0, NAMES, _names(6), _names(40))


WORLDS = {
    "AUC, 5 readers x (60 + 60) cases": (lambda rng: roe_metz(rng, 5, 60, 60), auc_tests, 1.0),
    "AUC, 10 readers x (50 + 50) cases": (lambda rng: roe_metz(rng, 10, 50, 50), auc_tests, 1.0),
    "Likert mean, 6 readers x 60 cases": (lambda rng: likert(rng, 6, 60), mean_tests, 1.0),
    "Likert mean, 10 readers x 100 cases": (lambda rng: likert(rng, 10, 100), mean_tests, 1.0),
    "Likert mean, 8 readers x 80 cases, half of the reads": (lambda rng: likert(rng, 8, 80, 0.2, 0.5), mean_tests, 1.0),
    "Ordinal, mixed model, 6 readers x 40 cases": (plain, mixed_tests, 1.0),
    "Ordinal, marginal, 6 readers x 40 cases": (plain, marginal_tests, 1.0),
}


def main() -> None:
    """Simulate, print the table, write JSON and plot."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--studies", type=int, default=2000)
    parser.add_argument("--only", default="")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/reader_study_type1.json"))
    parser.add_argument("--plot", type=Path, default=Path("docs/images/reader-study-type1.svg"))
    options = parser.parse_args()
    results = []
    for world, (make, tests, share) in WORLDS.items():
        if options.only and options.only not in world:
            continue
        start, counts = time.time(), int(options.studies * share)
        rejected: dict[str, int] = {}
        covered: dict[str, int] = {}
        for study in range(counts):
            rng = np.random.default_rng([7, study])
            for name, (p, low, high) in tests(make(rng), study).items():
                rejected[name] = rejected.get(name, 0) + (p < 0.05)
                covered[name] = covered.get(name, 0) + (low <= 0 <= high)
        print(f"{world} ({counts} studies, {time.time() - start:.0f} s)")
        for name, count in rejected.items():
            error, coverage = 100 * count / counts, 100 * covered[name] / counts
            print(f"  {name:<32} type-I error {error:5.2f} %   coverage {coverage:5.2f} %", flush=True)
            results.append({"world": world, "method": name, "studies": counts, "type1": error, "coverage": coverage})
    machine = {"processor": platform.processor() or platform.machine(), "cores": os.cpu_count()}
    options.out.write_text(json.dumps({"machine": machine, "results": results}, indent=1) + "\n")
    plot(results, options.plot)


def plot(results: list[dict[str, object]], path: Path) -> None:
    """Type-I error of each method with its Monte Carlo interval, the 4-6 % band shaded."""
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "medvlm"})
    import matplotlib.pyplot as plots

    figure, axis = plots.subplots(figsize=(8.5, 0.27 * len(results) + 1.2))
    axis.axvspan(4, 6, color="#e3f1e3")
    axis.axvline(5, color="#888888", lw=0.8)
    worlds = list(dict.fromkeys(row["world"] for row in results))
    for place, row in enumerate(reversed(results)):
        share = float(row["type1"]) / 100  # type: ignore[arg-type]
        half = 196 * math.sqrt(share * (1 - share) / int(row["studies"]))  # type: ignore[call-overload]
        colour = f"C{worlds.index(row['world'])}"
        axis.errorbar(100 * share, place, xerr=half, fmt="o", ms=4, color=colour, lw=1)
    axis.set_yticks(
        range(len(results)), [f"{row['method']}  |  {row['world']}" for row in reversed(results)], fontsize=8
    )
    axis.set(xlabel="type-I error in per cent (nominal 5)", xlim=(0, 9))
    figure.savefig(path, bbox_inches="tight", metadata={"Date": None})


if __name__ == "__main__":
    main()
