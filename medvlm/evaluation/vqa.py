"""Questions with a given answer: any model, any conversation file, and what the same model says without seeing.

No expert runs here; findings that a conversation holds are given as they are, and the signature then says
`loop:teacher_forced`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from medvlm.dialogue.conversation import Conversation
from medvlm.dialogue.loop import GenerateBatch
from medvlm.errors import MedVLMError
from medvlm.evaluation.answers import NORM, VERSION, Marked, mark
from medvlm.evaluation.bootstrap import Interval, mean_intervals
from medvlm.evaluation.confidence import Selective, selective
from medvlm.evaluation.pictures import Control, with_control
from medvlm.evaluation.rephrase import Robustness, groups_of, robustness
from medvlm.evaluation.signature import Signature, sign

Confidences = Callable[[Sequence[Conversation], Sequence[str]], list[float]]


@dataclass(frozen=True)
class VqaOutcome:
    """One question answered, with the picture and with each control.

    Attributes:
        id, patient, task, question: from the conversation; `kind` is `closed`, `open` or empty.
        image: path of its first picture.
        answer, truth: the model's words and the right ones.
        correct: right by the rule of the question.
        f1, recall: of the words.
        controls: control → what the model says then.
        control_correct: control → whether that is right.
    """

    id: str
    patient: str
    task: str
    kind: str
    question: str
    image: str
    answer: str
    truth: str
    correct: bool
    f1: float
    recall: float
    controls: Mapping[str, str]
    control_correct: Mapping[str, bool]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Group:
    """Scores of one group of questions, each with its interval over patients.

    Attributes:
        name: `all`, `closed`, `open`, or a value of a label (`organ chest`).
        accuracy, f1, recall: means.
        controls: control → accuracy.
        reliance: control → accuracy with the picture minus accuracy with the control (visual reliance).
        sensitivity: control → share of answers that change with the picture (image sensitivity).
    """

    name: str
    questions: int
    accuracy: Interval
    f1: Interval
    recall: Interval
    controls: Mapping[str, Interval]
    reliance: Mapping[str, Interval]
    sensitivity: Mapping[str, Interval]

    def to_json(self) -> dict[str, Any]:
        named = {name: {k: v.to_json() for k, v in getattr(self, name).items()} for name in _PER_CONTROL}
        rows = {name: getattr(self, name).to_json() for name in ("accuracy", "f1", "recall")}
        return {"name": self.name, "questions": self.questions, **rows, **named}


_PER_CONTROL = ("controls", "reliance", "sensitivity")


@dataclass(frozen=True)
class VqaResult:
    """What `medvlm evaluate answers` writes; `rephrased` where questions stand in several wordings.

    `selective` is how accurate the surest answers are, where confidences are known.
    """

    groups: tuple[Group, ...]
    signatures: Mapping[str, Signature]
    outcomes: tuple[VqaOutcome, ...]
    rephrased: Robustness | None = None
    selective: Selective | None = None

    def to_json(self) -> dict[str, Any]:
        return {
            "schema": 1,
            "kind": "answers",
            "patients": len({row.patient for row in self.outcomes}),
            "groups": [group.to_json() for group in self.groups],
            "rephrased": self.rephrased.to_json() if self.rephrased else None,
            "selective": self.selective.to_json() if self.selective else None,
            "signatures": {name: str(signature) for name, signature in self.signatures.items()},
        }


def ask_all(
    test: Sequence[Conversation],
    generate: GenerateBatch,
    root: Path,
    controls: Sequence[Control] = (),
    folder: Path | None = None,
    seed: int = 0,
    sure: Confidences | None = None,
) -> VqaResult:
    """Ask every question, with its picture and with each control, and score the answers.

    Args:
        test: conversations whose last turn is the assistant's true answer.
        generate: conversations → the assistant's next turns.
        root: folder that image paths start from.
        controls: altered pictures to ask with as well.
        folder: where altered pictures are written; needed with controls.
        seed: of the controls and the bootstrap.
        sure: (conversations, answers) → confidence of each, where risk against coverage is wanted.

    Raises:
        MedVLMError: a conversation does not end with an answer, or there are none.
    """
    if not test:
        raise MedVLMError("there are no test questions to ask.")
    for row in test:
        if len(row.turns) < 2 or row.turns[-1].role != "assistant":
            raise MedVLMError(f"conversation {row.id} does not end with the assistant's answer.")
    prompts = [replace(row, turns=row.turns[:-1]) for row in test]
    answers = generate(prompts)
    others: dict[str, list[str]] = {}
    for control in controls:
        if folder is None:
            raise ValueError("controls need a folder for their pictures")
        others[control] = generate(with_control(prompts, root, control, folder, seed))
    return score_answers(test, answers, others, seed, sure(prompts, answers) if sure else None)


def without_experts(row: Conversation) -> Conversation:
    """The first question, its picture and the true answer, with no expert on offer."""
    first = next(index for index, turn in enumerate(row.turns) if turn.role == "user")
    return replace(row, turns=(row.turns[first], row.turns[-1]))


def score_answers(
    test: Sequence[Conversation],
    answers: Sequence[str],
    controls: Mapping[str, Sequence[str]] | None = None,
    seed: int = 0,
    confidence: Sequence[float] | None = None,
) -> VqaResult:
    """Score answers that are there already (a prediction file of any model), with their confidence if it is known."""
    controls = controls or {}
    outcomes = []
    for number, (row, answer) in enumerate(zip(test, answers, strict=True)):
        reference = row.turns[-1].text
        question = _question(row)
        marked = mark(answer, row.symbols, reference, question)
        said = {name: given[number] for name, given in controls.items()}
        outcomes.append(_outcome(row, question, answer, marked, said, reference))
    forced = any(turn.role == "expert" for row in test for turn in row.turns)
    base = sign("accuracy", VERSION, test, norm=NORM, loop="teacher_forced" if forced else "none")
    signatures = {"accuracy": base, "f1": base.named("token_f1"), "recall": base.named("token_recall")}
    for name in controls:
        signatures[name] = base.named("accuracy", picture=name)
    groups = tuple(_groups(test, outcomes, tuple(controls), seed))
    kept = None if confidence is None else selective(confidence, [row.correct for row in outcomes])
    return VqaResult(groups, signatures, tuple(outcomes), robustness(outcomes, groups_of(test), seed), kept)


def _question(row: Conversation) -> str:
    return next((turn.text for turn in reversed(row.turns) if turn.role == "user"), "")


def _outcome(
    row: Conversation, question: str, answer: str, marked: Marked, said: dict[str, str], reference: str
) -> VqaOutcome:
    return VqaOutcome(
        id=row.id,
        patient=row.patient,
        task=row.task,
        kind="" if marked.is_closed is None else "closed" if marked.is_closed else "open",
        question=question,
        image=row.images[0] if row.images else "",
        answer=answer,
        truth=str(row.symbols.get("answer") or reference),
        correct=marked.correct,
        f1=marked.f1,
        recall=marked.recall,
        controls=said,
        control_correct={name: mark(text, row.symbols, reference, question).correct for name, text in said.items()},
    )


# Labels of a data set that a table may be split by.
_SPLIT_BY = ("organ", "question_type", "modality", "dataset")
# A label with more values than this is no grouping.
MOST_VALUES = 30


def _groups(
    test: Sequence[Conversation], outcomes: Sequence[VqaOutcome], controls: Sequence[str], seed: int
) -> list[Group]:
    shown = [label for label in _SPLIT_BY if 1 < len(_values(test, label)) <= MOST_VALUES]
    tasks = len({out.task for out in outcomes}) > 1
    members: dict[str, list[VqaOutcome]] = {"all": []}
    for row, out in zip(test, outcomes, strict=True):
        names = ["all", out.kind, f"task {out.task}" if tasks else ""]
        names += [f"{label} {row.symbols[label]}" for label in shown if row.symbols.get(label)]
        for name in filter(None, names):
            members.setdefault(name, []).append(out)
    first = [name for name in ("all", "closed", "open") if name in members]
    ordered = [*first, *sorted(set(members) - set(first))]
    return [_group(name, members[name], controls, seed) for name in ordered]


def _values(test: Sequence[Conversation], label: str) -> set[str]:
    return {str(row.symbols[label]) for row in test if row.symbols.get(label)}


def _group(name: str, rows: Sequence[VqaOutcome], controls: Sequence[str], seed: int) -> Group:
    columns = [[float(row.correct) for row in rows], [row.f1 for row in rows], [row.recall for row in rows]]
    for control in controls:
        right = [float(row.control_correct[control]) for row in rows]
        changed = [float(row.controls[control] != row.answer) for row in rows]
        columns += [right, [own - other for own, other in zip(columns[0], right)], changed]
    found = mean_intervals(columns, [row.patient for row in rows], seed=seed)
    of_control = [found[first : first + 3] for first in range(3, len(found), 3)]
    alone, reliance, sensitivity = ({c: row[n] for c, row in zip(controls, of_control)} for n in range(3))
    return Group(name, len(rows), found[0], found[1], found[2], alone, reliance, sensitivity)
