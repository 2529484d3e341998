"""Rollouts: cached, batched, multi-turn sampling equals what one plain forward pass says."""

import pytest
import torch

from medvlm.dialogue.conversation import Conversation, Turn
from medvlm.models.chat import collate
from medvlm.training import kept_cache
from medvlm.training.rollouts import GIVEN, Rollouts, Sample, Script
from tests.models.families import build_family


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


def test_a_conversation_does_not_depend_on_who_else_is_in_the_batch(tiny, pictures):
    rollouts = Rollouts(tiny, pictures, max_new_tokens=5)
    together = rollouts([script(0), script(1, questions=3), script(2)], group=2, seed=3)
    alone = rollouts([script(2)], group=2, seed=3)
    assert [sample.ids for sample in together[4:]] == [sample.ids for sample in alone]


def test_rows_that_end_early_are_left_alone_and_change_nothing(tiny, pictures, monkeypatch):
    # Half of the words end an answer, so that lengths differ: rows go on by themselves, come back, and lose columns.
    picked: list[int] = []
    select = kept_cache.select
    monkeypatch.setattr(
        "medvlm.training.rollouts.select", lambda *given: picked.append(len(given[1])) or select(*given)
    )
    scripts = [script(number, questions=1 + number % 4) for number in range(6)]
    found = []
    for quick in (True, False):
        rollouts = Rollouts(tiny, pictures, max_new_tokens=9, quick=quick)
        rollouts.stop_ids = set(range(0, len(tiny.processor.tokenizer), 4)) - set(rollouts.forbidden.tolist())
        found.append(rollouts(scripts, group=3, seed=5))
    assert [sample.ids for sample in found[0]] == [sample.ids for sample in found[1]]
    assert [sample.answers for sample in found[0]] == [sample.answers for sample in found[1]]
    assert len(set(picked)) > 3


PLAIN = ["qwen2_5_vl", "qwen3_vl", "paligemma", "gemma3", "mllama", "qwen3_5"]


@pytest.mark.parametrize("name", [*PLAIN, "llava", "idefics3", "internvl"])
def test_every_family_writes_the_likeliest_tokens_of_a_plain_pass(name, pictures):
    loaded = build_family(name)
    rollouts = Rollouts(loaded, pictures, max_new_tokens=5, temperature=0)
    assert rollouts.quick == (name not in PLAIN)
    for sample in rollouts([script(0), script(1, questions=3)], group=2):
        written = [token for token, turn in zip(sample.ids, sample.turns, strict=True) if turn != GIVEN]
        assert written == likeliest(loaded, sample)


@pytest.mark.parametrize("name", [*PLAIN, "llava"])
def test_what_a_rollout_strings_together_is_what_training_would_encode(name, pictures, monkeypatch):
    loaded = build_family(name)
    rollouts = Rollouts(loaded, pictures, quick=False)
    turns = (
        Turn("user", "How large is the largest nodule?", ("1.png",)),
        Turn("assistant", "14 mm."),
        Turn("user", "Which side is it on?"),
        Turn("assistant", "The right one."),
        Turn("user", "How large?"),
        Turn("assistant", "1 mm."),
    )
    conversation = Conversation("c", "p", "train", turns)
    whole = rollouts.encoder.encode(conversation)
    # The answers as the template writes them, one run of supervised tokens each.
    places = whole.supervised.nonzero()[:, 0]
    runs = torch.tensor_split(whole.input_ids[places], (places.diff() > 1).nonzero()[:, 0] + 1)
    answers = iter([run.tolist() for run in runs])
    monkeypatch.setattr("medvlm.training.rollouts._Plain.write", lambda *_: [next(answers)])
    (sample,) = rollouts([Script.of(conversation)])
    own = sample.encoded()
    length = len(own)
    assert own.input_ids.tolist() == whole.input_ids[:length].tolist()
    assert own.supervised.tolist() == whole.supervised[:length].tolist()
    assert not whole.supervised[length:].any()
    assert own.per_token.keys() == whole.per_token.keys()
    for field, values in own.per_token.items():
        assert torch.equal(values, whole.per_token[field][:length]), field


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
