"""The same question in several wordings: how often is the answer right, and how often right however it is put?

DARE (2024) found models a third worse in their worst wording. Wordings come from the curriculum (`rephrase`), from the
data set (linked questions of VQA-RAD) or from the order of options (CircularEval); what makes a group is
`symbols["group"]`.
"""

from __future__ import annotations

import zlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from medvlm.dialogue.conversation import Conversation
from medvlm.dialogue.questions import Questions
from medvlm.evaluation.bootstrap import Interval, mean_intervals

GROUP = "group"


@dataclass(frozen=True)
class Robustness:
    """Questions asked in several wordings.

    Attributes:
        groups: questions with at least two wordings.
        wordings: wordings of each, on average.
        mean: accuracy, every question counted once with the mean of its wordings.
        worst: share of questions answered rightly in every wording.
    """

    groups: int
    wordings: float
    mean: Interval
    worst: Interval

    def to_json(self) -> dict[str, Any]:
        return {
            "questions": self.groups,
            "wordings": round(self.wordings, 4),
            "mean": self.mean.to_json(),
            "worst": self.worst.to_json(),
        }


def rephrase(test: Sequence[Conversation], questions: Questions, wordings: int, seed: int = 0) -> list[Conversation]:
    """Every question in up to `wordings` held-out phrasings of its family, its own one first.

    Args:
        test: test conversations of `medvlm data build`.
        questions: the curriculum's questions, or those of `rephrased`.
        wordings: most phrasings of one question.
        seed: of the choice.
    """
    asked = []
    for row in test:
        first = next(index for index, turn in enumerate(row.turns) if turn.role == "user")
        own = row.turns[first].text
        others = [text for text in questions.family(row.task).held_out if text != own]
        order = np.random.default_rng([seed, zlib.crc32(row.id.encode())]).permutation(len(others))
        chosen = [own, *(others[index] for index in order[: wordings - 1])]
        for number, text in enumerate(chosen):
            turns = [replace(turn, text=text) if index == first else turn for index, turn in enumerate(row.turns)]
            symbols = {**row.symbols, GROUP: row.id}
            asked.append(replace(row, id=f"{row.id}~{number}", turns=tuple(turns), symbols=symbols))
    return asked


def groups_of(test: Iterable[Conversation]) -> dict[str, str]:
    """Question id → group, of the questions that belong to one."""
    return {row.id: str(row.symbols[GROUP]) for row in test if row.symbols.get(GROUP)}


def robustness(rows: Iterable[Any], groups: Mapping[str, str], seed: int = 0) -> Robustness | None:
    """Mean and worst case over the groups with at least two wordings; None where there are none.

    Args:
        rows: outcomes with `id`, `patient` and `correct`.
        groups: question id → group.
        seed: of the bootstrap over patients.
    """
    members: dict[str, list[Any]] = defaultdict(list)
    for row in rows:
        if row.id in groups and row.correct is not None:
            members[groups[row.id]].append(row)
    several = [found for found in members.values() if len(found) > 1]
    if not several:
        return None
    right = [[float(row.correct) for row in found] for found in several]
    columns = [[sum(row) / len(row) for row in right], [min(row) for row in right]]
    mean, worst = mean_intervals(columns, [found[0].patient for found in several], seed=seed)
    return Robustness(len(several), sum(map(len, right)) / len(right), mean, worst)
