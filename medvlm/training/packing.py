"""Conversations of a batch in one row, without padding and without sight of each other.

Every token-wise operation then works on real tokens alone. Attention takes the row apart again: the conversations are
padded to one length for the length of one operation, which needs no mask, since no token looks ahead. No sequence ×
sequence mask over the whole row is ever built, and nothing but torch is needed.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence

from medvlm.training.collate import IGNORE, TrainingCollator

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor, nn

    from medvlm.models.chat import Encoded

NAME = "medvlm_packed"
# Up to this length, on a CPU, scores in one matrix are quicker than torch's flash kernel (in bf16, twice as quick).
SHORT = 384
# Conversations that are padded to one length for attention.
TOGETHER = 6


def pack_attention(model: Any) -> None:
    """Let the language part of a model attend within the conversations of a packed row.

    Rows that are not packed (validation, generation) are attended to as with `sdpa`.
    """
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    def mask(attention_mask: Tensor | None = None, **options: Any) -> Tensor | None:
        # Without a padding mask a row is packed, or whole: neither needs one.
        return None if attention_mask is None else sdpa_mask(attention_mask=attention_mask, **options)

    AttentionInterface.register(NAME, packed_attention)
    AttentionMaskInterface.register(NAME, mask)
    text = next(name for name in ("text_config", "llm_config", "") if not name or hasattr(model.config, name))
    model.set_attn_implementation({text: NAME})


def packed_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    cu_seq_lens_q: Tensor | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """Causal attention within each conversation of a packed row.

    Args:
        module: the attention layer.
        query, key, value: `[1, heads, T, D]`; key and value may have fewer heads.
        attention_mask: None in a packed row.
        scaling: of the scores.
        dropout: of the attention weights.
        cu_seq_lens_q: `[S + 1]` where each conversation begins, and the end.
        options: what else transformers gives (`sliding_window`).

    Returns:
        `[1, T, heads, D]` and None.
    """
    if cu_seq_lens_q is None or attention_mask is not None:
        from transformers.integrations.sdpa_attention import sdpa_attention_forward

        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **options
        )
    lengths = cu_seq_lens_q.diff().tolist()
    window = options.get("sliding_window")
    if window is not None and max(lengths) > window:
        raise ValueError(f"a conversation of {max(lengths)} tokens is longer than the attention window of {window}")
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    # Rows of a batch come longest first: a few at a time, little is padded.
    groups = [lengths[first : first + TOGETHER] for first in range(0, len(lengths), TOGETHER)]
    parts = (one.split([sum(group) for group in groups], dim=2) for one in (query, key, value))
    rows: list[Tensor] = []
    for group, *part in zip(groups, *parts):
        queries, keys, values = (_apart(one, group) for one in part)  # [S, heads, L, D]
        attended = _causal(queries, keys, values, scaling, dropout)
        rows += [row[:, :length] for row, length in zip(attended.unbind(), group)]
    return torch.cat(rows, dim=1).transpose(0, 1)[None], None


def _apart(packed: Tensor, lengths: list[int]) -> Tensor:
    """`[1, heads, T, D]` to `[S, heads, longest, D]`, zeros behind the shorter ones."""
    return pad_sequence(packed[0].transpose(0, 1).split(lengths), batch_first=True).transpose(1, 2)


def _causal(query: Tensor, key: Tensor, value: Tensor, scaling: float, dropout: float) -> Tensor:
    rows, heads, length, _ = query.shape
    shared = heads // key.shape[1]
    if query.device.type != "cpu" or length > SHORT:
        return functional.scaled_dot_product_attention(
            query, key, value, is_causal=True, scale=scaling, dropout_p=dropout, enable_gqa=shared > 1
        )
    if shared > 1:
        key, value = (one.repeat_interleave(shared, dim=1) for one in (key, value))
    query, key, value = (one.flatten(0, 1) for one in (query, key, value))
    ahead = torch.full((length, length), -torch.inf, dtype=query.dtype).triu_(1)
    scores = torch.baddbmm(ahead, query, key.transpose(1, 2), alpha=scaling)
    weights = functional.dropout(scores.softmax(dim=-1), dropout)
    return (weights @ value).unflatten(0, (rows, heads))


class PackingCollator:
    """Rows to one packed row `[1, T]` with the positions of each conversation for itself."""

    def __init__(self, pad_id: int, positions: Callable[[Encoded], Tensor]) -> None:
        """
        Args:
            pad_id: of the tokenizer.
            positions: the positions `[T]` or `[P, T]` of one conversation's tokens (`position_rule`).
        """
        self._single = TrainingCollator(pad_id)
        self._positions = positions

    def __call__(self, rows: Sequence[Encoded]) -> dict[str, Any]:
        singles = [self._single([row]) for row in rows]
        packed: dict[str, Any] = {}
        for name in ("input_ids", "labels", *rows[0].per_token):
            packed[name] = torch.cat([single[name] for single in singles], dim=1)
        ends = torch.tensor([0, *(len(row) for row in rows)]).cumsum(0)
        # What stands before the first token of a conversation belongs to another one.
        packed["labels"][0, ends[:-1]] = IGNORE
        for name in {name for row in rows for name in row.vision}:
            packed[name] = self._single([row for row in rows if name in row.vision])[name]
        packed["position_ids"] = torch.cat([self._positions(row) for row in rows], dim=-1)[..., None, :]
        packed["cu_seq_lens_q"] = packed["cu_seq_lens_k"] = ends.to(torch.int32)
        packed["max_length_q"] = packed["max_length_k"] = max(len(row) for row in rows)
        return packed


def position_rule(model: Any) -> Callable[[Encoded], Tensor]:
    """How a family numbers the tokens of one conversation: counted, or by place in the picture (M-RoPE)."""
    inner = getattr(model, "model", model)
    if not hasattr(inner, "get_rope_index"):
        return lambda row: torch.arange(len(row))
    known = inspect.signature(inner.get_rope_index).parameters

    def places(row: Encoded) -> Tensor:
        single: dict[str, Tensor] = {"input_ids": row.input_ids[None], "attention_mask": torch.ones(1, len(row)).long()}
        single |= {name: value[None] for name, value in row.per_token.items()} | row.vision
        found = inner.get_rope_index(**{name: value for name, value in single.items() if name in known})[0][:, 0]
        # The first row counts: by it transformers tells where a conversation begins.
        return torch.cat([torch.arange(len(row))[None], found.to(torch.long)])

    return places
