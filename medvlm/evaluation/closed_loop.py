"""The closed loop, measured: the same held-out questions with and without experts, on patients never trained on.

With experts the model itself must write the trigger; nothing is forced. Without, the experts are not on offer and the
model answers from the picture. An answer is judged by the rule that its question carries (`dialogue/score.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any, Literal, get_args

from medvlm.dialogue.conversation import Conversation
from medvlm.dialogue.loop import Case, Desk, GenerateBatch, ask_many
from medvlm.dialogue.score import VERSION as RULES
from medvlm.dialogue.score import Score
from medvlm.dialogue.trigger import parse_triggers
from medvlm.errors import MedVLMError
from medvlm.evaluation.bootstrap import Interval, mean_interval
from medvlm.evaluation.rephrase import Robustness, groups_of, robustness
from medvlm.evaluation.signature import sign
from medvlm.imaging.study import Study

Arm = Literal["without", "with"]


@dataclass(frozen=True)
class Outcome:
    """One question in one arm.

    Attributes:
        id, patient, task, question: from the test conversation.
        arm: `with` or `without` experts.
        answer: the model's last words.
        truth: the true answer in words.
        correct: judged right, or None where the question is not judged (a report).
        triggers: what the model called, in order.
        expected: the trigger the question needs, or "".
        reference: judged right if answered straight from the expert's findings; the ceiling of the `with` arm.
        calls: how many calls were made until the answer.
    """

    id: str
    patient: str
    task: str
    question: str
    arm: Arm
    answer: str
    truth: str
    correct: bool | None
    triggers: tuple[str, ...]
    expected: str
    reference: bool | None
    calls: int = 0

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class TaskRow:
    """One line of the table: accuracies of both arms and the paired gain, with intervals."""

    task: str
    questions: int
    without: Interval
    with_expert: Interval
    gain: Interval
    ceiling: float

    def to_json(self) -> dict[str, Any]:
        return {
            "task": self.task,
            "questions": self.questions,
            "without_expert": self.without.to_json(),
            "with_expert": self.with_expert.to_json(),
            "gain": self.gain.to_json(),
            "ceiling": round(self.ceiling, 4),
        }


@dataclass(frozen=True)
class TriggerRates:
    """How often the model calls an expert.

    Attributes:
        needed: share of questions that need an expert on which one was called.
        not_needed: share of the others on which one was called.
        right: share of questions that need an expert on which exactly the right call was made first.
        precision: share of questions on which one was called that need one.
        wrong_argument: share of questions that need an expert, and on which one was called, whose first call was
            another than the right one.
        calls: calls a question, over all questions with experts on offer.
    """

    needed: Interval | None
    not_needed: Interval | None
    right: Interval | None
    precision: Interval | None = None
    wrong_argument: Interval | None = None
    calls: float = 0.0

    @property
    def rates(self) -> dict[str, Interval | None]:
        """The shares by name."""
        names = ("needed", "not_needed", "right", "precision", "wrong_argument")
        return {name: getattr(self, name) for name in names}

    def to_json(self) -> dict[str, Any]:
        rows = {name: row.to_json() if row else None for name, row in self.rates.items()}
        return {**rows, "calls": round(self.calls, 4)}


@dataclass(frozen=True)
class ClosedLoop:
    """All that was measured; `conversations` are the exchanges of the `with` arm.

    `expert_seconds` is the time in which experts ran, all questions together (each study is read once). `rephrased` is
    arm → mean and worst case, where questions were asked in several wordings.
    """

    tasks: tuple[TaskRow, ...]
    overall: TaskRow | None
    trigger: TriggerRates
    outcomes: tuple[Outcome, ...]
    conversations: tuple[Conversation, ...]
    expert_seconds: float = 0.0
    rephrased: Mapping[str, Robustness | None] = field(default_factory=dict)
    signatures: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The content of `results.json`."""
        return {
            "schema": 1,
            "kind": "closed_loop",
            "patients": len({outcome.patient for outcome in self.outcomes}),
            "trigger": self.trigger.to_json(),
            "expert_seconds": round(self.expert_seconds, 2),
            "overall": self.overall.to_json() if self.overall else None,
            "tasks": [row.to_json() for row in self.tasks],
            "rephrased": {arm: row.to_json() for arm, row in self.rephrased.items() if row},
            "signatures": dict(self.signatures),
        }


