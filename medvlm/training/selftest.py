"""Before the first step: does this very model give the same with the quick paths as without?

A path that does not is not taken, and the run says so. Families differ in how they build masks, number positions and
treat logits; a check costs two steps on two short conversations and needs no list of families.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

from medvlm.training.collate import IGNORE, TrainingCollator
from medvlm.training.loss import only_positions
from medvlm.training.packing import PackingCollator, pack_attention, position_rule

if TYPE_CHECKING:
    from torch import Tensor

    from medvlm.models.chat import Encoded

CHECKED_ROWS = 3
# A family that cannot take an input says so with one of these.
REFUSALS = (ValueError, TypeError, RuntimeError, KeyError, IndexError, AttributeError, NotImplementedError)


def chosen_rows(rows: Sequence[Encoded]) -> list[Encoded]:
    """A few short conversations, with pictures where there are any."""
    short = sorted(range(len(rows)), key=lambda index: (not rows[index].vision, len(rows[index])))
    return [rows[index] for index in short[:CHECKED_ROWS]]


def why_not_packed(model: Any, rows: Sequence[Encoded], pad_id: int) -> str | None:
    """None if conversations packed into one row are learnt from as separate ones are; else the reason in words.

    The attention of the language part stays the packed one if they are, and is put back if they are not.
    """
    base = model.get_base_model() if hasattr(model, "peft_config") else model
    before = base.config.get_text_config()._attn_implementation
    few = chosen_rows(rows)
    if len(few) < 2:
        return "there is one conversation only"
    with _evaluating(model):
        separate = torch.cat([_logits(model, TrainingCollator(pad_id)([row])) for row in few])
        try:
            pack_attention(base)
            packed = PackingCollator(pad_id, position_rule(base))(few)
            together = _logits(model, packed)
            reason = _difference(together, separate, model.dtype) or _leak(model, packed, len(few[-1]))
        except REFUSALS as error:
            reason = " ".join(str(error).split()) or type(error).__name__
        if reason:
            base.set_attn_implementation(before)
    return reason


@torch.no_grad()
def why_not_cached(model: Any, row: Encoded, cache: Any, pad_id: int) -> str | None:
    """None if the step with cached features gives the logits of the step with pixels; else the reason in words."""
    collate = TrainingCollator(pad_id)
    with _evaluating(model):
        plain = _logits(model, collate([row]))
        try:
            with cache.replayed(cache.load(collate([cache.strip(row)]))) as inputs:
                return _difference(_logits(model, inputs), plain, model.dtype)
        except REFUSALS as error:
            return " ".join(str(error).split()) or type(error).__name__


def _difference(one: Tensor, other: Tensor, dtype: torch.dtype) -> str | None:
    """None within rounding of the dtype, relative to how much logits differ among themselves."""
    error = float((one.float() - other.float()).norm() / other.float().std(dim=-1, keepdim=True).norm())
    error /= other.shape[-1] ** 0.5
    bound = 1e-3 if dtype == torch.float32 else 0.1
    return None if error <= bound else f"logits differ by {error:.1%} of their spread"


def _leak(model: Any, packed: dict[str, Any], last: int) -> str | None:
    """None if the words of the other conversations have exactly no influence on the last one.

    Gradients tell it at any precision: they are exactly zero where nothing is looked at.
    """
    held: list[Tensor] = []

    def hold(_: Any, __: Any, output: Tensor) -> Tensor:
        held.append(output.detach().requires_grad_())
        return held[0]

    handle = model.get_input_embeddings().register_forward_hook(hold)
    try:
        labels = packed["labels"].clone()
        labels[:, :-last] = IGNORE
        with torch.enable_grad():
            total = _logits(model, packed | {"labels": labels}).float().square().sum()
            gradient = torch.autograd.grad(total, held[0])[0]
    finally:
        handle.remove()
    return "a conversation sees another one in its row" if gradient[:, :-last].any() else None


def _logits(model: Any, batch: dict[str, Any]) -> Tensor:
    """`[N, V]` at the supervised positions."""
    inputs = {
        name: value.to(model.device) if isinstance(value, torch.Tensor) else value
        for name, value in batch.items()
        if name != "labels"
    }
    for name, value in inputs.items():
        if isinstance(value, torch.Tensor) and value.is_floating_point():
            inputs[name] = value.to(model.dtype)
    predicting = torch.zeros_like(batch["labels"], dtype=torch.bool)
    predicting[:, :-1] = batch["labels"][:, 1:] != IGNORE
    with only_positions(model.get_output_embeddings(), predicting.to(model.device)):
        logits: Tensor = model(**inputs, use_cache=False).logits
    return logits


@contextmanager
def _evaluating(model: Any) -> Iterator[None]:
    """Evaluation mode (no dropout) within the context; random state and modes are as before after it."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        with torch.random.fork_rng(), torch.no_grad():
            yield
    finally:
        for module in training:
            module.training = True
