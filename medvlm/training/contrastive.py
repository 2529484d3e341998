"""Contrastive pre-training of the picture half: what the language part is shown, against what is true of it.

Symmetric InfoNCE (CLIP, Radford et al., arXiv 2103.00020) with descriptions instead of class names (FLAIR,
Silva-Rodríguez et al., arXiv 2308.07898). A description may be true of several pictures of a batch: all of those are
right (UniCL, Yang et al., arXiv 2204.03610). As most facts are true of most pictures of a batch and tell few of them
apart, each slot of the pathway also asks which of the descriptions of its symbols is true. A text looks at the places
of a picture that are like it, because a lesion is small (GLoRIA, Huang et al., ICCV 2021). The text side is the model's
own word embeddings, averaged and projected; the language part is not touched, the two projections are thrown away.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader

from medvlm.errors import MedVLMError
from medvlm.models.chat import ChatEncoder, Encoded
from medvlm.models.parts import Tuning
from medvlm.pathways.loader import load_pathway
from medvlm.training.batches import TokenBudgetBatches
from medvlm.training.descriptions import Descriptions, Fact, Facts, matches, rarities
from medvlm.training.files import SplitFiles
from medvlm.training.finetune import FineTune
from medvlm.training.scoring import Question

# CLIP's bound on the learnt scale.
LARGEST_SCALE = 100.0
Picture = tuple[dict[str, Tensor], dict[str, Any]]


@dataclass(frozen=True)
class ContrastiveSettings:
    """How pictures and descriptions are compared.

    Attributes:
        width: of the space in which they are compared.
        facts: most statements of a description.
        temperature: at the beginning; it is learnt.
        focus: how sharply a text looks at the places that are like it; 0 looks everywhere alike.
    """

    width: int = 128
    facts: int = 2
    temperature: float = 0.07
    focus: float = 8.0


class Contrastive(FineTune):
    """Learning to tell which description belongs to which picture."""

    def __init__(
        self,
        pathway: str,
        knowledge: Path | None = None,
        contrastive: ContrastiveSettings = ContrastiveSettings(),
        tuning: Tuning = Tuning(language="freeze"),  # noqa: B008 - frozen
        **kwargs: Any,
    ) -> None:
        """
        Args:
            pathway: name or file of the guideline whose symbols are described.
            knowledge: YAML of further descriptions: slot, symbol, list of texts.
            contrastive: the comparison.
            tuning: what of vision and projector trains; the language part stays as it is.
            kwargs: see `FineTune`.
        """
        if tuning.language != "freeze":
            raise MedVLMError(
                "contrastive pre-training leaves the language part alone: --model.tuning.language=freeze."
            )
        super().__init__(tuning=tuning, **kwargs)
        self.contrastive = contrastive
        self.descriptions = Descriptions(load_pathway(pathway), knowledge)
        width = self.model.get_input_embeddings().weight.shape[1]
        self.picture_head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, contrastive.width, bias=False))
        self.text_head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, contrastive.width, bias=False))
        self.scale = nn.Parameter(torch.tensor(math.log(1 / contrastive.temperature)))

    def parameter_groups(self) -> list[dict[str, Any]]:
        """What trains, and the two projections."""
        own = [*self.picture_head.parameters(), *self.text_head.parameters(), self.scale]
        return [*super().parameter_groups(), {"params": own, "weight_decay": 0.0}]

    def training_step(self, batch: list[Picture], batch_index: int) -> Tensor:  # type: ignore[override]
        loss, right = self._compare(batch, Random(f"{self.trainer.global_step}/{batch_index}"))
        count = torch.tensor(float(len(batch)), device=self.device)
        self._window.append(count)
        self.log("train/loss", loss.detach() / count, prog_bar=True, batch_size=len(batch))
        self.log("train/matched", right, prog_bar=True, batch_size=len(batch))
        return self.everywhere(loss) * self.trainer.accumulate_grad_batches

    def validation_step(self, batch: list[Picture], batch_index: int) -> None:  # type: ignore[override]
        loss, right = self._compare(batch, Random(batch_index))
        self.log("val/loss", loss / len(batch), batch_size=len(batch), sync_dist=True)
        self.log("val/matched", right, batch_size=len(batch), prog_bar=True, sync_dist=True)

    def _compare(self, batch: list[Picture], random: Random) -> tuple[Tensor, Tensor]:
        """Both losses, summed over pictures, and the share of pictures whose nearest description is true of them."""
        facts = [self.descriptions.facts(truth, "a training picture") for _, truth in batch]
        # What is true of nearly every picture tells none of them apart: uncommon facts are said more often.
        rarity = rarities(facts)
        written = [self.descriptions.write(one, self.contrastive.facts, random, rarity) for one in facts]
        true = torch.tensor(matches([stated for _, stated in written], facts), device=self.device)
        tokens = self.seen([vision for vision, _ in batch])
        heads = self.picture_head(torch.cat(tokens)).split([len(one) for one in tokens])
        texts = self.text_head(self.read([text for text, _ in written]))
        scale = self.scale.exp().clamp(max=LARGEST_SCALE)
        loss, right = symmetric_loss(self._cosines(heads, texts), scale, true)
        return loss + len(batch) * self._told(heads, facts, rarity, scale, random), right

    def _cosines(self, heads: Sequence[Tensor], texts: Tensor) -> Tensor:
        return torch.stack([looked_at(one, texts, self.contrastive.focus) for one in heads])

    def _told(
        self,
        heads: Sequence[Tensor],
        facts: Sequence[Facts],
        rarity: Mapping[Fact, float],
        scale: Tensor,
        random: Random,
    ) -> Tensor:
        """Which of a slot's descriptions is true: cross-entropy, every symbol counting alike, mean over the slots."""
        bank = self.descriptions.alternatives(facts, random)
        if not bank:
            return scale.new_zeros(())
        texts = self.text_head(self.read([text for told in bank.values() for text in told.values()]))
        logits = (scale * self._cosines(heads, texts)).split([len(told) for told in bank.values()], dim=1)
        losses = []
        for (slot, told), rows in zip(bank.items(), logits, strict=True):
            known = [number for number, picture in enumerate(facts) if slot in picture]
            symbols = [facts[number][slot] for number in known]
            wanted = torch.tensor([list(told).index(symbol) for symbol in symbols], device=self.device)
            weights = torch.tensor([rarity[slot, symbol] for symbol in symbols], device=self.device)
            losses.append(
                (weights * functional.cross_entropy(rows[known], wanted, reduction="none")).sum() / weights.sum()
            )
        return torch.stack(losses).mean()

    def seen(self, rows: Sequence[dict[str, Tensor]]) -> list[Tensor]:
        """What the language part is shown of each picture: `[T, D]` each."""
        base = self.model.get_base_model() if self.loaded.is_adapter else self.model
        alike = all(row.keys() == rows[0].keys() for row in rows)
        if alike and rows[0].keys() == {"pixel_values"} and len({row["pixel_values"].shape for row in rows}) == 1:
            whole = _shown(base, {"pixel_values": torch.cat([row["pixel_values"] for row in rows])})
            # A tensor of all, or one a picture; what is neither has tiled them.
            if len(whole) == len(rows) and all(one.ndim == 2 for one in whole):
                return list(whole)
        # Families that tile or pack pictures: one at a time.
        return [_tokens(_shown(base, row)) for row in rows]

    def read(self, texts: Sequence[str]) -> Tensor:
        """`[B, D]`: the mean of the word embeddings of each text."""
        tokenizer = self.loaded.processor.tokenizer
        embeddings = self.model.get_input_embeddings()
        rows = []
        with torch.no_grad():
            for text in texts:
                ids = tokenizer(text, add_special_tokens=False, return_tensors="pt")["input_ids"][0]
                rows.append(embeddings(ids.to(self.device)).mean(dim=0))
        return torch.stack(rows)


