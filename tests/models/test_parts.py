from __future__ import annotations

import copy

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForImageTextToText

from medvlm.errors import MedVLMError
from medvlm.models.generate import Generator
from medvlm.models.load import LoadedModel, load_model
from medvlm.models.parts import PARTS, Tuning, lora_targets, part_of, prepare, table


@pytest.fixture
def fresh(tiny) -> LoadedModel:
    return LoadedModel(copy.deepcopy(tiny.model), tiny.processor, "tiny")


def test_every_parameter_belongs_to_one_part(tiny):
    rows = table(tiny)
    assert [row.part for row in rows] == list(PARTS)
    assert sum(row.total for row in rows) == tiny.model.num_parameters()
    # The projector: 32 -> 32 and 32 -> 32, with biases.
    assert rows[1].total == 2 * (32 * 32 + 32)


def test_full_and_freeze_set_what_trains(fresh):
    rows = {row.part: row for row in table(prepare(fresh, Tuning(vision="freeze", language="freeze")))}
    assert (rows["vision"].trainable, rows["language"].trainable) == (0, 0)
    assert rows["projector"].trainable == rows["projector"].total
    assert [rows[part].how for part in PARTS] == ["frozen", "full", "frozen"]


def test_lora_stays_in_its_part(fresh):
    targets = lora_targets(fresh.model, part_of(fresh.model), Tuning(vision="freeze", language="lora"))
    # Two layers with q, k, v, o, gate, up and down; the output head is not among them.
    assert len(targets) == 14
    assert all("language_model" in name for name in targets)


def test_lora_beside_a_fully_trained_projector(fresh):
    loaded = prepare(fresh, Tuning(vision="freeze", projector="full", language="lora", rank=4))
    rows = {row.part: row for row in table(loaded)}
    assert [rows[part].how for part in PARTS] == ["frozen", "full", "lora"]
    trained = {name for name, parameter in loaded.model.named_parameters() if parameter.requires_grad}
    assert all("lora_" in name or "multi_modal_projector.modules_to_save" in name for name in trained)


def test_a_saved_adapter_loads_with_plain_peft_and_answers_the_same(fresh, pictures, conversation, tmp_path):
    from dataclasses import replace

    base = tmp_path / "base"
    fresh.save(base)
    adapted = prepare(load_model(str(base)), Tuning(vision="freeze", projector="freeze", language="lora", rank=4))
    with torch.no_grad():  # LoRA starts as zero: give it something to say
        for name, parameter in adapted.model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.2)
    adapted.save(tmp_path / "adapter")

    ours = load_model(str(tmp_path / "adapter"))
    assert ours.is_adapter
    plain = PeftModel.from_pretrained(AutoModelForImageTextToText.from_pretrained(base), tmp_path / "adapter")
    asked = replace(conversation, turns=conversation.turns[:2])
    answers = [
        Generator(LoadedModel(model, fresh.processor, "m"), max_new_tokens=8, root=pictures).answer(asked)
        for model in (adapted.model, ours.model, plain, fresh.model)
    ]
    assert answers[0] == answers[1] == answers[2] != answers[3]


def test_a_model_without_a_tower_is_refused(tiny):
    with pytest.raises(MedVLMError, match="no separate image encoder"):
        part_of(tiny.model.model.language_model)
