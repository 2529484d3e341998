"""Copying drill: random words of the training data, to be said again.

A model that starts from random weights must find out how to copy before it can quote a finding. Nothing teaches that
faster than sequences with no other regularity. A few hundred short batches of them come first; a pretrained model
needs none.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from medvlm.dialogue.conversation import Conversation, Turn

SHORTEST, LONGEST = 6, 20
NUMBERS = 0.5


def drill(conversations: Sequence[Conversation], count: int, seed: int = 0) -> list[Conversation]:
    """`count` conversations in which the assistant repeats what the user said.

    Half of the words are random numbers of one to three digits, the rest are words that experts (or else anybody)
    say in `conversations`.
    """
    words = _words(conversations, {"expert"}) or _words(conversations, {"system", "user", "assistant"})
    random = np.random.default_rng(seed)
    drills = []
    for number in range(count):
        said = " ".join(_word(random, words) for _ in range(int(random.integers(SHORTEST, LONGEST + 1))))
        name = f"drill-{number}"
        drills.append(Conversation(name, name, "train", (Turn("user", said), Turn("assistant", said)), "drill"))
    return drills


def _words(conversations: Sequence[Conversation], roles: set[str]) -> list[str]:
    texts = (turn.text for row in conversations for turn in row.turns if turn.role in roles)
    return sorted({word for text in texts for word in re.findall(r"[^\W\d_][\w-]*", text)})


def _word(random: np.random.Generator, words: list[str]) -> str:
    if not words or random.random() < NUMBERS:
        return str(int(random.integers(10 ** int(random.integers(1, 4)))))
    return words[int(random.integers(len(words)))]
