"""Conversations that are too many to tokenise before the first step: encoded when their batch is due.

The texts stay on disk, memory-mapped. Batches of similar length are planned from the number of characters and pictures
alone, which stand beside each conversation; how many tokens those make is measured on a sample.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from torch.utils.data import Dataset

from medvlm.errors import MedVLMError
from medvlm.models.chat import ChatEncoder, Encoded

if TYPE_CHECKING:
    from medvlm.dialogue.store import ConversationSet
    from medvlm.models.load import LoadedModel

SAMPLE = 128
# Estimates are raised by this much: batches then stay under their budget.
MARGIN = 1.05


class StreamedRows(Dataset[Encoded]):
    """Encoded conversations by number, made when asked for.

    Attributes:
        lengths: `[N]` estimated tokens of each conversation that is kept.
        dropped: reason → how many conversations are left out, by estimate.
        sample: some encoded rows, for self-tests.
    """

    def __init__(self, conversations: ConversationSet, loaded: LoadedModel, longest: int, seed: int = 0) -> None:
        self.conversations, self.longest = conversations, longest
        self._encoders = {
            folder: ChatEncoder(loaded.processor, folder, loaded.name) for folder in set(conversations.folders)
        }
        random = np.random.default_rng(seed)
        chosen = random.choice(len(conversations), min(SAMPLE, len(conversations)), replace=False)
        known = [(int(number), self._encode(int(number))) for number in chosen]
        self.sample = [row for _, row in known if row.supervised.any() and len(row) <= longest]
        lengths = _estimate(conversations, known)
        kept = np.flatnonzero(lengths <= longest)
        if not len(kept) or not self.sample:
            raise MedVLMError(f"none of {len(lengths)} conversations has something to learn within {longest} tokens.")
        missing = len(lengths) - len(kept)
        self.dropped = {f"longer than {longest} tokens, by estimate": missing} if missing else {}
        self._kept = None if len(kept) == len(lengths) else kept
        self.lengths = lengths[kept]

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, index: int) -> Encoded:
        return self._encode(index if self._kept is None else int(self._kept[index]))

    def _encode(self, number: int) -> Encoded:
        return self._encoders[self.conversations.folder(number)].encode(self.conversations[number])

    def supervised_share(self) -> float:
        """Share of tokens that are learnt, in the sample."""
        return sum(int(row.supervised.sum()) for row in self.sample) / sum(len(row) for row in self.sample)


def _estimate(conversations: ConversationSet, known: Sequence[tuple[int, Encoded]]) -> np.ndarray:
    """`[N]` int32 tokens, linear in characters and pictures, fitted on the known ones."""
    characters, pictures = conversations.characters, conversations.pictures
    numbers = np.array([number for number, _ in known])
    columns = np.stack([characters[numbers], pictures[numbers], np.ones(len(numbers))], axis=1)
    tokens = np.array([len(row) for _, row in known])
    weights, *_ = np.linalg.lstsq(columns.astype(float), tokens, rcond=None)
    estimated = characters * weights[0] + pictures * weights[1] + weights[2]
    return np.maximum(1, np.ceil(estimated * MARGIN)).astype(np.int32)


class Within:
    """Collate what is really within the limits; a batch keeps at least its shortest row, so that none is empty."""

    def __init__(self, collate: Callable[[Sequence[Encoded]], dict[str, Any]], longest: int) -> None:
        self.collate, self.longest = collate, longest

    def __call__(self, rows: Sequence[Encoded]) -> dict[str, Any]:
        kept = [row for row in rows if len(row) <= self.longest and row.supervised.any()]
        return self.collate(kept or [min(rows, key=len)])
