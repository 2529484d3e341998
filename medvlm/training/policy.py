"""Policy optimisation over whole conversations: sample a group, let the pathway score every turn, push.

Per-turn credit is relative to a group (`advantage.py`) or to a critic's value (`critic.py`, PPO); the variants of the
clipped objective are in `surrogate.py`, the guard against answers that need no picture in `grounding.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from medvlm.errors import MedVLMError
from medvlm.models.chat import Encoded
from medvlm.pathways.dialogues import score_row
from medvlm.pathways.loader import load_pathway
from medvlm.pathways.reward import Score, Scorer
from medvlm.training.advantage import contradictions, turn_advantages
from medvlm.training.collate import TrainingCollator
from medvlm.training.critic import Critic, advantages, first_of_each, value_loss
from medvlm.training.finetune import FineTune
from medvlm.training.grounding import Guard, guarded, other_images, weights
from medvlm.training.logprobs import Reference, token_logprobs
from medvlm.training.rollouts import Rollouts, Sample
from medvlm.training.surrogate import Variant, divergence, surrogate

# Guarded rewards differ by what the picture changes in the likelihood of words, however little: a spread below this is
# not blown up to one.
GUARDED_SPREAD = 0.1


@dataclass(frozen=True)
class PolicySettings:
    """How conversations are sampled, credited and learnt.

    Attributes:
        group: conversations sampled for each script.
        variant: `grpo` (mean over the tokens of a conversation), `dapo` (mean over all tokens, wider upper clip),
            `dr_grpo` (a constant instead of the length, no standard deviation), `gspo` (one ratio an answer), `ppo` (a
            value head instead of the group; set `discount`).
        temperature: of sampling.
        discount: how much a turn is paid for what follows it, 0..1.
        whole: weight of the term for the whole conversation beside the turn's own; with `ppo` a last payment.
        clash: what an answer loses that contradicts what the conversation said before, in right answers. A pathway pays
            a half-right contradiction more than two wrong answers that agree; this is what outweighs it.
        kl: weight of the divergence from the model as alignment found it.
        guard: pay a right answer only as far as the picture makes it likelier than a `blank` picture or that of another
            patient (`shuffled`) would; `none` pays in full.
        smoothing: of `ppo`: lambda of the generalised advantages, 0..1.
        value_rate: of `ppo`: learning rate of the value head.
        value_weight: of `ppo`: weight of the value loss.
    """

    group: int = 8
    variant: Variant = "dapo"
    temperature: float = 1.0
    discount: float = 0.0
    whole: float = 0.5
    clash: float = 0.0
    kl: float = 0.02
    guard: Guard = "none"
    smoothing: float = 0.95
    value_rate: float = 1e-2
    value_weight: float = 0.5

    def __post_init__(self) -> None:
        if self.group < 2 and (self.variant != "ppo" or self.guard != "none"):
            raise MedVLMError(f"model.policy.group is {self.group}: a group needs two conversations to compare.")


@dataclass(eq=False)
class _Held:
    """The samples of one batch, kept for further updates on them.

    Attributes:
        batch: `forward` inputs and labels.
        advantage: `[N]`, one a written token.
        answer: `[N]`, number of the answer that the token belongs to, over the whole batch.
        samples: number of conversations.
        before: `[N]`, log-probabilities at sampling.
        values, returns: of each answer, where there is a critic.
    """

    batch: dict[str, Tensor]
    advantage: Tensor
    answer: Tensor
    samples: int
    before: Tensor | None = None
    values: Tensor | None = None
    returns: Tensor | None = None


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
        width = self.model.config.get_text_config().hidden_size
        self.critic = Critic(width) if policy.variant == "ppo" else None
        self._rollouts: dict[float, Rollouts] = {}
        self._rolled: list[int] = []
        self._held: _Held | None = None
        self._reference: Reference | None = None

    def setup(self, stage: str) -> None:
        super().setup(stage)
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        if stage == "fit" and data.updates > 1 and self.trainer.accumulate_grad_batches > 1:
            raise MedVLMError("several updates on the same samples need --trainer.accumulate_grad_batches=1.")
        if stage == "fit" and self.policy.kl:
            # Before a checkpoint is restored: the reference is the model that alignment began with.
            self._reference = Reference(self.loaded)

    def rollouts(self, temperature: float) -> Rollouts:
        if temperature not in self._rollouts:
            self._rollouts[temperature] = Rollouts(
                self.loaded, max_new_tokens=self.max_new_tokens, temperature=temperature
            )
        return self._rollouts[temperature]

    def parameter_groups(self) -> list[dict[str, Any]]:
        """What trains, and the value head where there is one."""
        own = [] if self.critic is None else [{"params": list(self.critic.parameters()), "lr": self.policy.value_rate}]
        return [*super().parameter_groups(), *own]

    def training_step(self, batch: list[int], batch_index: int) -> Tensor:  # type: ignore[override]
        if self._rolled != batch:
            self._rolled, self._held = batch, self._sample(batch)
        held = self._held
        if held is None:
            # Every group earned the same throughout: there is nothing to prefer.
            self._window.append(torch.zeros((), device=self.device))
            self.log("train/loss", 0.0, batch_size=1)
            return self.everywhere(torch.zeros((), device=self.device))
        said = token_logprobs(self.model, held.batch)
        if held.before is None:
            held.before = said.logprobs.detach()
        own = surrogate(
            self.policy.variant,
            said.logprobs - held.before,
            held.advantage,
            said.rows,
            held.answer,
            held.samples,
            self.max_new_tokens,
        )
        # Other terms are means; they are summed like the objective, so that a window of batches weighs them right.
        loss = own.total
        if self._reference is not None:
            with self._reference() as reference:
                apart = divergence(said.logprobs, token_logprobs(reference, held.batch).logprobs)
            self.log("train/kl", apart.detach().mean(), batch_size=1)
            loss = loss + self.policy.kl * own.normaliser * apart.mean()
        if self.critic is not None and held.values is not None and held.returns is not None:
            values = self.critic(said.hidden[first_of_each(held.answer)])
            missed = value_loss(values, held.values, held.returns).mean()
            self.log("train/value", missed.detach(), batch_size=1)
            loss = loss + self.policy.value_weight * own.normaliser * missed
        self._window.append(own.normaliser)
        self.log("train/clipped", own.clipped, batch_size=1)
        self.log("train/entropy", said.entropy.mean(), batch_size=1)
        self.log("train/loss", loss.detach() / own.normaliser, batch_size=1)
        return self.everywhere(loss) * self.trainer.accumulate_grad_batches

    def _sample(self, numbers: list[int]) -> _Held | None:
        """Roll out, score, credit; None where no group tells better from worse."""
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        scripts = [data.scripts["train"][number] for number in numbers]
        samples = self.rollouts(self.policy.temperature)(scripts, self.policy.group, self.trainer.global_step)
        rewards = [self._rewards(sample) for sample in samples]
        self._report(samples, rewards)
        if self.policy.guard != "none":
            rewards = self._guard(samples, rewards)
        if self.policy.clash:
            rewards = [paid - self._clashes(sample) for paid, sample in zip(rewards, samples, strict=True)]
        return self._judged(samples, rewards) if self.critic else self._compared(samples, rewards)

    def _compared(self, samples: Sequence[Sample], rewards: Sequence[Tensor]) -> _Held | None:
        """Credit relative to the group; groups that earned the same throughout are left out."""
        policy = self.policy
        kept: list[Sample] = []
        credits: list[Tensor] = []
        for start in range(0, len(samples), policy.group):
            group = slice(start, start + policy.group)
            credit = turn_advantages(
                torch.stack(list(rewards[group])),
                policy.discount,
                policy.whole,
                policy.variant != "dr_grpo",
                GUARDED_SPREAD if policy.guard != "none" else 0.0,
            )
            if bool(credit.any()):
                kept += samples[group]
                credits += list(credit)
        self.log("train/flat", 1 - len(kept) / len(samples), batch_size=1)
        if not kept:
            return None
        held = self._hold(kept)
        held.advantage = self._by_token(kept, credits)
        return held

    def _judged(self, samples: Sequence[Sample], rewards: Sequence[Tensor]) -> _Held:
        """Credit relative to the critic's value before each answer, in standard deviations over the batch."""
        assert self.critic is not None
        held, policy = self._hold(samples), self.policy
        with torch.no_grad():
            said = token_logprobs(self.model, held.batch)
            held.values = self.critic(said.hidden[first_of_each(held.answer)])
        held.before = said.logprobs
        found, returns = [], []
        counts = [len(reward) for reward in rewards]
        for reward, values in zip(rewards, held.values.float().cpu().split(counts), strict=True):
            paid = reward.clone()
            paid[-1] += policy.whole * reward.sum()
            gained, owed = advantages(paid, values, policy.discount, policy.smoothing)
            found.append(gained)
            returns.append(owed)
        every = torch.cat(found)
        mean, spread = every.mean(), every.std(correction=0)
        held.returns = torch.cat(returns).to(held.values)
        held.advantage = self._by_token(samples, [(one - mean) / (spread + 1e-4) for one in found])
        return held

    def _hold(self, samples: Sequence[Sample]) -> _Held:
        """Samples as one batch, still without credit."""
        answer = [(number, turn) for number, sample in enumerate(samples) for turn in sample.wrote]
        index = {key: place for place, key in enumerate(dict.fromkeys(answer))}
        return _Held(
            self._collate([sample.encoded() for sample in samples]),
            torch.zeros(len(answer), device=self.device),
            torch.tensor([index[key] for key in answer], device=self.device),
            len(samples),
        )

    def _by_token(self, samples: Sequence[Sample], credits: Sequence[Tensor]) -> Tensor:
        """`[N]`: each written token gets the credit of its turn."""
        spread = [credit[sample.wrote] for sample, credit in zip(samples, credits, strict=True)]
        return torch.cat(spread).to(self.device)

    def _score(self, sample: Sample) -> Score:
        row = {"id": sample.script.conversation.id, "symbols": sample.script.conversation.symbols}
        return score_row(self.scorer, row, sample.said)

    def _rewards(self, sample: Sample) -> Tensor:
        return torch.tensor(self._score(sample).turns)

    def _clashes(self, sample: Sample) -> Tensor:
        """`[n]`: what each answer loses for contradicting an earlier one."""
        found = contradictions(self._score(sample).conflicts, sample.script.conversation.symbols["asked"])
        return self.policy.clash / len(found) * torch.tensor(found)

    @torch.no_grad()
    def _guard(self, samples: Sequence[Sample], rewards: Sequence[Tensor]) -> list[Tensor]:
        """What the turns earn by the picture."""
        shown = zip(samples, other_images(samples, self.policy.guard), strict=True)
        both = [[sample.encoded() for sample in samples], [sample.encoded(images) for sample, images in shown]]
        own, other = (token_logprobs(self.model, self._collate(rows)).logprobs for rows in both)
        found = weights(own, other, samples)
        paid: list[Tensor] = []
        for start in range(0, len(samples), self.policy.group):
            group = slice(start, start + self.policy.group)
            paid += guarded(torch.stack(list(rewards[group])), torch.stack(found[group]))
        self.log("train/guarded", torch.stack([one.sum() for one in paid]).mean(), batch_size=1)
        self.log("train/grounded", torch.cat(found).mean(), batch_size=1)
        return paid

    def _collate(self, rows: Sequence[Encoded]) -> dict[str, Tensor]:
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        batch = {name: value.to(self.device) for name, value in TrainingCollator(data.pad_id)(rows).items()}
        return {
            name: value.to(self.model.dtype) if value.is_floating_point() else value for name, value in batch.items()
        }

    def _report(self, samples: Sequence[Sample], rewards: Sequence[Tensor]) -> None:
        total = torch.stack([reward.sum() for reward in rewards])
        lengths = torch.tensor([len(sample.wrote) for sample in samples]).float()
        self.log("train/reward", total.mean(), prog_bar=True, batch_size=1)
        self.log("train/words", lengths.mean(), batch_size=1)
        self.log("train/cut", sum(bool(sample.cut) for sample in samples) / len(samples), batch_size=1)

    def validation_step(self, batch: list[int], batch_index: int) -> None:  # type: ignore[override]
        """The reward of greedy answers to held-out scripts."""
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        scripts = [data.scripts["validation"][number] for number in batch]
        rewards = [float(self._rewards(sample).sum()) for sample in self.rollouts(0.0)(scripts)]
        mean = sum(rewards) / len(rewards)
        self.log("val/reward", mean, batch_size=len(rewards), prog_bar=True, sync_dist=True)
