"""What the miniatures of all families share: how they are built, their sizes, tokenizer and chat templates."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
import transformers as hf
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from medvlm.models.load import LoadedModel
from medvlm.models.processor import video_settings_kept

WORDS = [
    "experts: <CHEST_CT(nodules)>",
    "How large is the largest nodule? Which side is it on?",
    "The largest nodule measures 14 mm. lung nodules: 1 right upper lobe, solid",
    "USER: ASSISTANT: User: Assistant: user assistant system model",
]
SIZES = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
TEXT = SIZES | {"num_key_value_heads": 1, "head_dim": 16, "max_position_embeddings": 4096}
TOWER = SIZES | {"image_size": 32, "patch_size": 8}
SIDE = {"height": 32, "width": 32}


@dataclass(frozen=True)
class Family:
    """How one family is built, and what closes an assistant turn in its template (after `ChatEncoder`)."""

    build: Callable[[], tuple[Any, Any]]
    end: str


FAMILIES: dict[str, Family] = {}


def family(name: str, end: str) -> Callable[[Callable[[], tuple[Any, Any]]], Callable[[], tuple[Any, Any]]]:
    """Register the builder of one family."""

    def register(build: Callable[[], tuple[Any, Any]]) -> Callable[[], tuple[Any, Any]]:
        FAMILIES[name] = Family(build, end)
        return build

    return register


def build_family(name: str) -> LoadedModel:
    """Model (float32, eval) and processor of one family; the same weights every time."""
    with torch.random.fork_rng(devices=[]), video_settings_kept():
        torch.manual_seed(0)
        model, processor = FAMILIES[name].build()
        # Norms, gates and position tables start as ones and zeros: noise shows what they would hide.
        for parameter in model.parameters():
            parameter.data.add_(torch.randn_like(parameter) * 0.1)
    tokenizer = processor.tokenizer
    model.generation_config = hf.GenerationConfig(
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id, do_sample=False
    )
    return LoadedModel(model.eval(), processor, name)


def tokenizer_of(special: list[str], end: str, start: str | None = None, **named: str) -> Any:
    """Byte-level BPE over `WORDS`; `named` tokens become attributes (`image_token`)."""
    names = dict.fromkeys(["<pad>", end, *([start] if start else []), *special, *named.values()])
    bpe = _bpe(tuple(names))
    return hf.PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(bpe),
        pad_token="<pad>",
        eos_token=end,
        bos_token=start,
        additional_special_tokens=[token for token in names if token not in ("<pad>", end, start)],
        extra_special_tokens=named,
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )


@lru_cache
def _bpe(special: tuple[str, ...]) -> str:
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400 + len(special),
        special_tokens=list(special),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    bpe.train_from_iterator(WORDS, trainer)
    return str(bpe.to_str())


def vocabulary(tokenizer: Any) -> dict[str, Any]:
    """The part of a text config that follows from the tokenizer."""
    names = {"pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id}
    return {"vocab_size": len(tokenizer) + 8, "bos_token_id": tokenizer.bos_token_id} | names


def parts(image: str, first: bool = False) -> str:
    """Jinja that writes a message's parts; with `first` all images come before the texts."""
    picture = "{%- if part['type'] == 'image' -%}{{- '" + image + "' -}}{%- endif -%}"
    words = "{%- if part['type'] == 'text' -%}{{- part['text'] -}}{%- endif -%}"
    loop = "{%- for part in message['content'] -%}BODY{%- endfor -%}"
    return (
        loop.replace("BODY", picture) + loop.replace("BODY", words) if first else loop.replace("BODY", picture + words)
    )


def chatml(image: str, end: str = "<|im_end|>") -> str:
    """`<|im_start|>role\\n...<|im_end|>\\n`, as in the Qwen families."""
    return (
        "{%- for message in messages -%}{{- '<|im_start|>' + message['role'] + '\\n' -}}"
        + parts(image)
        + "{{- '"
        + end
        + "\\n' -}}{%- endfor -%}"
        + "{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}"
    )
