"""The pieces of a plan that follow from a run's settings: the model without weights, its batch, its length."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medvlm.content import find_content
from medvlm.dialogue.conversation import read_conversations
from medvlm.errors import MedVLMError
from medvlm.models.chat import ChatEncoder
from medvlm.models.cost import Workload, on_meta
from medvlm.models.load import LoadedModel, load_model
from medvlm.models.parts import Tuning, prepare

SAMPLE = 200  # conversations that lengths are measured on


@dataclass(frozen=True)
class Sketch:
    """A run's model on the meta device, and what else is known of it.

    Attributes:
        model: maybe wrapped by peft.
        processor: None when the model's files are not here.
        tuning: what trains.
        state_bytes: bytes of optimiser state a trained parameter.
        side: pixels a side of what the tower sees of one picture.
    """

    model: Any
    processor: Any
    tuning: Tuning
    state_bytes: int
    side: int


def sketch(config: Any) -> Sketch:
    """Draw the model that a run's settings name."""
    import torch

    tuning = Tuning(**{key: value for key, value in config.model.tuning.as_dict().items() if key != "class_path"})
    half = str(config.trainer.precision).startswith("bf16-true") or str(config.trainer.precision).startswith("16-true")
    sizes, processor = _sizes(config)
    model = on_meta(sizes, torch.bfloat16 if half else torch.float32, config.model.attention)
    with torch.device("meta"):
        wrapped = prepare(LoadedModel(model, processor, config.model.name), tuning)
    # Master weights and two moments in float32 beside half-precision weights; Muon has one moment, counted as two.
    state = 12 if half or config.model.optimizer == "muon" else 8
    side = getattr(sizes.vision_config, "image_size", None) or 448
    side = side[0] if isinstance(side, (list, tuple)) else side
    return Sketch(wrapped.model, processor, tuning, state, int(side))


def _sizes(config: Any) -> tuple[Any, Any]:
    """The transformers config of a run's model, and its processor where there is one."""
    from transformers import AutoConfig

    from medvlm.models.processor import load_processor

    name = str(config.model.name)
    if name in ("tiny", "small"):
        corpus = [turn.text for path in _files(config) for row in read_conversations(path) for turn in row.turns]
        loaded = load_model(name, corpus=corpus, tiny_config=config.model.tiny_config)
        return loaded.model.config, loaded.processor
    folder = Path(name)
    if not folder.is_dir() and name.startswith("models/"):
        folder = find_content("configs", name)
    adapter = folder / "adapter_config.json"
    if adapter.is_file():
        loaded = load_model(folder)
        return loaded.model.get_base_model().config, loaded.processor
    source = str(folder) if folder.is_dir() else name
    try:
        sizes = AutoConfig.from_pretrained(source)
    except OSError as error:
        raise MedVLMError(f"unknown model '{name}': {str(error).splitlines()[0]}") from None
    bare = folder.is_dir() and not any(folder.glob("*tokenizer*"))
    return sizes, None if bare else load_processor(source)


def _files(config: Any) -> list[Path]:
    given = config.data.train
    paths = given if isinstance(given, list) else [given] if given else []
    return [Path(str(path)) for path in paths if Path(str(path)).is_file()]


def batch_of(config: Any, drawn: Sketch) -> tuple[Workload, float]:
    """A typical full batch, and the batches of one epoch over all devices.

    Raises:
        MedVLMError: the data are neither here nor described by `--rows`.
    """
    lengths, learnt, images, rows = _measured(config, drawn)
    cached = drawn.tuning.vision == "freeze" and config.model.paths.features != "never"
    per_batch = max(1, int(config.data.batch_tokens / lengths))
    # A packed row costs what its conversations cost one by one: each attends to itself alone.
    tokens = per_batch * int(lengths)
    fused = config.model.paths.fused_loss != "never" and _large_vocabulary(drawn.model)
    work = Workload(
        rows=per_batch,
        length=int(lengths),
        supervised=max(1, int(tokens * learnt)),
        images=0 if cached else round(per_batch * images),
        side=drawn.side,
        cast=2 if str(config.trainer.precision).startswith(("bf16", "16")) else 4,
        fused=fused,
        checkpointing=bool(config.model.paths.checkpointing),
    )
    return work, rows / per_batch


