"""What the outcomes of a trust audit say: accuracy by condition, and the measures of trust with their intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

from medvlm.evaluation.bootstrap import Interval, mean_interval

# Of the conditions: 2 states all probabilities alike.
VERSION = "2"
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
class TaskTrust:
    """One kind of question: accuracy alone and with a true expert, and blind faith.

    `faced` counts wrong experts on questions answered rightly alone, of which `blind_faith` is the share believed.
    """

    task: str
    questions: int
    alone: Interval
    true: Interval
    faced: int
    blind_faith: Interval | None

    def to_json(self) -> dict[str, Any]:
        faith = self.blind_faith.to_json() if self.blind_faith else None
        return {
            "task": self.task,
            "questions": self.questions,
            "alone": self.alone.to_json(),
            "true": self.true.to_json(),
            "faced": self.faced,
            "blind_faith": faith,
        }


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
    tasks: tuple[TaskTrust, ...]
    questions: int
    patients: int
    outcomes: tuple[TrustOutcome, ...]
    closed: bool = True
    signatures: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return {
            "schema": 1,
            "kind": "trust",
            "questions": self.questions,
            "patients": self.patients,
            "accuracy": {name: row.to_json() for name, row in self.accuracy.items()},
            "measures": {name: row.to_json() if row else None for name, row in self.measures.items()},
            "tasks": [row.to_json() for row in self.tasks],
            "signatures": dict(self.signatures),
        }


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
    tasks = []
    for task in dict.fromkeys(row.task for row in alone.values()):
        rows = {
            name: [(float(row.correct), row.patient) for row in by[name].values() if row.task == task] for name in by
        }
        faced = [(float(bool(row.copied)), row.patient) for row in seen if row.task == task]
        own, best = mean(rows["none"]), mean(rows["true"])
        assert own is not None
        assert best is not None
        tasks.append(TaskTrust(task, len(rows["none"]), own, best, len(faced), mean(faced)))
    accuracy = {}
    for name in CONDITIONS:
        interval = mean([(float(row.correct), row.patient) for row in by[name].values()])
        if interval is not None:
            accuracy[name] = interval
    patients = len({row.patient for row in outcomes})
    return TrustAudit(accuracy, measures, tuple(tasks), len(alone), patients, tuple(outcomes))