def run_closed_loop(
    test: Sequence[Conversation],
    generate: GenerateBatch,
    desk: Desk,
    load: Callable[[str], Study] | None = None,
    max_calls: int = 3,
    seed: int = 0,
) -> ClosedLoop:
    """Ask every test question in both arms and score the answers.

    Args:
        test: test conversations of `medvlm data build`; only their first question is used.
        generate: conversations → the assistant's next turns.
        desk: answers the triggers; it may already know the findings of `medvlm annotate`.
        load: study id → Study, for what the desk does not know.
        max_calls: most expert calls a question.
        seed: of the bootstrap.

    Raises:
        MedVLMError: a conversation is not a test question (names it).
    """
    asked = [_Question(conversation) for conversation in test]
    if not asked:
        raise MedVLMError("there are no test questions to run the closed loop on.")
    # Both arms in one go, so that they share the batches of the first round.
    cases = [
        Case(question.open(offered), question.study, partial(load, question.study) if load else None, offered)
        for offered in (True, False)
        for question in asked
    ]
    finished = ask_many(cases, generate, desk, max_calls)
    count = len(asked)
    outcomes = [q.outcome("with", case, end) for q, case, end in zip(asked, cases[:count], finished[:count])]
    outcomes += [q.outcome("without", case, end) for q, case, end in zip(asked, cases[count:], finished[count:])]
    rows = _task_rows(outcomes, seed)
    expected = {outcome.task for outcome in outcomes if outcome.expected}
    needing = [outcome for outcome in outcomes if outcome.task in expected]
    overall = _row("all that need an expert", needing, seed) if rows else None
    groups = groups_of(test)
    rephrased = {arm: robustness([row for row in needing if row.arm == arm], groups, seed) for arm in get_args(Arm)}
    experts = "+".join(sorted(expert.card.name for expert in desk.experts.values()))
    signed = sign("accuracy", RULES, test, loop="closed", experts=experts, calls=str(max_calls))
    return ClosedLoop(
        tuple(rows),
        overall,
        _trigger_rates(outcomes, seed),
        tuple(outcomes),
        tuple(finished[:count]),
        desk.seconds,
        rephrased,
        {"accuracy": str(signed)},
    )


class _Question:
    """A test conversation taken apart."""

    def __init__(self, conversation: Conversation) -> None:
        symbols = conversation.symbols
        users = [index for index, turn in enumerate(conversation.turns) if turn.role == "user"]
        if not users or "study" not in symbols or "needs_expert" not in symbols:
            raise MedVLMError(f"conversation {conversation.id} is not a test question: build one with 'medvlm data'.")
        self.conversation = conversation
        self.start = conversation.turns[: users[0] + 1]
        self.study = str(symbols["study"])
        self.expected = str(symbols.get("trigger") or "")
        self.score = Score.from_json(symbols["score"]) if symbols.get("score") else None

    def open(self, with_expert: bool) -> Conversation:
        """The conversation up to the question; the system turn that shows the experts is left out without them."""
        turns = [turn for turn in self.start if with_expert or turn.role != "system"]
        c = self.conversation
        return Conversation(c.id, c.patient, c.split, tuple(turns), c.task, (), c.symbols)

    def correct(self, answer: str) -> bool | None:
        return None if self.score is None else self.score.correct(answer, self.conversation.symbols.get("value"))

    def outcome(self, arm: Arm, case: Case, end: Conversation) -> Outcome:
        first = next(turn.text for turn in end.turns if turn.role == "assistant")
        calls = [f"<{trigger.name}({trigger.argument})>" for trigger in parse_triggers(first)]
        answer = end.turns[-1].text
        return Outcome(
            id=end.id,
            patient=end.patient,
            task=end.task,
            question=self.start[-1].text,
            arm=arm,
            answer=answer,
            truth=str(self.conversation.symbols.get("answer", "")),
            correct=self.correct(answer),
            triggers=tuple(calls),
            expected=self.expected,
            reference=self.correct(self.conversation.turns[-1].text),
            calls=len(case.calls),
        )


def _task_rows(outcomes: Sequence[Outcome], seed: int) -> list[TaskRow]:
    tasks = dict.fromkeys(outcome.task for outcome in outcomes if outcome.correct is not None)
    return [_row(task, [o for o in outcomes if o.task == task], seed) for task in tasks]


def _row(name: str, outcomes: Sequence[Outcome], seed: int) -> TaskRow:
    """Both arms over the same questions, in the same order."""
    judged = [outcome for outcome in outcomes if outcome.correct is not None]
    with_arm = [outcome for outcome in judged if outcome.arm == "with"]
    without_arm = [outcome for outcome in judged if outcome.arm == "without"]
    patients = [outcome.patient for outcome in with_arm]
    right = [float(bool(outcome.correct)) for outcome in with_arm]
    alone = [float(bool(outcome.correct)) for outcome in without_arm]
    return TaskRow(
        task=name,
        questions=len(with_arm),
        without=mean_interval(alone, patients, seed=seed),
        with_expert=mean_interval(right, patients, seed=seed),
        gain=mean_interval([a - b for a, b in zip(right, alone, strict=True)], patients, seed=seed),
        ceiling=sum(bool(outcome.reference) for outcome in with_arm) / len(with_arm),
    )


def _trigger_rates(outcomes: Sequence[Outcome], seed: int) -> TriggerRates:
    offered = [outcome for outcome in outcomes if outcome.arm == "with"]
    needing = [outcome for outcome in offered if outcome.expected]
    others = [outcome for outcome in offered if not outcome.expected]

    def rate(rows: Sequence[Outcome], hit: Callable[[Outcome], bool]) -> Interval | None:
        values = [float(hit(row)) for row in rows]
        return mean_interval(values, [row.patient for row in rows], seed=seed) if rows else None

    return TriggerRates(
        needed=rate(needing, lambda row: bool(row.triggers)),
        not_needed=rate(others, lambda row: bool(row.triggers)),
        right=rate(needing, lambda row: row.triggers == (row.expected,)),
        precision=rate([row for row in offered if row.triggers], lambda row: bool(row.expected)),
        wrong_argument=rate([row for row in needing if row.triggers], lambda row: row.triggers[0] != row.expected),
        calls=sum(row.calls for row in offered) / len(offered),
    )