def packs(config: Any, drawn: Sketch) -> bool:
    """Whether rows will be packed, as far as it can be told without weights: all layers attend to the whole row."""
    base = drawn.model.get_base_model() if hasattr(drawn.model, "peft_config") else drawn.model
    kinds = set(getattr(base.config.get_text_config(), "layer_types", None) or ("full_attention",))
    return bool(config.model.paths.packing != "never" and kinds == {"full_attention"})


def _large_vocabulary(model: Any) -> bool:
    from medvlm.training.loss import wants_fused

    return bool(wants_fused(model))


def _measured(config: Any, drawn: Sketch) -> tuple[float, float, float, int]:
    """Mean tokens of a conversation, learnt share, mean pictures, number of conversations."""
    files = _files(config)
    if not files or drawn.processor is None:
        if config.rows is None:
            raise MedVLMError(
                "the training data or the model's processor is not here: describe the data with --rows N."
            )
        return float(config.row_tokens), float(config.learnt), float(config.row_images), int(config.rows)
    total = learnt = images = count = rows = 0
    for path in files:
        conversations = read_conversations(path)[: config.data.limit]
        rows += len(conversations)
        encoder = ChatEncoder(drawn.processor, path.parent, str(config.model.name))
        for conversation in conversations[:: max(1, len(conversations) * len(files) // SAMPLE)]:
            row = encoder.encode(conversation)
            if len(row) > config.data.longest:
                continue
            total, learnt = total + len(row), learnt + int(row.supervised.sum())
            images, count = images + len(conversation.images), count + 1
    if not count:
        raise MedVLMError(f"no conversation is shorter than data.longest ({config.data.longest}).")
    return total / count, learnt / total, images / count, rows


def devices_of(config: Any) -> int:
    """Devices of the run over all nodes."""
    devices = config.trainer.devices
    count = len(devices) if isinstance(devices, list) else int(devices) if str(devices).isdigit() else 1
    return count * int(config.trainer.num_nodes)


def run_length(config: Any, batches: float, devices: int) -> tuple[int, int]:
    """Optimiser steps, and batches that each device sees.

    Args:
        config: the run's settings.
        batches: of one epoch, over all devices.
        devices: their number.
    """
    accumulate = int(config.trainer.accumulate_grad_batches)
    if config.trainer.max_steps > 0:
        return config.trainer.max_steps, config.trainer.max_steps * accumulate
    epochs = max(1, int(config.trainer.max_epochs or 1))
    each = math.ceil(batches * epochs / devices)
    return math.ceil(each / accumulate), each


def shards_of(config: Any, devices: int) -> tuple[int, int, int]:
    """Devices over which weights, gradients and optimiser states are spread by the strategy."""
    strategy = config.trainer.strategy
    name = str(getattr(strategy, "class_path", strategy)).lower()
    if "fsdp" in name or "modelparallel" in name or "stage_3" in name:
        return devices, devices, devices
    if "stage_2" in name or "deepspeed" in name:
        return 1, devices, devices
    return 1, 1, devices if "stage_1" in name else 1


def groups_of(config: Any, drawn: Sketch) -> list[dict[str, Any]]:
    """The optimiser's parameter groups."""
    from medvlm.models.parts import PARTS, Part, part_of
    from medvlm.training.schedule import parameter_groups

    base = drawn.model.get_base_model() if hasattr(drawn.model, "peft_config") else drawn.model
    factor = {"vision": config.model.vision_rate, "projector": config.model.projector_rate, "language": 1.0}
    rates: dict[Part, float] = {part: config.model.learning_rate * factor[part] for part in PARTS}
    muon = config.model.optimizer == "muon"
    return parameter_groups(base, part_of(base), rates, config.model.weight_decay, muon, config.model.layer_decay)


def in_words(group: dict[str, Any]) -> str:
    """One parameter group."""
    count = sum(parameter.numel() for parameter in group["params"])
    kind = "muon" if group.get("muon") else "adamw"
    size = f"{len(group['params']):>5} tensors {count:>14,} parameters"
    return f"{group['name']:<10}{size}  {kind}, rate {group['lr']:.1e}, decay {group['weight_decay']:g}"
