"""What a model can do with whole conversations: greedy answers on held-out patients, beside its own or other pictures.

Definitions as in Dr-LLaVA (Sun et al., arXiv 2405.19567): A_Q is the share of right answers, A_C that of conversations
with all answers right, A_D that of right conclusions; a conversation is inconsistent where its answers cannot be true
together.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from medvlm.dialogue.conversation import Conversation
from medvlm.models.load import LoadedModel
from medvlm.pathways.dialogues import read_truth, score_row
from medvlm.pathways.reward import Scorer
from medvlm.training.pairs import RIGHT
from medvlm.training.rollouts import Rollouts, Script


@dataclass(frozen=True)
class Measured:
    """Scores of one set of conversations.

    Attributes:
        conversations, questions: how many.
        answers: share of right answers (A_Q).
        whole: share of conversations with all answers right (A_C).
        conclusion: share of right conclusions (A_D); None where none was asked.
        inconsistent: share of conversations whose answers clash.
        unread: share of answers that say nothing the pathway knows; they cannot clash.
        reward: mean reward of the pathway.
        slots: share of right answers by slot.
        right: per conversation id, per question, whether the answer was right; for paired intervals.
    """

    conversations: int
    questions: int
    answers: float
    whole: float
    conclusion: float | None
    inconsistent: float
    unread: float
    reward: float
    slots: dict[str, float]
    right: dict[str, list[bool]] = field(default_factory=dict, repr=False)

    def to_json(self) -> dict[str, Any]:
        """All but the single answers, rounded."""
        row = {key: value for key, value in asdict(self).items() if key != "right"}
        row["slots"] = {name: round(value, 4) for name, value in self.slots.items()}
        return {key: round(value, 4) if isinstance(value, float) else value for key, value in row.items()}


def measure(
    loaded: LoadedModel,
    conversations: Sequence[Conversation],
    scorer: Scorer,
    slots: Sequence[str] = (),
    max_new_tokens: int = 48,
    batch: int = 128,
) -> Measured:
    """Let the model answer whole conversations greedily and score them.

    Args:
        loaded: the model.
        conversations: with pathway symbols; image paths from anywhere.
        scorer: of the pathway.
        slots: whose answers count; empty counts all.
        max_new_tokens: longest answer.
        batch: conversations side by side.
    """
    rollouts = Rollouts(loaded, max_new_tokens=max_new_tokens, temperature=0.0)
    right: dict[str, list[bool]] = {}
    by_slot: dict[str, list[bool]] = defaultdict(list)
    clashes, unread, rewards, concluded = 0, 0, [], []
    for start in range(0, len(conversations), batch):
        rows = conversations[start : start + batch]
        for row, sample in zip(rows, rollouts([Script.of(row) for row in rows]), strict=True):
            score = score_row(scorer, {"id": row.id, "symbols": row.symbols}, sample.said)
            truth = read_truth(scorer.pathway, row.symbols["truth"], row.id)
            right[row.id] = []
            for slot, reading in zip(row.symbols["asked"], score.readings, strict=True):
                if slots and slot not in slots:
                    continue
                good = scorer.grade(slot, reading, truth[slot])[0] >= RIGHT
                right[row.id].append(good)
                unread += reading.state != "value"
                by_slot[slot].append(good)
                if slot == scorer.pathway.turns.conclusion:
                    concluded.append(good)
            clashes += bool(score.conflicts)
            rewards.append(score.total)
    told = [good for answers in right.values() for good in answers]
    count = len(conversations)
    return Measured(
        count,
        len(told),
        sum(told) / len(told),
        sum(all(answers) for answers in right.values()) / count,
        sum(concluded) / len(concluded) if concluded else None,
        clashes / count,
        unread / len(told),
        sum(rewards) / count,
        {name: sum(values) / len(values) for name, values in by_slot.items()},
        right,
    )
