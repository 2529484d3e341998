"""The objectives of policy optimisation: how tokens are weighed and clipped.

GRPO (Shao et al., arXiv 2402.03300), DAPO (Yu et al., arXiv 2503.14476), Dr. GRPO (Liu et al., arXiv 2503.20783), GSPO
(Zheng et al., arXiv 2507.18071) and PPO (Schulman et al., arXiv 1707.06347) share one clipped surrogate:

    - sum over tokens of min(ratio A, clip(ratio, 1 - low, 1 + high) A) / normaliser
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch

from medvlm.training.logprobs import sums_by_row

if TYPE_CHECKING:
    from torch import Tensor

Variant = Literal["grpo", "dapo", "dr_grpo", "gspo", "ppo"]
CLIP: dict[str, tuple[float, float]] = {
    "grpo": (0.2, 0.2),
    "dapo": (0.2, 0.28),
    "dr_grpo": (0.2, 0.2),
    "gspo": (3e-4, 4e-4),
    "ppo": (0.2, 0.2),
}


@dataclass(frozen=True, eq=False)
class Surrogate:
    """The loss of one batch.

    Attributes:
        total: summed objective, with gradient.
        normaliser: what the sum is to be divided by (conversations, tokens, or tokens that there might have been).
        clipped: share of tokens whose ratio left the interval.
    """

    total: Tensor
    normaliser: Tensor
    clipped: Tensor


def surrogate(
    variant: Variant,
    change: Tensor,
    advantage: Tensor,
    rows: Tensor,
    answer: Tensor,
    samples: int,
    longest: int,
) -> Surrogate:
    """The clipped surrogate.

    Args:
        variant: `grpo` means over the tokens of a conversation, `dapo` and `ppo` over all tokens, `dr_grpo` divides by
            a constant instead of lengths, `gspo` has one ratio an answer.
        change: `[N]`, log-probability now minus at sampling, one a written token.
        advantage: `[N]`.
        rows: `[N]`, the conversation of each token.
        answer: `[N]`, the answer of each token, numbered over the batch.
        samples: number of conversations.
        longest: tokens that an answer may have.
    """
    low, high = CLIP[variant]
    if variant == "gspo":
        answers = int(answer.max()) + 1
        length = sums_by_row(torch.ones_like(change), answer, answers)
        mean = (sums_by_row(change, answer, answers) / length)[answer]
        # The value is the answer's ratio; the gradient reaches every token of it.
        change = mean.detach() + change - change.detach()
    ratio = change.exp()
    clipped = ratio.clamp(1 - low, 1 + high)
    objective = -torch.minimum(ratio * advantage, clipped * advantage)
    left = (ratio != clipped).float().mean()
    if variant in ("dapo", "ppo"):
        return Surrogate(objective.sum(), objective.new_tensor(float(len(objective))), left)
    if variant == "dr_grpo":
        return Surrogate(objective.sum(), objective.new_tensor(float(samples * longest)), left)
    lengths = sums_by_row(torch.ones_like(objective), rows, samples)
    return Surrogate((objective / lengths[rows]).sum(), objective.new_tensor(float(samples)), left)


def divergence(logprobs: Tensor, reference: Tensor) -> Tensor:
    """`[N]`: how far each token's probability is from the reference; unbiased and never negative (Schulman, 2020)."""
    gap = reference - logprobs
    return gap.exp() - gap - 1
