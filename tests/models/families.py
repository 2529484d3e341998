"""A miniature of every tested family: the real model class and processor, random weights, a tokenizer of a few words.

`build_family(name)` takes about a second. The chat templates have the role markers, the places of images and the quirks
(no end token, no system role, no template at all) of the published ones.
"""

from __future__ import annotations

import json
from typing import Any

import transformers as hf

from medvlm.models.processor import KeptVideoSettings
from tests.models.family_base import (
    FAMILIES,
    SIDE,
    SIZES,
    TEXT,
    TOWER,
    build_family,
    chatml,
    family,
    parts,
    tokenizer_of,
    vocabulary,
)

__all__ = ["FAMILIES", "build_family"]


@family("llava", end="</s>")
def llava() -> tuple[Any, Any]:
    """LLaVA 1.5: CLIP, two-layer projector, Llama; its template writes no end token."""
    template = (
        "{%- for message in messages -%}"
        "{%- if message['role'] != 'system' -%}{{- message['role'].upper() + ': ' -}}{%- endif -%}"
        + parts("<image>\\n", first=True)
        + "{{- ' ' -}}{%- endfor -%}{%- if add_generation_prompt -%}{{- 'ASSISTANT:' -}}{%- endif -%}"
    )
    tokenizer = tokenizer_of(["<image>"], "</s>", "<s>")
    processor = hf.LlavaProcessor(
        hf.CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size=SIDE),
        tokenizer,
        patch_size=8,
        vision_feature_select_strategy="default",
        chat_template=template,
        num_additional_image_tokens=1,
    )
    config = hf.LlavaConfig(
        vision_config=hf.CLIPVisionConfig(**TOWER),
        text_config=hf.LlamaConfig(**TEXT | vocabulary(tokenizer)),
        image_token_id=processor.image_token_id,
        image_seq_length=16,
    )
    return hf.LlavaForConditionalGeneration(config), processor


@family("llava_next", end="</s>")
def llava_next() -> tuple[Any, Any]:
    """LLaVA-NeXT: tiles of any aspect ratio, Mistral's instruction marks."""
    template = (
        "{%- for message in messages -%}{%- if message['role'] == 'system' -%}"
        "{{- '<<SYS>>\\n' + message['content'][0]['text'] + '\\n<</SYS>>\\n\\n' -}}"
        "{%- elif message['role'] == 'user' -%}{{- '[INST] ' -}}"
        + parts("<image>\\n", first=True)
        + "{{- ' [/INST]' -}}{%- else -%}{{- ' ' -}}"
        + parts("<image>\\n")
        + "{{- '</s> ' -}}{%- endif -%}{%- endfor -%}"
    )
    tokenizer = tokenizer_of(["<image>"], "</s>", "<s>")
    grid = [[32, 64], [64, 32], [64, 64]]
    processor = hf.LlavaNextProcessor(
        hf.LlavaNextImageProcessorPil(size={"shortest_edge": 32}, crop_size=SIDE, image_grid_pinpoints=grid),
        tokenizer,
        patch_size=8,
        vision_feature_select_strategy="default",
        chat_template=template,
        num_additional_image_tokens=1,
    )
    config = hf.LlavaNextConfig(
        vision_config=hf.CLIPVisionConfig(**TOWER),
        text_config=hf.MistralConfig(**TEXT | vocabulary(tokenizer), sliding_window=None),
        image_token_id=processor.image_token_id,
        image_grid_pinpoints=grid,
        image_seq_length=16,
    )
    return hf.LlavaNextForConditionalGeneration(config), processor


@family("llava_onevision", end="<|im_end|>")
def llava_onevision() -> tuple[Any, Any]:
    """LLaVA-OneVision: SigLIP tiles, Qwen2."""
    tokenizer = tokenizer_of(["<|im_start|>", "<image>", "<video>"], "<|im_end|>")
    grid = [[32, 32], [32, 64], [64, 32], [64, 64]]
    processor = hf.LlavaOnevisionProcessor(
        hf.LlavaOnevisionImageProcessorPil(size=SIDE, image_grid_pinpoints=grid),
        tokenizer,
        KeptVideoSettings(video_processor_type="LlavaOnevisionVideoProcessor"),
        num_image_tokens=16,
        vision_feature_select_strategy="full",
        chat_template=chatml("<image>\\n"),
    )
    config = hf.LlavaOnevisionConfig(
        vision_config=hf.SiglipVisionConfig(**TOWER, vision_use_head=False),
        text_config=hf.Qwen2Config(**TEXT | vocabulary(tokenizer)),
        image_token_id=processor.image_token_id,
        video_token_id=processor.video_token_id,
        image_grid_pinpoints=grid,
        image_seq_length=16,
    )
    return hf.LlavaOnevisionForConditionalGeneration(config), processor


