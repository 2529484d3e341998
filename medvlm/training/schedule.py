"""Optimiser and learning-rate schedule."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from medvlm.models.parts import Part


def parameter_groups(
    model: Any, parts: Mapping[str, Part], rates: Mapping[Part, float], weight_decay: float, muon: bool = False
) -> list[dict[str, Any]]:
    """One group a part and kind: matrices decay, norms, biases and embeddings do not.

    Args:
        model: the unwrapped model.
        parts: module name → part.
        rates: part → peak learning rate.
        weight_decay: of the matrices.
        muon: mark the groups of inner matrices (neither embedding nor output head) for Muon.
    """
    head = model.get_output_embeddings()
    groups: dict[tuple[Part, bool, bool], list] = {}
    seen: set[int] = set()
    for name, module in model.named_modules():
        for parameter in module.parameters(recurse=False):
            if not parameter.requires_grad or id(parameter) in seen:
                continue
            seen.add(id(parameter))
            decays = parameter.ndim >= 2 and not isinstance(module, torch.nn.Embedding)
            inner = muon and decays and parameter.ndim == 2 and module is not head
            groups.setdefault((parts[name], decays, inner), []).append(parameter)
    return [
        {"params": members, "lr": rates[part], "weight_decay": weight_decay if decays else 0.0}
        | {"name": part}
        | ({"muon": True} if inner else {})
        for (part, decays, inner), members in sorted(groups.items())
    ]


def warmup_cosine(total: int, warmup: int, floor: float) -> Callable[[int], float]:
    """Step → factor on the learning rate: linear up over `warmup` steps, then a cosine down to `floor`."""

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / (warmup + 1)
        progress = min(1.0, (step - warmup) / max(1, total - warmup))
        return floor + (1.0 - floor) * 0.5 * (1.0 + math.cos(math.pi * progress))

    return factor
