"""Cross-entropy at the supervised positions only.

The hidden states of the positions that predict a supervised token are picked *before* the output head, so that the
sequence × vocabulary tensor never exists. A hook on the head does the picking: whatever a family does with its logits
after the head (scaling, soft-capping) still happens, on the rows that count.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional

from medvlm.training.collate import IGNORE

if TYPE_CHECKING:
    from torch import Tensor, nn


def supervised_loss(model: nn.Module, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Sum of the token losses and the number of supervised tokens.

    Args:
        model: an image-text-to-text model, maybe wrapped by peft.
        batch: `forward` inputs and `labels` `[B, T]`.

    Returns:
        loss summed over supervised tokens (scalar, with gradient) and their number (scalar int64).
    """
    inputs: dict[str, Any] = {name: value for name, value in batch.items() if name != "labels"}
    targets = batch["labels"][:, 1:]  # position t predicts token t + 1
    predicting = torch.zeros_like(batch["labels"], dtype=torch.bool)
    predicting[:, :-1] = targets != IGNORE
    with only_positions(model.get_output_embeddings(), predicting):  # type: ignore[operator]
        logits = model(**inputs, use_cache=False).logits  # [N, V]
    chosen = targets[targets != IGNORE]  # [N], row by row: the same order as hidden[predicting]
    return functional.cross_entropy(logits.float(), chosen, reduction="sum"), chosen.new_tensor(chosen.numel())


@contextmanager
def only_positions(head: nn.Module, mask: Tensor) -> Iterator[None]:
    """Within the context the head sees `[N, D]`: the hidden states `[B, T, D]` where `mask` `[B, T]` is true."""

    def pick(_: nn.Module, arguments: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (arguments[0][mask],)

    handle = head.register_forward_pre_hook(pick)
    try:
        yield
    finally:
        handle.remove()
