"""Which conversations go together: length-grouped batches under a token budget, seeded and resumable.

Padding is wasted work, so neighbours in a batch have similar lengths; the batch's size in tokens is bounded, not its
number of rows. The order of an epoch depends on nothing but the seed, the epoch and the data, so that a stopped run
continues with the very next batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from torch.utils.data import Sampler


class TokenBudgetBatches(Sampler[list[int]]):
    """A stateful batch sampler.

    Attributes:
        epoch: the epoch of the last `iter`.
        cursor: batches of it that were handed out already.
    """

    def __init__(
        self,
        lengths: Sequence[int],
        budget: int,
        seed: int = 0,
        shuffle: bool = True,
        rank: int = 0,
        ranks: int = 1,
        group: int = 64,
        lead: int = 0,
        lead_budget: int = 1024,
        rows: int | None = None,
        packed: bool = False,
        ahead: bool = False,
    ) -> None:
        """
        Args:
            lengths: tokens of each row.
            budget: most tokens of a padded batch; a single longer row makes a batch of its own.
            seed: of the shuffling.
            shuffle: False gives one fixed order, longest rows first.
            rank, ranks: this process and their number; each takes every `ranks`-th batch of the same order.
            group: rows are sorted by length within shuffled groups of about this many batches; 1 mixes all lengths.
            lead: so many rows at the front come before all others, in the first epoch only.
            lead_budget: most tokens of a batch of those.
            rows: most rows of a batch.
            packed: batches are packed, not padded: their size is the sum of their lengths.
            ahead: batches are drawn before they are used; `taken` counts those that were used.
        """
        self.lengths = np.asarray(lengths)
        self.budget, self.seed, self.shuffle = budget, seed, shuffle
        self.rank, self.ranks, self.group = rank, ranks, group
        self.lead, self.lead_budget = lead, lead_budget
        self.rows, self.packed, self.ahead = rows or len(self.lengths), packed, ahead
        self.epoch = 0
        self.cursor = 0
        self._made: tuple[int, list[list[int]]] | None = None

    def batches(self, epoch: int) -> list[list[int]]:
        """All batches of one epoch, over all processes; their number is a multiple of `ranks`."""
        if self._made is None or self._made[0] != epoch:
            self._made = (epoch, self._make(epoch) if len(self.lengths) else [])
        return self._made[1]

    def _make(self, epoch: int) -> list[list[int]]:
        random = np.random.default_rng((self.seed, epoch))
        batches = self._shuffled(np.arange(self.lead, len(self.lengths)), self.budget, random)
        if epoch == 0 and self.lead:
            batches = self._shuffled(np.arange(self.lead), self.lead_budget, random) + batches
        # Every process must take the same number of steps: the first ones are met twice if need be.
        missing = -len(batches) % self.ranks
        return batches + [batches[index % len(batches)] for index in range(missing)]

    def _shuffled(self, rows: np.ndarray, budget: int, random: np.random.Generator) -> list[list[int]]:
        """Batches of `rows` in random order, rows of similar length together."""
        if not len(rows):
            return []
        order = random.permutation(rows) if self.shuffle else rows
        batches: list[list[int]] = []
        if self.shuffle and self.group == 1:
            for batch in self._cut(order, budget):
                batches.append(self._longest_first(np.array(batch)).tolist())
        else:
            rows_each = min(self.rows, max(1, int(budget / max(1.0, float(self.lengths[rows].mean())))))
            span = rows_each * self.group if self.shuffle else len(order)
            for start in range(0, len(order), span):
                batches += self._cut(self._longest_first(order[start : start + span]), budget)
        return [batches[index] for index in random.permutation(len(batches))] if self.shuffle else batches

    def _longest_first(self, rows: np.ndarray) -> np.ndarray:
        """A stable sort: rows of one length keep their order."""
        sorted_rows: np.ndarray = rows[np.argsort(-self.lengths[rows], kind="stable")]
        return sorted_rows

    def _cut(self, rows: np.ndarray, budget: int) -> list[list[int]]:
        """Cut rows in their order into batches whose size, padded or packed, stays under the budget."""
        batches: list[list[int]] = []
        current: list[int] = []
        longest = total = 0
        for row, length in zip(rows.tolist(), self.lengths[rows].tolist()):
            size = total + length if self.packed else max(longest, length) * (len(current) + 1)
            if current and (size > budget or len(current) == self.rows):
                batches.append(current)
                current, longest, total = [], 0, 0
            longest = max(longest, length)
            current.append(row)
            total += length
        return [*batches, current] if current else batches

    def steps(self, epochs: int) -> int:
        """Batches of this process in the first `epochs` epochs."""
        return sum(len(self.batches(epoch)) // self.ranks for epoch in range(epochs))

    def _next(self) -> tuple[int, int]:
        """Epoch and cursor of the batch that comes next.

        Lightning stops after the last batch it counts on and never asks for one more, so the end of an epoch shows
        only in the cursor.
        """
        ended = self.cursor >= len(self.batches(self.epoch)) // self.ranks
        return (self.epoch + 1, 0) if ended else (self.epoch, self.cursor)

    def __len__(self) -> int:
        return len(self.batches(self._next()[0])) // self.ranks

    def __iter__(self) -> Iterator[list[int]]:
        self.epoch, self.cursor = self._next()
        mine = self.batches(self.epoch)[self.rank :: self.ranks]
        for index in range(self.cursor, len(mine)):
            if not self.ahead:
                self.cursor = index + 1
            yield mine[index]

    def taken(self) -> None:
        """Count one batch as used, where batches are drawn ahead."""
        if self.ahead:
            self.cursor += 1

    def state_dict(self) -> dict[str, Any]:
        return {"epoch": self.epoch, "cursor": self.cursor}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.epoch, self.cursor = int(state["epoch"]), int(state["cursor"])
