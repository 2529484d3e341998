"""What the channels of an expert's network mean: structures first, then class evidence."""

from __future__ import annotations

import torch


def split_output(output: torch.Tensor, structures: int) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Network output `[B, L + K, ...]` → structure logits `[B, L, ...]` and pooled class logits `[B, K]` or None."""
    logits, evidence = output[:, :structures], output[:, structures:]
    if evidence.shape[1] == 0:
        return logits, None
    return logits, pool_classes(logits, evidence)


def pool_classes(logits: torch.Tensor, evidence: torch.Tensor) -> torch.Tensor:
    """The mean of the class evidence over the foreground: what the object looks like, not its surroundings.

    Args:
        logits: structure logits `[B, L, ...]`; channel 0 is background.
        evidence: `[B, K, ...]`.

    Returns:
        Class logits `[B, K]`.
    """
    foreground = (1.0 - logits.float().softmax(dim=1)[:, :1]).detach()
    axes = tuple(range(2, logits.ndim))
    return (evidence.float() * foreground).sum(axes) / foreground.sum(axes).clamp_min(1.0)
