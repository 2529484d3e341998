"""The value head of PPO: what a conversation is going to earn, judged before each answer.

Generalised advantage estimation (Schulman et al., arXiv 1506.02438) over turns, not tokens: an answer is one action,
and its tokens share its advantage.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

if TYPE_CHECKING:
    from torch import Tensor

CLIP = 0.2


class Critic(nn.Module):
    """A linear value of the hidden state from which an answer's first word is predicted.

    It learns on the model's states without changing them, so that no loss of its own moves the policy.
    """

    def __init__(self, width: int) -> None:
        """
        Args:
            width: of the hidden states.
        """
        super().__init__()
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.value = nn.Linear(width, 1)
        nn.init.zeros_(self.value.weight)
        nn.init.zeros_(self.value.bias)

    def forward(self, hidden: Tensor) -> Tensor:
        """`[A, D]` → `[A]`."""
        values: Tensor = self.value(self.norm(hidden.to(self.value.weight.dtype)))[:, 0]
        return values


def first_of_each(answer: Tensor) -> Tensor:
    """`[A]`: the place of the first token of each answer; `answer` `[N]` numbers them in order."""
    return torch.cat([answer.new_ones(1), answer.diff()]).nonzero()[:, 0]


def advantages(rewards: Tensor, values: Tensor, discount: float, smoothing: float) -> tuple[Tensor, Tensor]:
    """Generalised advantages of the turns of one conversation.

        delta_t = r_t + discount V_{t+1} - V_t
        A_t = delta_t + discount smoothing A_{t+1}

    Args:
        rewards: `[n]`.
        values: `[n]`, the critic's value before each answer.
        discount: how much a turn is paid for what follows it, 0..1.
        smoothing: lambda; 0 trusts the critic for all that follows, 1 only what was earned.

    Returns:
        advantages `[n]` and returns `[n]` (what the critic should have said).
    """
    ahead, following = rewards.new_zeros(()), rewards.new_zeros(())
    found = torch.zeros_like(rewards)
    for turn in reversed(range(len(rewards))):
        delta = rewards[turn] + discount * following - values[turn]
        ahead = delta + discount * smoothing * ahead
        found[turn] = ahead
        following = values[turn]
    return found, found + values


def value_loss(values: Tensor, before: Tensor, returns: Tensor) -> Tensor:
    """`[A]`: half the squared error, the larger one of the value and of the value kept near what it was.

    Args:
        values: now, `[A]` with gradient.
        before: at sampling, `[A]`.
        returns: what they should have been, `[A]`.
    """
    near = before + (values - before).clamp(-CLIP, CLIP)
    return 0.5 * torch.maximum((values - returns).square(), (near - returns).square())
