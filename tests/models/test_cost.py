from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from medvlm.models.cost import Workload, decoder, on_meta, part_costs
from medvlm.models.load import LoadedModel
from medvlm.models.parts import PARTS, Tuning, prepare, table
from tests.models.families import FAMILIES, build_family

WORK = Workload(rows=2, length=64, supervised=32, images=2, side=32, cast=4)
LORA = Tuning(vision="freeze", projector="full", language="lora", rank=4)


@pytest.mark.parametrize("name", list(FAMILIES))
def test_every_family_is_reckoned_without_weights(name):
    real = build_family(name)
    with torch.device("meta"):
        drawn = prepare(LoadedModel(on_meta(real.model.config, torch.float32, "eager"), None, name), LORA)
    rows = {row.part: row for row in table(prepare(real, LORA))}
    for cost in part_costs(drawn.model, LORA, WORK, state_bytes=8):
        assert (cost.parameters, cost.trainable) == (rows[cost.part].total, rows[cost.part].trainable)
        assert cost.optimizer == 8 * cost.trainable
        assert cost.gradients == 4 * cost.trainable
        assert cost.flops > 0


def test_a_frozen_language_half_costs_two_thirds_and_the_same_as_a_real_pass():
    model = on_meta(build_family("llava").model.config, torch.float32, "eager")
    full = decoder(model, WORK, reaches=True).flops
    model.requires_grad_(False)
    frozen = decoder(model, WORK, reaches=True).flops
    alone = decoder(model, WORK, reaches=False).flops
    # Backward through linear layers: one product for the input, one for the weight; attention scores need both.
    assert alone < frozen < full
    # Two layers: q and o 32x32, k and v 32x16, three of 32x64; 2·64 tokens; scores and values 2·2·64·64·16 each.
    linear = 2 * 128 * 2 * (2 * 32 * 32 + 2 * 32 * 16 + 3 * 32 * 64)
    scores = 2 * 2 * (2 * 2 * 2 * 64 * 64 * 16)
    assert alone == linear + scores
    assert full == 3 * (linear + scores)
    assert frozen == 2 * linear + 3 * scores


def test_what_is_counted_on_meta_is_what_a_real_pass_does():
    real = build_family("llava").model
    real.set_attn_implementation("eager")
    drawn = on_meta(real.config, torch.float32, "eager")
    with FlopCounterMode(display=False) as counter:
        hidden = real.get_decoder()(inputs_embeds=torch.randn(2, 64, 32, requires_grad=True), use_cache=False)
        hidden.last_hidden_state.sum().backward()
    assert decoder(drawn, WORK, reaches=True).flops == counter.get_total_flops()


def test_checkpointing_keeps_less_and_computes_more():
    model = on_meta(build_family("qwen3_vl").model.config, torch.float32, "eager")
    plain, again = (decoder(model, Workload(2, 64, 32, 0, 32, checkpointing=c), True) for c in (False, True))
    assert again.kept < plain.kept
    assert again.flops == plain.flops * 4 // 3


def test_parts_are_in_order():
    model = on_meta(build_family("gemma3").model.config, torch.float32, "eager")
    assert [cost.part for cost in part_costs(model, Tuning(), WORK, 8)] == list(PARTS)
