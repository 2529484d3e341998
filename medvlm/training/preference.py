"""Preference optimisation on pairs of conversations: a better one and a worse one of the same case.

Direct preference optimisation (Rafailov et al., arXiv 2305.18290), with IPO (Azar et al., arXiv 2310.12036) and SimPO
(Meng et al., arXiv 2405.14734) as options. Where the two conversations say the same beside different pictures, the
model learns to prefer what the picture shows (mDPO, Wang et al., arXiv 2406.11839).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DataLoader

from medvlm.dialogue.conversation import Conversation
from medvlm.errors import MedVLMError
from medvlm.models.chat import ChatEncoder, Encoded
from medvlm.storage import read_jsonl, write_jsonl
from medvlm.training.batches import TokenBudgetBatches
from medvlm.training.collate import TrainingCollator
from medvlm.training.files import SplitFiles
from medvlm.training.finetune import FineTune
from medvlm.training.logprobs import Reference, sums_by_row, token_logprobs
from medvlm.training.scoring import Question


@dataclass(frozen=True)
class Pair:
    """Two conversations of one case; only their turns with `train` count.

    Attributes:
        kind: how the worse one was made: `answer` (the model's own wrong words), or right words beside another
            picture (`blank`, `shuffled`, or a change of `negatives.py`).
        chosen, rejected: the better and the worse one.
    """

    kind: str
    chosen: Conversation
    rejected: Conversation


@dataclass(frozen=True)
class PreferenceSettings:
    """How pairs are learnt.

    Attributes:
        loss: `dpo`, `ipo` or `simpo` (needs no reference; compares mean log-probabilities).
        beta: how far the model may move from the reference for the same preference; larger is nearer.
        margin: of SimPO, in units of `beta` times a mean log-probability.
        anchor: weight of the plain loss on the chosen words, against a fall of both (Pang et al., arXiv 2404.19733).
    """

    loss: Literal["dpo", "ipo", "simpo"] = "dpo"
    beta: float = 0.1
    margin: float = 0.5
    anchor: float = 0.1


def write_pairs(path: Path, pairs: Sequence[Pair]) -> None:
    """Write pairs as JSON Lines: `kind`, `chosen` and `rejected` (conversation rows)."""
    write_jsonl(
        path,
        ({"kind": row.kind, "chosen": row.chosen.to_json(), "rejected": row.rejected.to_json()} for row in pairs),
    )


def read_pairs(path: Path) -> list[Pair]:
    """Read a file of `write_pairs`.

    Raises:
        MedVLMError: missing, empty, or a row that is not a pair (names file and row).
    """
    pairs = []
    for number, row in enumerate(read_jsonl(path), start=1):
        try:
            pairs.append(
                Pair(str(row["kind"]), Conversation.from_json(row["chosen"]), Conversation.from_json(row["rejected"]))
            )
        except (KeyError, TypeError):
            raise MedVLMError(f"{path}, row {number}: a pair has 'kind', 'chosen' and 'rejected'.") from None
    if not pairs:
        raise MedVLMError(f"{path}: no pairs in this file.")
    return pairs


class Preference(FineTune):
    """Fine-tuning on which of two conversations is better."""

    def __init__(self, preference: PreferenceSettings = PreferenceSettings(), **kwargs: Any) -> None:
        """
        Args:
            preference: loss and strength.
            kwargs: see `FineTune`.
        """
        super().__init__(**kwargs)
        self.preference = preference
        self._reference: Reference | None = None

    def setup(self, stage: str) -> None:
        super().setup(stage)
        if stage in ("fit", "validate") and self.preference.loss != "simpo":
            # Before a checkpoint is restored: the reference is the model that alignment began with.
            self._reference = Reference(self.loaded)

    def training_step(self, batch: dict[str, Tensor], batch_index: int) -> Tensor:
        loss, pairs = self._compare(batch, "train")
        self._window.append(pairs)
        return self.everywhere(loss) * self.trainer.accumulate_grad_batches

    def validation_step(self, batch: dict[str, Tensor], batch_index: int) -> None:
        self._compare(batch, "val")

    def _compare(self, batch: dict[str, Tensor], name: str) -> tuple[Tensor, Tensor]:
        """Loss summed over pairs and their number; the first half of the rows is chosen, the second rejected."""
        count = len(batch["labels"])
        own, length = self._totals(self.model, batch, count)
        settings = self.preference
        gain = own / length if settings.loss == "simpo" else own
        if self._reference is not None:
            with self._reference() as reference:
                gain = gain - self._totals(reference, batch, count)[0]
        better, worse = gain.chunk(2)
        lead = better - worse
        loss = pair_loss(lead, settings)
        plain = -(own / length).chunk(2)[0]
        pairs = torch.tensor(float(len(lead)), device=lead.device)
        self.log(f"{name}/loss", loss.detach().mean(), batch_size=len(lead), prog_bar=True, sync_dist=name == "val")
        right = (lead.detach() > 0).float().mean()
        self.log(f"{name}/preferred", right, batch_size=len(lead), prog_bar=True, sync_dist=name == "val")
        return (loss + settings.anchor * plain).sum(), pairs

    def _totals(self, model: Any, batch: dict[str, Tensor], count: int) -> tuple[Tensor, Tensor]:
        """Log-probability and number of the words of each row, `[count]` each."""
        said = token_logprobs(model, batch)
        ones = torch.ones_like(said.logprobs)
        return sums_by_row(said.logprobs, said.rows, count), sums_by_row(ones, said.rows, count)


def pair_loss(lead: Tensor, settings: PreferenceSettings) -> Tensor:
    """`[P]`: the loss of each pair.

    Args:
        lead: `[P]`, by how much the better side gained more log-probability over the reference than the worse one
            (SimPO: by how much its mean log-probability is higher).
        settings: loss and strength.
    """
    if settings.loss == "ipo":
        return (lead - 1 / (2 * settings.beta)).square()
    margin = settings.margin if settings.loss == "simpo" else 0.0
    return -functional.logsigmoid(settings.beta * lead - margin)


class PairData(SplitFiles):
    """Pairs of conversations for training and validation."""

    def __init__(self, batch_tokens: int = 4096, longest: int = 2048, group: int = 16, **kwargs: Any) -> None:
        """
        Args:
            batch_tokens: most tokens of a batch, both sides, padding and image tokens included.
            longest: most tokens of one side; longer pairs are left out.
            group: pairs of similar length are found within groups of this many batches; more means less padding.
            kwargs: see `SplitFiles`; the files hold pairs.
        """
        super().__init__(**kwargs)
        self.batch_tokens, self.longest, self.group = batch_tokens, longest, group
        self.pairs: dict[str, list[tuple[Encoded, Encoded]]] = {}
        self.dropped: dict[str, int] = {}

    def prepare_split(self, split: str) -> None:
        if split not in self.pairs:
            self.pairs[split] = self._encode(split)

    def summary(self) -> list[str]:
        lines = []
        for split, rows in self.pairs.items():
            lines.append(f"{split:<11}{len(rows):>7,} pairs")
            if self.dropped[split]:
                lines.append(f"{'':<11}{self.dropped[split]:>7,} left out: a side longer than {self.longest} tokens")
        return lines

    def questions(self, split: str) -> list[tuple[Path, Question]]:
        """Those of the test files; pairs are compared, not asked."""
        return super().questions(split) if split == "test" else []

    def _encode(self, split: str) -> list[tuple[Encoded, Encoded]]:
        loaded = self._loaded()
        rows, self.dropped[split] = [], 0
        for path in self.files(split):
            encoder = ChatEncoder(loaded.processor, path.parent, loaded.name)
            for pair in read_pairs(path)[: self.limit]:
                sides = encoder.encode(pair.chosen), encoder.encode(pair.rejected)
                if all(len(side) <= self.longest and bool(side.supervised.any()) for side in sides):
                    rows.append(sides)
                else:
                    self.dropped[split] += 1
        if not rows:
            raise MedVLMError(f"no {split} pair is left to learn from: all are longer than {self.longest} tokens.")
        return rows

    def make_sampler(self) -> TokenBudgetBatches:
        return self.dealt(self._lengths("train"), self.batch_tokens, seed=self.seed, group=self.group)

    def _lengths(self, split: str) -> list[int]:
        return [2 * max(len(side) for side in sides) for sides in self.pairs[split]]

    def train_dataloader(self) -> DataLoader:
        return self._pair_loader("train", self.train_batches())

    def val_dataloader(self) -> DataLoader | list:
        if "validation" not in self.pairs:
            return []
        batches = self.dealt(self._lengths("validation"), self.batch_tokens, shuffle=False)
        return self._pair_loader("validation", batches)

    def _pair_loader(self, split: str, batches: TokenBudgetBatches) -> DataLoader:
        collate = _Sides(TrainingCollator(self.pad_id))
        return DataLoader(self.pairs[split], batch_sampler=batches, collate_fn=collate)  # type: ignore[arg-type]


class _Sides:
    """All chosen rows, then all rejected ones, as one batch."""

    def __init__(self, collator: TrainingCollator) -> None:
        self.collator = collator

    def __call__(self, rows: Sequence[tuple[Encoded, Encoded]]) -> dict[str, Tensor]:
        return self.collator([chosen for chosen, _ in rows] + [rejected for _, rejected in rows])