def looked_at(tokens: Tensor, texts: Tensor, focus: float) -> Tensor:
    """Cosine of each text with what it looks at in one picture: its tokens, weighed by how like the text they are.

    Args:
        tokens: `[T, W]` of the picture.
        texts: `[B, W]`.
        focus: scale of the cosines before the softmax over the tokens; 0 takes their mean.

    Returns:
        `[B]`, float32.
    """
    places, words = functional.normalize(tokens.float(), dim=-1), functional.normalize(texts.float(), dim=-1)
    weights = (focus * words @ places.T).softmax(dim=-1)
    return functional.cosine_similarity(weights @ places, words, dim=-1)


def symmetric_loss(cosines: Tensor, scale: Tensor, true: Tensor) -> tuple[Tensor, Tensor]:
    """Cross-entropy from pictures to texts and back, with every true pair a right answer.

    Args:
        cosines: `[B, B]`, pictures by texts.
        scale: of the cosines.
        true: `[B, B]` bool, pictures by texts; each row and column has one at least.

    Returns:
        the loss summed over the pictures, and the share of pictures whose nearest text is true of them.
    """
    logits = scale.float() * cosines
    wanted = true.float()
    there = -(wanted / wanted.sum(dim=1, keepdim=True) * logits.log_softmax(dim=1)).sum()
    back = -(wanted / wanted.sum(dim=0, keepdim=True) * logits.log_softmax(dim=0)).sum()
    nearest = true.gather(1, logits.argmax(dim=1, keepdim=True))
    return 0.5 * (there + back), nearest.float().mean()


