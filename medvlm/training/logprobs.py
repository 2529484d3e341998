"""Log-probabilities of what the assistant said, and a reference model without a second one in memory."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional

from medvlm.training.collate import IGNORE
from medvlm.training.loss import only_positions

if TYPE_CHECKING:
    from torch import Tensor

    from medvlm.models.load import LoadedModel


@dataclass(frozen=True, eq=False)
class Spoken:
    """What a model makes of the `N` supervised tokens of a batch, row by row.

    Attributes:
        logprobs: `[N]`, with gradient.
        entropy: `[N]` in nats, without.
        rows: `[N]`, the row of each token.
        hidden: `[N, D]`, what the output head saw when it predicted the token, without gradient.
    """

    logprobs: Tensor
    entropy: Tensor
    rows: Tensor
    hidden: Tensor


def token_logprobs(model: Any, batch: dict[str, Tensor]) -> Spoken:
    """Log-probability of every supervised token.

    Args:
        model: an image-text-to-text model, maybe wrapped by peft.
        batch: `forward` inputs and `labels` `[B, T]`.
    """
    inputs = {name: value for name, value in batch.items() if name != "labels"}
    targets = batch["labels"][:, 1:]
    wanted = targets != IGNORE
    predicting = torch.zeros_like(batch["labels"], dtype=torch.bool)
    predicting[:, :-1] = wanted
    head = model.get_output_embeddings()
    hidden: list[Tensor] = []
    with only_positions(head, predicting):
        seen = head.register_forward_pre_hook(lambda _, arguments: hidden.append(arguments[0].detach()))
        try:
            logits = model(**inputs, use_cache=False).logits.float()
        finally:
            seen.remove()
    chosen = -functional.cross_entropy(logits, targets[wanted], reduction="none")
    with torch.no_grad():
        shares = logits.log_softmax(dim=-1)
        entropy = -(shares.exp() * shares).sum(dim=-1)
    return Spoken(chosen, entropy, wanted.nonzero()[:, 0], hidden[0])


def sums_by_row(values: Tensor, rows: Tensor, count: int) -> Tensor:
    """`[count]`: the sum of `values` `[N]` over each row number in `rows` `[N]`."""
    return values.new_zeros(count).index_add(0, rows, values)


class Reference:
    """The model before alignment: its adapters switched off, or a frozen copy where all weights train."""

    def __init__(self, loaded: LoadedModel) -> None:
        """
        Args:
            loaded: the model as alignment finds it, on the device and in the precision of the run; called before any
                checkpoint is restored.
        """
        self._adapted = loaded.is_adapter
        self._model: Any = loaded.model if self._adapted else copy.deepcopy(loaded.model).requires_grad_(False)

    @contextmanager
    def __call__(self) -> Iterator[Any]:
        """The reference as a model that may be called without gradient."""
        was_training = self._model.training
        self._model.eval()
        switched = self._model.disable_adapter() if self._adapted else nullcontext()
        with torch.no_grad(), switched:
            yield self._model
        self._model.train(was_training)
