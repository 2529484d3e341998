"""Rollouts: cached, batched, multi-turn sampling equals what one plain forward pass says."""

import pytest
import torch

from medvlm.dialogue.conversation import Conversation, Turn
from medvlm.models.chat import collate
from medvlm.training.rollouts import GIVEN, Rollouts, Sample, Script


def script(number: int, questions: int = 2, image: bool = True) -> Script:
    turns: list[Turn] = []
    for question in range(questions):
        pictures = (f"{number % 3}.png",) if image and question == 0 else ()
        turns += [Turn("user", f"Question {question} of {number}?", pictures), Turn("assistant", "An answer.")]
    return Script.of(Conversation(f"c{number}", f"p{number}", "train", tuple(turns)))


def likeliest(loaded, sample: Sample) -> list[int]:
    """For every token that was written: the likeliest one of a forward pass without cache or batch."""
    row = sample.encoded()
    inputs = collate([row], loaded.processor.tokenizer.pad_token_id, side="right")
    with torch.no_grad():
        logits = loaded.model.eval()(**inputs).logits[0]
    logits = logits.index_fill(1, Rollouts(loaded).forbidden, -torch.inf)
    where = row.supervised.nonzero()[:, 0]
    return logits[where - 1].argmax(dim=-1).tolist()


@pytest.mark.parametrize("group", [1, 3])
def test_greedy_rollouts_are_the_likeliest_tokens_of_a_plain_pass(tiny, pictures, group):
    rollouts = Rollouts(tiny, pictures, max_new_tokens=6, temperature=0)
    scripts = [script(0), script(1, questions=3), script(2, questions=1, image=False)]
    samples = rollouts(scripts, group)
    assert len(samples) == 3 * group
    for sample in samples:
        written = [token for token, turn in zip(sample.ids, sample.turns, strict=True) if turn != GIVEN]
        assert written == likeliest(tiny, sample)
        assert len(sample.answers) == len(sample.script.asked)


def test_the_tokens_of_a_conversation_are_those_of_its_rendered_text(tiny, pictures):
    (sample,) = Rollouts(tiny, pictures, max_new_tokens=4, temperature=0)([script(1)])
    tokenizer = tiny.processor.tokenizer
    text = tokenizer.decode(sample.ids)
    # The second question stands between the end of the first answer and the prompt of the second.
    assert "<|end|><|user|>Question 1 of 1?<|end|><|assistant|>" in text.replace("<|end|> ", "<|end|>")
    assert sample.turns.count(0) + sample.turns.count(1) + sample.turns.count(GIVEN) == len(sample.ids)


def test_the_same_seed_gives_the_same_conversations(tiny, pictures):
    rollouts = Rollouts(tiny, pictures, max_new_tokens=5)
    one, same, other = (rollouts([script(0)], group=4, seed=seed) for seed in (1, 1, 2))
    assert [sample.ids for sample in one] == [sample.ids for sample in same]
    assert [sample.ids for sample in one] != [sample.ids for sample in other]


def test_an_expert_speaks_only_when_it_is_called():
    row = Conversation(
        "c",
        "p",
        "train",
        (
            Turn("user", "How large?"),
            Turn("assistant", "<CHEST_CT(nodules)>"),
            Turn("expert", "1. solid, 14 mm"),
            Turn("assistant", "14 mm."),
            Turn("user", "Which side?"),
            Turn("assistant", "Left."),
        ),
    )
    calls = Sample(Script.of(row), None)  # type: ignore[arg-type]
    said = calls.follow("<CHEST_CT(nodules)>")
    assert said is not None
    assert said[0].role == "expert"
    assert calls.answers == []
    following = calls.follow("14 mm.")
    assert following is not None
    assert following[0].text == "Which side?"
    assert calls.follow("Left.") is None
    assert calls.answers == ["14 mm.", "Left."]
    silent = Sample(Script.of(row), None)  # type: ignore[arg-type]
    following = silent.follow("Large.")
    assert following is not None
    assert following[0].text == "Which side?"


def test_a_second_call_for_one_question_is_an_answer():
    row = Conversation(
        "c",
        "p",
        "train",
        (Turn("user", "How large?"), Turn("assistant", "<A(b)>"), Turn("expert", "none"), Turn("assistant", "None.")),
    )
    sample = Sample(Script.of(row), None)  # type: ignore[arg-type]
    assert sample.follow("<A(b)>") is not None
    assert sample.follow("<A(b)>") is None
    assert sample.answers == ["<A(b)>"]
