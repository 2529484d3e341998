"""What a training step costs: parameters, memory and floating-point operations, without weights or data.

The model is built on the meta device, where tensors have shapes and no contents. Its language half is run forward and
backward there: FLOPs are counted operation by operation (so that what a frozen part does not need is not counted) and
the bytes that autograd keeps for the backward pass are added up. What few tensors remain (head, projector, optimiser)
follow from their sizes. Accounting as in Korthikanti et al., 2022, but counted, not estimated.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from medvlm.models.parts import PARTS, Part, Tuning, part_of


@dataclass(frozen=True)
class Workload:
    """One step on one device.

    Attributes:
        rows: conversations of the batch.
        length: tokens of each row, padding and image tokens included.
        supervised: tokens that are learnt.
        images: pictures whose features are computed in the step (none, when they are cached).
        side: pixels a side of what the tower sees of one picture.
        tiles: tiles of one picture.
        cast: bytes of a number in activations (2 in bf16, 4 in float32).
        fused: the output head's gradient is computed in the forward pass, in chunks.
        checkpointing: activations are computed anew in the backward pass.
    """

    rows: int
    length: int
    supervised: int
    images: int
    side: int
    tiles: int = 1
    cast: int = 2
    fused: bool = False
    checkpointing: bool = False


@dataclass(frozen=True)
class PartCost:
    """Bytes and FLOPs of one part of the model in one step on one device.

    `estimated` says why activations and FLOPs could not be counted and follow from the sizes of the weights instead;
    empty where they were counted.
    """

    part: Part
    parameters: int
    trainable: int
    weights: int
    gradients: int
    optimizer: int
    activations: int
    flops: int
    estimated: str = ""

    @property
    def bytes(self) -> int:
        return self.weights + self.gradients + self.optimizer + self.activations


@dataclass(frozen=True)
class Count:
    """What one forward and backward pass took; `estimated` says why it could not be counted."""

    flops: int
    kept: int
    estimated: str = ""


def on_meta(config: Any, dtype: torch.dtype, attention: str | None = None) -> Any:
    """A model of these sizes without weights."""
    from transformers import AutoModelForImageTextToText

    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(config, dtype=dtype)
    if attention:
        model.set_attn_implementation(attention)
    return model


def part_costs(model: Any, tuning: Tuning, work: Workload, state_bytes: int) -> list[PartCost]:
    """The cost of one step, part by part.

    Args:
        model: on the meta device; wrapped by peft where `tuning` says so.
        tuning: what trains.
        work: the step.
        state_bytes: bytes of optimiser state a trained parameter (8 for AdamW in float32, 12 with master weights).
    """
    base = model.get_base_model() if hasattr(model, "peft_config") else model
    parts = part_of(base)
    numbers = {part: _numbers(base, parts, part) for part in PARTS}
    # Gradients reach the language half's input when anything before it trains.
    reaches = any(numbers[part][1] for part in ("vision", "projector"))
    counted: dict[Part, Count] = {"vision": tower(base, work, bool(numbers["vision"][1]))}
    image_tokens = _image_tokens(base, work)
    linear = 2 * numbers["projector"][0] * image_tokens
    counted["projector"] = Count(linear * (3 if numbers["projector"][1] else 1), 0)
    language, head = decoder(base, work, reaches), output_head(base, work, bool(numbers["language"][1]))
    counted["language"] = Count(language.flops + head.flops, language.kept + head.kept)
    costs = []
    for part in PARTS:
        total, trainable, weights, gradients = numbers[part]
        state = state_bytes * trainable
        count = counted[part]
        costs.append(
            PartCost(part, total, trainable, weights, gradients, state, count.kept, count.flops, count.estimated)
        )
    return costs


def _numbers(base: Any, parts: dict[str, Part], part: Part) -> tuple[int, int, int, int]:
    """Parameters, trainable ones, bytes of the weights, bytes of their gradients; shared weights count once."""
    seen: set[int] = set()
    total = trainable = weights = gradients = 0
    for name, module in base.named_modules():
        if parts[name] != part:
            continue
        for parameter in module.parameters(recurse=False):
            if id(parameter) in seen:
                continue
            seen.add(id(parameter))
            size = parameter.numel() * parameter.element_size()
            weights += size
            if "original_module" in name.split("."):
                continue  # peft's untrained copy takes memory, but is no part of the model
            total += parameter.numel()
            if parameter.requires_grad:
                trainable += parameter.numel()
                gradients += size
    return total, trainable, weights, gradients


def decoder(base: Any, work: Workload, reaches: bool) -> Count:
    """The language half without its head, forward and backward."""
    module = base.get_decoder()
    width = base.get_input_embeddings().weight.shape[1]
    dtype = base.dtype
    embeds = torch.empty(work.rows, work.length, width, device="meta", dtype=dtype, requires_grad=reaches)
    # Given as a matrix, the mask is taken as it is: making one would look at contents that are not there.
    mask = torch.empty(work.rows, 1, work.length, work.length, device="meta", dtype=dtype)
    count = run(module, {"inputs_embeds": embeds, "attention_mask": mask, "use_cache": False})
    if not work.checkpointing:
        return count
    layers = len(module.layers)
    # Only each layer's input is kept, and the inside of one layer while it is computed anew.
    kept = count.kept // layers + layers * embeds.numel() * embeds.element_size()
    return Count(count.flops * 4 // 3, kept)


def tower(base: Any, work: Workload, trains: bool) -> Count:
    """The image encoder over the step's pictures."""
    if not work.images:
        return Count(0, 0)
    encoder = base.get_encoder(modality="image")
    count, patch = work.images * work.tiles, _patch(encoder.config)
    try:
        count_all = run(encoder, tower_inputs(encoder, work, "meta"))
        if not (work.checkpointing and trains):
            return count_all
        return Count(count_all.flops * 4 // 3, count_all.kept // int(encoder.config.num_hidden_layers) * 2)
    except (RuntimeError, TypeError, NotImplementedError, KeyError, AttributeError) as error:
        # A tower whose shapes depend on contents: linear layers only, a frozen one forward only.
        why = f"{type(encoder).__name__} does not run without contents ({' '.join(str(error).split())[:80]})"
        weights = sum(parameter.numel() for parameter in encoder.parameters() if parameter.ndim >= 2)
        patches = count * (work.side // patch) ** 2
        flops = 2 * weights * patches * (3 if trains else 1)
        layers = int(getattr(encoder.config, "num_hidden_layers", 0) or getattr(encoder.config, "depth", 12))
        width = encoder.config.hidden_size
        return Count(flops, 16 * layers * patches * width * work.cast if trains else 0, why)


def tower_inputs(encoder: Any, work: Workload, device: str) -> dict[str, Any]:
    """What the image encoder is given in one step: contents do not matter."""
    count = work.images * work.tiles
    pixels = torch.empty(count, 3, work.side, work.side, device=device, dtype=encoder.dtype)
    inputs: dict[str, Any] = {"pixel_values": pixels}
    if "patch_attention_mask" in type(encoder).forward.__code__.co_varnames:
        side = work.side // _patch(encoder.config)
        inputs["patch_attention_mask"] = torch.ones(count, side, side, dtype=torch.bool, device=device)
    return inputs


def output_head(base: Any, work: Workload, trains: bool) -> Count:
    """Head and loss at the learnt positions."""
    head = base.get_output_embeddings()
    vocabulary, width = head.weight.shape
    flops = 2 * width * vocabulary * work.supervised * (3 if trains and head.weight.requires_grad else 2)
    if work.fused:
        # One chunk of logits at a time, and the gradient of the hidden states.
        return Count(flops, work.supervised * width * 4 + min(work.supervised, 256) * vocabulary * 4)
    # Logits in the model's numbers, in float32, their softmax and its gradient.
    return Count(flops, work.supervised * vocabulary * (work.cast + 3 * 4))


def run(module: Any, inputs: dict[str, Any]) -> Count:
    """Forward and (where anything trains) backward on the meta device, counted."""
    with FlopCounterMode(display=False) as flops, kept_for_backward(module) as kept:
        outputs = module(**inputs)
        hidden = outputs.last_hidden_state if hasattr(outputs, "last_hidden_state") else outputs[0]
        peak = kept.total
        if hidden.requires_grad:
            hidden.sum().backward()
    for parameter in module.parameters():
        parameter.grad = None
    return Count(int(flops.get_total_flops()), peak)


@dataclass
class _Kept:
    total: int = 0


@contextmanager
def kept_for_backward(module: Any) -> Iterator[_Kept]:
    """Add up the bytes that autograd keeps, each storage once, parameters left out."""
    known = {parameter.untyped_storage()._cdata for parameter in module.parameters()}
    alive: list[Tensor] = []  # storages must not be freed, or their addresses would be used again
    kept = _Kept()

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in known:
            known.add(storage._cdata)
            alive.append(tensor)
            kept.total += storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        yield kept


def _image_tokens(base: Any, work: Workload) -> int:
    """Tokens that one step's pictures become; the patches of the tower where the config does not say."""
    config = base.config
    named: Any = getattr(config, "image_seq_length", None) or getattr(config, "mm_tokens_per_image", None)
    if named:
        return int(named) * work.images * work.tiles
    patch = _patch(config.vision_config)
    merge: Any = getattr(config, "scale_factor", None) or getattr(config.vision_config, "spatial_merge_size", 1)
    return int((work.side // patch // merge) ** 2) * work.images * work.tiles


def _patch(config: Any) -> int:
    """Pixels a side of one patch."""
    size: Any = getattr(config, "patch_size", 14)
    return int(size[0] if isinstance(size, (list, tuple)) else size)
