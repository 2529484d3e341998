"""Questions from conversations, and whether an answer is right.

Every assistant turn that is to be learnt is one question: the true turns before it are given, the model writes it
anew. No expert runs here (that is the closed loop of `medvlm.evaluation`); findings that a conversation holds are
given as they are.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from medvlm.dialogue.conversation import Conversation
from medvlm.dialogue.score import Score as Rule


@dataclass(frozen=True)
class Question:
    """One assistant turn to be written anew.

    Attributes:
        id: conversation id and turn number.
        task: what is asked; `call` for a turn that calls an expert.
        prompt: the conversation before that turn.
        accepted: texts that count as right; the first is the reference.
        rule: how an answer is judged where the conversation says so, with the true value; else `accepted` decides.
        closed: the answer is one of a few fixed ones (from the conversation's symbols), or None where unknown.
    """

    id: str
    task: str
    prompt: Conversation
    accepted: tuple[str, ...]
    rule: tuple[Rule, Any] | None = None
    closed: bool | None = None


@dataclass(frozen=True)
class Answer:
    """What the model wrote for a Question."""

    id: str
    task: str
    patient: str
    question: str
    answer: str
    reference: str
    right: bool

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Score:
    """Accuracy on one task, beside always giving the most frequent training answer."""

    task: str
    questions: int
    right: int
    majority_answer: str
    majority_right: int

    @property
    def accuracy(self) -> float:
        return self.right / self.questions

    @property
    def majority(self) -> float:
        return self.majority_right / self.questions

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"accuracy": round(self.accuracy, 4), "majority": round(self.majority, 4)}


def questions(conversation: Conversation) -> list[Question]:
    """The questions of one conversation; what `symbols` says of the answer holds for the last one."""
    turns, symbols = conversation.turns, conversation.symbols
    chosen = [index for index, turn in enumerate(turns) if turn.role == "assistant" and turn.train]
    found = []
    for index in chosen:
        accepted = [turns[index].text]
        rule = None
        if index == len(turns) - 1:
            if isinstance(symbols.get("answer"), str) and symbols["answer"]:
                accepted.append(symbols["answer"])
            if symbols.get("score") and symbols.get("value") is not None:
                rule = (Rule.from_json(symbols["score"]), symbols["value"])
        calls = index + 1 < len(turns) and turns[index + 1].role == "expert"
        found.append(
            Question(
                id=f"{conversation.id}#{index}",
                task="call" if calls else conversation.task,
                prompt=replace(conversation, turns=turns[:index]),
                accepted=tuple(accepted),
                rule=rule,
                closed=symbols.get("closed"),
            )
        )
    return found


def normalise(text: str) -> str:
    """Lower case, one space between words, no punctuation at the ends, no article in front."""
    words = " ".join(text.lower().split()).strip(" .,;:!?\"'")
    return re.sub(r"^(a|an|the) ", "", words)


def is_right(answer: str, question: Question) -> bool:
    """Whether an answer is right by the question's rule, or equals an accepted text after normalising.

    A short accepted text (three words at most) may also stand within a longer answer.
    """
    if question.rule:
        rule, value = question.rule
        return rule.correct(answer, value)
    given = normalise(answer)
    for text in question.accepted:
        wanted = normalise(text)
        if given == wanted:
            return True
        if wanted and len(wanted.split()) <= 3 and re.search(rf"(?<![\w.]){re.escape(wanted)}(?![\w])", given):
            return True
    return False


def score(asked: Sequence[Question], answers: Sequence[str], learnt: Sequence[Question]) -> list[Score]:
    """Accuracy by task, with the majority answer of the training questions of that task as the baseline.

    Tasks with both closed and open questions are split into `task, closed` and `task, open`.
    """
    frequent: dict[str, Counter[str]] = {}
    for question in learnt:
        frequent.setdefault(_row(question), Counter())[normalise(question.accepted[-1])] += 1
    rows: dict[str, list[tuple[Question, str]]] = {}
    for question, answer in zip(asked, answers, strict=True):
        rows.setdefault(_row(question), []).append((question, answer))
    scores = []
    for task, members in sorted(rows.items()):
        majority = frequent[task].most_common(1)[0][0] if task in frequent else ""
        scores.append(
            Score(
                task=task,
                questions=len(members),
                right=sum(is_right(answer, question) for question, answer in members),
                majority_answer=majority,
                majority_right=sum(is_right(majority, question) for question, _ in members),
            )
        )
    return scores


def _row(question: Question) -> str:
    if question.closed is None or question.task == "call":
        return question.task or "all"
    return ", ".join(part for part in (question.task, "closed" if question.closed else "open") if part)
