from __future__ import annotations

import pytest
import torch
from transformers import AutoModelForImageTextToText

import medvlm.commands.serve as serve
from medvlm.errors import MedVLMError
from medvlm.models.load import load_model
from medvlm.models.merge import merge
from medvlm.models.parts import Tuning, prepare
from tests.models.families import build_family


def adapter(tmp_path):
    build_family("idefics3").save(tmp_path / "base")
    tuned = prepare(load_model(tmp_path / "base"), Tuning(vision="freeze", projector="full", language="lora", rank=2))
    with torch.no_grad():
        for name, parameter in tuned.model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.1)
    tuned.save(tmp_path / "adapter")
    return tmp_path / "adapter"


def test_an_adapter_is_merged_into_weights_that_plain_transformers_load(tmp_path):
    folder = serve.servable(adapter(tmp_path), None)
    assert folder == tmp_path / "adapter-merged"
    assert (folder / "model.safetensors").is_file()
    names = set(AutoModelForImageTextToText.from_pretrained(folder).state_dict())
    assert not any("lora" in name or "base_layer" in name or "modules_to_save" in name for name in names)
    ids = torch.tensor([[5, 6, 7, 8]])
    with torch.no_grad():
        ours = load_model(tmp_path / "adapter").model(input_ids=ids).logits
        theirs = AutoModelForImageTextToText.from_pretrained(folder)(input_ids=ids).logits
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-3)


def test_a_model_without_adapter_is_served_as_it_is(tmp_path):
    build_family("llava").save(tmp_path / "model")
    assert serve.servable(tmp_path / "model", None) == tmp_path / "model"
    loaded = load_model(tmp_path / "model")
    assert merge(loaded) is loaded
    with pytest.raises(MedVLMError, match="no model in this folder"):
        serve.servable(tmp_path, None)


def test_vllm_is_taken_where_it_is(tmp_path, monkeypatch):
    monkeypatch.setattr(serve, "find_spec", lambda name: object())
    command = serve.server_command("auto", tmp_path, "127.0.0.1", 8123)
    assert command[1:] == ["-m", "vllm.entrypoints.openai.api_server", "--model", str(tmp_path), *command[5:]]
    assert command[5:] == ["--host", "127.0.0.1", "--port", "8123"]


def test_a_server_that_is_not_there_is_named_with_its_extra(tmp_path, monkeypatch):
    monkeypatch.setattr(serve, "find_spec", lambda name: None)
    monkeypatch.setattr("transformers.utils.import_utils.is_serve_available", lambda: False)
    with pytest.raises(MedVLMError, match="pip install vllm"):
        serve.server_command("vllm", tmp_path, "127.0.0.1", 8000)
    with pytest.raises(MedVLMError, match=r"medvlm-specialist\[serve\]"):
        serve.server_command("auto", tmp_path, "127.0.0.1", 8000)
