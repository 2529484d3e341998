"""The quick paths change nothing: packed rows, cached features and the fused loss give the plain step's gradients."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from medvlm.models.chat import ChatEncoder
from medvlm.training.collate import TrainingCollator, tokenise
from medvlm.training.features import FeatureCache
from medvlm.training.loss import fused_cross_entropy, supervised_loss
from medvlm.training.norms import lean_norms
from medvlm.training.packing import PackingCollator, position_rule
from medvlm.training.selftest import why_not_cached, why_not_packed
from tests.models.families import FAMILIES, build_family

# Their attention is not causal, crosses to images, or carries a state along: the self-test must refuse to pack them.
NOT_PACKED = {"paligemma", "gemma3", "mllama", "qwen3_5"}


def gradients(model, batch, **how):
    model.zero_grad()
    loss, tokens = supervised_loss(model, batch, **how)
    (loss / tokens).backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.requires_grad and p.grad is not None}


def assert_same(one, other, scale=1e-4):
    assert one.keys() == other.keys()
    largest = max(float(value.abs().max()) for value in one.values())
    for name, value in one.items():
        torch.testing.assert_close(
            value, other[name], rtol=1e-3, atol=scale * largest, msg=lambda m, n=name: f"{n}: {m}"
        )


@pytest.fixture(scope="module", params=sorted(FAMILIES))
def loaded(request):
    return build_family(request.param)


@pytest.fixture
def rows(loaded, pictures, conversation):
    lengths = (len(conversation.turns), 3)
    talks = [replace(conversation, turns=conversation.turns[:length]) for length in lengths]
    talks.append(replace(conversation, turns=conversation.turns[1:3]))
    encoder = ChatEncoder(loaded.processor, pictures)
    return tokenise(talks, encoder, longest=4096).rows


def test_packed_rows_give_the_gradients_of_padded_ones_or_are_refused(loaded, rows):
    pad = loaded.processor.tokenizer.pad_token_id
    plain = gradients(loaded.model, TrainingCollator(pad)(rows))
    before = loaded.model.config.get_text_config()._attn_implementation
    reason = why_not_packed(loaded.model, rows, pad)
    if loaded.name in NOT_PACKED:
        assert reason
        assert loaded.model.config.get_text_config()._attn_implementation == before
        return
    assert reason is None
    try:
        packed = PackingCollator(pad, position_rule(loaded.model))(rows)
        assert_same(plain, gradients(loaded.model, packed))
    finally:
        loaded.model.set_attn_implementation(before)


# Their norms scale by 1 + weight, or are layer norms.
OWN_NORMS = {"paligemma", "gemma3", "qwen3_5"}


def test_lean_norms_give_the_gradients_of_the_models_own(loaded, rows):
    batch = TrainingCollator(loaded.processor.tokenizer.pad_token_id)(rows)
    for name, parameter in loaded.model.named_parameters():
        if "norm" in name:  # away from one, where weight and 1 + weight - 1 are alike
            torch.nn.init.uniform_(parameter, 0.5, 1.5, generator=torch.Generator().manual_seed(len(name)))
    plain = gradients(loaded.model, batch)
    switched = lean_norms(loaded.model)
    try:
        assert bool(switched) == (loaded.name not in OWN_NORMS)
        assert_same(plain, gradients(loaded.model, batch))
    finally:
        for module in loaded.model.modules():
            vars(module).pop("forward", None)


def test_lean_norms_leave_another_formula_alone():
    class ShiftedRMSNorm(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight, self.eps = torch.nn.Parameter(torch.ones(4)), 1e-6

        def forward(self, x):
            return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.eps) * (1 + self.weight)

    assert lean_norms(torch.nn.Sequential(ShiftedRMSNorm())) == 0


@pytest.mark.parametrize("projector", ["freeze", "full"])
def test_cached_features_give_the_gradients_of_pixels(loaded, rows, tmp_path, projector):
    from medvlm.errors import MedVLMError
    from medvlm.models.parts import part_of

    pad = loaded.processor.tokenizer.pad_token_id
    parts = part_of(loaded.model)
    trains = {name: p.requires_grad for name, p in loaded.model.named_parameters()}
    for name, module in loaded.model.named_modules():
        for p in module.parameters(recurse=False):
            p.requires_grad_(parts[name] == "language" or (projector == "full" and parts[name] == "projector"))
    try:
        plain = gradients(loaded.model, TrainingCollator(pad)(rows))
        try:
            cache = FeatureCache.open(loaded, tmp_path)
            cache.fill(rows)
        except MedVLMError as refusal:
            assert projector == "full" or loaded.name == "mllama"
            pytest.skip(str(refusal))
        assert why_not_cached(loaded.model, rows[0], cache, pad) is None
        again = FeatureCache.open(loaded, tmp_path)
        assert again.fill(rows) == 0
        batch = again.load(TrainingCollator(pad)([again.strip(row) for row in rows]))
        with again.replayed(batch) as inputs:
            assert_same(plain, gradients(loaded.model, inputs))
    finally:
        for name, p in loaded.model.named_parameters():
            p.requires_grad_(trains[name])


def test_the_fused_loss_gives_the_gradients_of_the_plain_one(loaded, rows, monkeypatch):
    monkeypatch.setattr("medvlm.training.loss.BLOCK_LOGITS", 1)  # blocks of 256 words: several of them
    batch = TrainingCollator(loaded.processor.tokenizer.pad_token_id)(rows)
    assert_same(gradients(loaded.model, batch), gradients(loaded.model, batch, fused=True))


@pytest.mark.parametrize("cap", [None, 3.0])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 1e-5), (torch.bfloat16, 3e-2)])
def test_fused_cross_entropy_is_torchs(cap, dtype, tolerance, monkeypatch):
    monkeypatch.setattr("medvlm.training.loss.BLOCK_LOGITS", 1)
    torch.manual_seed(0)
    hidden, weight = torch.randn(7, 16, dtype=dtype), torch.randn(1000, 16, dtype=dtype)
    bias, targets = torch.randn(1000, dtype=dtype), torch.randint(1000, (7,))
    inputs = [one.requires_grad_() for one in (hidden, weight, bias)]
    logits = torch.nn.functional.linear(*inputs).float()
    if cap:
        logits = (logits / cap).tanh() * cap
    plain = torch.nn.functional.cross_entropy(logits, targets, reduction="sum")
    fused = fused_cross_entropy(*inputs, targets, cap)
    torch.testing.assert_close(plain, fused, rtol=1e-5, atol=1e-4)
    # the upstream factor must arrive in every gradient
    for one, other in zip(torch.autograd.grad(3 * plain, inputs), torch.autograd.grad(3 * fused, inputs)):
        assert float((one - other).norm() / one.norm()) < max(tolerance, 1e-6)


def test_features_of_other_weights_are_other_features(tiny, pictures, conversation, tmp_path):
    rows = tokenise([conversation], ChatEncoder(tiny.processor, pictures), longest=4096).rows
    tower = tiny.model.get_encoder(modality="image")
    trains = [(p, p.requires_grad) for p in tiny.model.parameters()]
    tower.requires_grad_(False)
    bias = next(iter(tower.parameters()))
    try:
        FeatureCache.open(tiny, tmp_path).fill(rows)
        bias.data.add_(0.5)
        assert len(FeatureCache.open(tiny, tmp_path)) == 0
        bias.data.sub_(0.5)
    finally:
        for p, trained in trains:
            p.requires_grad_(trained)


def test_a_tower_that_trains_is_not_cached(tiny, tmp_path):
    from medvlm.errors import MedVLMError

    with pytest.raises(MedVLMError, match=r"needs a frozen vision part: set --model\.tuning\.vision=freeze"):
        FeatureCache.open(tiny, tmp_path)