def _shown(base: Any, vision: dict[str, Tensor]) -> Any:
    given = {name: value.to(base.dtype) if value.is_floating_point() else value for name, value in vision.items()}
    return base.get_image_features(**given, return_dict=True).pooler_output


def _tokens(shown: Any) -> Tensor:
    """`[T, D]` of one picture, whatever its tiles."""
    return (shown if isinstance(shown, Tensor) else torch.cat(list(shown))).flatten(0, -2)


class PictureData(SplitFiles):
    """The pictures of conversations with pathway symbols, each once."""

    def __init__(self, pictures: int = 64, **kwargs: Any) -> None:
        """
        Args:
            pictures: of a batch; each is compared with the descriptions of all others.
            kwargs: see `SplitFiles`; the files are conversations with `symbols` of a pathway.
        """
        super().__init__(**kwargs)
        self.pictures = pictures
        self.rows: dict[str, list[Picture]] = {}

    def prepare_split(self, split: str) -> None:
        if split not in self.rows:
            self.rows[split] = self._read(split)

    def questions(self, split: str) -> list[tuple[Path, Question]]:
        """Those of the test files; pictures are compared, not asked about."""
        return super().questions(split) if split == "test" else []

    def summary(self) -> list[str]:
        return [f"{split:<11}{len(rows):>7,} pictures" for split, rows in self.rows.items()]

    def _read(self, split: str) -> list[Picture]:
        loaded = self._loaded()
        found: dict[tuple[str, ...], tuple[Encoded, dict[str, Any]]] = {}
        for path, conversations in self.conversations(split):
            encoder = ChatEncoder(loaded.processor, path.parent, loaded.name)
            for row in conversations:
                if not row.images:
                    continue
                if "truth" not in row.symbols:
                    raise MedVLMError(
                        f"{path}: {row.id} has no symbols to describe; make the file with 'medvlm pathway simulate' or "
                        "a curriculum."
                    )
                key = tuple(str(path.parent / image) for image in row.images)
                if key in found:
                    # Conversations about one picture ask for different slots: together they know more of it.
                    found[key][1].update(row.symbols["truth"])
                else:
                    found[key] = encoder.encode(row), dict(row.symbols["truth"])
        if len(found) < 2:
            raise MedVLMError(f"{len(found)} pictures in the {split} data: there is nothing to compare.")
        return [(encoded.vision, truth) for encoded, truth in found.values()]

    def make_sampler(self) -> TokenBudgetBatches:
        return self.dealt([1] * len(self.rows["train"]), self.pictures, seed=self.seed)

    def train_dataloader(self) -> DataLoader:
        return DataLoader(self.rows["train"], batch_sampler=self.train_batches(), collate_fn=list)  # type: ignore[arg-type]

    def val_dataloader(self) -> DataLoader | list:
        if "validation" not in self.rows:
            return []
        batches = self.dealt([1] * len(self.rows["validation"]), self.pictures, shuffle=False)
        return DataLoader(self.rows["validation"], batch_sampler=batches, collate_fn=list)  # type: ignore[arg-type]
