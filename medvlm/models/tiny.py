"""The built-in tiny VLM: a stock LLaVA class in miniature, made from a config and the words it will meet.

No modelling code of ours: a SigLIP tower, LLaVA's two-layer projector and a Qwen3 language model, each shrunk until
two CPU cores train the whole in minutes. It exists so that every path of the package runs at once, without a
download; it knows nothing but what it is shown.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from medvlm.content import find_content
from medvlm.errors import MedVLMError

if TYPE_CHECKING:
    from transformers import LlavaForConditionalGeneration, LlavaProcessor, PreTrainedTokenizerFast

PAD, END, IMAGE = "<|pad|>", "<|end|>", "<|image|>"
ROLES = {"system": "<|system|>", "user": "<|user|>", "assistant": "<|assistant|>"}

# `{% generation %}` marks what the assistant says and its end token: the only text that is learnt.
CHAT_TEMPLATE = """\
{%- for message in messages -%}
{{- '<|' + message['role'] + '|>' -}}
{%- if message['role'] == 'assistant' -%}
{%- generation -%}
{%- for part in message['content'] -%}{%- if part['type'] == 'text' -%}{{- part['text'] -}}{%- endif -%}{%- endfor -%}
{{- '<|end|>' -}}
{%- endgeneration -%}
{%- else -%}
{%- for part in message['content'] -%}
{%- if part['type'] == 'image' -%}{{- '<|image|>' -}}{%- else -%}{{- part['text'] -}}{%- endif -%}
{%- endfor -%}
{{- '<|end|>' -}}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|assistant|>' -}}{%- endif -%}
"""


@dataclass(frozen=True)
class TinyConfig:
    """Sizes of the tiny VLM; read from `configs/models/*.yaml`.

    Attributes:
        image_size: pixels a side of the square the image is resized to.
        patch_size: pixels a side of one patch; `(image_size / patch_size)²` image tokens.
        vision_width, vision_layers, vision_heads: the SigLIP tower.
        width, layers, heads, mlp: the language model.
        vocabulary: most tokens of the byte-level BPE.
        context: longest sequence in tokens.
        initializer_range: standard deviation of the first weights.
        seed: seed of the first weights.
    """

    image_size: int = 96
    patch_size: int = 16
    vision_width: int = 128
    vision_layers: int = 2
    vision_heads: int = 2
    width: int = 192
    layers: int = 4
    heads: int = 3
    mlp: int = 512
    vocabulary: int = 1024
    context: int = 2048
    initializer_range: float = 0.02
    seed: int = 0

    def __post_init__(self) -> None:
        if self.image_size % self.patch_size or self.width % self.heads or self.vision_width % self.vision_heads:
            raise MedVLMError("tiny model: patch_size must divide image_size, and heads the widths.")

    @property
    def image_tokens(self) -> int:
        return (self.image_size // self.patch_size) ** 2


def read_tiny_config(name: str | Path = "models/tiny.yaml") -> TinyConfig:
    """Read a tiny model's sizes from the known configs or a file.

    Raises:
        MedVLMError: no such file, or a key that is none of `TinyConfig`'s.
    """
    path = find_content("configs", name)
    data = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    known = {field.name for field in fields(TinyConfig)}
    unknown = sorted(set(data) - known)
    if unknown:
        raise MedVLMError(f"{path}: unknown keys {', '.join(unknown)}; known are {', '.join(sorted(known))}.")
    return TinyConfig(**data)


def train_tokenizer(texts: Iterable[str], vocabulary: int) -> PreTrainedTokenizerFast:
    """Byte-level BPE learnt from `texts`; digits are single tokens, so that a number is copied digit by digit.

    The space before a number belongs to its first digit: "14" is the same two tokens in a finding and in an answer.
    All 256 bytes are in the vocabulary: any text can be written. The same texts give the same tokenizer.
    """
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(r" ?\d"), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[PAD, END, IMAGE, *ROLES.values()],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    bpe.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        pad_token=PAD,
        eos_token=END,
        additional_special_tokens=[IMAGE, *ROLES.values()],
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )


def build_tiny_processor(config: TinyConfig, texts: Iterable[str]) -> LlavaProcessor:
    """LLaVA's processor over the PIL image processor (no torchvision) and a tokenizer learnt from `texts`."""
    from transformers import LlavaProcessor
    from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

    side = {"height": config.image_size, "width": config.image_size}
    return LlavaProcessor(
        image_processor=SiglipImageProcessorPil(size=side),
        tokenizer=train_tokenizer(texts, config.vocabulary),
        patch_size=config.patch_size,
        vision_feature_select_strategy="full",
        chat_template=CHAT_TEMPLATE,
        image_token=IMAGE,
    )


def build_tiny_model(config: TinyConfig, processor: LlavaProcessor) -> LlavaForConditionalGeneration:
    """A LLaVA with fresh weights (seeded; the caller's random state is left as it was)."""
    import torch
    from transformers import (
        GenerationConfig,
        LlavaConfig,
        LlavaForConditionalGeneration,
        Qwen3Config,
        SiglipVisionConfig,
    )

    tokenizer = processor.tokenizer
    vision = SiglipVisionConfig(
        hidden_size=config.vision_width,
        intermediate_size=2 * config.vision_width,
        num_hidden_layers=config.vision_layers,
        num_attention_heads=config.vision_heads,
        image_size=config.image_size,
        patch_size=config.patch_size,
        vision_use_head=False,
    )
    text = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=config.width,
        intermediate_size=config.mlp,
        num_hidden_layers=config.layers,
        num_attention_heads=config.heads,
        num_key_value_heads=config.heads,
        head_dim=config.width // config.heads,
        max_position_embeddings=config.context,
        initializer_range=config.initializer_range,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        model = LlavaForConditionalGeneration(
            LlavaConfig(  # type: ignore[call-arg]  # image_token_id is the name it reads
                vision_config=vision,
                text_config=text,
                image_token_id=processor.image_token_id,
                vision_feature_select_strategy="full",
                vision_feature_layer=-1,
                image_seq_length=config.image_tokens,
                tie_word_embeddings=True,
            )
        )
    model.generation_config = GenerationConfig(
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id, do_sample=False
    )
    return model
