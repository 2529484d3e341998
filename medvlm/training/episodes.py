"""Scripts for rollouts as a data module: conversations whose answers the model is to write itself."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch.utils.data import DataLoader

from medvlm.dialogue.conversation import Conversation
from medvlm.errors import MedVLMError
from medvlm.training.batches import TokenBudgetBatches
from medvlm.training.files import SplitFiles
from medvlm.training.scripts import Script


class EpisodeData(SplitFiles):
    """Scripts for training and validation, read from conversation files with pathway symbols."""

    def __init__(self, episodes: int = 16, updates: int = 1, **kwargs: Any) -> None:
        """
        Args:
            episodes: scripts a step (each is sampled `model.policy.group` times).
            updates: optimiser steps on the same samples.
            kwargs: see `SplitFiles`; the files are conversations with `symbols` of a pathway, whose answers are not
                learnt, only scored.
        """
        super().__init__(**kwargs)
        self.episodes, self.updates = episodes, updates
        self.scripts: dict[str, list[Script]] = {}

    def prepare_split(self, split: str) -> None:
        if split not in self.scripts:
            self.scripts[split] = list(self._scripts(split))

    def summary(self) -> list[str]:
        return [f"{split:<11}{len(rows):>7,} scripts" for split, rows in self.scripts.items()]

    def _scripts(self, split: str) -> Iterable[Script]:
        for path, conversations in self.conversations(split):
            for conversation in conversations:
                if "truth" not in conversation.symbols:
                    raise MedVLMError(
                        f"{path}: {conversation.id} has no symbols to score; make the file with "
                        "'medvlm pathway simulate' or a curriculum."
                    )
                yield Script.of(_rooted(conversation, path.parent.resolve()))

    def make_sampler(self) -> TokenBudgetBatches:
        """Batches of script numbers, each handed out `updates` times in a row."""
        rank, ranks = self.place
        lengths = [1] * len(self.scripts["train"])
        return _Repeated(lengths, self.episodes, seed=self.seed, rank=rank, ranks=ranks, times=self.updates)

    def train_dataloader(self) -> DataLoader:
        numbers = range(len(self.scripts["train"]))
        return DataLoader(numbers, batch_sampler=self.train_batches(), collate_fn=list)  # type: ignore[arg-type]

    def val_dataloader(self) -> DataLoader | list:
        rank, ranks = self.place
        numbers = range(len(self.scripts.get("validation", [])))[rank::ranks]
        return DataLoader(numbers, batch_size=4 * self.episodes, collate_fn=list)  # type: ignore[arg-type]


class _Repeated(TokenBudgetBatches):
    """Every process gets each of its batches several times in a row."""

    def __init__(self, *args: Any, times: int, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.times = times

    def batches(self, epoch: int) -> list[list[int]]:
        once = super().batches(epoch)
        dealt = [once[start : start + self.ranks] for start in range(0, len(once), self.ranks)]
        return [batch for deal in dealt for _ in range(self.times) for batch in deal]


def _rooted(conversation: Conversation, folder: Path) -> Conversation:
    """With image paths that hold from anywhere."""
    turns = (replace(turn, images=tuple(str(folder / name) for name in turn.images)) for turn in conversation.turns)
    return replace(conversation, turns=tuple(turns))
