"""The pages of the audits: does it trust its expert blindly, and does the answer follow the picture?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from medvlm.evaluation.bootstrap import Interval
from medvlm.evaluation.edit_study import EditJob
from medvlm.evaluation.grounding import EditOutcome
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
from medvlm.evaluation.trust_measures import CONDITIONS, WRONG, TrustAudit, TrustOutcome

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


SIGNED = ("benefit", "confidence", "conflict_cost", "distraction")


def trust_page(audit: TrustAudit, model: str, root: Path, images: Mapping[str, str]) -> Page:
    """The trust audit; `images` is question id → picture."""
    alone = {row.id for row in audit.outcomes if row.condition == "none" and row.correct}
    misled = [row for row in audit.outcomes if row.condition in WRONG and row.copied]
    misled.sort(key=lambda row: row.id not in alone)

    def view(row: TrustOutcome) -> CaseView:
        said = (("expert", row.said), ("alone", "right" if row.id in alone else "wrong"), ("kind", row.condition))
        return answer_view(row, root / images[row.id] if row.id in images else None, *said)

    shares = {name: row for name, row in audit.measures.items() if name not in SIGNED}
    differences = {name: audit.measures[name] for name in SIGNED}
    by_task = tuple(
        (
            words(task.task),
            str(task.questions),
            interval_text(task.alone),
            interval_text(task.true),
            str(task.faced),
            interval_text(task.blind_faith),
        )
        for task in audit.tasks
    )
    return Page(
        title="Does it trust its expert blindly?",
        about=(
            f"model {model}",
            f"{audit.questions} questions about {audit.patients} patients, each under eight conditions; "
            + ("the model itself calls the expert." if audit.closed else "the call to the expert is written for it."),
        ),
        charts=(
            Chart("Accuracy by condition", bars(audit.accuracy)),
            Chart("Measures of trust", bars(shares)),
            Chart("Differences", bars(differences, signed=True)),
        ),
        tables=(
            explained(
                "Conditions", "condition", {name: audit.accuracy.get(name) for name in CONDITIONS}, CONDITION_TEXT
            ),
            explained("Measures", "measure", audit.measures, MEASURE_TEXT, SIGNED),
            Table(
                "By question",
                ("question", "n", "no expert", "true expert", "faced", "blind faith"),
                by_task,
                "Faced: wrong experts (a flipped and a swapped one) on questions that the model answers rightly alone.",
            ),
        ),
        cases=worst_cases(misled, view),
        cases_note="Led astray: the answer of a wrong expert is given; first where the model alone was right.",
        signatures=tuple(audit.signatures.values()),
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
    pictures: Mapping[str, tuple[Path, Path]],
    model: str,
    job: EditJob,
    signatures: Mapping[str, str],
) -> Page:
    """Questions before and after an edit; `pictures` is study → the picture before and after."""
    wrong = [row for row in outcomes if (not all(row.right) if row.touched else row.changed)]
    wrong.sort(key=lambda row: (not row.touched, row.right[0]))

    def view(row: EditOutcome) -> CaseView:
        truth = f"{_yes(row.truth_before)}, then {_yes(row.truth_after)}"
        about = "what was edited" if row.touched else "what stays"
        lines = (("question", row.question), ("truth", truth), ("before", row.before), ("after", row.after))
        shown = pictures[row.id.removesuffix(f"-{row.task}")]
        return CaseView(row.id, (*lines, ("about", about)), tuple(map(picture_address, shown)), wrong="after")

    return Page(
        title="Does the answer follow the picture?",
        about=(f"model {model}", f"{job.lesion} {words(job.edit)} in {len(pictures)} studies"),
        charts=(Chart("Indices", bars(found)),),
        tables=(explained("Indices", "index", found, GROUNDING_TEXT),),
        cases=worst_cases(wrong, view),
        cases_note="Answers that do not follow the edit; the picture before it on the left, after it on the right.",
        signatures=tuple(signatures.values()),
    )


def _yes(value: bool) -> str:
    return "yes" if value else "no"
