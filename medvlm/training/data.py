"""The data of one run: conversation files in, batches out."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from torch.utils.data import DataLoader, Dataset

from medvlm.dialogue.conversation import Conversation, read_conversations
from medvlm.errors import MedVLMError
from medvlm.models.chat import ChatEncoder, Encoded
from medvlm.models.load import LoadedModel
from medvlm.storage import read_jsonl
from medvlm.training.batches import TokenBudgetBatches
from medvlm.training.collate import TokenisedSet, TrainingCollator, tokenise
from medvlm.training.drill import drill
from medvlm.training.packing import PackingCollator, position_rule
from medvlm.training.paths import Chosen
from medvlm.training.scoring import Answer, Question, questions
from medvlm.training.streamed import StreamedRows, Within


def as_files(given: Path | list[Path] | None) -> list[Path]:
    """One file or several, as a list."""
    if given is None:
        return []
    return [Path(path) for path in given] if isinstance(given, list) else [Path(given)]


class Rows(Dataset[Encoded]):
    """Encoded conversations by number."""

    def __init__(self, rows: Sequence[Encoded]) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Encoded:
        return self.rows[index]


class ConversationData(pl.LightningDataModule):
    """Conversation JSON Lines for training, validation and test."""

    def __init__(
        self,
        train: Path | list[Path] | None = None,
        validation: Path | list[Path] | None = None,
        test: Path | list[Path] | None = None,
        batch_tokens: int = 4096,
        longest: int = 2048,
        group: int = 16,
        drill: int = 0,
        drill_tokens: int = 1024,
        limit: int | None = None,
        seed: int = 0,
        answer_batch: int = 32,
        batch_size: int | None = None,
        stream_above: int = 256,
        workers: int = 0,
    ) -> None:
        """
        Args:
            train: conversation file or files to learn from.
            validation: conversation files for the validation loss and the sample answers.
            test: conversation files that `medvlm test` scores and `medvlm predict` answers.
            batch_tokens: most tokens of a batch, padding and image tokens included.
            longest: most tokens of one conversation; longer ones are left out and counted, never cut.
            group: rows of similar length are found within groups of this many batches; more means less padding.
            drill: so many copying drills (random words to be said again) come first; for models from scratch.
            drill_tokens: most tokens of a batch of drills.
            limit: use only the first so many conversations of each file.
            seed: of the order.
            answer_batch: questions that `medvlm test` and `medvlm predict` answer together.
            batch_size: most conversations of a batch, under the bound of `batch_tokens`.
            stream_above: training files of more megabytes than this stay on disk and are tokenised batch by batch.
            workers: processes that prepare batches ahead; 2 or more are wise for streamed data.
        """
        super().__init__()
        self.train, self.validation, self.test = as_files(train), as_files(validation), as_files(test)
        self.batch_tokens, self.longest, self.group = batch_tokens, longest, group
        self.drill, self.drill_tokens = drill, drill_tokens
        self.limit, self.seed, self.answer_batch = limit, seed, answer_batch
        self.asked: list[tuple[Path, Question]] = []
        self.batch_size, self.stream_above, self.workers = batch_size, stream_above, workers
        self.sets: dict[str, TokenisedSet] = {}
        self.stream: StreamedRows | None = None
        self.chosen = Chosen()
        self._lead: tuple[Encoded, ...] = ()
        self._sampler: TokenBudgetBatches | None = None
        self._resume: dict[str, Any] | None = None

    def conversations(self, split: str) -> list[tuple[Path, list[Conversation]]]:
        """File → conversations of `train`, `validation` or `test`.

        Raises:
            MedVLMError: no file was given, one is missing or it is empty.
        """
        files: list[Path] = getattr(self, split)
        if not files:
            raise MedVLMError(f"no {split} data: give --data.{split} FILE.jsonl.")
        found = []
        for path in files:
            rows = read_conversations(Path(path))
            if not rows:
                raise MedVLMError(f"{path}: no conversations in this file.")
            found.append((Path(path), rows[: self.limit]))
        return found

    def setup(self, stage: str) -> None:
        """Tokenise what the stage needs, once."""
        needed = {"fit": ["train", "validation"], "validate": ["validation"]}.get(stage, [])
        if "train" in needed and self._streams():
            self.stream = self._open_stream()
            needed = ["validation"]
        for split in needed:
            if split not in self.sets and (split == "train" or stage == "validate" or self.validation):
                self.sets[split] = self._tokenise(split)
        if stage in ("test", "predict"):
            self.asked = self.questions("test")
        if stage == "predict":
            done = {row["id"] for row in read_jsonl(self.predictions)} if self.predictions.is_file() else set()
            self.asked = [row for row in self.asked if row[1].id not in done]

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
        rank, ranks = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        return DataLoader(order[rank::ranks], batch_size=self.answer_batch, collate_fn=list)  # type: ignore[arg-type]

    def predict_dataloader(self) -> DataLoader:
        return self.test_dataloader()

    def _tokenise(self, split: str) -> TokenisedSet:
        loaded = self._loaded()
        rows: list[Encoded] = []
        dropped: dict[str, list[str]] = {}
        for path, conversations in self.conversations(split):
            encoder = ChatEncoder(loaded.processor, path.parent, loaded.name)
            tokenised = tokenise(conversations, encoder, self.longest)
            rows += tokenised.rows
            for reason, ids in tokenised.dropped.items():
                dropped.setdefault(reason, []).extend(ids)
        if split == "train" and self.drill:
            drills = drill([row for _, part in self.conversations(split) for row in part], self.drill, self.seed)
            self._lead = tokenise(drills, ChatEncoder(loaded.processor, name=loaded.name), self.longest).rows
            rows = [*self._lead, *rows]
        if not rows:
            reasons = "; ".join(f"{len(ids)} {reason}" for reason, ids in dropped.items())
            raise MedVLMError(f"no {split} conversation is left to learn from ({reasons}).")
        return TokenisedSet(tuple(rows), dropped)

    def _streams(self) -> bool:
        """Whether the training files are too large to be tokenised at once."""
        return sum(path.stat().st_size for path in self.train if path.is_file()) > self.stream_above * 2**20

    def _open_stream(self) -> StreamedRows:
        from medvlm.dialogue.store import open_conversations

        if self.drill:
            raise MedVLMError(
                "drills need the training data in memory: set --data.drill=0 or raise --data.stream_above."
            )
        return StreamedRows(open_conversations(self.train)[: self.limit], self._loaded(), self.longest, self.seed)

    def sample(self) -> Sequence[Encoded]:
        """Some encoded training conversations, for self-tests."""
        return self.stream.sample if self.stream else self.sets["train"].rows[len(self._lead) :]

    def take(self, chosen: Chosen) -> None:
        """Let batches be made for the chosen paths; compute the image features that are missing.

        Raises:
            MedVLMError: streamed conversations show pictures whose features were never computed.
        """
        self.chosen = chosen
        cache, trainer = chosen.features, self.trainer
        if cache is None or trainer is None:
            return
        rows = [row for split in self.sets.values() for row in split.rows]
        cache.fill([*rows, *self._first_of_each_picture()], trainer.global_rank, trainer.world_size)
        trainer.strategy.barrier("features")
        cache.refresh()
        for split, known in self.sets.items():
            self.sets[split] = TokenisedSet(tuple(cache.strip(row) for row in known.rows), known.dropped)
        self._lead = self.sets["train"].rows[: len(self._lead)] if "train" in self.sets else ()
        cache.forget_pixels()

    def _first_of_each_picture(self) -> Iterator[Encoded]:
        """One streamed conversation for every set of pictures."""
        seen: set[tuple[str, ...]] = set()
        for number in range(len(self.stream) if self.stream else 0):
            conversation = self.stream.conversations[number]  # type: ignore[union-attr]
            if conversation.images and conversation.images not in seen:
                seen.add(conversation.images)
                yield self.stream[number]  # type: ignore[index]

    def train_batches(self) -> TokenBudgetBatches:
        """The sampler of the training batches (one object for the whole run: it counts epochs and batches)."""
        if self._sampler is None:
            trainer = self.trainer
            self._sampler = TokenBudgetBatches(
                self.stream.lengths if self.stream else self.sets["train"].lengths,  # type: ignore[arg-type]
                self.batch_tokens,
                seed=self.seed,
                rank=trainer.global_rank if trainer else 0,
                ranks=trainer.world_size if trainer else 1,
                group=self.group,
                lead=len(self._lead),
                lead_budget=self.drill_tokens,
                rows=self.batch_size,
                packed=self.chosen.packed,
                ahead=self.workers > 0,
            )
            if self._resume:
                self._sampler.load_state_dict(self._resume)
        return self._sampler

    def train_dataloader(self) -> DataLoader:
        return self._loader(self.stream or Rows(self.sets["train"].rows), self.train_batches(), self.workers)

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """A batch is about to be used: what was only drawn ahead does not count when a run resumes."""
        if self._sampler is not None and self.trainer is not None and self.trainer.training:
            self._sampler.taken()
        return batch

    def val_dataloader(self) -> DataLoader | list:
        if "validation" not in self.sets:
            return []
        lengths = self.sets["validation"].lengths
        rank, ranks = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        batches = TokenBudgetBatches(lengths, self.batch_tokens, shuffle=False, rank=rank, ranks=ranks)
        return self._loader(Rows(self.sets["validation"].rows), batches)

    def _loader(self, rows: Dataset[Encoded], batches: TokenBudgetBatches, workers: int = 0) -> DataLoader:
        collate: Any = TrainingCollator(self.pad_id)
        if self.chosen.packed:
            loaded = self._loaded()
            base = loaded.model.get_base_model() if loaded.is_adapter else loaded.model
            collate = PackingCollator(self.pad_id, position_rule(base))
        if self.chosen.features:
            collate = self.chosen.features.collator(collate)
        if rows is self.stream:
            collate = Within(collate, self.longest)
        return DataLoader(rows, batch_sampler=batches, collate_fn=collate, num_workers=workers)

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
