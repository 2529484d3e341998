"""What a study shows beside its ratings: duplicates, probes, guesses, marked errors, time and missing reads."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from medvlm.reader_study.forms import ERROR_CATEGORIES, Form
from medvlm.reader_study.result_tables import ResultTable
from medvlm.reader_study.statistics.agreement import weighted_kappa, with_interval
from medvlm.reader_study.statistics.blinding import bang_index, james_index

if TYPE_CHECKING:
    import pandas as pd


def intra_reader(frame: pd.DataFrame, form: Form, seed: int) -> ResultTable | None:
    """Agreement of each reader with themselves on the hidden duplicates."""
    again = frame[frame["duplicate_of"] != ""]
    if again.empty:
        return None
    rows: list[tuple[Any, ...]] = []
    for question in form.questions:
        if not question.numeric:
            continue
        first = frame[frame["question_id"] == question.id].set_index("item_code")["response_code"]
        second = again[again["question_id"] == question.id]
        pairs = second[second["duplicate_of"].isin(first.index)]
        if pairs.empty:
            continue
        before = np.array([question.score(first[code]) for code in pairs["duplicate_of"]])
        after = np.array([question.score(code) for code in pairs["response_code"]])
        clusters = np.unique(pairs["cluster_id"], return_inverse=True)[1]

        def kappa(weights: np.ndarray | None, a: np.ndarray = before, b: np.ndarray = after) -> float:
            return weighted_kappa(a, b, "quadratic", weights)

        found = with_interval(question.id, kappa, clusters, len(pairs), 1000, seed)
        equal, near = float(np.mean(before == after)), float(np.mean(np.abs(before - after) <= 1))
        change = float(np.mean(after - before))
        rows.append((question.id, len(pairs), found.value, found.low, found.high, equal, near, change))
    columns = ("question", "pairs", "weighted kappa", "low", "high", "equal", "within 1", "mean change")
    note = "Hidden duplicates after a washout; quadratic weights; intervals over patients."
    return ResultTable("intra_reader", "Agreement of readers with themselves", columns, tuple(rows), note)


def probe_detection(frame: pd.DataFrame) -> ResultTable | None:
    """How many planted errors were seen: a marked sentence, with Wilson's interval."""
    probes = frame[frame["is_probe"]]
    if probes.empty:
        return None
    seen = probes[probes["question_id"] == "errors"].groupby("item_code").size()
    items = probes.drop_duplicates("item_code")
    rows = []
    for kind, group in [*items.groupby("probe_type"), ("all", items)]:
        found, total = int(group["item_code"].isin(seen.index).sum()), len(group)
        rows.append((str(kind), found, total, found / total, *_wilson(found, total)))
    controls = frame[(~frame["is_probe"]) & (frame["role"] == "main")].drop_duplicates("item_code")
    if len(controls):
        marked = frame[frame["question_id"] == "errors"]["item_code"].unique()
        found = int(controls["item_code"].isin(marked).sum())
        rows.append(("reports without a planted error", found, len(controls), found / len(controls),
                     *_wilson(found, len(controls))))  # fmt: skip
    note = "A report counts as seen when any of its sentences was marked; Wilson intervals."
    return ResultTable(
        "probes",
        "Planted errors that were marked",
        ("error", "marked", "shown", "rate", "low", "high"),
        tuple(rows),
        note,
    )


def _wilson(found: int, total: int) -> tuple[float, float]:
    """Wilson, J Am Stat Assoc 1927;22:209-212."""
    if not total:
        return math.nan, math.nan
    z, p = 1.959964, found / total
    centre = (p + z * z / (2 * total)) / (1 + z * z / total)
    half = z * math.sqrt(p * (1 - p) / total + z * z / (4 * total * total)) / (1 + z * z / total)
    return max(0.0, centre - half), min(1.0, centre + half)


