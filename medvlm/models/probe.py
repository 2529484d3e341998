"""How long a step takes on this machine: one layer is timed, the rest follows.

Layers of a language model are alike, so the difference between a pass through two of them and through one is the time
of a layer in exactly the shapes, precision and adapters of the run. Nothing larger than two layers and the output head
is ever made.
"""

from __future__ import annotations

import copy
import resource
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from medvlm.models.cost import PartCost, Workload, tower_inputs
from medvlm.models.parts import Tuning

REPEATS = 5


def process_bytes() -> int:
    """Resident memory of this process now (with all libraries of a training loaded)."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
        return pages * resource.getpagesize()
    except OSError:  # not Linux
        return int(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) * 1024


def seconds_here(model: Any, tuning: Tuning, work: Workload, parts: Sequence[PartCost]) -> float:
    """Seconds of a batch without the optimiser: layers of both halves and head are timed, the projector by rate."""
    base = model.get_base_model() if hasattr(model, "peft_config") else model
    cost = {part.part: part for part in parts}
    reaches = any(cost[part].trainable for part in ("vision", "projector"))
    language = _stack_seconds(
        lambda layers: _decoder_step(base, tuning, work, layers, reaches), len(base.get_decoder().layers)
    )
    head = _head_seconds(base, work, cost["language"].trainable > 0 and tuning.language == "full")
    rate = (cost["language"].flops - _head_flops(base, work)) / max(language, 1e-6)
    vision = cost["vision"].flops / max(rate, 1.0)
    depth = getattr(base.get_encoder(modality="image").config, "num_hidden_layers", None)
    if work.images and depth and not cost["vision"].estimated:
        vision = _stack_seconds(lambda layers: _tower_step(base, tuning, work, layers), int(depth))
    again = 4 / 3 if work.checkpointing else 1.0
    trained = again if cost["vision"].trainable else 1.0
    return language * again + head + vision * trained + cost["projector"].flops / max(rate, 1.0)


def _stack_seconds(make: Callable[[int], Callable[[], None]], layers: int) -> float:
    """Seconds of a stack of layers from those of one and of two."""
    one, two = (_usual(make(count)) for count in (1, 2))
    return one + (layers - 1) * max(two - one, 1e-6)


def _tower_step(base: Any, tuning: Tuning, work: Workload, layers: int) -> Callable[[], None]:
    """A pass through an image encoder of so many layers, backward where it trains."""
    whole = base.get_encoder(modality="image")
    config = copy.deepcopy(whole.config)
    config.num_hidden_layers = layers
    encoder = type(whole)._from_config(config, dtype=base.dtype)
    encoder.requires_grad_(tuning.vision != "freeze")
    inputs = tower_inputs(encoder, work, "cpu")
    inputs["pixel_values"].zero_()

    def step() -> None:
        hidden = encoder(**inputs).last_hidden_state
        if hidden.requires_grad:
            hidden.sum().backward()

    return step


def _decoder_step(base: Any, tuning: Tuning, work: Workload, layers: int, reaches: bool) -> Callable[[], None]:
    """A pass forward and backward through a language half of so many layers."""
    whole = base.get_decoder()
    config = copy.deepcopy(whole.config)
    config.num_hidden_layers = layers
    if getattr(config, "layer_types", None):
        config.layer_types = config.layer_types[:layers]
    decoder = type(whole)._from_config(config, dtype=base.dtype)
    decoder.set_input_embeddings(nn.Embedding(2, 2))  # never looked up here, and large
    if tuning.language == "lora":
        from peft import LoraConfig, get_peft_model

        names = [name for name, module in decoder.named_modules() if isinstance(module, nn.Linear)]
        lora = LoraConfig(r=tuning.rank, lora_alpha=tuning.alpha, use_dora=tuning.dora, target_modules=names)
        decoder = get_peft_model(decoder, lora).get_base_model().to(base.dtype)
    else:
        decoder.requires_grad_(tuning.language == "full")
    width = base.get_input_embeddings().weight.shape[1]
    embeds = torch.randn(work.rows, work.length, width, dtype=base.dtype, requires_grad=reaches)
    mask = torch.zeros(work.rows, 1, work.length, work.length, dtype=base.dtype)

    def step() -> None:
        hidden = decoder(inputs_embeds=embeds, attention_mask=mask, use_cache=False).last_hidden_state
        if hidden.requires_grad:
            hidden.sum().backward()

    return step


def _head_seconds(base: Any, work: Workload, trains: bool) -> float:
    vocabulary, width = base.get_output_embeddings().weight.shape
    weight = torch.randn(vocabulary, width, dtype=base.dtype, requires_grad=trains)
    hidden = torch.randn(work.supervised, width, dtype=base.dtype, requires_grad=True)
    targets = torch.zeros(work.supervised, dtype=torch.long)

    def step() -> None:
        functional.cross_entropy(functional.linear(hidden, weight).float(), targets, reduction="sum").backward()

    return _usual(step)


def _head_flops(base: Any, work: Workload) -> int:
    vocabulary, width = base.get_output_embeddings().weight.shape
    return int(4 * vocabulary * width * work.supervised)


def _usual(step: Callable[[], None]) -> float:
    """The median of a few runs after a first one."""
    step()
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    return sorted(times)[REPEATS // 2]
