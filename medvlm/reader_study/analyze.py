"""Analyze: unblinded answers, or any file of ratings → statistics, figures, tables, methods paragraph, checklists."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from medvlm.errors import MedVLMError
from medvlm.reader_study.analyze_question import ORDINAL_LIMIT, QuestionResult, analyze_question
from medvlm.reader_study.forms import Form, form_from_json
from medvlm.reader_study.result_tables import ResultTable, p_text, write_tables
from medvlm.reader_study.statistics.figures_of_merit import Metric
from medvlm.reader_study.statistics.multiplicity import Method, adjust
from medvlm.reader_study.statistics.rating_files import read_ratings, write_imrmc, write_rjafroc
from medvlm.reader_study.statistics.ratings import Ratings, ratings_from_frame
from medvlm.storage import atomic_path, read_json, write_json, write_text

if TYPE_CHECKING:
    import pandas as pd

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Options:
    """What the analysis may be told; empty values are taken from the study."""

    metric: Literal["auto", "auc", "mean"] = "auto"
    margin: float | None = None
    alpha: float = 0.05
    reference: str = ""
    bootstrap: int = 2000
    seed: int = 0
    adjustment: Method = "holm"

    @property
    def level(self) -> float:
        """Confidence level."""
        return 1 - self.alpha


@dataclass
class Analysis:
    """A finished analysis.

    Attributes:
        facts: what the methods paragraph and the checklists say (numbers of the study itself).
        summary: lines for the terminal.
    """

    title: str
    questions: list[QuestionResult] = field(default_factory=list)
    tables: list[ResultTable] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    summary: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def analyze_file(path: Path, out: Path, options: Options, tell: Progress | None = None) -> Analysis:
    """Analyse an iMRMC, RJafroc or CSV file of ratings."""
    ratings = read_ratings(path)
    metric = _metric(options.metric, ratings)
    ordered = _ordered(ratings, options.reference)
    (tell or _quiet)("question", 0, 1)
    title = ratings.title or path.stem
    analysis = Analysis(title)
    analysis.questions.append(
        analyze_question(
            "score", "score", ordered, metric, options.level, options.bootstrap, options.seed,
            ordinal=_few_values(ordered),
        )
    )  # fmt: skip
    analysis.facts = _facts(title, ordered, options, metric)
    return _finish(analysis, out, options)


def analyze_collected(
    collected: Path,
    key_file: Path,
    passphrase_file: Path | None,
    out: Path,
    options: Options,
    emergency: str = "",
    tell: Progress | None = None,
) -> Analysis:
    """Unblind collected answers and analyse every question of the form."""
    from medvlm.reader_study.unblind import unblind_collected

    tell = tell or _quiet
    frame, key = unblind_collected(collected, key_file, passphrase_file, emergency)
    form = form_from_json(read_json(collected / "collected.json")["form"], key.get("derived"))
    endpoint = key["endpoint"]
    options = Options(
        options.metric,
        endpoint["margin"] if options.margin is None else options.margin,
        options.alpha,
        options.reference or endpoint["reference"],
        options.bootstrap,
        options.seed,
        options.adjustment,
    )
    analysis = Analysis(key["title"])
    main = frame[(frame["role"] == "main") & (frame["duplicate_of"] == "")]
    scored = _scores(main, form, key)
    if not scored:
        raise MedVLMError(f"{collected}: no question with numbers or preferences has answers.")
    names = sorted(scored, key=lambda name: (name != endpoint["question"], list(scored).index(name)))
    for number, name in enumerate(names):
        tell("questions", number, len(names))
        values, text, better, categories = scored[name]
        metric: Metric = "mean"
        if name == endpoint["question"]:
            wanted = endpoint["metric"] if options.metric == "auto" else options.metric
            metric = "auc" if wanted == "auc" else "mean"
        ratings = _ordered(ratings_from_frame(values, "value"), options.reference)
        small = int((~np.isnan(ratings.scores)).sum()) <= ORDINAL_LIMIT
        analysis.questions.append(
            analyze_question(
                name, text, ratings, metric, options.level, options.bootstrap, options.seed, better,
                (small or number == 0) and _few_values(ratings), categories,
            )
        )  # fmt: skip
    tell("questions", len(names), len(names))
    _extras(analysis, frame, form, key, endpoint["question"], options)
    analysis.facts = _facts(key["title"], analysis.questions[0].ratings, options, analysis.questions[0].metric)
    analysis.facts |= _study_facts(frame, form, key)
    return _finish(analysis, out, options)


def _quiet(what: str, done: int, total: int) -> None:
    return


def _metric(wanted: str, ratings: Ratings) -> Metric:
    if wanted == "auto":
        return "auc" if ratings.truth is not None and len(set(ratings.truth)) == 2 else "mean"
    return "auc" if wanted == "auc" else "mean"


def _few_values(ratings: Ratings) -> bool:
    return 2 <= len(np.unique(ratings.scores[~np.isnan(ratings.scores)])) <= 12


def _ordered(ratings: Ratings, reference: str) -> Ratings:
    """The reference last, so that differences are source minus reference."""
    if not reference:
        return ratings
    if reference not in ratings.modalities:
        raise MedVLMError(f"no modality '{reference}'; there are: {', '.join(ratings.modalities)}.")
    return ratings.only([*(name for name in ratings.modalities if name != reference), reference])


_Scored = tuple["pd.DataFrame", str, Literal["high", "low"], tuple[tuple[float, str], ...]]


def _scores(main: pd.DataFrame, form: Form, key: Mapping[str, Any]) -> dict[str, _Scored]:
    """Numbers by question: the numeric ones, preferences as 1, 0.5, 0, and derived scores."""
    found: dict[str, _Scored] = {}
    low = set(key.get("low_is_better", ()))
    for question in form.questions:
        rows = main[main["question_id"] == question.id]
        if rows.empty:
            continue
        if question.numeric:
            values = rows.assign(value=[question.score(code) for code in rows["response_code"]])
            labels = tuple((question.score(option.code), option.label) for option in question.options)
            found[question.id] = values, question.text, "low" if question.id in low else "high", labels
        elif question.kind == "pairwise":
            left = rows["response_code"].map({"left": 1.0, "equal": 0.5, "right": 0.0})
            first = rows["modality"] < rows["other_modality"]
            pair = [f"{min(a, b)} over {max(a, b)}" for a, b in zip(rows["modality"], rows["other_modality"])]
            values = rows.assign(value=np.where(first, left, 1 - left), modality=pair)
            found[question.id] = values, question.text, "high", ((0.0, "lost"), (0.5, "equal"), (1.0, "won"))
    for name, parts in form.derived.items():
        wide = main[main["question_id"].isin(_parts(parts))].copy()
        if wide.empty:
            continue
        wide["number"] = wide["response_code"].astype(float)
        sums = wide.pivot_table(index="item_code", columns="question_id", values="number", aggfunc="first").fillna(0)
        if isinstance(parts, list):
            value, better = sums[parts].sum(axis=1), "low"
        else:  # GREEN: matched / (matched + significant errors), 0 where nothing matched
            matched = sums[parts["matched"]]
            value = (matched / (matched + sums[parts["errors"]].sum(axis=1))).fillna(0.0)
            better = "high"
        rows = wide.drop_duplicates("item_code").assign(value=lambda part, v=value: part["item_code"].map(v))
        found[name] = rows, name, better, ()  # type: ignore[assignment]
    return found


def _parts(parts: Any) -> list[str]:
    return parts if isinstance(parts, list) else [parts["matched"], *parts["errors"]]


def _extras(
    analysis: Analysis, frame: pd.DataFrame, form: Form, key: Mapping[str, Any], question: str, options: Options
) -> None:
    from medvlm.reader_study import analyze_extras as extras

    tables = [
        extras.intra_reader(frame, form, options.seed),
        extras.probe_detection(frame),
        extras.blinding_check(frame, form, key["sources"]),
        extras.marked_errors(frame),
        extras.reading_time(frame),
        extras.order_effects(frame, form, question),
        _preferences(frame, form, options),
    ]
    analysis.tables += [table for table in tables if table is not None]


def _preferences(frame: pd.DataFrame, form: Form, options: Options) -> ResultTable | None:
    question = next((item for item in form.questions if item.kind == "pairwise"), None)
    if question is None:
        return None
    from medvlm.reader_study.statistics.preference import Comparisons, davidson

    rows = frame[(frame["question_id"] == question.id) & (frame["role"] == "main") & (frame["duplicate_of"] == "")]
    names = sorted({*rows["modality"], *rows["other_modality"]})
    number = {name: index for index, name in enumerate(names)}
    data = Comparisons(
        rows["modality"].map(number).to_numpy(),
        rows["other_modality"].map(number).to_numpy(),
        rows["response_code"].map({"left": 1.0, "equal": 0.5, "right": 0.0}).to_numpy(dtype=float),
        np.unique(rows["reader_id"], return_inverse=True)[1],
        np.unique(rows["cluster_id"], return_inverse=True)[1],
    )
    worth = davidson(data, names, 300, options.seed, options.level)
    body = tuple(
        (name, float(value), float(low), float(high))
        for name, value, low, high in zip(names, worth.log_worth, worth.low, worth.high)
    )
    note = f"Davidson's model with ties (nu {worth.ties:.2f}); intervals from a bootstrap of readers and patients."
    return ResultTable("worth", "Worth of the sources (log, first source 0)", ("source", "log worth", "low", "high"),
                       body, note)  # fmt: skip


def _facts(title: str, ratings: Ratings, options: Options, metric: Metric) -> dict[str, Any]:
    reads = int((~np.isnan(ratings.scores)).sum())
    facts: dict[str, Any] = {
        "title": title, "readers": len(ratings.readers), "cases": len(ratings.cases),
        "patients": int(ratings.cluster_index.max()) + 1, "modalities": list(ratings.modalities), "reads": reads,
        "crossed": ratings.crossed, "metric": metric, "alpha": options.alpha, "margin": options.margin,
        "bootstrap": options.bootstrap, "seed": options.seed, "adjustment": options.adjustment,
        "reference": options.reference,
    }  # fmt: skip
    if ratings.truth is not None:
        facts |= {"diseased": int(ratings.truth.sum()), "normal": int((ratings.truth == 0).sum())}
    return facts


def _study_facts(frame: pd.DataFrame, form: Form, key: Mapping[str, Any]) -> dict[str, Any]:
    items = list(key["items"].values())
    groups: dict[str, int] = {}
    for group in key["groups"].values():
        groups[group] = groups.get(group, 0) + 1
    shown = {(item["reader"], item["session"]) for item in items}
    return {
        "groups": groups, "sources": dict(key["sources"]), "design": key["design"]["kind"],
        "washout_days": key["washout_days"], "sessions": len(shown), "items": len(items),
        "duplicates": sum(bool(item["duplicate_of"]) for item in items),
        "probes": sum(bool(item["probe"]) for item in items),
        "training": sum(item["role"] == "training" for item in items),
        "calibration": sum(item["role"] == "calibration" for item in items),
        "answered": int(frame["item_code"].nunique()), "form": form.title, "form_version": form.version,
        "questions": [question.id for question in form.questions],
        "guess": any(question.kind == "guess" for question in form.questions), "seed_of_design": key["seed"],
    }  # fmt: skip


def _finish(analysis: Analysis, out: Path, options: Options) -> Analysis:
    from medvlm.reader_study.checklists import write_checklists
    from medvlm.reader_study.methods_text import methods_text
    from medvlm.reader_study.result_page import render_page
    from medvlm.reader_study.summary_tables import question_tables, summary_table

    adjusted = adjust([item.p for result in analysis.questions for item in result.differences], options.adjustment)
    main = summary_table(analysis.questions, adjusted, options)
    analysis.tables = [main, *analysis.tables]
    for result in analysis.questions:
        analysis.tables += question_tables(result, options)
        analysis.notes += [f"{result.question}: {reason}" for reason in result.skipped]
    analysis.summary = [
        f"{row[0]:<16} {row[1]:<28} {row[2]:+.3f} ({row[3]:+.3f}, {row[4]:+.3f})  {p_text(row[6])}" for row in main.rows
    ]
    methods = methods_text(analysis, options)
    if out.exists() and not (out / "results.json").is_file() and any(out.iterdir()):
        raise MedVLMError(f"{out}: holds other files; choose a new folder.")
    with atomic_path(out) as folder:
        folder.mkdir(parents=True)
        write_tables(folder, analysis.tables)
        write_text(folder / "methods.md", methods + "\n")
        write_checklists(folder / "checklists", analysis)
        _write_ratings(folder / "ratings", analysis)
        write_text(folder / "report.html", render_page(analysis, methods, folder))
        write_json(folder / "results.json", {"schema": 1, "facts": analysis.facts, "summary": analysis.summary})
    return analysis


def _write_ratings(folder: Path, analysis: Analysis) -> None:
    """iMRMC and RJafroc files of every question with a truth."""
    for result in analysis.questions:
        if result.ratings.truth is None or len(set(result.ratings.truth)) < 2:
            continue
        write_imrmc(folder / f"{result.question}.imrmc", result.ratings, analysis.title)
        if result.ratings.crossed:
            numbers = write_rjafroc(folder / f"{result.question}.rjafroc.xlsx", result.ratings)
            write_json(folder / f"{result.question}.rjafroc.json", numbers)
