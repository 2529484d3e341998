"""Policy optimisation over whole conversations: sample a group, let the pathway score every turn, push.

Group-relative policy optimisation (Shao et al., arXiv 2402.03300) with per-turn credit (`training/advantage.py`). The
variants differ in how tokens are weighed and clipped: DAPO (Yu et al., arXiv 2503.14476), Dr. GRPO (Liu et al.,
arXiv 2503.20783), GSPO (Zheng et al., arXiv 2507.18071).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from medvlm.errors import MedVLMError
from medvlm.pathways.dialogues import score_row
from medvlm.pathways.loader import load_pathway
from medvlm.pathways.reward import Scorer
from medvlm.training.advantage import turn_advantages
from medvlm.training.collate import TrainingCollator
from medvlm.training.finetune import FineTune
from medvlm.training.logprobs import Reference, sums_by_row, token_logprobs
from medvlm.training.rollouts import GIVEN, Rollouts, Sample

Variant = Literal["grpo", "dapo", "dr_grpo", "gspo"]
CLIP: dict[str, tuple[float, float]] = {
    "grpo": (0.2, 0.2),
    "dapo": (0.2, 0.28),
    "dr_grpo": (0.2, 0.2),
    "gspo": (3e-4, 4e-4),
}


@dataclass(frozen=True)
class PolicySettings:
    """How conversations are sampled, credited and learnt.

    Attributes:
        group: conversations sampled for each script.
        variant: `grpo` (mean over the tokens of a conversation), `dapo` (mean over all tokens, wider upper clip),
            `dr_grpo` (a constant instead of the length, no standard deviation), `gspo` (one ratio an answer).
        temperature: of sampling.
        discount: how much a turn is paid for what follows it, 0..1.
        whole: weight of the term for the whole conversation beside the turn's own.
        kl: weight of the divergence from the reference (the model without its adapters, or as it began).
        guard: pay right answers only as far as they need the picture: `blank` or `shuffled` compares with how likely
            the same answer is beside another picture; `none` pays in full.
    """

    group: int = 8
    variant: Variant = "dapo"
    temperature: float = 1.0
    discount: float = 0.0
    whole: float = 0.5
    kl: float = 0.02
    guard: Literal["none", "blank", "shuffled"] = "none"

    def __post_init__(self) -> None:
        if self.group < 2:
            raise MedVLMError(f"model.policy.group is {self.group}: a group needs two conversations to compare.")


@dataclass(eq=False)
class _Held:
    """The samples of one batch, kept for further updates on them."""

    batch: dict[str, Tensor]
    advantage: Tensor  # [N], one a written token
    answer: Tensor  # [N], number of the answer that the token belongs to, over the whole batch
    samples: int
    before: Tensor | None = None  # [N], log-probabilities at the first update


class Policy(FineTune):
    """Fine-tuning whose teacher is a pathway's score of the model's own conversations."""

    def __init__(self, pathway: str, policy: PolicySettings = PolicySettings(), **kwargs: Any) -> None:
        """
        Args:
            pathway: name or file of the guideline that scores.
            policy: sampling, credit and loss.
            kwargs: see `FineTune`; `max_new_tokens` also bounds the sampled answers.
        """
        super().__init__(**kwargs)
        self.pathway, self.policy = pathway, policy
        self.scorer = Scorer(load_pathway(pathway))
        self._rolled: list[int] = []
        self._held: _Held | None = None
        self._reference: Reference | None = None

    def setup(self, stage: str) -> None:
        if stage == "fit" and self.policy.kl:
            # Before a checkpoint is restored: the reference is the model that alignment began with.
            self._reference = Reference(self.loaded)

    def rollouts(self, temperature: float) -> Rollouts:
        return Rollouts(self.loaded, max_new_tokens=self.max_new_tokens, temperature=temperature)

    def training_step(self, batch: list[int], batch_index: int) -> Tensor:  # type: ignore[override]
        if self._rolled != batch:
            self._rolled, self._held = batch, self._sample(batch)
        held = self._held
        if held is None:
            # Every group earned the same throughout: there is nothing to prefer.
            self._window.append(torch.ones(1)[0])
            return sum(value.sum() * 0.0 for value in self.parameters() if value.requires_grad)  # type: ignore[return-value]
        logprobs, entropy, rows = token_logprobs(self.model, held.batch)
        if held.before is None:
            held.before = logprobs.detach()
        loss, normaliser = self._loss(logprobs, rows, held)
        if self._reference is not None:
            with self._reference() as reference:
                theirs, _, _ = token_logprobs(reference, held.batch)
            gap = theirs - logprobs
            divergence = gap.exp() - gap - 1  # unbiased and never negative (Schulman, 2020)
            self.log("train/kl", divergence.detach().mean(), batch_size=1)
            loss = loss + self.policy.kl * divergence.sum() * (normaliser / len(divergence))
        self._window.append(normaliser)
        self.log("train/entropy", entropy.mean(), batch_size=1)
        self.log("train/loss", loss.detach() / normaliser, batch_size=1)
        return loss * self.trainer.accumulate_grad_batches

    def _loss(self, logprobs: Tensor, rows: Tensor, held: _Held) -> tuple[Tensor, Tensor]:
        """The clipped objective, summed, and what it is to be divided by."""
        variant = self.policy.variant
        low, high = CLIP[variant]
        assert held.before is not None
        change = logprobs - held.before
        if variant == "gspo":
            answers = int(held.answer.max()) + 1
            length = sums_by_row(torch.ones_like(change), held.answer, answers)
            mean = (sums_by_row(change, held.answer, answers) / length)[held.answer]
            # The value is the answer's ratio; the gradient reaches every token of it.
            change = mean.detach() + change - change.detach()
        ratio = change.exp()
        clipped = ratio.clamp(1 - low, 1 + high)
        objective = -torch.minimum(ratio * held.advantage, clipped * held.advantage)
        self.log("train/clipped", (ratio != clipped).float().mean(), batch_size=1)
        if variant == "dapo":
            return objective.sum(), objective.new_tensor(float(len(objective)))
        if variant == "dr_grpo":
            return objective.sum(), objective.new_tensor(float(held.samples * self.max_new_tokens))
        lengths = sums_by_row(torch.ones_like(objective), rows, held.samples)
        return (objective / lengths[rows]).sum(), objective.new_tensor(float(held.samples))

    def _sample(self, numbers: list[int]) -> _Held | None:
        """Roll out, score, credit; None where no group tells better from worse."""
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        scripts = [data.scripts["train"][number] for number in numbers]
        seed = (self.trainer.global_step * self.trainer.world_size + self.trainer.global_rank) * 2 + 1
        samples = self.rollouts(self.policy.temperature)(scripts, self.policy.group, seed)
        rewards = [self._rewards(sample) for sample in samples]
        self._report(samples, rewards)
        if self.policy.guard != "none":
            paid = self._grounded(samples)
            rewards = [
                torch.where(reward > 0, reward * share, reward) for reward, share in zip(rewards, paid, strict=True)
            ]
        kept: list[tuple[Sample, Tensor]] = []
        for start in range(0, len(samples), self.policy.group):
            group = slice(start, start + self.policy.group)
            credit = turn_advantages(
                torch.stack(rewards[group]), self.policy.discount, self.policy.whole, self.policy.variant != "dr_grpo"
            )
            if bool(credit.any()):
                kept += zip(samples[group], credit, strict=True)
        self.log("train/flat", 1 - len(kept) / len(samples), batch_size=1)
        if not kept:
            return None
        advantage, answer = [], []
        for number, (sample, credit) in enumerate(kept):
            wrote = [turn for turn in sample.turns if turn != GIVEN]
            advantage += [credit[turn] for turn in wrote]
            answer += [(number, turn) for turn in wrote]
        index = {key: place for place, key in enumerate(dict.fromkeys(answer))}
        return _Held(
            self._collate([sample.encoded() for sample, _ in kept]),
            torch.stack(advantage).to(self.device),
            torch.tensor([index[key] for key in answer], device=self.device),
            len(kept),
        )

    def _rewards(self, sample: Sample) -> Tensor:
        row = {"id": sample.script.conversation.id, "symbols": sample.script.conversation.symbols}
        return torch.tensor(score_row(self.scorer, row, sample.answers).turns)

    @torch.no_grad()
    def _grounded(self, samples: Sequence[Sample]) -> list[Tensor]:
        """Per sample and turn the share (0..1) of the answer's likelihood that another picture takes away."""
        own = [sample.encoded() for sample in samples]
        other = [
            sample.encoded(images) for sample, images in zip(samples, other_images(samples, self.policy), strict=True)
        ]
        likely = [token_logprobs(self.model, self._collate(rows))[0] for rows in (own, other)]
        loss = (likely[0] - likely[1]).split([int(row.supervised.sum()) for row in own])
        shares = []
        for sample, change in zip(samples, loss, strict=True):
            turns = torch.tensor([turn for turn in sample.turns if turn != GIVEN], device=change.device)
            drop = sums_by_row(change, turns, len(sample.answers))
            shares.append((1 - (-drop).exp()).clamp(min=0.0).cpu())
        return shares

    def _collate(self, rows: Sequence[Any]) -> dict[str, Tensor]:
        tokenizer = self.loaded.processor.tokenizer
        pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
        batch = {name: value.to(self.device) for name, value in TrainingCollator(pad)(rows).items()}
        return {
            name: value.to(self.model.dtype) if value.is_floating_point() else value for name, value in batch.items()
        }

    def _report(self, samples: Sequence[Sample], rewards: Sequence[Tensor]) -> None:
        total = torch.stack([reward.sum() for reward in rewards])
        lengths = torch.tensor([sum(turn != GIVEN for turn in sample.turns) for sample in samples]).float()
        self.log("train/reward", total.mean(), prog_bar=True, batch_size=1)
        self.log("train/words", lengths.mean(), batch_size=1)
        self.log("train/cut", sum(sample.cut for sample in samples) / len(samples), batch_size=1)

    def validation_step(self, batch: list[int], batch_index: int) -> None:  # type: ignore[override]
        """The reward of greedy answers to held-out scripts."""
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        scripts = [data.scripts["validation"][number] for number in batch]
        rewards = [float(self._rewards(sample).sum()) for sample in self.rollouts(0.0)(scripts)]
        mean = sum(rewards) / len(rewards)
        self.log("val/reward", mean, batch_size=len(rewards), prog_bar=True, sync_dist=True)


def other_images(samples: Sequence[Sample], policy: PolicySettings) -> list[dict[str, Tensor]]:
    """For every sample the pictures that the guard shows instead: blank ones, or those of another conversation.

    A blank picture is one of zeros after normalisation (mid grey for most processors).
    """
    own = [sample.images for sample in samples]
    if policy.guard == "shuffled":
        # The samples of a group share a picture, so one group further is another patient's.
        return [own[(number + policy.group) % len(own)] for number in range(len(own))]
    return [
        {name: torch.zeros_like(value) if value.is_floating_point() else value for name, value in images.items()}
        for images in own
    ]
