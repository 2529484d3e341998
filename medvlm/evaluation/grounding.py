"""Does the answer follow the picture? The same questions before and after a lesion is taken out (BEAF, ECCV 2024).

indices:
    true understanding (TU)   right before and after, about what was taken out
    ignorance (IG)            wrong before and after
    stubbornness (SB+, SB-)   yes before and after, no before and after
    indecision (ID)           answers about untouched things that change all the same
    F1                        harmonic mean of TU and 1 - ID
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from medvlm.dialogue.score import Score
from medvlm.evaluation.bootstrap import Interval, mean_interval, resampled

VERSION = "1"
_YES_NO = Score("yes_no")


@dataclass(frozen=True)
class EditOutcome:
    """One yes-no question before and after an edit.

    Attributes:
        id, patient, task, question: from the test conversation.
        edit: see `medvlm.evaluation.edits`.
        touched: the question is about what was edited.
        before, after: the model's words.
        truth_before, truth_after: what is true.
    """

    id: str
    patient: str
    task: str
    question: str
    edit: str
    touched: bool
    before: str
    after: str
    truth_before: bool
    truth_after: bool

    @property
    def right(self) -> tuple[bool, bool]:
        """Right before, right after."""
        return _YES_NO.correct(self.before, self.truth_before), _YES_NO.correct(self.after, self.truth_after)

    @property
    def changed(self) -> bool:
        """The answer, not only its words, is another one."""
        return bool(_YES_NO.read(self.before) != _YES_NO.read(self.after))

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "correct": self.right[1]}


def indices(outcomes: Sequence[EditOutcome], seed: int = 0) -> dict[str, Interval | None]:
    """The indices of the module, each with its interval over patients; None where no question counts for it."""
    touched = [row for row in outcomes if row.touched]
    others = [row for row in outcomes if not row.touched]

    def mean(rows: Sequence[EditOutcome], values: Sequence[bool]) -> Interval | None:
        if not rows:
            return None
        return mean_interval([float(value) for value in values], [row.patient for row in rows], seed=seed)

    def both(answer: bool) -> list[bool]:
        return [_YES_NO.read(row.before) is answer and _YES_NO.read(row.after) is answer for row in touched]

    return {
        "true_understanding": mean(touched, [all(row.right) for row in touched]),
        "ignorance": mean(touched, [not any(row.right) for row in touched]),
        "stubborn_yes": mean(touched, both(True)),
        "stubborn_no": mean(touched, both(False)),
        "indecision": mean(others, [row.changed for row in others]),
        "f1": _f1(touched, others, seed),
    }


def _f1(touched: Sequence[EditOutcome], others: Sequence[EditOutcome], seed: int) -> Interval | None:
    """Of true understanding and 1 - indecision, over the same draws of patients."""
    if not touched or not others:
        return None
    patients = sorted({row.patient for row in (*touched, *others)})
    sums = np.zeros((len(patients), 4))
    for row in touched:
        sums[patients.index(row.patient), :2] += (all(row.right), 1)
    for row in others:
        sums[patients.index(row.patient), 2:] += (not row.changed, 1)

    def harmonic(total: np.ndarray) -> np.ndarray:
        understood, steady = total[:, 0] / np.maximum(total[:, 1], 1), total[:, 2] / np.maximum(total[:, 3], 1)
        return (2 * understood * steady / np.maximum(understood + steady, 1e-12))[:, None]

    return resampled(sums, harmonic, seed=seed)[0]
