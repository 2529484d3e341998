"""Nothing computed twice, and every token as plain `generate` writes it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from medvlm.dialogue.conversation import Conversation, Turn
from medvlm.errors import MedVLMError
from medvlm.models.generate import Generator
from medvlm.models.memory import can_remember, overlap, shared_start
from tests.models.families import build_family

REMEMBER = ["llava", "llava_next", "llava_onevision", "smolvlm", "idefics3", "internvl"]
QUESTIONS = ["How large is the largest nodule?", "Which side is it on?", "How large?"]


def asked(picture: str, question: str) -> Conversation:
    turns = (Turn("system", "experts: <CHEST_CT(nodules)>"), Turn("user", question, (picture,)))
    return Conversation("q", "p", "test", turns)


def next_turn(conversation: Conversation, said: str) -> Conversation:
    return conversation.add(Turn("assistant", said), Turn("expert", "lung nodules: 1\n1. right upper lobe, 14 mm"))


@pytest.mark.parametrize("name", REMEMBER)
def test_shared_pictures_and_kept_turns_change_no_token(name, pictures):
    loaded = build_family(name)
    plain = Generator(loaded, 8, batch_size=4, root=pictures)
    quick = Generator(loaded, 8, batch_size=4, root=pictures, reuse=True)
    assert quick.reuse
    talks = [asked(f"{number}.png", question) for number in range(2) for question in QUESTIONS]
    first = plain(talks)
    assert quick(talks) == first
    later = [next_turn(talk, said) for talk, said in zip(talks, first)][::-1]
    assert quick(later) == plain(later)
    assert quick.computed < 0.6 * plain.computed


def test_families_that_cannot_remember_are_asked_from_the_start(pictures):
    loaded = build_family("qwen3_vl")
    talks = [asked("0.png", question) for question in QUESTIONS]
    quick = Generator(loaded, 6, root=pictures, reuse=True)
    assert not quick.reuse
    assert quick(talks) == Generator(loaded, 6, root=pictures)(talks)


@pytest.mark.parametrize("name", ["paligemma", "mllama", "gemma3", "qwen2_5_vl", "qwen3_5"])
def test_what_cannot_remember_is_known(name):
    assert not can_remember(build_family(name).model, prefix=name == "paligemma")


def test_a_later_picture_starts_anew(pictures):
    loaded = build_family("llava")
    quick, plain = Generator(loaded, 6, root=pictures, reuse=True), Generator(loaded, 6, root=pictures)
    talk = asked("0.png", QUESTIONS[0])
    said = quick.answer(talk)
    more = talk.add(Turn("assistant", said), Turn("user", QUESTIONS[1], ("1.png",)))
    assert quick.answer(more) == plain.answer(more)
    other = replace(talk, turns=(talk.turns[0], replace(talk.turns[1], images=("1.png",))))
    assert quick.answer(other) == plain.answer(other)


def test_what_was_computed_can_be_forgotten(pictures):
    quick = Generator(build_family("llava"), 4, root=pictures, reuse=True)
    quick.answer(asked("0.png", QUESTIONS[0]))
    before = quick.computed
    quick.forget()
    quick.answer(asked("0.png", QUESTIONS[0]))
    assert quick.computed == 2 * before


@pytest.mark.parametrize("name", ["llava", "idefics3"])
def test_drafts_from_the_prompt_change_no_token(name, pictures):
    loaded = build_family(name)
    talk = asked("0.png", "right right right right upper lobe right right right")
    assert Generator(loaded, 24, root=pictures, lookup=6).answer(talk) == Generator(loaded, 24, root=pictures).answer(
        talk
    )


def test_answers_can_be_held_to_choices(tiny, pictures):
    talks = [asked("0.png", question) for question in QUESTIONS]
    choices = ["right upper lobe", "right", "left"]
    assert set(Generator(tiny, 16, root=pictures, choices=choices)(talks)) <= set(choices)
    with pytest.raises(MedVLMError, match="empty"):
        Generator(tiny, 16, choices=[""])


def test_starts_leave_something_to_compute():
    assert shared_start([[1, 2, 3], [1, 2, 4, 5]]) == 2
    assert shared_start([[1, 2], [1, 2]]) == 1
    assert overlap([1, 2, 3, 4], [1, 2, 9]) == 2
    assert overlap([1, 2, 3, 4], [1, 2]) == 1
