from __future__ import annotations

import pytest
import torch

from medvlm.models.chat import ChatEncoder
from medvlm.training.collate import IGNORE, TrainingCollator, tokenise
from medvlm.training.loss import supervised_loss


@pytest.fixture
def batch(tiny, pictures, conversation) -> dict[str, torch.Tensor]:
    from dataclasses import replace

    shorter = replace(conversation, turns=conversation.turns[:3])
    rows = tokenise([conversation, shorter], ChatEncoder(tiny.processor, pictures), longest=500).rows
    return TrainingCollator(tiny.processor.tokenizer.pad_token_id)(rows)


def test_the_loss_is_the_one_of_the_full_logits(tiny, batch):
    summed, tokens = supervised_loss(tiny.model, batch)
    plain = tiny.model(**batch).loss  # transformers: mean over all labels that are not -100
    assert int(tokens) == int((batch["labels"] != IGNORE).sum())
    torch.testing.assert_close(summed / tokens, plain, rtol=1e-5, atol=1e-6)


def test_the_gradient_is_the_one_of_the_full_logits(tiny, batch):
    def gradients(loss: torch.Tensor) -> list[torch.Tensor]:
        parameters = [p for p in tiny.model.parameters() if p.requires_grad]
        found = torch.autograd.grad(loss, parameters, allow_unused=True)
        return [gradient for gradient in found if gradient is not None]

    summed, tokens = supervised_loss(tiny.model, batch)
    for ours, plain in zip(gradients(summed / tokens), gradients(tiny.model(**batch).loss), strict=True):
        torch.testing.assert_close(ours, plain, rtol=1e-4, atol=1e-6)


def test_the_head_sees_the_supervised_positions_only(tiny, batch):
    seen = []
    handle = tiny.model.get_output_embeddings().register_forward_hook(
        lambda _, inputs, __: seen.append(inputs[0].shape)
    )
    supervised_loss(tiny.model, batch)
    handle.remove()
    assert seen == [(int((batch["labels"] != IGNORE).sum()), tiny.model.config.text_config.hidden_size)]


def test_padding_changes_nothing(tiny, batch):
    together, _ = supervised_loss(tiny.model, batch)
    apart = 0.0
    for row in range(2):
        length = int(batch["attention_mask"][row].sum())
        single = {name: value[row : row + 1] for name, value in batch.items()}
        single = {name: value[:, :length] if name != "pixel_values" else value for name, value in single.items()}
        apart += float(supervised_loss(tiny.model, single)[0].detach())
    assert float(together.detach()) == pytest.approx(apart, rel=1e-5)


def test_long_and_empty_conversations_are_left_out_and_counted(tiny, pictures, conversation):
    from dataclasses import replace

    silent = replace(conversation, id="silent", turns=conversation.turns[:2])
    encoder = ChatEncoder(tiny.processor, pictures)
    kept = tokenise([conversation, silent], encoder, longest=500)
    assert kept.dropped == {"nothing to learn": ["silent"]}
    cut = tokenise([conversation], encoder, longest=20)
    assert cut.dropped == {"longer than 20 tokens": ["c"]}
    assert not cut.rows


def test_conversations_about_one_picture_share_its_tensor(tiny, pictures, conversation):
    rows = tokenise([conversation, conversation], ChatEncoder(tiny.processor, pictures), longest=500).rows
    assert rows[0].vision["pixel_values"] is rows[1].vision["pixel_values"]