QWEN_IMAGE = "<|vision_start|><|image_pad|><|vision_end|>"
QWEN_SPECIAL = ["<|im_start|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"]


def qwen_ids(tokenizer: Any) -> dict[str, int]:
    names = {"image_token_id": "image_pad", "video_token_id": "video_pad"}
    names |= {"vision_start_token_id": "vision_start", "vision_end_token_id": "vision_end"}
    return {key: tokenizer.convert_tokens_to_ids(f"<|{name}|>") for key, name in names.items()}


def qwen_processor(kind: Any, tokenizer: Any, patch: int, video: str) -> Any:
    pixels = {"shortest_edge": (2 * patch) ** 2, "longest_edge": (4 * patch) ** 2}
    return kind(
        hf.Qwen2VLImageProcessorPil(size=pixels, patch_size=patch),
        tokenizer,
        KeptVideoSettings(video_processor_type=video, merge_size=2, temporal_patch_size=2),
        chat_template=chatml(QWEN_IMAGE),
    )


@family("qwen2_5_vl", end="<|im_end|>")
def qwen2_5_vl() -> tuple[Any, Any]:
    """Qwen2.5-VL: native resolution, windowed attention, M-RoPE."""
    tokenizer = tokenizer_of(QWEN_SPECIAL, "<|im_end|>")
    vision = {"hidden_size": 32, "out_hidden_size": 32, "intermediate_size": 64, "num_heads": 2, "depth": 2}
    rope = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 3, 3]}
    text = {key: value for key, value in TEXT.items() if key != "head_dim"}
    config = hf.Qwen2_5_VLConfig(
        vision_config=vision | {"patch_size": 14, "window_size": 56, "fullatt_block_indexes": [1]},
        text_config=text | vocabulary(tokenizer) | {"rope_parameters": rope},
        **qwen_ids(tokenizer),
    )
    processor = qwen_processor(hf.Qwen2_5_VLProcessor, tokenizer, 14, "Qwen2VLVideoProcessor")
    return hf.Qwen2_5_VLForConditionalGeneration(config), processor


def qwen3_parts(tokenizer: Any) -> dict[str, Any]:
    vision = {"hidden_size": 32, "out_hidden_size": 32, "intermediate_size": 64, "num_heads": 2, "depth": 2}
    rope = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [4, 2, 2]}
    return {
        "vision_config": vision | {"patch_size": 16, "num_position_embeddings": 64, "deepstack_visual_indexes": [0]},
        "text_config": TEXT | vocabulary(tokenizer) | {"rope_parameters": rope},
    }


@family("qwen3_vl", end="<|im_end|>")
def qwen3_vl() -> tuple[Any, Any]:
    """Qwen3-VL: deepstack features enter several layers."""
    tokenizer = tokenizer_of(QWEN_SPECIAL, "<|im_end|>")
    config = hf.Qwen3VLConfig(**qwen3_parts(tokenizer), **qwen_ids(tokenizer))
    processor = qwen_processor(hf.Qwen3VLProcessor, tokenizer, 16, "Qwen3VLVideoProcessor")
    return hf.Qwen3VLForConditionalGeneration(config), processor


@family("qwen3_5", end="<|im_end|>")
def qwen3_5() -> tuple[Any, Any]:
    """Qwen3.5: layers of linear attention between those of full attention; transformers insists on its tokenizer."""
    made = json.loads(tokenizer_of(QWEN_SPECIAL, "<|im_end|>").backend_tokenizer.to_str())["model"]
    names = {"eos_token": "<|im_end|>", "pad_token": "<pad>", "unk_token": "<pad>", "padding_side": "left"}
    merges = [tuple(pair) for pair in made["merges"]]
    tokenizer = hf.Qwen3_5Tokenizer(made["vocab"], merges, additional_special_tokens=QWEN_SPECIAL, **names)
    made = qwen3_parts(tokenizer)
    del made["vision_config"]["deepstack_visual_indexes"]
    rope = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 1, 1], "partial_rotary_factor": 0.5}
    made["text_config"] |= {
        "rope_parameters": rope | {"mrope_interleaved": True},
        "layer_types": ["linear_attention", "full_attention"],
        "linear_key_head_dim": 16,
        "linear_value_head_dim": 16,
        "linear_num_key_heads": 2,
        "linear_num_value_heads": 2,
    }
    config = hf.Qwen3_5Config(**made, **qwen_ids(tokenizer))
    processor = qwen_processor(hf.Qwen3VLProcessor, tokenizer, 16, "Qwen3VLVideoProcessor")
    return hf.Qwen3_5ForConditionalGeneration(config), processor


