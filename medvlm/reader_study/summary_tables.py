"""The tables of every question: differences, means, all methods, readers and agreement."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from medvlm.reader_study.analyze_question import QuestionResult
from medvlm.reader_study.result_tables import ResultTable
from medvlm.reader_study.statistics.contrast import Contrast

if TYPE_CHECKING:
    from medvlm.reader_study.analyze import Options


def summary_table(questions: Sequence[QuestionResult], adjusted: Sequence[float], options: Options) -> ResultTable:
    """Primary differences of all questions with adjusted p-values, non-inferiority and equivalence."""
    rows: list[tuple[Any, ...]] = []
    place = 0
    for result in questions:
        for item in result.differences:
            low, high = item.interval
            worse = equal = math.nan
            if options.margin is not None:
                worse, equal = margins(item, options.margin, result.better)
            rows.append(
                (result.question, item.name, item.estimate, low, high, item.df, item.p, adjusted[place], worse, equal)
            )
            place += 1
    if not rows:  # one modality: its means are what there is to say
        for result in questions:
            for item in result.means:
                low, high = item.interval
                rows.append((result.question, item.name, item.estimate, low, high, item.df, math.nan, math.nan,
                             math.nan, math.nan))  # fmt: skip
    columns = ("question", "comparison", "difference", "low", "high", "df", "p", "p adjusted", "p non-inferior",
               "p equivalent")  # fmt: skip
    percent = f"{100 * options.level:g} %"
    note = f"Readers and cases random; {percent} intervals; p adjusted by {options.adjustment}."
    if options.margin is not None:
        note += (
            f" Margin {options.margin:g}: the non-inferiority p is one-sided, to be held against {options.alpha / 2:g}."
        )
    return ResultTable("differences", "Primary results", columns, tuple(rows), note)


def margins(item: Contrast, margin: float, better: str) -> tuple[float, float]:
    """One-sided non-inferiority p of the first against the second, and equivalence, where low may be good."""
    oriented = item if better == "high" else Contrast(item.name, -item.estimate, item.se, item.df, item.level)
    return oriented.non_inferiority(margin), oriented.equivalence(margin)


def question_tables(result: QuestionResult, options: Options) -> list[ResultTable]:
    """Means, methods, readers and agreement of one question."""
    name = result.question
    what = {"auc": "AUC", "mean": "mean"}[result.metric]
    means = tuple((item.name, item.estimate, *item.interval, item.se, item.df) for item in result.means)
    tables = [
        ResultTable(
            f"{name}_means", f"{name}: {what} of each modality", ("modality", what, "low", "high", "se", "df"), means,
            f"Method: {result.primary}.",
        )
    ]  # fmt: skip
    rows = tuple(
        (row.method, row.comparison, row.scale, row.estimate, row.low, row.high, row.se, row.df, row.p)
        for row in result.methods
    )
    columns = ("method", "comparison", "scale", "estimate", "low", "high", "se", "df", "p")
    if rows:
        note = f"Primary: {result.primary}. The two-way bootstrap is known to be conservative in small studies."
        tables.append(ResultTable(f"{name}_methods", f"{name}: all analyses", columns, rows, note))
    ratings = result.ratings
    readers = tuple(
        (reader, *(float(value) for value in result.per_reader[:, index]))
        for index, reader in enumerate(ratings.readers)
    )
    tables.append(
        ResultTable(f"{name}_readers", f"{name}: {what} of each reader", ("reader", *ratings.modalities), readers)
    )
    if result.components is not None:
        parts = tuple((key, value) for key, value in vars(result.components).items())
        if result.test is not None:
            parts += tuple((f"overall {key}", value) for key, value in vars(result.test).items())
        note = "Mean squares and covariances of the Obuchowski-Rockette model; overall test of equal modalities."
        tables.append(ResultTable(f"{name}_components", f"{name}: components", ("component", "value"), parts, note))
    if result.agreement:
        agreed = tuple((item.name, item.value, item.low, item.high, item.units) for item in result.agreement)
        note = "Between readers; intervals from patients drawn with replacement."
        tables.append(
            ResultTable(
                f"{name}_agreement", f"{name}: agreement of readers", ("coefficient", "value", "low", "high", "cases"),
                agreed, note,
            )
        )  # fmt: skip
    return tables
