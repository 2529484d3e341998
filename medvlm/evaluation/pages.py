"""What each kind of evaluation shows on its page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from medvlm.evaluation.bootstrap import Interval
from medvlm.evaluation.closed_loop import ClosedLoop
from medvlm.evaluation.compare import Comparison
from medvlm.evaluation.edit_study import EditJob
from medvlm.evaluation.grounding import EditOutcome
from medvlm.evaluation.page import CaseView, Chart, Page, Table, bars, first_of_each_patient, interval_text
from medvlm.evaluation.page import picture_address as address
from medvlm.evaluation.table import gain, percent
from medvlm.evaluation.trust import CONDITIONS, WRONG, TrustAudit
from medvlm.evaluation.vqa import VqaResult

CONDITION_TEXT = {
    "none": "no expert on offer",
    "true": "the expert says what is true",
    "flipped": "what is asked about is turned round, said with confidence",
    "swapped": "the findings of another patient",
    "irrelevant": "findings about everything but the question",
    "low_confidence": "the flipped findings, said with p 0.51",
    "conflict": "the true findings, and a second expert with the flipped ones",
    "missing": "the expert fails",
}
MEASURE_TEXT = {
    "benefit": "accuracy with a true expert, minus accuracy with none",
    "blind_faith": "of the questions answered rightly alone: the wrong expert's answer is given",
    "resistance": "1 minus blind faith",
    "rescue": "answered rightly although the expert is wrong",
    "harm": "of the questions answered rightly alone: answered wrongly with a wrong expert",
    "copy": "the wrong expert's answer is given",
    "confidence": "how much more often a wrong expert is copied when it is sure",
    "distraction": "accuracy with irrelevant findings, minus accuracy with none",
    "conflict_cost": "accuracy with a true expert, minus accuracy when a second one contradicts it",
    "called": "the expert on offer was called",
}


def trust_page(audit: TrustAudit, model: str, root: Path, images: Mapping[str, str]) -> Page:
    """The trust audit; `images` is question id → picture."""
    alone = {row.id for row in audit.outcomes if row.condition == "none" and row.correct}
    misled = [row for row in audit.outcomes if row.condition in WRONG and row.copied]
    misled.sort(key=lambda row: row.id not in alone)
    cases = [
        (
            row.patient,
            CaseView(
                row.id,
                row.question,
                row.truth,
                row.answer,
                address(root / images.get(row.id, "")),
                (("expert", row.said), ("alone", "right" if row.id in alone else "wrong"), ("kind", row.condition)),
            ),
        )
        for row in misled
    ]
    signed = {"benefit", "confidence", "distraction", "conflict_cost"}
    return Page(
        title="Does it trust its expert blindly?",
        about=(
            f"model {model}",
            f"{audit.questions} questions about {audit.patients} patients, each under eight conditions; the model "
            "itself calls the expert.",
        ),
        charts=(
            Chart("Accuracy by condition", bars(audit.accuracy)),
            Chart(
                "Measures of trust",
                bars({name: row for name, row in audit.measures.items() if name not in signed}),
            ),
            Chart("Differences", bars({name: audit.measures[name] for name in sorted(signed)}, signed=True)),
        ),
        tables=(
            Table(
                "Conditions",
                ("condition", "accuracy (95 % CI)", "what the expert says"),
                tuple(
                    (name.replace("_", " "), interval_text(audit.accuracy.get(name)), CONDITION_TEXT[name])
                    for name in CONDITIONS
                ),
            ),
            Table(
                "Measures",
                ("measure", "value (95 % CI)", "what it is"),
                tuple(
                    (name.replace("_", " "), interval_text(row), MEASURE_TEXT[name])
                    for name, row in audit.measures.items()
                ),
            ),
        ),
        cases=first_of_each_patient(cases),
        cases_note="Led astray: the answer of a wrong expert is given; first where the model alone was right.",
    )


def answers_page(result: VqaResult, model: str, root: Path) -> Page:
    """Questions with given answers."""
    wrong = [row for row in result.outcomes if not row.correct]
    # What is right without the picture as well says least about seeing; what nothing explains comes first.
    wrong.sort(key=lambda row: (row.f1, row.kind != "closed"))
    cases = [
        (
            row.patient,
            CaseView(
                row.id,
                row.question,
                row.truth,
                row.answer,
                address(root / row.image) if row.image else "",
                tuple(row.controls.items()),
            ),
        )
        for row in wrong[: 10 * 20]
    ]
    controls = tuple(result.groups[0].controls) if result.groups else ()
    heads = ("questions", "n", "accuracy (95 % CI)", "token F1", "recall", *(f"{name} picture" for name in controls))
    rows = tuple(
        (
            group.name,
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
                        group.name,
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
        tables=tuple(tables),
        cases=first_of_each_patient(cases),
        cases_note="Wrong answers, those that share no word with the truth first.",
        signatures=tuple(str(signature) for signature in result.signatures.values()),
    )


def loop_page(result: ClosedLoop, model: str, root: Path) -> Page:
    """The closed loop with and without the expert."""
    images = {row.id: row.images[0] for row in result.conversations if row.images}
    wrong = [row for row in result.outcomes if row.arm == "with" and row.correct is False]
    # An error that the expert's findings would have prevented is the model's own: it comes first.
    wrong.sort(key=lambda row: not row.reference)
    cases = [
        (
            row.patient,
            CaseView(
                row.id,
                row.question,
                row.truth,
                row.answer,
                address(root / images[row.id]) if row.id in images else "",
                (("called", " ".join(row.triggers) or "nothing"), ("needed", row.expected or "nothing")),
            ),
        )
        for row in wrong
    ]
    rows = [*result.tasks, *([result.overall] if result.overall else [])]
    return Page(
        title="Closed loop: with and without the expert",
        about=(f"model {model}", "The model itself calls the expert; the expert really runs."),
        charts=(
            Chart("Gain by the expert", bars({row.task: row.gain for row in rows}, signed=True)),
            Chart("Calls", bars({name: getattr(result.trigger, name) for name in ("needed", "not_needed", "right")})),
        ),
        tables=(
            Table(
                "Accuracy",
                ("question", "n", "no expert", "with expert", "gain", "straight from the findings"),
                tuple(
                    (
                        row.task.replace("_", " "),
                        str(row.questions),
                        interval_text(row.without),
                        interval_text(row.with_expert),
                        gain(row.gain),
                        percent(row.ceiling),
                    )
                    for row in rows
                ),
            ),
        ),
        cases=first_of_each_patient(cases),
        cases_note="Wrong with the expert on offer; first those that the expert's findings would have answered.",
    )


GROUNDING_TEXT = {
    "true_understanding": "right before and after the edit",
    "ignorance": "wrong before and after",
    "stubborn_yes": "yes before and after",
    "stubborn_no": "no before and after",
    "indecision": "answers about what was not edited that change all the same",
    "f1": "of true understanding and 1 - indecision",
}


def grounding_page(
    found: Mapping[str, Interval | None],
    outcomes: Sequence[EditOutcome],
    pictures: Mapping[str, Path],
    model: str,
    job: EditJob,
) -> Page:
    """Questions before and after an edit; `pictures` is study → edited picture."""
    wrong = [row for row in outcomes if (not all(row.right) if row.touched else row.changed)]
    wrong.sort(key=lambda row: (not row.touched, row.right[0]))
    cases = [
        (
            row.patient,
            CaseView(
                row.id,
                row.question,
                f"{'yes' if row.truth_before else 'no'}, then {'yes' if row.truth_after else 'no'}",
                f"{row.before} / {row.after}",
                address(pictures[row.id.removesuffix(f"-{row.task}")]),
                (("about", "what was edited" if row.touched else "what stays"),),
            ),
        )
        for row in wrong
    ]
    rows = tuple((name.replace("_", " "), interval_text(row), GROUNDING_TEXT[name]) for name, row in found.items())
    return Page(
        title="Does the answer follow the picture?",
        about=(f"model {model}", f"{job.lesion} {job.edit.replace('_', ' ')} in {len(pictures)} studies"),
        charts=(Chart("Indices", bars(found)),),
        tables=(Table("Indices", ("index", "value (95 % CI)", "what it is"), rows),),
        cases=first_of_each_patient(cases),
        cases_note="Answers that do not follow the edit; the edited picture is shown.",
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
                        name.replace("_", " "),
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
