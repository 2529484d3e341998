"""The pages of scores: the closed loop, given answers, reports, duplicate pictures, two evaluations side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from medvlm.evaluation.closed_loop import ClosedLoop, Outcome
from medvlm.evaluation.compare import Comparison
from medvlm.evaluation.confidence import Selective
from medvlm.evaluation.contamination import Match
from medvlm.evaluation.page import (
    CaseView,
    Chart,
    Page,
    Table,
    answer_view,
    bars,
    explained,
    interval_text,
    picture_address,
    words,
    worst_cases,
)
from medvlm.evaluation.rephrase import Robustness
from medvlm.evaluation.reports import ReportOutcome, ReportScores
from medvlm.evaluation.table import gain, percent
from medvlm.evaluation.vqa import VqaOutcome, VqaResult


def robustness_table(rows: Mapping[str, Robustness | None]) -> tuple[Table, ...]:
    """Every wording counted by itself and all wordings of a question together, where questions have several."""
    cells = tuple(
        (
            name,
            f"{row.groups:,}",
            f"{row.wordings:.1f}",
            interval_text(row.mean),
            interval_text(row.worst),
        )
        for name, row in rows.items()
        if row is not None
    )
    heads = ("", "questions", "wordings of each", "accuracy, every wording", "right in every wording")
    note = "Worst case over rephrasings: a question counts only if it is answered rightly however it is put."
    return (Table("Rephrasings", heads, cells, note),) if cells else ()


def answers_page(result: VqaResult, model: str, root: Path) -> Page:
    """Questions with given answers."""
    wrong = [row for row in result.outcomes if not row.correct]
    # What is right without the picture as well says least about seeing; what nothing explains comes first.
    wrong.sort(key=lambda row: (row.f1, row.kind != "closed"))

    def view(row: VqaOutcome) -> CaseView:
        return answer_view(row, root / row.image if row.image else None, *row.controls.items())

    controls = tuple(result.groups[0].controls) if result.groups else ()
    heads = ("questions", "n", "accuracy (95 % CI)", "token F1", "recall", *(f"{name} picture" for name in controls))
    rows = tuple(
        (
            words(group.name),
            f"{group.questions:,}",
            interval_text(group.accuracy),
            percent(group.f1.value),
            percent(group.recall.value),
            *(percent(group.controls[name].value) for name in controls),
        )
        for group in result.groups
    )
    tables = [Table("Scores", heads, rows)]
    if controls:
        tables.append(
            Table(
                "Does it see?",
                ("questions", *(f"reliance: {n}" for n in controls), *(f"sensitivity: {n}" for n in controls)),
                tuple(
                    (
                        words(group.name),
                        *(gain(group.reliance[name]) for name in controls),
                        *(interval_text(group.sensitivity[name]) for name in controls),
                    )
                    for group in result.groups
                ),
                "Reliance: accuracy with the picture minus accuracy with the control, in points. Sensitivity: answers "
                "that change with the picture.",
            )
        )
    main = [group for group in result.groups if group.name in ("all", "closed", "open")]
    shown = {group.name: group.accuracy for group in main}
    for group in main:
        shown |= {f"{group.name}, {name} picture": group.controls[name] for name in controls}
    return Page(
        title="Answers to given questions",
        about=(f"model {model}", f"{len(result.outcomes):,} questions"),
        charts=(Chart("Accuracy", bars(shown)),),
        tables=(*tables, *_selective_table(result.selective), *robustness_table({"": result.rephrased})),
        cases=worst_cases(wrong, view),
        cases_note="Wrong answers, those that share no word with the truth first.",
        signatures=tuple(str(signature) for signature in result.signatures.values()),
    )


def _selective_table(found: Selective | None) -> tuple[Table, ...]:
    if found is None:
        return ()
    rows = tuple((percent(coverage), percent(value)) for coverage, value in found.accuracy.items())
    data = found.to_json()
    note = (
        f"Area under risk against coverage {data['aurc']:.3f}; perfect confidence would reach {data['aurc_best']:.3f}, "
    )
    note += f"confidence that says nothing {data['aurc_random']:.3f}."
    return (Table("Answers given only where it is sure", ("surest answers given", "accuracy of them"), rows, note),)


CALL_TEXT = {
    "needed": "questions that need an expert: one was called",
    "not_needed": "questions that need none: one was called all the same",
    "right": "questions that need an expert: exactly the right call came first",
    "precision": "questions on which one was called: it was needed",
    "wrong_argument": "questions that need an expert and on which one was called: the first call was another",
}


def loop_page(result: ClosedLoop, model: str, root: Path) -> Page:
    """The closed loop with and without the expert."""
    images = {row.id: row.images[0] for row in result.conversations if row.images}
    wrong = [row for row in result.outcomes if row.arm == "with" and row.correct is False]
    # An error that the expert's findings would have prevented is the model's own: it comes first.
    wrong.sort(key=lambda row: not row.reference)

    def view(row: Outcome) -> CaseView:
        calls = (("called", " ".join(row.triggers) or "nothing"), ("needed", row.expected or "nothing"))
        return answer_view(row, root / images[row.id] if row.id in images else None, *calls)

    rows = [*result.tasks, *([result.overall] if result.overall else [])]
    return Page(
        title="Closed loop: with and without the expert",
        about=(
            f"model {model}",
            f"The model itself calls the expert; the expert really runs. {result.trigger.calls:.2f} calls a question; "
            f"experts ran for {result.expert_seconds:.1f} s in all.",
        ),
        charts=(
            Chart("Gain by the expert", bars({row.task: row.gain for row in rows}, signed=True)),
            Chart("Calls", bars(result.trigger.rates)),
        ),
        tables=(
            Table(
                "Accuracy",
                ("question", "n", "no expert", "with expert", "gain", "straight from the findings"),
                tuple(
                    (
                        words(row.task),
                        str(row.questions),
                        interval_text(row.without),
                        interval_text(row.with_expert),
                        gain(row.gain),
                        percent(row.ceiling),
                    )
                    for row in rows
                ),
            ),
            explained("Calls", "rate", result.trigger.rates, CALL_TEXT),
            *robustness_table({f"{arm} expert": row for arm, row in result.rephrased.items()}),
        ),
        cases=worst_cases(wrong, view),
        cases_note="Wrong with the expert on offer; first those that the expert's findings would have answered.",
        signatures=tuple(result.signatures.values()),
    )


def reports_page(result: ReportScores, source: str, root: Path) -> Page:
    """Written reports against references."""
    wrong = [row for row in result.outcomes if row.score.omitted + row.score.added + row.score.contradicted]
    wrong.sort(key=lambda row: (-row.score.contradicted, -row.score.omitted - row.score.added))
    counts = {name: getattr(result.findings, name) for name in ("matched", "omitted", "added", "contradicted")}

    def view(row: ReportOutcome) -> CaseView:
        found = ", ".join(f"{getattr(row.score, name)} {name}" for name in counts)
        lines = (("report", row.report), ("reference", row.reference), ("findings", found))
        shown = (picture_address(root / row.image),) if row.image else ()
        return CaseView(row.id, lines, shown, right="reference", wrong="report")

    mean_error = result.findings.to_json()["mean_error"]
    found = [(name, f"{count:,}") for name, count in counts.items()]
    found += [("numbers that both give", f"{len(result.findings.errors):,}")]
    found += [("mean error of them", "-" if mean_error is None else f"{mean_error:g}")]
    return Page(
        title="Written reports against references",
        about=(source, f"{len(result.outcomes):,} reports; findings read by the pathway {result.pathway}"),
        charts=(Chart("Findings of a report, on average", bars(result.rates)),),
        tables=(
            Table("Findings of all reports", ("", "number"), tuple(found)),
            Table("Words", ("score", "value"), tuple((words(k), f"{v:.4f}") for k, v in result.words.items())),
        ),
        cases=worst_cases(wrong, view),
        cases_note="Reports that contradict their reference, then those that leave out or add most.",
        signatures=result.signatures,
    )


def duplicates_page(matches: Sequence[Match], counts: tuple[int, int], folders: tuple[Path, Path], near: int) -> Page:
    """Test pictures that look like training pictures; `counts` and `folders` are of test and training."""

    def view(row: Match) -> CaseView:
        lines = (("test", row.test), ("training", row.train), ("differ in", f"{row.bits} of 64 bits"))
        return CaseView(
            row.test, lines, (picture_address(folders[0] / row.test), picture_address(folders[1] / row.train))
        )

    near_by = {str(bits): sum(row.bits == bits for row in matches) for bits in range(near + 1)}
    share = len({row.test for row in matches}) / max(counts[0], 1)
    return Page(
        title="Are test pictures in the training data?",
        about=(
            f"{len(matches):,} of {counts[0]:,} test pictures ({percent(share)}) look like one of {counts[1]:,} "
            f"training pictures: at most {near} of 64 bits of the perceptual hash differ.",
        ),
        tables=(
            Table(
                "Nearest training picture",
                ("bits that differ", "test pictures"),
                tuple((bits, f"{count:,}") for bits, count in near_by.items()),
            ),
        ),
        cases=worst_cases(sorted(matches, key=lambda row: row.bits), view),
        cases_title="The nearest pairs",
        cases_note="The test picture on the left, the training picture on the right.",
    )


def comparison_page(result: Comparison, first: str, second: str) -> Page:
    """Two evaluations side by side."""
    about = [f"first: {first}", f"second: {second}", f"{result.questions:,} shared questions"]
    about += [f"Not comparable as they stand: {difference}" for difference in result.differences]
    return Page(
        title="Two evaluations compared",
        about=tuple(about),
        charts=(
            Chart(
                "Difference, second minus first",
                bars({name: row.difference for name, row in result.groups.items()}, signed=True),
            ),
        ),
        tables=(
            Table(
                "Paired on the same questions",
                ("questions", "first", "second", "difference (95 % CI)", "only first", "only second", "p", "p (Holm)"),
                tuple(
                    (
                        words(name),
                        percent(row.first),
                        percent(row.second),
                        gain(row.difference),
                        str(row.only_first),
                        str(row.only_second),
                        f"{row.p:.3g}",
                        f"{row.p_holm:.3g}",
                    )
                    for name, row in result.groups.items()
                ),
                "p: exact McNemar test, which takes questions as independent; the interval takes patients as "
                "independent.",
            ),
        ),
    )
