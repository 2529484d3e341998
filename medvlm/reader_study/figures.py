"""Figures of the results as SVG: ROC curves, stacked ratings, forest plot, agreement heat map."""

from __future__ import annotations

import io
from typing import Any

import numpy as np

from medvlm.errors import MissingExtraError
from medvlm.reader_study.analyze_question import QuestionResult

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")  # Okabe and Ito


def _plots() -> Any:
    try:
        import matplotlib
    except ImportError:
        raise MissingExtraError("matplotlib", "reader-study", "drawing the results") from None
    matplotlib.use("Agg", force=True)
    # Text stays text, and the same results give the same bytes.
    matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "medvlm", "font.size": 10,
                                "axes.spines.top": False, "axes.spines.right": False})  # fmt: skip
    import matplotlib.pyplot as plots

    return plots


def _svg(figure: Any) -> str:
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", bbox_inches="tight", metadata={"Date": None, "Creator": None})
    _plots().close(figure)
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def roc_points(scores: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """False and true positive rates at every threshold, from (0, 0) to (1, 1)."""
    read = ~np.isnan(scores)
    values, ill = scores[read], truth[read] == 1
    cuts = np.concatenate([[np.inf], np.unique(values)[::-1]])
    tpr = np.array([(values[ill] >= cut).mean() for cut in cuts])
    fpr = np.array([(values[~ill] >= cut).mean() for cut in cuts])
    return fpr, tpr


def average_curve(curves: list[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """The diagonal average of ROC curves: averaged along lines of constant fpr + tpr.

    Its area is the mean of the areas (Chen, Samuelson, Br J Radiol 2014;87:20140016).
    """
    sums = np.unique(np.concatenate([fpr + tpr for fpr, tpr in curves]))
    differences = np.mean([np.interp(sums, fpr + tpr, tpr - fpr) for fpr, tpr in curves], axis=0)
    return (sums - differences) / 2, (sums + differences) / 2


def roc_figure(result: QuestionResult) -> str:
    """ROC curve of each reader (thin) and the average of each modality (thick)."""
    plots = _plots()
    figure, axis = plots.subplots(figsize=(4.6, 4.4))
    ratings = result.ratings
    assert ratings.truth is not None
    for index, name in enumerate(ratings.modalities):
        colour = COLOURS[index % len(COLOURS)]
        curves = [
            roc_points(scores, ratings.truth)
            for scores, merit in zip(ratings.scores[index], result.per_reader[index])
            if not np.isnan(merit)
        ]
        for fpr, tpr in curves:
            axis.plot(fpr, tpr, color=colour, lw=0.7, alpha=0.4)
        area = result.means[index].estimate
        axis.plot(*average_curve(curves), color=colour, lw=2.4, label=f"{name}: {area:.3f}")
    axis.plot([0, 1], [0, 1], color="#999999", lw=0.8, ls=":")
    axis.set(xlabel="1 - specificity", ylabel="sensitivity", xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal")
    axis.legend(title="AUC", frameon=False, loc="lower right")
    return _svg(figure)


def bars_figure(results: list[QuestionResult]) -> str:
    """Stacked shares of each category by question and modality, centred on the middle of the scale."""
    plots = _plots()
    rows = [(result, index) for result in results for index in range(len(result.ratings.modalities))]
    figure, axis = plots.subplots(figsize=(7.5, 0.42 * len(rows) + 1.4))
    labels: list[str] = []
    shown: dict[str, Any] = {}
    for place, (result, index) in enumerate(reversed(rows)):
        scores = result.ratings.scores[index]
        values = [value for value, _ in result.categories]
        shares = np.array([np.mean(scores[~np.isnan(scores)] == value) for value in values]) * 100
        half = len(values) / 2
        left = -(shares[: int(half)].sum() + (shares[int(half)] / 2 if len(values) % 2 else 0))
        for rank, (share, (_, label)) in enumerate(zip(shares, result.categories)):
            tone = plots.get_cmap("RdYlBu")(0.08 + 0.84 * rank / max(len(values) - 1, 1))
            drawn = axis.barh(place, share, left=left, color=tone, edgecolor="white", lw=0.6)
            shown.setdefault(label, drawn)
            if share >= 6:
                axis.text(left + share / 2, place, f"{share:.0f}", ha="center", va="center", fontsize=8)
            left += share
        labels.append(f"{result.question} · {result.ratings.modalities[index]}")
    axis.set_yticks(range(len(rows)), labels)
    axis.axvline(0, color="#666666", lw=0.8)
    axis.set_xlabel("per cent of ratings")
    axis.xaxis.set_major_formatter(lambda value, _: f"{abs(value):.0f}")
    axis.legend(shown.values(), shown.keys(), frameon=False, fontsize=8, ncols=3, loc="lower center",
                bbox_to_anchor=(0.4, 1.0))  # fmt: skip
    return _svg(figure)


def forest_figure(result: QuestionResult, margin: float | None) -> str:
    """The first comparison: every reader, then every method."""
    plots = _plots()
    if not result.differences:
        return ""
    main = result.differences[0]
    names = result.ratings.modalities
    wanted = [names.index(part) for part in main.name.split(" - ")] if main.name.count(" - ") == 1 else [0, 1]
    gaps = result.per_reader[wanted[0]] - result.per_reader[wanted[1]]
    many = len(gaps) > 30
    rows: list[tuple[str, float, float | None, float | None, bool]] = []
    if not many:
        rows += [(name, float(gap), None, None, False) for name, gap in zip(result.ratings.readers, gaps)]
    for row in result.methods:
        if row.comparison == main.name and row.scale == "difference":
            rows.append((row.method, row.estimate, row.low, row.high, row.method == result.primary))
    figure, axis = plots.subplots(figsize=(7, 0.3 * len(rows) + 1))
    for place, (_, estimate, low, high, primary) in enumerate(reversed(rows)):
        colour = COLOURS[0] if primary else "#333333"
        if low is None:
            axis.plot(estimate, place, "o", ms=4, color="#888888")
        else:
            axis.plot([low, high], [place, place], color=colour, lw=2.4 if primary else 1.2)
            axis.plot(estimate, place, "D", ms=6 if primary else 4, color=colour)
    axis.axvline(0, color="#999999", lw=0.8)
    if margin is not None:
        axis.axvline(-margin if result.better == "high" else margin, color=COLOURS[1], lw=1, ls="--")
    axis.set_yticks(range(len(rows)), [row[0] for row in reversed(rows)])
    axis.set_xlabel(f"{result.question}: {main.name}")
    return _svg(figure)


def heat_figure(result: QuestionResult) -> str:
    """Weighted kappa of every pair of readers."""
    plots = _plots()
    readers = result.ratings.readers
    size = min(0.45 * len(readers) + 1.6, 8)
    figure, axis = plots.subplots(figsize=(size, size))
    picture = axis.imshow(result.kappas, vmin=0, vmax=1, cmap="viridis")
    axis.set_xticks(range(len(readers)), readers, rotation=90)
    axis.set_yticks(range(len(readers)), readers)
    if len(readers) <= 12:
        for a in range(len(readers)):
            for b in range(len(readers)):
                value = result.kappas[a, b]
                if a != b and not np.isnan(value):
                    tone = "black" if value > 0.6 else "white"
                    axis.text(b, a, f"{value:.2f}", ha="center", va="center", fontsize=8, color=tone)
    figure.colorbar(picture, ax=axis, shrink=0.7, label="quadratic weighted kappa")
    return _svg(figure)
