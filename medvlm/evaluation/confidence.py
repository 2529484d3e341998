"""How sure a model is of what it said, and what that is worth: answers given only where it is sure enough.

The confidence of an answer is the geometric mean of the probabilities of its tokens, as the model itself gives them
after the question. It needs no second model and no sampling; whether it says anything is what the risk-coverage curve
shows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from medvlm.dialogue.conversation import Conversation, Turn
from medvlm.evaluation.abstention import RiskCoverage, risk_coverage

if TYPE_CHECKING:
    from medvlm.models.generate import Generator

COVERAGES = (1.0, 0.8, 0.6, 0.4, 0.2)


@dataclass(frozen=True)
class Selective:
    """Accuracy when only the surest answers are given.

    Attributes:
        curve: risk against coverage.
        accuracy: coverage → accuracy of the answers given.
    """

    curve: RiskCoverage
    accuracy: Mapping[float, float]

    def to_json(self) -> dict[str, Any]:
        return {
            "aurc": round(self.curve.area, 4),
            "aurc_best": round(self.curve.best_area, 4),
            "aurc_random": round(float(self.curve.risk[-1]), 4),
            "accuracy": {f"{coverage:g}": round(value, 4) for coverage, value in self.accuracy.items()},
        }


def selective(confidence: Sequence[float], correct: Sequence[bool]) -> Selective:
    """Selective accuracy of answers with a confidence each."""
    curve = risk_coverage(confidence, correct)
    return Selective(curve, {coverage: curve.selective_accuracy(coverage) for coverage in COVERAGES})


def answer_confidences(generate: Generator, asked: Sequence[Conversation], answers: Sequence[str]) -> list[float]:
    """The confidence of each answer, 0 to 1; an empty answer has none (0).

    Args:
        generate: the model that gave the answers.
        asked: the conversations up to the question.
        answers: what it said to each.
    """
    import torch

    from medvlm.training.collate import TrainingCollator
    from medvlm.training.logprobs import sums_by_row, token_logprobs

    collator, model = TrainingCollator(generate.pad), generate.loaded.model
    found = [0.0] * len(answers)
    spoken = [number for number, answer in enumerate(answers) if answer.strip()]
    was_training = model.training
    model.eval()
    with torch.no_grad():
        for start in range(0, len(spoken), generate.batch_size):
            numbers = spoken[start : start + generate.batch_size]
            rows = [generate.encoder.encode(_answered(asked[number], answers[number])) for number in numbers]
            batch = {name: value.to(model.device) for name, value in collator(rows).items()}
            floats = {name: value.to(model.dtype) for name, value in batch.items() if value.is_floating_point()}
            said = token_logprobs(model, batch | floats)
            ones = torch.ones_like(said.logprobs)
            means = sums_by_row(said.logprobs, said.rows, len(rows)) / sums_by_row(ones, said.rows, len(rows))
            for number, value in zip(numbers, means.exp().tolist(), strict=True):
                found[number] = value
    model.train(was_training)
    return found


def _answered(row: Conversation, answer: str) -> Conversation:
    """The conversation with the answer, whose words alone are looked at."""
    earlier = tuple(replace(turn, train=False) for turn in row.turns)
    return replace(row, turns=(*earlier, Turn("assistant", answer)))
