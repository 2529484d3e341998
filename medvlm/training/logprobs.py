"""Log-probabilities of what the assistant said, and a reference model without a second one in memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
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
    """The model before alignment, for the memory of what trains: those weights are kept and put in for a while.

    Adapters switched off would be another model wherever they had been trained before.
    """

    def __init__(self, loaded: LoadedModel) -> None:
        """
        Args:
            loaded: the model as alignment finds it, on the device and in the precision of the run; called before any
                checkpoint is restored.
        """
        self._model: Any = loaded.model
        trained = [parameter for parameter in self._model.parameters() if parameter.requires_grad]
        self._before = [(parameter, parameter.detach().clone()) for parameter in trained]

    @contextmanager
    def __call__(self) -> Iterator[Any]:
        """The reference as a model that may be called without gradient."""
        training = [module for module in self._model.modules() if module.training]
        now = [parameter.data for parameter, _ in self._before]
        self._model.eval()
        for parameter, before in self._before:
            parameter.data = before
        try:
            with torch.no_grad():
                yield self._model
        finally:
            for (parameter, _), after in zip(self._before, now, strict=True):
                parameter.data = after
            for module in training:
                module.training = True
