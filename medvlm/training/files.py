"""What the data modules of all objectives share: files, questions, and batches dealt to the processes."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from torch.utils.data import DataLoader

from medvlm.dialogue.conversation import Conversation, read_conversations
from medvlm.errors import MedVLMError
from medvlm.models.load import LoadedModel
from medvlm.storage import read_jsonl
from medvlm.training.batches import TokenBudgetBatches
from medvlm.training.scoring import Answer, Question, questions


def as_files(given: Path | list[Path] | None) -> list[Path]:
    """One file or several, as a list."""
    if given is None:
        return []
    return [Path(path) for path in given] if isinstance(given, list) else [Path(given)]


class SplitFiles(pl.LightningDataModule, ABC):
    """Files for training, validation and test; what a row of them is, the objective says."""

    def __init__(
        self,
        train: Path | list[Path] | None = None,
        validation: Path | list[Path] | None = None,
        test: Path | list[Path] | None = None,
        limit: int | None = None,
        seed: int = 0,
        answer_batch: int = 32,
    ) -> None:
        """
        Args:
            train: file or files to learn from.
            validation: the same, to measure the objective on.
            test: conversation files that `medvlm test` scores and `medvlm predict` answers.
            limit: use only the first so many rows of each file.
            seed: of the order.
            answer_batch: questions that `medvlm test` and `medvlm predict` answer together.
        """
        super().__init__()
        self.train, self.validation, self.test = as_files(train), as_files(validation), as_files(test)
        self.limit, self.seed, self.answer_batch = limit, seed, answer_batch
        self.asked: list[tuple[Path, Question]] = []
        self._sampler: TokenBudgetBatches | None = None
        self._resume: dict[str, Any] | None = None

    def setup(self, stage: str) -> None:
        """Read what the stage needs, once."""
        for split in {"fit": ("train", "validation"), "validate": ("validation",)}.get(stage, ()):
            if split == "train" or stage == "validate" or self.validation:
                self.prepare_split(split)
        if stage in ("test", "predict"):
            self.asked = self.questions("test")
        if stage == "predict":
            done = {row["id"] for row in read_jsonl(self.predictions)} if self.predictions.is_file() else set()
            self.asked = [row for row in self.asked if row[1].id not in done]

    @abstractmethod
    def prepare_split(self, split: str) -> None:
        """Read `train` or `validation`, once."""

    @abstractmethod
    def summary(self) -> list[str]:
        """What there is to learn from, and what is left out, line by line."""

    def files(self, split: str) -> list[Path]:
        """The files of a split.

        Raises:
            MedVLMError: none was given.
        """
        found: list[Path] = getattr(self, split)
        if not found:
            raise MedVLMError(f"no {split} data: give --data.{split} FILE.jsonl.")
        return found

    def conversations(self, split: str) -> list[tuple[Path, list[Conversation]]]:
        """File → conversations of `train`, `validation` or `test`.

        Raises:
            MedVLMError: no file was given, one is missing or it is empty.
        """
        found = []
        for path in self.files(split):
            rows = read_conversations(Path(path))
            if not rows:
                raise MedVLMError(f"{path}: no conversations in this file.")
            found.append((Path(path), rows[: self.limit]))
        return found

    def questions(self, split: str) -> list[tuple[Path, Question]]:
        """Folder of the images and question, for every turn of `train`, `validation` or `test` that is learnt."""
        return [
            (path.parent, question)
            for path, conversations in self.conversations(split)
            for conversation in conversations
            for question in questions(conversation)
        ]

    @property
    def predictions(self) -> Path:
        """Where `medvlm predict` writes; what is in there already is not asked again."""
        if self.trainer is None:
            raise RuntimeError("ConversationData writes predictions in a Trainer's run")
        rank = f"-{self.trainer.global_rank}" if self.trainer.world_size > 1 else ""
        return Path(self.trainer.default_root_dir) / f"predictions{rank}.jsonl"

    def write_answers(self, answers: Sequence[Answer]) -> None:
        """Append finished answers; a run that was stopped goes on after the last of them."""
        self.predictions.parent.mkdir(parents=True, exist_ok=True)
        with self.predictions.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(row.to_json(), ensure_ascii=False) + "\n" for row in answers)

    def test_dataloader(self) -> DataLoader:
        # Numbers of questions, longest prompts together; the module looks the questions up.
        order = sorted(range(len(self.asked)), key=lambda n: -sum(len(t.text) for t in self.asked[n][1].prompt.turns))
        rank, ranks = self.place
        return DataLoader(order[rank::ranks], batch_size=self.answer_batch, collate_fn=list)  # type: ignore[arg-type]

    def predict_dataloader(self) -> DataLoader:
        return self.test_dataloader()

    def dealt(self, lengths: Sequence[int], budget: int, **options: Any) -> TokenBudgetBatches:
        """Batches of row numbers under a token budget, dealt to the processes of the run."""
        rank, ranks = self.place
        return TokenBudgetBatches(lengths, budget, rank=rank, ranks=ranks, **options)

    def train_batches(self) -> TokenBudgetBatches:
        """The sampler of the training batches (one object for the whole run: it counts epochs and batches)."""
        if self._sampler is None:
            self._sampler = self.make_sampler()
            if self._resume:
                self._sampler.load_state_dict(self._resume)
        return self._sampler

    def make_sampler(self) -> TokenBudgetBatches:
        """A fresh sampler of the training batches."""
        raise NotImplementedError

    @property
    def place(self) -> tuple[int, int]:
        """This process and their number."""
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    @property
    def pad_id(self) -> int:
        tokenizer = self._loaded().processor.tokenizer
        return int(tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id)

    def _loaded(self) -> LoadedModel:
        """The model of the run, whose processor encodes the conversations."""
        module: Any = self.trainer.lightning_module if self.trainer else None
        if module is None:
            raise RuntimeError("ConversationData encodes with the model of a Trainer's run")
        loaded: LoadedModel = module.loaded
        return loaded

    def state_dict(self) -> dict[str, Any]:
        return self._sampler.state_dict() if self._sampler else {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._resume = state_dict
