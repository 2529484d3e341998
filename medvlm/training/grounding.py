"""The grounding guard: a reward for what the picture says, not for what would be said anyway.

The gain of a right answer over the worst one of its group is weighed with the part of its likelihood that another
picture takes away:

    guarded = (reward - least reward of the group) * max(0, 1 - p'(answer) / p(answer))

An answer from a cue in the words is as likely beside any picture: it earns what a wrong answer earns, nothing. Nor does
it cost more than that, so that a guess from the picture is never the worse bet.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from medvlm.training.logprobs import sums_by_row
from medvlm.training.scripts import Sample

Guard = Literal["none", "blank", "shuffled"]


def weights(own: Tensor, other: Tensor, samples: Sequence[Sample]) -> list[Tensor]:
    """Per sample, the weight of each turn, 0..1.

    Args:
        own: `[N]`, log-probability of every written token beside its own picture.
        other: the same beside another one.
        samples: whose tokens these are, in order.
    """
    found = []
    for sample, change in zip(samples, (own - other).split([len(sample.wrote) for sample in samples]), strict=True):
        turns = torch.tensor(sample.wrote, device=change.device)
        lost = sums_by_row(change, turns, len(sample.answers))
        found.append((1 - (-lost).exp()).clamp(min=0.0).cpu())
    return found


def guarded(rewards: Tensor, weights: Tensor) -> Tensor:
    """`[G, n]`: what the turns of a group earn by the picture.

    Args:
        rewards: `[G, n]` of the conversations on one script.
        weights: `[G, n]`, 0..1.
    """
    return (rewards - rewards.min(dim=0, keepdim=True).values) * weights


def other_images(samples: Sequence[Sample], guard: Guard) -> list[dict[str, Tensor]]:
    """For every sample the pictures that the guard shows instead.

    `shuffled` takes those of another patient of the batch, one with another truth where there is one; where no other
    has pictures of the same sizes they are blank. Blank is zeros after normalisation (mid grey for most processors).
    """
    if guard != "shuffled":
        return [_blank(sample.images) for sample in samples]
    pool = {sample.script.conversation.id: sample for sample in samples}
    return [_of_another(sample, list(pool.values())) for sample in samples]


def _of_another(sample: Sample, pool: Sequence[Sample]) -> dict[str, Tensor]:
    own, row = sample.images, sample.script.conversation
    place = next(number for number, one in enumerate(pool) if one.script.conversation.id == row.id)
    # Turned, so that neighbours do not all get the same picture.
    others = [
        one
        for one in (*pool[place + 1 :], *pool[:place])
        if one.script.conversation.patient != row.patient and _fits(one.images, own)
    ]
    truth = row.symbols.get("truth")
    chosen = next((one for one in others if one.script.conversation.symbols.get("truth") != truth), None)
    chosen = chosen or next(iter(others), None)
    return chosen.images if chosen else _blank(own)


def _blank(images: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: torch.zeros_like(value) if value.is_floating_point() else value for name, value in images.items()}


def _fits(images: dict[str, Tensor], own: dict[str, Tensor]) -> bool:
    """Whether pictures take the same places: shapes, and sizes that a processor tells in whole numbers."""
    return images.keys() == own.keys() and all(
        value.shape == own[name].shape and (value.is_floating_point() or torch.equal(value, own[name]))
        for name, value in images.items()
    )