def blinding_check(frame: pd.DataFrame, form: Form, kinds: Mapping[str, str]) -> ResultTable | None:
    """Bang's index of each source and James' index of the study, from the guesses of the main items."""
    question = next((item for item in form.questions if item.kind == "guess"), None)
    if question is None:
        return None
    guesses = frame[(frame["question_id"] == question.id) & (frame["role"] == "main") & (frame["duplicate_of"] == "")]
    if guesses.empty:
        return None
    rows: list[tuple[Any, ...]] = []
    table: dict[str, list[int]] = {"ai": [0, 0, 0], "human": [0, 0, 0]}
    for source, group in guesses.groupby("modality"):
        kind = "human" if kinds.get(str(source)) == "human" else "ai"
        counts = [int((group["response_code"] == code).sum()) for code in ("ai", "human", "unsure")]
        table[kind] = [a + b for a, b in zip(table[kind], counts)]
        right, wrong = (counts[0], counts[1]) if kind == "ai" else (counts[1], counts[0])
        index = bang_index(str(source), right, wrong, counts[2])
        rows.append((str(source), kind, right, wrong, counts[2], index.value, index.low, index.high))
    overall = james_index([tuple(row) for row in table.values()])  # type: ignore[misc]
    rows.append(("James index", "", None, None, None, overall, None, None))
    columns = ("source", "kind", "right", "wrong", "unsure", "index", "low", "high")
    note = "Bang: 0 random, 1 all right (unblinded), -1 all wrong. James: 1 all unsure, 0.5 random, 0 all right."
    return ResultTable("blinding", "Guesses of the source", columns, tuple(rows), note)


def marked_errors(frame: pd.DataFrame) -> ResultTable | None:
    """Marked sentences by source and category, for 100 reads of main items."""
    main = frame[(frame["role"] == "main") & (frame["duplicate_of"] == "")]
    marks = main[main["question_id"] == "errors"]
    if marks.empty:
        return None
    reads = main.drop_duplicates("item_code").groupby("modality").size()
    sources = [str(name) for name in reads.index]
    rows = []
    for category, (label, _) in ERROR_CATEGORIES.items():
        own = marks[marks["error_category"] == category]
        cells: list[Any] = []
        for source in sources:
            group = own[own["modality"] == source]
            significant = int((group["error_significance"] == "significant").sum())
            cells += [100 * len(group) / reads[source], 100 * significant / reads[source]]
        if any(cells):
            rows.append((label, *cells))
    columns = ("category", *(name for source in sources for name in (source, f"{source}, significant")))
    return ResultTable("errors", "Marked sentences for 100 reads", columns, tuple(rows), "All readers together.")


def reading_time(frame: pd.DataFrame) -> ResultTable | None:
    """Seconds for an item by source and by position in the sitting."""
    items = frame[(frame["role"] == "main") & (frame["duplicate_of"] == "")].drop_duplicates("item_code")
    items = items[items["read_seconds"].notna()]
    if items.empty:
        return None
    rows = [_times(str(source), group["read_seconds"]) for source, group in items.groupby("modality")]
    half = items["position"] > items.groupby(["reader_id", "session"])["position"].transform("median")
    rows += [_times("first half of a sitting", items.loc[~half, "read_seconds"])]
    rows += [_times("second half of a sitting", items.loc[half, "read_seconds"])]
    columns = ("group", "items", "median s", "quarter below", "quarter above", "mean s")
    return ResultTable("time", "Time for an item", columns, tuple(rows), "Seconds with the page in view.")


def _times(name: str, seconds: pd.Series) -> tuple[Any, ...]:
    values = seconds.to_numpy(dtype=float)
    if not len(values):
        return name, 0, math.nan, math.nan, math.nan, math.nan
    low, middle, high = (float(value) for value in np.quantile(values, [0.25, 0.5, 0.75]))
    return name, len(values), middle, low, high, float(values.mean())


def order_effects(frame: pd.DataFrame, form: Form, question_id: str) -> ResultTable | None:
    """Do ratings drift over periods or within a sitting? Means by period and by thirds of the sitting."""
    question = form.question(question_id)
    main = frame[(frame["role"] == "main") & (frame["duplicate_of"] == "") & (frame["question_id"] == question_id)]
    if main.empty or not question.numeric:
        return None
    main = main.assign(value=[question.score(code) for code in main["response_code"]])
    rows: list[tuple[Any, ...]] = []
    for period, group in main.groupby("period"):
        rows.append((f"period {int(period)}", len(group), float(group["value"].mean())))
    place = main.groupby(["reader_id", "session"])["position"].rank(pct=True)
    for name, low, high in (("first third", 0, 1 / 3), ("middle third", 1 / 3, 2 / 3), ("last third", 2 / 3, 1.01)):
        group = main[(place > low) & (place <= high)]
        rows.append((f"{name} of a sitting", len(group), float(group["value"].mean()) if len(group) else math.nan))
    note = "Learning, carry-over and tiredness show here; the design balances them over sources."
    return ResultTable("order", f"Order effects: {question_id}", ("part", "ratings", "mean"), tuple(rows), note)
