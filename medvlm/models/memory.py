"""Keys and values that are computed once: of a study's picture for all its questions, of a turn for the next one.

A `Memory` is a batch whose tokens have been through the model. Prompts that begin with the tokens of one of its rows
go on from there: the rows are picked out (one row as often as it is needed), what does not fit is masked, and only the
rest of the prompt is computed.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from torch import Tensor

    from medvlm.models.chat import Encoded

# A shorter shared beginning saves less than picking rows out costs.
SHORTEST = 16


@dataclass(frozen=True, eq=False)
class Memory:
    """A batch that has been through the model.

    Attributes:
        ids: `[B, T]` tokens, padding included.
        mask: `[B, T]` 1 where a token counts.
        cache: their keys and values.
        vision: per row, which pictures it has seen (identity of their tensors).
    """

    ids: Tensor
    mask: Tensor
    cache: Any
    vision: tuple[int, ...]

    def rows(self) -> list[list[int]]:
        """The tokens of each row without padding."""
        return [ids[mask.bool()].tolist() for ids, mask in zip(self.ids, self.mask)]

    def fork(self, rows: Sequence[int], kept: Sequence[int]) -> Memory:
        """Some rows, each cut to so many of its first tokens; the memory itself stays as it was."""
        chosen = torch.tensor(rows, device=self.ids.device)
        cache = copy.deepcopy(self.cache)
        cache.batch_select_indices(chosen)
        mask = self.mask[chosen]
        mask = mask * (mask.cumsum(dim=1) <= torch.tensor(kept, device=mask.device)[:, None])
        return Memory(self.ids[chosen], mask, cache, tuple(self.vision[row] for row in rows))


def can_remember(base: Any, prefix: bool) -> bool:
    """Whether a family keeps one position a token and one entry a token in every layer.

    Families with positions of several numbers (Qwen-VL), prefixes seen in both directions (PaliGemma), tokens that
    look across at images (Llama 3.2 Vision), sliding windows or recurrent layers are asked from the start each time.
    """
    config = base.config.get_text_config()
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    several = hasattr(getattr(base, "model", base), "get_rope_index")
    crosses = bool(getattr(config, "cross_attention_layers", None))
    sliding = bool(getattr(config, "sliding_window", None)) and getattr(config, "use_sliding_window", True)
    return not (prefix or several or crosses or sliding or kinds != {"full_attention"})


def pictures(row: Encoded) -> int:
    """What tells pictures apart: the sums of their tensors."""
    return hash(
        tuple(sorted((name, tuple(value.shape), float(value.double().sum())) for name, value in row.vision.items()))
    )


def shared_start(rows: Sequence[Sequence[int]]) -> int:
    """How many first tokens all rows have in common, leaving each at least one of its own."""
    shortest = min(len(row) for row in rows) - 1
    first = rows[0]
    for position in range(shortest):
        if any(row[position] != first[position] for row in rows):
            return position
    return shortest


def overlap(known: Sequence[int], wanted: Sequence[int]) -> int:
    """Tokens of `wanted` that `known` begins with, leaving at least one to compute."""
    length = min(len(known), len(wanted) - 1)
    for position in range(length):
        if known[position] != wanted[position]:
            return position
    return length
