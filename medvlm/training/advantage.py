"""From rewards of a group of conversations to one advantage a turn.

Group-relative policy optimisation (GRPO, Shao et al., arXiv 2402.03300) compares the samples of one prompt with each
other. A conversation has a reward for every turn and one for the whole, so each turn gets credit of its own:

    A_t = z(sum over s >= t of discount^(s - t) r_s) + whole * z(total)

with z over the group. Without division by the standard deviation (Dr. GRPO, Liu et al., arXiv 2503.20783) easy and
hard prompts weigh alike.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from medvlm.pathways.consistency import Conflict

EPSILON = 1e-4


def turn_advantages(
    rewards: Tensor, discount: float = 0.0, whole: float = 0.5, scaled: bool = True, least: float = 0.0
) -> Tensor:
    """Advantages of the turns of one group.

    Args:
        rewards: `[G, n]`, reward of every turn of the `G` conversations on one script.
        discount: how much a turn is paid for what follows it, 0..1.
        whole: weight of the term for the whole conversation.
        scaled: divide by the standard deviation over the group.
        least: smallest standard deviation to divide by; above 0 where rewards differ by noise alone.

    Returns:
        `[G, n]`, zero in the mean over the group; all zero for a group whose conversations earned the same.
    """
    going = torch.zeros_like(rewards)
    ahead = torch.zeros_like(rewards[:, 0])
    for turn in reversed(range(rewards.shape[1])):
        ahead = rewards[:, turn] + discount * ahead
        going[:, turn] = ahead
    own = _relative(going, scaled, least)
    total = _relative(rewards.sum(dim=1, keepdim=True), scaled, least)
    return own + whole * total


def contradictions(conflicts: Iterable[Conflict], asked: Sequence[str]) -> list[float]:
    """1.0 for every answer that contradicts an earlier one: of the slots that clash, the one that was asked last.

    Args:
        conflicts: of one conversation.
        asked: its slots, in order.
    """
    last = {slot: place for place, slot in enumerate(asked)}
    found = [0.0] * len(asked)
    for conflict in conflicts:
        found[max(last[slot] for slot in conflict.slots)] = 1.0
    return found


def _relative(values: Tensor, scaled: bool, least: float) -> Tensor:
    """Minus the mean over the group, maybe in its standard deviations."""
    centred = values - values.mean(dim=0, keepdim=True)
    if not scaled:
        return centred
    spread = centred.square().mean(dim=0, keepdim=True).sqrt()
    # Equal rewards differ by rounding only; dividing that by itself would make noise of it.
    return torch.where(spread > EPSILON, centred / (spread.clamp(min=least) + EPSILON), torch.zeros_like(centred))
