"""How long a step takes on this machine: one layer is timed, the rest follows.

Layers of a model are alike, so the difference between a pass through two of them and through one is the time of a layer
in exactly the shapes, precision, adapters and paths of the run. Nothing larger than two layers and the output head is
ever made. AdamW works number by number, so a sample tells its rate; Muon's matrices are timed shape by shape.
"""

from __future__ import annotations

import copy
import resource
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from medvlm.models.cost import PartCost, Workload, tower_inputs
from medvlm.models.parts import Tuning
from medvlm.training.loss import fused_cross_entropy
from medvlm.training.norms import lean_norms
from medvlm.training.optimizer import MasterOptimizer
from medvlm.training.packing import pack_attention

REPEATS = 5
# Numbers of the sample that stands for everything that is updated number by number.
SAMPLE = 4_000_000


def process_bytes() -> int:
    """Resident memory of this process now (with all libraries of a training loaded)."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
        return pages * resource.getpagesize()
    except OSError:  # not Linux
        return int(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) * 1024


def seconds_here(model: Any, tuning: Tuning, work: Workload, parts: Sequence[PartCost], packed: bool = False) -> float:
    """Seconds of a batch without the optimiser: layers of both halves and head are timed, the projector by rate.

    Args:
        model: on the meta device; wrapped by peft where `tuning` says so.
        tuning: what trains.
        work: the batch.
        parts: what it costs.
        packed: the rows stand in one row without padding.
    """
    base = model.get_base_model() if hasattr(model, "peft_config") else model
    cost = {part.part: part for part in parts}
    reaches = any(cost[part].trainable for part in ("vision", "projector"))
    language = _stack_seconds(
        lambda layers: _decoder_step(base, tuning, work, layers, reaches, packed), len(base.get_decoder().layers)
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


def _decoder_step(
    base: Any, tuning: Tuning, work: Workload, layers: int, reaches: bool, packed: bool
) -> Callable[[], None]:
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
    lean_norms(decoder)
    inputs: dict[str, Any] = {"use_cache": False}
    if packed:
        pack_attention(decoder)
        shape = (1, work.rows * work.length, width)
        ends = torch.arange(work.rows + 1, dtype=torch.int32) * work.length
        inputs |= {"position_ids": torch.arange(work.length).repeat(work.rows)[None]}
        inputs |= {
            "cu_seq_lens_q": ends,
            "cu_seq_lens_k": ends,
            "max_length_q": work.length,
            "max_length_k": work.length,
        }
    else:
        shape = (work.rows, work.length, width)
        inputs["attention_mask"] = torch.zeros(work.rows, 1, work.length, work.length, dtype=base.dtype)
    embeds = torch.randn(shape, dtype=base.dtype, requires_grad=reaches)

    def step() -> None:
        hidden = decoder(inputs_embeds=embeds, **inputs).last_hidden_state
        if hidden.requires_grad:
            hidden.sum().backward()

    return step


def _head_seconds(base: Any, work: Workload, trains: bool) -> float:
    vocabulary, width = base.get_output_embeddings().weight.shape
    weight = torch.randn(vocabulary, width, dtype=base.dtype, requires_grad=trains)
    hidden = torch.randn(work.supervised, width, dtype=base.dtype, requires_grad=True)
    targets = torch.zeros(work.supervised, dtype=torch.long)

    def step() -> None:
        if work.fused:
            loss = fused_cross_entropy(hidden, weight, None, targets)
        else:
            loss = functional.cross_entropy(functional.linear(hidden, weight).float(), targets, reduction="sum")
        loss.backward()

    return _usual(step)


def _head_flops(base: Any, work: Workload) -> int:
    vocabulary, width = base.get_output_embeddings().weight.shape
    return int(4 * vocabulary * width * work.supervised)


def update_seconds(groups: Sequence[dict[str, Any]], dtype: torch.dtype) -> float:
    """Seconds of one update of parameter groups, which may be on the meta device.

    Args:
        groups: of `parameter_groups`.
        dtype: of the weights; below float32 the optimiser keeps masters.
    """
    numbers = sum(p.numel() for group in groups if not group.get("muon") for p in group["params"])
    seconds = numbers * _update((SAMPLE,), dtype, False) / SAMPLE if numbers else 0.0
    shapes = Counter(tuple(p.shape) for group in groups if group.get("muon") for p in group["params"])
    return seconds + sum(count * _update(shape, dtype, True) for shape, count in shapes.items())


def _update(shape: tuple[int, ...], dtype: torch.dtype, muon: bool) -> float:
    """The usual time of one update of one parameter."""
    parameter = torch.nn.Parameter(torch.zeros(shape, dtype=dtype))
    parameter.grad = torch.ones_like(parameter)
    optimizer = MasterOptimizer([{"params": [parameter], "muon": muon}])
    return _usual(lambda: optimizer.step() and None)


def _usual(step: Callable[[], None]) -> float:
    """The median of a few runs after a first one."""
    step()
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    return sorted(times)[REPEATS // 2]
