"""Vision, projector and language: the three parts of a VLM, found by structure, and what of each trains.

transformers says where the image encoder and the decoder are (`get_encoder`, `get_decoder`); what is left between
them is the projector. LoRA targets are explicit module names inside the chosen part: a pattern on names would leak
into the other tower.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from medvlm.errors import MedVLMError
from medvlm.models.load import LoadedModel

Part = Literal["vision", "projector", "language"]
PARTS: tuple[Part, ...] = ("vision", "projector", "language")
How = Literal["freeze", "lora", "full"]

# Some families keep the projector inside the vision module (Qwen-VL's merger).
PROJECTOR_NAMES = ("merger", "projector", "connector", "mlp1")


@dataclass(frozen=True)
class Tuning:
    """What of each part trains.

    Attributes:
        vision, projector, language: `freeze`, `lora` (adapters on its linear layers) or `full`.
        rank: LoRA rank.
        alpha: LoRA scale; adapters count alpha / rank.
        dropout: LoRA dropout.
        dora: use weight-decomposed adapters (DoRA).
        quantize: keep the weights that do not train in 4 or 8 bits (QLoRA); needs bitsandbytes.
    """

    vision: How = "full"
    projector: How = "full"
    language: How = "full"
    rank: int = 16
    alpha: int = 32
    dropout: float = 0.0
    dora: bool = False
    quantize: Literal["4bit", "8bit"] | None = None

    def of(self, part: Part) -> How:
        how: How = getattr(self, part)
        return how

    @property
    def uses_lora(self) -> bool:
        return any(self.of(part) == "lora" for part in PARTS)


@dataclass(frozen=True)
class PartRow:
    """One row of the trainable-parameter table."""

    part: Part
    how: str
    total: int
    trainable: int


def part_of(model: Any) -> dict[str, Part]:
    """Module name → part, for every module of an (unwrapped) image-text-to-text model.

    Raises:
        MedVLMError: the model has no image encoder or no decoder.
    """
    names = {id(module): name for name, module in model.named_modules()}
    encoder = names.get(id(model.get_encoder(modality="image")), "")
    decoder = names.get(id(model.get_decoder()), "")
    if not encoder or not decoder:
        raise MedVLMError(f"{type(model).__name__}: no separate image encoder and decoder found in this model.")
    head = names.get(id(model.get_output_embeddings()), decoder)
    parts: dict[str, Part] = {}
    for name in names.values():
        if _inside(name, encoder):
            rest = name[len(encoder) :].split(".")
            parts[name] = "projector" if any(piece in PROJECTOR_NAMES for piece in rest) else "vision"
        elif _inside(name, decoder) or _inside(name, head):
            parts[name] = "language"
        else:
            parts[name] = "projector"
    return parts


def prepare(loaded: LoadedModel, tuning: Tuning) -> LoadedModel:
    """Freeze, wrap and unfreeze so that exactly what `tuning` says trains.

    A model that is already an adapter keeps its adapter: what trains then was settled when it was made.
    """
    model = loaded.model
    if loaded.is_adapter:
        return loaded
    parts = part_of(model)
    if not tuning.uses_lora:
        for name, module in model.named_modules():
            for parameter in module.parameters(recurse=False):
                parameter.requires_grad_(tuning.of(parts[name]) == "full")
        return loaded
    from peft import LoraConfig, get_peft_model

    whole = [name for part in PARTS if tuning.of(part) == "full" for name in _top_modules(model, parts, part)]
    config = LoraConfig(
        r=tuning.rank,
        lora_alpha=tuning.alpha,
        lora_dropout=tuning.dropout,
        use_dora=tuning.dora,
        target_modules=lora_targets(model, parts, tuning),
        modules_to_save=whole or None,
    )
    return LoadedModel(get_peft_model(model, config), loaded.processor, loaded.name)


def lora_targets(model: Any, parts: dict[str, Part], tuning: Tuning) -> list[str]:
    """Full names of the linear layers that get an adapter (never the output head, which may be tied).

    Raises:
        MedVLMError: a part that should get adapters has no linear layers (Gemma 3's projector is a bare matrix).
    """
    from torch import nn

    head = model.get_output_embeddings()
    targets = [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and module is not head and tuning.of(parts[name]) == "lora"
    ]
    for part in PARTS:
        if tuning.of(part) == "lora" and not any(parts[name] == part for name in targets):
            raise MedVLMError(
                f"{type(model).__name__}: its {part} part has no linear layers for an adapter; "
                f"set tuning.{part} to full or freeze."
            )
    return targets


def table(loaded: LoadedModel) -> list[PartRow]:
    """Total and trainable parameters of each part; shared weights count once."""
    model = loaded.model.get_base_model() if loaded.is_adapter else loaded.model
    parts = part_of(model)
    total = dict.fromkeys(PARTS, 0)
    trainable = dict.fromkeys(PARTS, 0)
    adapters = dict.fromkeys(PARTS, 0)
    seen: set[int] = set()
    for name, module in model.named_modules():
        if "original_module" in name.split("."):
            continue  # peft keeps the untrained original beside a module that trains in full
        for parameter in module.parameters(recurse=False):
            if id(parameter) in seen:
                continue
            seen.add(id(parameter))
            part = parts[name]
            total[part] += parameter.numel()
            trainable[part] += parameter.numel() if parameter.requires_grad else 0
            adapters[part] += parameter.numel() if "lora_" in name else 0
    return [
        PartRow(part, _how(total[part], trainable[part], adapters[part]), total[part], trainable[part])
        for part in PARTS
    ]


def _how(total: int, trainable: int, adapters: int) -> str:
    if trainable == 0:
        return "frozen"
    return "lora" if adapters else ("full" if trainable == total else "partly")


def _inside(name: str, root: str) -> bool:
    return name == root or name.startswith(f"{root}.")


def _top_modules(model: Any, parts: dict[str, Part], part: Part) -> list[str]:
    """The outermost modules that hold all parameters of a part and nothing else."""
    tops: list[str] = []
    for name, module in model.named_modules():
        if not name or any(_inside(name, top) for top in tops):
            continue
        owned = {
            parts[f"{name}.{child}" if child else name]
            for child, sub in module.named_modules()
            if any(True for _ in sub.parameters(recurse=False))
        }
        if owned == {part}:
            tops.append(name)
    return tops
