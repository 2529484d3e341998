"""Cross-entropy at the supervised positions only, in blocks of the vocabulary.

The hidden states of the positions that predict a supervised token are picked *before* the output head, so that the
sequence × vocabulary tensor never exists. With a large vocabulary even supervised × vocabulary is too much: `fused`
computes head, loss and the gradients of both in blocks of the vocabulary that stay in the processor's cache, and keeps
nothing but the gradients (the idea of Liger-Kernel's and cut-cross-entropy's kernels, here in plain torch).
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

# Logits held at one time: 2 M float32 are 8 MB.
BLOCK_LOGITS = 2**21
# Below this vocabulary one block would do.
SMALL_VOCABULARY = 8192


def supervised_loss(model: Any, batch: dict[str, Any], fused: bool = False) -> tuple[Tensor, Tensor]:
    """Sum of the token losses and the number of supervised tokens.

    Args:
        model: an image-text-to-text model, maybe wrapped by peft.
        batch: `forward` inputs and `labels` `[B, T]`.
        fused: compute head and loss in blocks of the vocabulary. The head must then be all that stands between hidden
            states and logits, but for the soft-capping that the config tells (`fits_fused` checks a model).

    Returns:
        loss summed over supervised tokens (scalar, with gradient) and their number (scalar int64).
    """
    inputs: dict[str, Any] = {name: value for name, value in batch.items() if name != "labels"}
    targets = batch["labels"][:, 1:]  # position t predicts token t + 1
    predicting = torch.zeros_like(batch["labels"], dtype=torch.bool)
    predicting[:, :-1] = targets != IGNORE
    chosen = targets[targets != IGNORE]  # [N], row by row: the same order as hidden[predicting]
    count = chosen.new_tensor(chosen.numel())
    head = model.get_output_embeddings()
    if fused:
        with _taken(head, predicting) as taken:
            model(**inputs, use_cache=False)
        weight = head.weight.full_tensor() if hasattr(head.weight, "full_tensor") else head.weight
        return fused_cross_entropy(taken[0], weight, head.bias, chosen, soft_cap(model)), count
    with only_positions(head, predicting):
        logits = model(**inputs, use_cache=False).logits  # [N, V]
    return functional.cross_entropy(logits.float(), chosen, reduction="sum"), count


def soft_cap(model: Any) -> float | None:
    """The bound that Gemma-2-like models put on logits with a tanh."""
    cap: float | None = getattr(model.config.get_text_config(), "final_logit_softcapping", None)
    return cap


def wants_fused(model: Any) -> bool:
    """Whether the vocabulary is large enough for blocks to pay."""
    head = model.get_output_embeddings()
    return isinstance(head, torch.nn.Linear) and head.weight.shape[0] > SMALL_VOCABULARY


@torch.no_grad()
def fits_fused(model: Any, batch: dict[str, Any]) -> bool:
    """Whether the fused loss of a batch is the one from the model's own logits (tolerance of the model's dtype)."""
    plain, _ = supervised_loss(model, batch)
    fused, _ = supervised_loss(model, batch, fused=True)
    tolerance = 1e-4 if model.dtype == torch.float32 else 2e-2
    return bool((plain - fused).abs() <= tolerance * plain.abs())


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


@contextmanager
def _taken(head: nn.Module, mask: Tensor) -> Iterator[list[Tensor]]:
    """Within the context the picked hidden states `[N, D]` land in the list, and the head itself gets no rows."""
    taken: list[Tensor] = []

    def take(_: nn.Module, arguments: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        taken.append(arguments[0][mask])
        return (arguments[0].detach().flatten(0, -2)[:0],)

    handle = head.register_forward_pre_hook(take)
    try:
        yield taken
    finally:
        handle.remove()


def fused_cross_entropy(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, cap: float | None = None
) -> Tensor:
    """Summed cross-entropy of `hidden @ weight.T + bias`, in blocks of vocabulary rows.

    Args:
        hidden: `[N, D]`.
        weight, bias: of the head, `[V, D]` and `[V]`.
        targets: `[N]` int64.
        cap: soft cap: logits become `cap * tanh(logits / cap)`.

    Returns:
        Scalar float32; its backward pass hands out gradients that the forward pass has computed already.
    """
    loss: Tensor = _FusedCrossEntropy.apply(hidden, weight, bias, targets, cap)
    return loss


class _FusedCrossEntropy(torch.autograd.Function):
    """Two passes over the vocabulary: the row sums of the softmax, then probabilities and gradients block by block."""

    @staticmethod
    def forward(
        context: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, cap: float | None
    ) -> Tensor:
        rows, vocabulary = hidden.shape[0], weight.shape[0]
        # The logits of one block are computed in the dtype of the model, like a plain head's; what follows is float32.
        weight_used = weight.to(hidden.dtype)
        block = max(256, BLOCK_LOGITS // max(1, rows))
        starts = range(0, vocabulary, block)
        total = hidden.new_full((rows,), -torch.inf, dtype=torch.float32)  # log of the sum of exponentials so far
        at_target = torch.zeros_like(total)
        for start in starts:
            logits = _logits(hidden, weight_used, bias, start, block, cap)[0]
            total = torch.logaddexp(total, logits.logsumexp(dim=-1))
            here = (targets >= start) & (targets < start + block)
            at_target[here] = logits[here, targets[here] - start]
        needs_hidden, needs_weight, needs_bias = context.needs_input_grad[:3]
        if needs_hidden or needs_weight or needs_bias:
            to_hidden = torch.zeros_like(hidden, dtype=torch.float32) if needs_hidden else None
            to_weight = torch.empty_like(weight) if needs_weight else None
            to_bias = torch.empty_like(bias) if needs_bias and bias is not None else None
            for start in starts:
                logits, slope = _logits(hidden, weight_used, bias, start, block, cap)
                gradient = logits.sub_(total[:, None]).exp_()  # the probabilities
                here = (targets >= start) & (targets < start + block)
                gradient[here, targets[here] - start] -= 1.0
                if slope is not None:
                    gradient *= slope
                if to_bias is not None:
                    to_bias[start : start + block] = gradient.sum(dim=0)
                gradient = gradient.to(hidden.dtype)
                if to_hidden is not None:
                    to_hidden += gradient @ weight_used[start : start + block]
                if to_weight is not None:
                    to_weight[start : start + block] = gradient.T @ hidden
            context.gradients = (None if to_hidden is None else to_hidden.to(hidden.dtype), to_weight, to_bias)
        return (total - at_target).sum()

    @staticmethod
    def backward(context: Any, scale: Tensor) -> tuple[Tensor | None, ...]:
        gradients = context.gradients
        del context.gradients  # a second backward pass through the same graph would scale them twice
        return (*(None if one is None else one.mul_(scale.to(one.dtype)) for one in gradients), None, None)


def _logits(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, start: int, block: int, cap: float | None
) -> tuple[Tensor, Tensor | None]:
    """Float32 logits `[N, block]`, and the slope of the soft cap where there is one."""
    logits = functional.linear(
        hidden, weight[start : start + block], None if bias is None else bias[start : start + block]
    )
    logits = logits.float()
    if cap is None:
        return logits, None
    bounded = (logits / cap).tanh_()
    return bounded * cap, 1.0 - bounded.square()
