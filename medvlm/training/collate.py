"""From conversations to batches: tokenise once, mask, drop with a count, pad.

Image tokens are never cut. A conversation longer than the limit, or with nothing to learn, is left out and counted
with its reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from medvlm.dialogue.conversation import Conversation
from medvlm.models.chat import ChatEncoder, Encoded, collate

if TYPE_CHECKING:
    import torch

IGNORE = -100


@dataclass(frozen=True, eq=False)
class TokenisedSet:
    """Conversations as tensors, with what was left out.

    Attributes:
        rows: the encoded conversations.
        dropped: reason → ids of the conversations left out.
    """

    rows: tuple[Encoded, ...]
    dropped: dict[str, list[str]] = field(default_factory=dict)

    @property
    def lengths(self) -> list[int]:
        return [len(row) for row in self.rows]

    @property
    def supervised_tokens(self) -> int:
        return sum(int(row.supervised.sum()) for row in self.rows)


def tokenise(conversations: Sequence[Conversation], encoder: ChatEncoder, longest: int) -> TokenisedSet:
    """Encode conversations once for all epochs.

    Images of one path share one tensor, however many conversations show it.

    Args:
        conversations: what to learn from.
        encoder: the model's own.
        longest: most tokens, image tokens included; longer ones are dropped.
    """
    from rich.progress import track

    rows: list[Encoded] = []
    dropped: dict[str, list[str]] = {}
    vision: dict[tuple[str, ...], dict[str, torch.Tensor]] = {}
    for conversation in track(conversations, description="tokenise", transient=True):
        row = encoder.encode(conversation)
        if len(row) > longest:
            dropped.setdefault(f"longer than {longest} tokens", []).append(conversation.id)
        elif not row.supervised.any():
            dropped.setdefault("nothing to learn", []).append(conversation.id)
        else:
            shared = vision.setdefault(conversation.images, row.vision)
            rows.append(Encoded(row.input_ids, row.supervised, row.per_token, shared))
    return TokenisedSet(tuple(rows), dropped)


class TrainingCollator:
    """Rows to `forward` inputs and `labels` `[B, T]`: -100 wherever the assistant does not speak.

    Padding is on the right: a causal model then never looks at it.
    """

    def __init__(self, pad_id: int) -> None:
        self.pad_id = pad_id

    def __call__(self, rows: Sequence[Encoded]) -> dict[str, torch.Tensor]:
        batch = collate(rows, self.pad_id, side="right")
        labels = batch["input_ids"].new_full(batch["input_ids"].shape, IGNORE)
        for index, row in enumerate(rows):
            where = row.supervised.nonzero().flatten()
            labels[index, where] = row.input_ids[where]
        batch["labels"] = labels
        return batch