IDEFICS_SPECIAL = ["<|im_start|>", "<fake_token_around_image>", "<image>", "<global-img>"]
IDEFICS_SPECIAL += [f"<row_{row}_col_{column}>" for row in range(1, 3) for column in range(1, 3)]
IDEFICS_TEMPLATE = (
    "{{- '<|im_start|>' -}}{%- for message in messages -%}{{- message['role'].capitalize() -}}"
    "{%- if message['content'][0]['type'] == 'image' -%}{{- ':' -}}{%- else -%}{{- ': ' -}}{%- endif -%}"
    + parts("<image>")
    + "{{- '<end_of_utterance>\\n' -}}{%- endfor -%}{%- if add_generation_prompt -%}{{- 'Assistant:' -}}{%- endif -%}"
)


def idefics_config(kind: Any, tokenizer: Any) -> Any:
    vision = {"model_type": kind.sub_configs["vision_config"].model_type}
    return kind(
        vision_config=TOWER | vision,
        text_config={"model_type": "llama"} | TEXT | vocabulary(tokenizer),
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        scale_factor=2,
    )


@family("smolvlm", end="<end_of_utterance>")
def smolvlm() -> tuple[Any, Any]:
    """SmolVLM: pixel shuffle, tiles, an end token that is not the tokenizer's."""
    tokenizer = tokenizer_of([*IDEFICS_SPECIAL, "<end_of_utterance>"], "<|im_end|>")
    edges = {"size": {"longest_edge": 64}, "max_image_size": {"longest_edge": 32}}
    processor = hf.SmolVLMProcessor(
        hf.SmolVLMImageProcessorPil(**edges),
        tokenizer,
        KeptVideoSettings(video_processor_type="SmolVLMVideoProcessor", num_frames=4, fps=1),
        image_seq_len=4,
        chat_template=IDEFICS_TEMPLATE,
    )
    return hf.SmolVLMForConditionalGeneration(idefics_config(hf.SmolVLMConfig, tokenizer)), processor


@family("idefics3", end="<end_of_utterance>")
def idefics3() -> tuple[Any, Any]:
    """Idefics3: the same layout with Llama's tokens."""
    tokenizer = tokenizer_of([*IDEFICS_SPECIAL, "<end_of_utterance>"], "<|im_end|>")
    edges = {"size": {"longest_edge": 64}, "max_image_size": {"longest_edge": 32}}
    processor = hf.Idefics3Processor(
        hf.Idefics3ImageProcessorPil(**edges), tokenizer, image_seq_len=4, chat_template=IDEFICS_TEMPLATE
    )
    return hf.Idefics3ForConditionalGeneration(idefics_config(hf.Idefics3Config, tokenizer)), processor


@family("paligemma", end="<eos>")
def paligemma() -> tuple[Any, Any]:
    """PaliGemma: a prefix seen in both directions; its processor has no chat template."""
    tokenizer = tokenizer_of(["<image>"], "<eos>", "<bos>")
    images = hf.SiglipImageProcessorPil(size=SIDE)
    images.image_seq_length = 16
    processor = hf.PaliGemmaProcessor(images, tokenizer)
    text = TEXT | vocabulary(tokenizer) | {"model_type": "gemma2", "sliding_window": 4096, "query_pre_attn_scalar": 16}
    config = hf.PaliGemmaConfig(
        vision_config=TOWER | {"model_type": "siglip_vision_model", "vision_use_head": False, "projection_dim": 32},
        text_config=text | {"attn_logit_softcapping": None},
        image_token_index=processor.image_token_id,
        projection_dim=32,
        hidden_size=32,
    )
    return hf.PaliGemmaForConditionalGeneration(config), processor


GEMMA_TEMPLATE = (
    "{{- bos_token -}}{%- set first = '' -%}{%- set loop_messages = messages -%}"
    "{%- if messages[0]['role'] == 'system' -%}"
    "{%- set first = messages[0]['content'][0]['text'] + '\\n\\n' -%}"
    "{%- set loop_messages = messages[1:] -%}{%- endif -%}"
    "{%- for message in loop_messages -%}"
    "{%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) -%}"
    "{{- raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') -}}{%- endif -%}"
    "{%- set role = 'model' if message['role'] == 'assistant' else 'user' -%}"
    "{{- '<start_of_turn>' + role + '\\n' + (first if loop.first else '') -}}"
    + parts("<start_of_image>")
    + "{{- '<end_of_turn>\\n' -}}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<start_of_turn>model\\n' -}}{%- endif -%}"
)


