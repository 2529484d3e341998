"""How long an optimiser's update takes on this machine, before there is a model to update."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch

from medvlm.training.optimizer import MasterOptimizer

REPEATS = 5
# Numbers of the sample that stands for everything updated number by number.
SAMPLE = 4_000_000


def update_seconds(groups: Sequence[dict[str, Any]], dtype: torch.dtype) -> float:
    """Seconds of one update of parameter groups, which may be on the meta device.

    AdamW works number by number, so a sample tells its rate; Muon's matrices are timed shape by shape.

    Args:
        groups: of `parameter_groups`.
        dtype: of the weights; below float32 the optimiser keeps masters.
    """
    numbers = sum(p.numel() for group in groups if not group.get("muon") for p in group["params"])
    seconds = numbers * _seconds((SAMPLE,), dtype, False) / SAMPLE if numbers else 0.0
    shapes = Counter(tuple(p.shape) for group in groups if group.get("muon") for p in group["params"])
    return seconds + sum(count * _seconds(shape, dtype, True) for shape, count in shapes.items())


def _seconds(shape: tuple[int, ...], dtype: torch.dtype, muon: bool) -> float:
    """The usual time of one update of one parameter."""
    parameter = torch.nn.Parameter(torch.zeros(shape, dtype=dtype))
    parameter.grad = torch.ones_like(parameter)
    optimizer = MasterOptimizer([{"params": [parameter], "muon": muon}])
    optimizer.step()
    times = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        optimizer.step()
        times.append(time.perf_counter() - began)
    return sorted(times)[REPEATS // 2]
