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
from medvlm.training.data import ConversationData
from medvlm.training.rollouts import Script


class EpisodeData(ConversationData):
    """Scripts for training and validation, read from conversation files with pathway symbols."""

    def __init__(
        self,
        train: Path | list[Path] | None = None,
        validation: Path | list[Path] | None = None,
        test: Path | list[Path] | None = None,
        episodes: int = 16,
        updates: int = 1,
        limit: int | None = None,
        seed: int = 0,
        answer_batch: int = 32,
    ) -> None:
        """
        Args:
            train: conversation file or files with `symbols` of a pathway; their answers are not learnt, only scored.
            validation: the same, for the reward of greedy answers.
            test: conversation files that `medvlm test` scores and `medvlm predict` answers.
            episodes: scripts a step (each is sampled `model.policy.group` times).
            updates: optimiser steps on the same samples.
            limit: use only the first so many conversations of each file.
            seed: of the order.
            answer_batch: questions that `medvlm test` and `medvlm predict` answer together.
        """
        super().__init__(train, validation, test, limit=limit, seed=seed, answer_batch=answer_batch)
        self.episodes, self.updates = episodes, updates
        self.scripts: dict[str, list[Script]] = {}

    def setup(self, stage: str) -> None:
        """Read the scripts that the stage needs, once."""
        for split in {"fit": ("train", "validation"), "validate": ("validation",)}.get(stage, ()):
            if split not in self.scripts and getattr(self, split):
                self.scripts[split] = list(self._scripts(split))
        if stage == "fit" and not self.train:
            raise MedVLMError("no train data: give --data.train FILE.jsonl.")
        if stage in ("test", "predict"):
            super().setup(stage)

    def _scripts(self, split: str) -> Iterable[Script]:
        for path, conversations in self.conversations(split):
            for conversation in conversations:
                if "truth" not in conversation.symbols:
                    raise MedVLMError(
                        f"{path}: {conversation.id} has no symbols to score; make the file with "
                        "'medvlm pathway simulate' or a curriculum."
                    )
                yield Script.of(_rooted(conversation, path.parent.resolve()))

    def train_batches(self) -> TokenBudgetBatches:
        """Batches of script numbers, each handed out `updates` times in a row."""
        if self._sampler is None:
            trainer = self.trainer
            self._sampler = _Repeated(
                [1] * len(self.scripts["train"]),
                self.episodes,
                seed=self.seed,
                rank=trainer.global_rank if trainer else 0,
                ranks=trainer.world_size if trainer else 1,
                times=self.updates,
            )
            if self._resume:
                self._sampler.load_state_dict(self._resume)
        return self._sampler

    def train_dataloader(self) -> DataLoader:
        numbers = range(len(self.scripts["train"]))
        return DataLoader(numbers, batch_sampler=self.train_batches(), collate_fn=list)  # type: ignore[arg-type]

    def val_dataloader(self) -> DataLoader | list:
        rank, ranks = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
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