@family("gemma3", end="<end_of_turn>")
def gemma3() -> tuple[Any, Any]:
    """Gemma 3 and MedGemma: images attend in both directions, layers with a sliding window."""
    named = {"boi_token": "<start_of_image>", "eoi_token": "<end_of_image>", "image_token": "<image_soft_token>"}
    tokenizer = tokenizer_of(["<start_of_turn>", "<end_of_turn>"], "<eos>", "<bos>", **named)
    processor = hf.Gemma3Processor(
        hf.Gemma3ImageProcessorPil(size=SIDE), tokenizer, chat_template=GEMMA_TEMPLATE, image_seq_length=4
    )
    layers = {"layer_types": ["sliding_attention", "full_attention"], "sliding_window": 64, "query_pre_attn_scalar": 16}
    config = hf.Gemma3Config(
        vision_config=TOWER | {"vision_use_head": False},
        text_config=TEXT | vocabulary(tokenizer) | layers,
        mm_tokens_per_image=4,
        boi_token_index=tokenizer.boi_token_id,
        eoi_token_index=tokenizer.eoi_token_id,
        image_token_index=tokenizer.image_token_id,
    )
    return hf.Gemma3ForConditionalGeneration(config), processor


@family("internvl", end="<|im_end|>")
def internvl() -> tuple[Any, Any]:
    """InternVL 3: its own tower, pixel unshuffle, Qwen2."""
    named = {"start_image_token": "<img>", "end_image_token": "</img>", "context_image_token": "<IMG_CONTEXT>"}
    tokenizer = tokenizer_of(["<|im_start|>"], "<|im_end|>", **named, video_token="<video>")
    processor = hf.InternVLProcessor(
        hf.GotOcr2ImageProcessorPil(size=SIDE, crop_to_patches=True, max_patches=2),
        tokenizer,
        KeptVideoSettings(video_processor_type="InternVLVideoProcessor"),
        image_seq_length=4,
        chat_template=chatml("<IMG_CONTEXT>\\n"),
    )
    config = hf.InternVLConfig(
        vision_config=SIZES | {"image_size": [32, 32], "patch_size": [8, 8]},
        text_config={"model_type": "qwen2"} | TEXT | vocabulary(tokenizer),
        image_token_id=tokenizer.context_image_token_id,
        image_seq_length=4,
    )
    return hf.InternVLForConditionalGeneration(config), processor


@family("mllama", end="<|eot_id|>")
def mllama() -> tuple[Any, Any]:
    """Llama 3.2 Vision: cross-attention to tiles; its template refuses a system turn beside an image."""
    template = (
        "{{- bos_token -}}{%- set ns = namespace(images=false) -%}{%- for message in messages -%}"
        "{%- for part in message['content'] -%}{%- if part['type'] == 'image' -%}{%- set ns.images = true -%}"
        "{%- endif -%}{%- endfor -%}{%- endfor -%}"
        "{%- if ns.images and messages[0]['role'] == 'system' -%}"
        "{{- raise_exception('Prompting with images is incompatible with system messages.') -}}{%- endif -%}"
        "{%- for message in messages -%}"
        "{{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' -}}"
        + parts("<|image|>")
        + "{{- '<|eot_id|>' -}}{%- endfor -%}"
        "{%- if add_generation_prompt -%}{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' -}}{%- endif -%}"
    )
    special = ["<|start_header_id|>", "<|end_header_id|>", "<|python_tag|>", "<|image|>"]
    tokenizer = tokenizer_of(special, "<|eot_id|>", "<|begin_of_text|>")
    processor = hf.MllamaProcessor(
        hf.MllamaImageProcessorPil(size=SIDE, max_image_tiles=4), tokenizer, chat_template=template
    )
    vision = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "attention_heads": 2}
    text = {key: value for key, value in TEXT.items() if key != "head_dim"} | {"cross_attention_layers": [1]}
    rope = {"rope_type": "default", "rope_theta": 10000.0}
    config = hf.MllamaConfig(
        vision_config=vision
        | {"image_size": 32, "patch_size": 8, "num_global_layers": 1, "intermediate_layers_indices": [0]}
        | {"vision_output_dim": 64, "max_num_tiles": 4},
        text_config=text | vocabulary(tokenizer) | {"rope_parameters": rope},
        image_token_index=processor.image_token_id,
    )
    return hf.MllamaForConditionalGeneration(config), processor
