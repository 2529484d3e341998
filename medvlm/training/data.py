"""The data of one run: conversation files in, batches out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from torch.utils.data import DataLoader, Dataset

from medvlm.errors import MedVLMError
from medvlm.models.chat import ChatEncoder, Encoded
from medvlm.training.batches import TokenBudgetBatches
from medvlm.training.collate import TokenisedSet, TrainingCollator, tokenise
from medvlm.training.drill import drill
from medvlm.training.files import SplitFiles
from medvlm.training.packing import PackingCollator, position_rule
from medvlm.training.paths import Chosen
from medvlm.training.streamed import StreamedRows, Within


class Rows(Dataset[Encoded]):
    """Encoded conversations by number."""

    def __init__(self, rows: Sequence[Encoded]) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Encoded:
        return self.rows[index]


class ConversationData(SplitFiles):
    """Conversation JSON Lines for training, validation and test."""

    def __init__(
        self,
        batch_tokens: int = 4096,
        longest: int = 2048,
        group: int | None = None,
        drill: int = 0,
        drill_tokens: int = 1024,
        batch_size: int | None = None,
        stream_above: int = 256,
        workers: int = 0,
        **kwargs: Any,
    ) -> None:
        """
        Args:
            batch_tokens: most tokens of a batch, padding and image tokens included.
            longest: most tokens of one conversation; longer ones are left out and counted, never cut.
            group: rows of similar length are found within groups of this many batches: less padding, but batches that
                are less of a mixture, which costs some learning. 1 by default where rows are packed, else 16.
            drill: so many copying drills (random words to be said again) come first; for models from scratch.
            drill_tokens: most tokens of a batch of drills.
            batch_size: most conversations of a batch, under the bound of `batch_tokens`.
            stream_above: training files of more megabytes than this stay on disk and are tokenised batch by batch.
            workers: processes that prepare batches ahead; 2 or more are wise for streamed data.
            kwargs: see `SplitFiles`.
        """
        super().__init__(**kwargs)
        self.batch_tokens, self.longest, self.group = batch_tokens, longest, group
        self.drill, self.drill_tokens = drill, drill_tokens
        self.batch_size, self.stream_above, self.workers = batch_size, stream_above, workers
        self.sets: dict[str, TokenisedSet] = {}
        self.stream: StreamedRows | None = None
        self.chosen = Chosen()
        self._lead: tuple[Encoded, ...] = ()

    def prepare_split(self, split: str) -> None:
        """Tokenise a split, or open what is too large for that."""
        if split == "train" and self._streams():
            self.stream = self._open_stream()
        elif split not in self.sets:
            self.sets[split] = self._tokenise(split)

    def summary(self) -> list[str]:
        lines = []
        for split, known in self.sets.items():
            shown = f"{split:<11}{len(known.rows):>7,} conversations{sum(known.lengths):>11,} tokens"
            lines.append(f"{shown}{known.supervised_tokens:>10,} learnt")
            lines += [
                f"{'':<11}{len(ids):>7,} left out: {reason} (for example {ids[0]})"
                for reason, ids in known.dropped.items()
            ]
        if self.stream:
            tokens, share = int(self.stream.lengths.sum()), self.stream.supervised_share()
            shown = f"{'train':<11}{len(self.stream):>7,} conversations{tokens:>11,} tokens"
            lines.append(f"{shown}{int(tokens * share):>10,} learnt (by a sample)")
            lines += [f"{'':<11}{count:>7,} left out: {reason}" for reason, count in self.stream.dropped.items()]
        return lines

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

    def make_sampler(self) -> TokenBudgetBatches:
        return self.dealt(
            self.stream.lengths if self.stream else self.sets["train"].lengths,  # type: ignore[arg-type]
            self.batch_tokens,
            seed=self.seed,
            group=self.group or (1 if self.chosen.packed else 16),
            lead=len(self._lead),
            lead_budget=self.drill_tokens,
            rows=self.batch_size,
            packed=self.chosen.packed,
            ahead=self.workers > 0,
        )

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
        known = self.sets["validation"]
        return self._loader(Rows(known.rows), self.dealt(known.lengths, self.batch_tokens, shuffle=False))

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
