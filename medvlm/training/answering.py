"""`medvlm test` and `medvlm predict`: the model answers, in batches, on every process."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Trainer

from medvlm.models.generate import Generator
from medvlm.models.load import LoadedModel
from medvlm.storage import write_json, write_jsonl
from medvlm.training.scoring import Answer, Question, Score, is_right, score


def answer(loaded: LoadedModel, rows: Sequence[tuple[Path, Question]], max_new_tokens: int) -> list[Answer]:
    """Answer questions whose images lie under each one's folder; the batch is decoded together."""
    answers: dict[int, str] = {}
    for root in sorted({root for root, _ in rows}):
        mine = [number for number, (other, _) in enumerate(rows) if other == root]
        generator = Generator(loaded, max_new_tokens, batch_size=len(mine), root=root)
        answers |= dict(zip(mine, generator([rows[number][1].prompt for number in mine])))
    return [_answer(question, answers[number]) for number, (_, question) in enumerate(rows)]


def _answer(question: Question, text: str) -> Answer:
    return Answer(
        id=question.id,
        task=question.task,
        patient=question.prompt.patient,
        question=question.prompt.turns[-1].text,
        answer=text,
        reference=question.accepted[0],
        right=is_right(text, question),
    )


def gather(trainer: Trainer, mine: list[Answer]) -> list[Answer]:
    """The answers of all processes, each question once, in the order of their ids."""
    if trainer.world_size > 1:
        parts: list[Any] = [None] * trainer.world_size
        torch.distributed.all_gather_object(parts, mine)
        mine = [row for part in parts for row in part]
    return sorted({row.id: row for row in mine}.values(), key=lambda row: row.id)


def write_test(root: Path, answers: Sequence[Answer], asked: Sequence[Question], learnt: Sequence[Question]) -> None:
    """Write `test.json` and `answers.jsonl` and print the table."""
    said = {row.id: row.answer for row in answers}
    kept = [question for question in asked if question.id in said]
    scores = score(kept, [said[question.id] for question in kept], learnt)
    write_jsonl(root / "answers.jsonl", (row.to_json() for row in answers))
    write_json(root / "test.json", {"schema": 1, "scores": [row.to_json() for row in scores]})
    print("\n".join(format_scores(scores)))
    print(f"answers in {root / 'answers.jsonl'}")


def format_scores(scores: Sequence[Score]) -> list[str]:
    """Lines of a small table."""
    width = max([len(row.task) for row in scores] + [len("question")])
    lines = [f"{'question':<{width}}   asked  right answers  majority answer"]
    for row in scores:
        baseline = f"{row.majority:>6.1%} ({row.majority_answer})" if row.majority_answer else "     -"
        lines.append(f"{row.task:<{width}}  {row.questions:>6}  {row.accuracy:>13.1%}  {baseline}")
    return lines
