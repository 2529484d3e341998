from __future__ import annotations

import json

import pytest

from medvlm.errors import MedVLMError
from medvlm.models.load import load_model
from tests.models.conftest import WORDS


def test_tiny_is_made_from_a_corpus(tmp_path):
    loaded = load_model("tiny", corpus=WORDS)
    assert type(loaded.model).__name__ == "LlavaForConditionalGeneration"
    with pytest.raises(MedVLMError, match="starts empty"):
        load_model("tiny")


def test_a_saved_folder_is_loaded_again(tiny, tmp_path):
    tiny.save(tmp_path / "model")
    loaded = load_model(tmp_path / "model")
    assert loaded.model.num_parameters() == tiny.model.num_parameters()


@pytest.mark.parametrize("name", ["no_such_model", "./nowhere", "a/b/c"])
def test_a_name_that_is_nothing_is_refused_without_a_network(name):
    with pytest.raises(MedVLMError, match=r"unknown model '.*': give 'tiny'"):
        load_model(name)


def test_a_hub_model_that_cannot_be_reached_is_one_sentence():
    with pytest.raises(MedVLMError) as refused:  # the tests run with HF_HUB_OFFLINE
        load_model("some-org/some-model")
    assert "unknown model 'some-org/some-model'" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_folders_that_hold_no_model_are_refused(tmp_path):
    with pytest.raises(MedVLMError, match="no model in this folder"):
        load_model(tmp_path)
    (tmp_path / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA"}))
    with pytest.raises(MedVLMError, match="names no base model"):
        load_model(tmp_path)


def test_a_model_for_text_only_is_refused(tiny, tmp_path):
    from transformers import Qwen3Config, Qwen3ForCausalLM

    config = Qwen3Config(
        vocab_size=50, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, head_dim=8
    )
    Qwen3ForCausalLM(config).save_pretrained(tmp_path)
    tiny.processor.tokenizer.save_pretrained(tmp_path)
    with pytest.raises(MedVLMError, match=r"image"):
        load_model(tmp_path)


def test_quantised_weights_name_the_extra_they_need(tiny, tmp_path, monkeypatch):
    import medvlm.models.load as load

    tiny.save(tmp_path / "model")
    monkeypatch.setattr(load, "find_spec", lambda name: None)
    with pytest.raises(MedVLMError, match=r"bitsandbytes: pip install 'medvlm-specialist\[qlora\]'"):
        load_model(tmp_path / "model", quantize="4bit")
    with pytest.raises(MedVLMError, match="give 4bit or 8bit"):
        load_model(tmp_path / "model", quantize="2bit")
