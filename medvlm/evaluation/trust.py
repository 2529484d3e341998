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
from dataclasses import replace

import numpy as np

from medvlm.dialogue.conversation import Conversation, Turn
from medvlm.dialogue.corrupt import confident, doubt, flip, irrelevant
from medvlm.dialogue.inject import check_trigger, error_turn, expert_turn, second_opinion
from medvlm.dialogue.loop import Case, Desk, ExpertLike, GenerateBatch, LoadStudy, Reply, ask_many
from medvlm.dialogue.practice import PracticePool
from medvlm.dialogue.questions import Family, Questions
from medvlm.dialogue.score import VERSION as RULES
from medvlm.dialogue.score import Score
from medvlm.dialogue.trigger import Trigger, format_trigger, parse_triggers
from medvlm.dialogue.trust import Shown
from medvlm.errors import MedVLMError
from medvlm.evaluation.signature import sign
from medvlm.evaluation.trust_measures import (
    CONDITIONS,
    VERSION,
    WRONG,
    Condition,
    TrustAudit,
    TrustOutcome,
    summarise,
)
from medvlm.findings.finding import Finding
from medvlm.findings.verbalise import Style


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
    closed: bool = True,
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
        closed: the model itself must call the expert; False writes the call for it, for models that were never taught
            to call one.

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
            case = Case(row.open(offered), key, None, offered)
            cases.append(case if closed or not offered else _called(case, row.trigger, desk))
    finished = ask_many(cases, generate, desk)
    outcomes = []
    for number, (case, end) in enumerate(zip(cases, finished, strict=True)):
        outcomes.append(asked[number % len(asked)].outcome(CONDITIONS[number // len(asked)], case, end))
    tests = [row.conversation for row in asked]
    norm = {"norm": RULES, "loop": "closed" if closed else "teacher_forced", "audit": VERSION, "style": style}
    signed = {"accuracy": str(sign("trust_accuracy", VERSION, tests, seed=str(seed), **norm))}
    return replace(summarise(outcomes, seed), closed=closed, signatures=signed)


def _called(case: Case, trigger: Trigger, desk: AuditDesk) -> Case:
    """The case after a call that was written for the model; what it calls later stays plain text."""
    reply = desk.reply(trigger, case.study, None)
    turns = (Turn("assistant", format_trigger(trigger)), reply.turn, *reply.more)
    return Case(case.start.add(*turns), case.study, None, False, [trigger])


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
        (self.trigger,) = parse_triggers(str(conversation.symbols["trigger"]))
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
