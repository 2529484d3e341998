"""Multiple choice that cannot be guessed by position.

CircularEval (MMBench) asks a question once for every circular shift of its options; only a question that is right every
time counts (`robustness`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from string import ascii_uppercase

from medvlm.dialogue.conversation import Conversation
from medvlm.errors import MedVLMError
from medvlm.evaluation.rephrase import GROUP

_OPTION = re.compile(r"^[A-Z]\. ")


def circular(conversation: Conversation) -> list[Conversation]:
    """One multiple-choice conversation with its options shifted round, the given order first.

    Raises:
        MedVLMError: the question does not list its options one a line (`A. ...`).
    """
    options = list(conversation.symbols.get("score", {}).get("options", ()))
    index = next((n for n, turn in enumerate(conversation.turns) if turn.role == "user"), -1)
    lines = conversation.turns[index].text.splitlines() if index >= 0 else []
    listed = [line[3:] for line in lines if _OPTION.match(line)]
    if len(options) < 2 or listed != options:
        raise MedVLMError(f"conversation {conversation.id} is not a multiple-choice question.")
    stem = [line for line in lines if not _OPTION.match(line)]
    right = options[ascii_uppercase.index(conversation.symbols["value"])]
    shifted = []
    for shift in range(len(options)):
        order = options[shift:] + options[:shift]
        letter = ascii_uppercase[order.index(right)]
        text = "\n".join([*stem, *(f"{ascii_uppercase[n]}. {option}" for n, option in enumerate(order))])
        turns = list(conversation.turns)
        turns[index] = replace(turns[index], text=text)
        turns[-1] = replace(turns[-1], text=f"{letter}. {right}")
        score = {**conversation.symbols["score"], "options": order}
        symbols = {**conversation.symbols, "answer": letter, "value": letter, "score": score}
        symbols[GROUP] = conversation.id
        shifted.append(replace(conversation, id=f"{conversation.id}~{shift}", turns=tuple(turns), symbols=symbols))
    return shifted


def circular_set(conversations: Sequence[Conversation]) -> list[Conversation]:
    """All multiple-choice questions with their shifts; other questions once."""
    return [
        row
        for conversation in conversations
        for row in (
            circular(conversation) if conversation.symbols.get("score", {}).get("kind") == "option" else [conversation]
        )
    ]
