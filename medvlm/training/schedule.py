"""Optimiser and learning-rate schedule."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from medvlm.models.parts import Part


def parameter_groups(
    model: Any,
    parts: Mapping[str, Part],
    rates: Mapping[Part, float],
    weight_decay: float,
    muon: bool = False,
    layer_decay: float = 1.0,
) -> list[dict[str, Any]]:
    """One group a part and kind: matrices decay, norms, biases and embeddings do not.

    Args:
        model: the unwrapped model.
        parts: module name → part.
        rates: part → peak learning rate.
        weight_decay: of the matrices.
        muon: mark the groups of inner matrices (neither embedding nor output head) for Muon.
        layer_decay: factor on the rate from each layer to the one below it, the topmost one having the full rate.
    """
    head = model.get_output_embeddings()
    depths = _depths(model) if layer_decay < 1.0 else {}
    groups: dict[tuple[Part, int, bool, bool], list] = {}
    seen: set[int] = set()
    for name, module in model.named_modules():
        for parameter in module.parameters(recurse=False):
            if not parameter.requires_grad or id(parameter) in seen:
                continue
            seen.add(id(parameter))
            decays = parameter.ndim >= 2 and not isinstance(module, torch.nn.Embedding)
            inner = muon and decays and parameter.ndim == 2 and module is not head
            groups.setdefault((parts[name], depths.get(name, 0), decays, inner), []).append(parameter)
    return [
        {"params": members, "lr": rates[part] * layer_decay**depth, "weight_decay": weight_decay if decays else 0.0}
        | {"name": part}
        | ({"muon": True} if inner else {})
        for (part, depth, decays, inner), members in sorted(groups.items())
    ]


def _depths(model: Any) -> dict[str, int]:
    """Module name → layers above it in its stack; embeddings lie below the lowest layer."""
    names = {id(module): name for name, module in model.named_modules()}
    depths: dict[str, int] = {}
    for part in (model.get_encoder(modality="image"), model.get_decoder()):
        stacks = [module for module in part.modules() if isinstance(module, torch.nn.ModuleList)]
        layers = max(stacks, key=len, default=torch.nn.ModuleList())
        for index, layer in enumerate(layers):
            for module in layer.modules():
                depths[names[id(module)]] = len(layers) - 1 - index
        for module in part.modules():
            if any(word in names[id(module)].rpartition(".")[2] for word in ("embed", "patch_conv")):
                depths.setdefault(names[id(module)], len(layers))
    return depths


def warmup_cosine(total: int, warmup: int, floor: float) -> Callable[[int], float]:
    """Step → factor on the learning rate: linear up over `warmup` steps, then a cosine down to `floor`."""

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / (warmup + 1)
        progress = min(1.0, (step - warmup) / max(1, total - warmup))
        return floor + (1.0 - floor) * 0.5 * (1.0 + math.cos(math.pi * progress))

    return factor
