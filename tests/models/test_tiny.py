from __future__ import annotations

import pytest
import torch
from transformers import AutoModelForImageTextToText, AutoProcessor

from medvlm.errors import MedVLMError
from medvlm.models.tiny import (
    TinyConfig,
    build_tiny_model,
    build_tiny_processor,
    read_tiny_config,
    train_tokenizer,
)
from tests.models.conftest import SMALL, WORDS


def test_the_default_is_small_and_learns_in_minutes():
    config = read_tiny_config()
    processor = build_tiny_processor(config, WORDS)
    assert build_tiny_model(config, processor).num_parameters() < 10_000_000


def test_every_text_survives_the_tokenizer():
    tokenizer = train_tokenizer(WORDS, 400)
    for text in ("14 mm", "größer als 3 µm", "肺結節", "a\tb\nc  d"):
        assert tokenizer.decode(tokenizer.encode(text, add_special_tokens=False)) == text


def test_a_number_is_written_digit_by_digit():
    # The space belongs to the first digit, so that "14" is the same two tokens wherever it follows a space.
    tokenizer = train_tokenizer(["solid, 14 mm"] * 9 + [f"a {digit} b" for digit in range(10)] * 9, 400)
    assert tokenizer.tokenize(" 14 mm") == ["Ġ1", "4", "Ġmm"]
    assert tokenizer.tokenize(" 41 mm") == ["Ġ4", "1", "Ġmm"]


def test_the_same_texts_give_the_same_tokenizer_and_the_same_seed_the_same_weights():
    first, second = (build_tiny_processor(SMALL, WORDS) for _ in range(2))
    assert first.tokenizer.get_vocab() == second.tokenizer.get_vocab()
    state = torch.random.get_rng_state()
    weights = [build_tiny_model(SMALL, first).state_dict() for _ in range(2)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert torch.equal(state, torch.random.get_rng_state())


def test_plain_transformers_load_the_folder(tiny, tmp_path):
    tiny.save(tmp_path / "model")
    model = AutoModelForImageTextToText.from_pretrained(tmp_path / "model")
    processor = AutoProcessor.from_pretrained(tmp_path / "model")
    assert type(model).__name__ == "LlavaForConditionalGeneration"
    assert type(processor).__name__ == "LlavaProcessor"
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in tiny.model.state_dict().items())
    assert processor.tokenizer.get_vocab() == tiny.processor.tokenizer.get_vocab()


def test_sizes_that_do_not_fit_are_refused():
    with pytest.raises(MedVLMError, match="patch_size"):
        TinyConfig(image_size=100, patch_size=16)


def test_an_unknown_key_is_named(tmp_path):
    (tmp_path / "mine.yaml").write_text("depth: 3\n")
    with pytest.raises(MedVLMError, match="unknown keys depth"):
        read_tiny_config(tmp_path / "mine.yaml")
