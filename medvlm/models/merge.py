"""An adapter and its base made one model, for servers that know no adapters."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import TYPE_CHECKING

from medvlm.errors import MedVLMError
from medvlm.models.load import LoadedModel

if TYPE_CHECKING:
    from torch import Tensor

# Merged weights are rounded to the model's precision: logits may move by so much of their spread.
TOLERANCE = 0.05
PROBE = "How large is the largest nodule?"


def merge(loaded: LoadedModel) -> LoadedModel:
    """The same model without an adapter; one that has none is given back as it is.

    Raises:
        MedVLMError: the merged model says something else (a wrong base, or weights that rounding broke).
    """
    if not loaded.is_adapter:
        return loaded
    before = _logits(loaded)
    merged = LoadedModel(copy.deepcopy(loaded.model).merge_and_unload(), loaded.processor, loaded.name)
    after = _logits(merged)
    moved = float((after - before).abs().max() / before.std())
    if not moved <= TOLERANCE:
        raise MedVLMError(f"{loaded.name}: merging its adapter moves the logits by {moved:.2f} of their spread.")
    return merged


def save_merged(loaded: LoadedModel, folder: Path) -> Path:
    """Write what vLLM and plain transformers load: whole weights as safetensors, config, tokenizer, processor."""
    merged = merge(loaded)
    merged.save(folder)
    return folder


def _logits(loaded: LoadedModel) -> Tensor:
    """Logits behind a few words; text alone, so that every family takes them."""
    import torch

    ids = torch.tensor([loaded.processor.tokenizer(PROBE, add_special_tokens=False)["input_ids"]])
    with torch.inference_mode():
        decoder = loaded.model.get_base_model() if loaded.is_adapter else loaded.model
        embeds = decoder.get_input_embeddings()(ids.to(decoder.device))
        hidden = decoder.get_decoder()(inputs_embeds=embeds, use_cache=False).last_hidden_state
        logits: Tensor = decoder.get_output_embeddings()(hidden).float().cpu()
    return logits
