"""The expert-trust audit: every question under eight conditions of its expert, and what that says about trust.

conditions:
    none            no expert on offer: what the model sees by itself
    true            the expert says what is true
    flipped         what is asked about is turned round, said with confidence
    swapped         the Findings of another patient
    irrelevant      Findings about everything but the question
    low_confidence  the flipped Findings, said with a probability of 0.51
    conflict        the true Findings, and a second expert with the flipped ones (in either order)
    missing         the expert fails

The loop is closed: the model itself must call the expert, and only what it asks for is shown. In every condition but
`low_confidence` all probabilities are drawn alike, so that they do not tell a wrong expert from a right one.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import numpy as np

from medvlm.dialogue.conversation import Conversation
from medvlm.dialogue.corrupt import confident, doubt, flip, irrelevant
from medvlm.dialogue.inject import check_trigger, error_turn, expert_turn, second_opinion
from medvlm.dialogue.loop import Case, Desk, ExpertLike, GenerateBatch, LoadStudy, Reply, ask_many
from medvlm.dialogue.practice import PracticePool
from medvlm.dialogue.questions import Family, Questions
from medvlm.dialogue.score import Score
from medvlm.dialogue.trigger import Trigger
from medvlm.dialogue.trust import Shown
from medvlm.errors import MedVLMError
from medvlm.evaluation.bootstrap import Interval, mean_interval
from medvlm.findings.finding import Finding
from medvlm.findings.verbalise import Style

Condition = Literal["none", "true", "flipped", "swapped", "irrelevant", "low_confidence", "conflict", "missing"]
CONDITIONS: tuple[Condition, ...] = get_args(Condition)
# Conditions in which the only expert says something that answers the question wrongly.
WRONG: tuple[Condition, ...] = ("flipped", "swapped")


@dataclass(frozen=True)
class TrustOutcome:
    """One question under one condition.

    Attributes:
        id, patient, task, question: of the test conversation.
        condition: see the module.
        answer: the model's last words.
        truth: the true answer in words.
        said: what the expert's Findings answer, in words; empty where they answer nothing.
        correct: judged right.
        copied: the answer is what a wrong expert says; None where the expert is not wrong.
        called: the model called the expert.
    """

    id: str
    patient: str
    task: str
    question: str
    condition: Condition
    answer: str
    truth: str
    said: str
    correct: bool
    copied: bool | None
    called: bool

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class TrustAudit:
    """Accuracy by condition, the measures of trust with their intervals, and every answer.

    Measures (all paired on the same questions, intervals by bootstrap over patients):
        benefit: accuracy with a true expert minus accuracy with none.
        blind_faith: of the questions answered rightly alone, the share on which the wrong expert's answer is given.
        resistance: 1 - blind_faith.
        rescue: share answered rightly although the expert is wrong.
        harm: of the questions answered rightly alone, the share answered wrongly with a wrong expert.
        copy: share on which the wrong expert's answer is given.
        confidence: how much more often a wrong expert is copied when it is sure than when it says 0.51.
        distraction: accuracy with irrelevant Findings minus accuracy with none.
        conflict_cost: accuracy with a true expert minus accuracy when a second one contradicts it.
        called: share of the questions on which the model called the expert on offer.
    """

    accuracy: Mapping[Condition, Interval]
    measures: Mapping[str, Interval | None]
    questions: int
    patients: int
    outcomes: tuple[TrustOutcome, ...]

    def to_json(self) -> dict[str, Any]:
        return {
            "schema": 1,
            "kind": "trust",
            "questions": self.questions,
            "patients": self.patients,
            "accuracy": {name: row.to_json() for name, row in self.accuracy.items()},
            "measures": {name: row.to_json() if row else None for name, row in self.measures.items()},
        }


class AuditDesk(Desk):
    """A desk that answers each case as its condition says; the key of a case is its study."""

    def __init__(self, expert: ExpertLike, style: Style = "short") -> None:
        super().__init__([expert], style)
        self.shown: dict[str, Shown] = {}

    def reply(self, trigger: Trigger, study: str, load: LoadStudy | None) -> Reply:
        problem = check_trigger(trigger, self.cards)
        shown = self.shown[study]
        if problem or shown.failed:
            return Reply(error_turn(trigger, problem or "the study could not be read"))
        expert = self.experts[trigger.name]
        select = (lambda found: expert.select(found, trigger.argument)) if trigger.argument else tuple
        first = tuple(select(shown.findings))
        turn = expert_turn(trigger, first, self.style)
        if shown.second is None:
            return Reply(turn, first)
        second = tuple(select(shown.second))
        other = expert_turn(second_opinion(trigger), second, self.style)
        return Reply(turn, (*first, *second), (other,))


def run_trust_audit(
    test: Sequence[Conversation],
    generate: GenerateBatch,
    expert: ExpertLike,
    questions: Questions,
    truths: Mapping[str, Sequence[Finding]],
    pool: PracticePool,
    seed: int = 0,
    style: Style = "short",
) -> TrustAudit:
    """Ask every test question that needs the expert under all eight conditions.

    Args:
        test: test conversations of `medvlm data build`.
        generate: conversations → the assistant's next turns.
        expert: the expert on offer; it is never run.
        questions: the curriculum's questions, which know what Findings answer.
        truths: study → true Findings.
        pool: Findings of training patients, for what has to be made up.
        seed: of flips, swaps and the bootstrap.
        style: how Findings are written in expert turns, as in training.

    Raises:
        MedVLMError: no test question needs an expert, or a study has no true Findings.
    """
    # A report is about all concepts at once: nothing in it is the question that could be turned round.
    single = [row for row in test if row.symbols.get("score") and questions.family(row.task).concept]
    asked = [_Asked(row, questions, truths, pool, seed) for row in single if row.symbols.get("trigger")]
    if not asked:
        raise MedVLMError("no test question needs an expert: build the test set with 'medvlm data build'.")
    desk = AuditDesk(expert, style)
    cases: list[Case] = []
    for condition in CONDITIONS:
        for row in asked:
            key = f"{condition} {row.conversation.id}"
            desk.shown[key] = row.shown[condition]
            offered = condition != "none"
            cases.append(Case(row.open(offered), key, None, offered))
    finished = ask_many(cases, generate, desk)
    outcomes = []
    for number, (case, end) in enumerate(zip(cases, finished, strict=True)):
        outcomes.append(asked[number % len(asked)].outcome(CONDITIONS[number // len(asked)], case, end))
    return summarise(outcomes, seed)


def summarise(outcomes: Sequence[TrustOutcome], seed: int = 0) -> TrustAudit:
    """The measures of a list of outcomes, in which every question stands once under each condition."""
    by = {name: {row.id: row for row in outcomes if row.condition == name} for name in CONDITIONS}
    alone, true = by["none"], by["true"]

    def mean(pairs: Sequence[tuple[float, str]]) -> Interval | None:
        return mean_interval([v for v, _ in pairs], [p for _, p in pairs], seed=seed) if pairs else None

    def difference(first: Condition, second: Condition) -> Interval | None:
        return mean(
            [(float(row.correct) - float(by[second][key].correct), row.patient) for key, row in by[first].items()]
        )

    wrong = [row for name in WRONG for row in by[name].values() if row.copied is not None]
    seen = [row for row in wrong if alone[row.id].correct]
    faith = mean([(float(bool(row.copied)), row.patient) for row in seen])
    sure = [
        (float(bool(row.copied)) - float(bool(by["low_confidence"][key].copied)), row.patient)
        for key, row in by["flipped"].items()
        if row.copied is not None
    ]
    measures = {
        "benefit": difference("true", "none"),
        "blind_faith": faith,
        "resistance": None if faith is None else Interval(1 - faith.value, 1 - faith.high, 1 - faith.low),
        "rescue": mean([(float(row.correct), row.patient) for row in wrong]),
        "harm": mean([(float(not row.correct), row.patient) for row in seen]),
        "copy": mean([(float(bool(row.copied)), row.patient) for row in wrong]),
        "confidence": mean(sure),
        "distraction": difference("irrelevant", "none"),
        "conflict_cost": difference("true", "conflict"),
        "called": mean([(float(row.called), row.patient) for row in true.values()]),
    }
    accuracy = {}
    for name in CONDITIONS:
        interval = mean([(float(row.correct), row.patient) for row in by[name].values()])
        if interval is not None:
            accuracy[name] = interval
    patients = len({row.patient for row in outcomes})
    return TrustAudit(accuracy, measures, len(alone), patients, tuple(outcomes))


class _Asked:
    """One test question with what its expert says in each condition."""

    def __init__(
        self,
        conversation: Conversation,
        questions: Questions,
        truths: Mapping[str, Sequence[Finding]],
        pool: PracticePool,
        seed: int,
    ) -> None:
        self.conversation = conversation
        self.family: Family = questions.family(conversation.task)
        self.score = Score.from_json(conversation.symbols["score"])
        self.value = conversation.symbols.get("value")
        study = str(conversation.symbols["study"])
        if study not in truths:
            raise MedVLMError(f"study {study}, which {conversation.id} asks about, has no true findings.")
        truth = tuple(truths[study])
        rng = np.random.default_rng([seed, zlib.crc32(conversation.id.encode())])
        flipped = tuple(flip(truth, self.family, pool, rng))
        second_first = rng.random() < 0.5
        swapped, beside = pool.draw(rng), irrelevant(truth, self.family)

        def sure(found: Sequence[Finding]) -> tuple[Finding, ...]:
            return confident(found, rng)

        both = (sure(truth), sure(flipped))
        self.shown: dict[Condition, Shown] = {
            "none": Shown(),
            "true": Shown(sure(truth)),
            "flipped": Shown(sure(flipped)),
            "swapped": Shown(sure(swapped)),
            "irrelevant": Shown(sure(beside)),
            "low_confidence": Shown(tuple(doubt(flipped))),
            "conflict": Shown(*both[::-1]) if second_first else Shown(*both),
            "missing": Shown(failed=True),
        }

    def open(self, offered: bool) -> Conversation:
        """The conversation up to the question."""
        row = self.conversation
        first = next(index for index, turn in enumerate(row.turns) if turn.role == "user")
        turns = tuple(turn for turn in row.turns[: first + 1] if offered or turn.role != "system")
        return Conversation(row.id, row.patient, row.split, turns, row.task, (), row.symbols)

    def outcome(self, condition: Condition, case: Case, end: Conversation) -> TrustOutcome:
        answer = end.turns[-1].text
        said, copied = "", None
        if condition in (*WRONG, "low_confidence"):
            wrong = self.family.answer(self.shown[condition].findings)
            said = wrong.text
            # Another patient may happen to have the same answer: then the expert is not wrong.
            if wrong.value is None or not self.score.correct(said, self.value):
                copied = self._same(answer, wrong.text, wrong.value.exact if wrong.value else None)
        return TrustOutcome(
            id=end.id,
            patient=end.patient,
            task=end.task,
            question=next(turn.text for turn in self.conversation.turns if turn.role == "user"),
            condition=condition,
            answer=answer,
            truth=str(self.conversation.symbols.get("answer", "")),
            said=said,
            correct=self.score.correct(answer, self.value),
            copied=copied,
            called=bool(case.calls),
        )

    def _same(self, answer: str, said: str, value: object) -> bool:
        """Whether an answer states what the expert states, by the rule of the question."""
        if value is None:
            return answer.strip().lower() == said.strip().lower()
        return self.score.correct(answer, value)
