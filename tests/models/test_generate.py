from __future__ import annotations

from dataclasses import replace

from medvlm.dialogue.conversation import Conversation, Turn
from medvlm.models.generate import Generator


def prompts(conversation) -> list[Conversation]:
    short = Conversation("s", "p", "test", (Turn("user", "How large?"),))
    picture = replace(conversation, turns=conversation.turns[:2])
    longest = replace(conversation, turns=conversation.turns[:4])
    return [short, picture, longest]


def test_a_batch_gives_what_single_prompts_give(tiny, pictures, conversation):
    generator = Generator(tiny, max_new_tokens=6, root=pictures)
    asked = prompts(conversation)
    assert generator(asked) == [generator.answer(prompt) for prompt in asked]


def test_the_size_of_a_batch_and_the_order_change_nothing(tiny, pictures, conversation):
    asked = prompts(conversation)
    one = Generator(tiny, max_new_tokens=6, batch_size=1, root=pictures)(asked)
    assert Generator(tiny, max_new_tokens=6, batch_size=2, root=pictures)(asked[::-1]) == one[::-1]


def test_nothing_asked_nothing_answered(tiny):
    assert Generator(tiny)([]) == []


def test_the_model_is_left_in_the_mode_it_was_in(tiny, pictures, conversation):
    tiny.model.train()
    Generator(tiny, max_new_tokens=1, root=pictures).answer(prompts(conversation)[0])
    assert tiny.model.training
    tiny.model.eval()
