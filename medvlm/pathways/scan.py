"""Text → mentions: the phrases of a variable and the cues around them, sentence by sentence, in linear time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from medvlm.pathways.lexicon import Trie, bare_answers, cue_trie, longest
from medvlm.pathways.mentions import UNNAMED, Event, Found
from medvlm.pathways.stance import LIST_WORDS, PREDICATES, PRONOUNS, Judge
from medvlm.pathways.tokens import Tokens

NumberReader = Callable[[Tokens, int], "tuple[Any, int] | None"]
_MARKS = frozenset(",()[];:") | LIST_WORDS | PREDICATES


def scan(
    tokens: Tokens,
    trie: Trie,
    number: NumberReader | None,
    own: str | None,
    as_statement: bool,
    exclusive: bool = False,
) -> Found:
    """Find and judge all mentions.

    Args:
        tokens: the text.
        trie: phrases of the variable.
        number: reads a quantity at a token, for number variables.
        own: the entity member that is asked about.
        as_statement: read a question as the statement it proposes (questions and opinions count).
        exclusive: the values exclude each other, so that `no A, B` denies A only.
    """
    words = tokens.words
    found = Found([], [])
    start = 0
    size = len(words)
    for position in range(size + 1):
        if position < size and words[position] not in ".?!\n":
            continue
        if position > start:
            question = position < size and words[position] == "?"
            _sentence(tokens, start, position, trie, number, own, as_statement, exclusive, question, found)
        start = position + 1
    return found


def _sentence(
    tokens: Tokens,
    start: int,
    end: int,
    trie: Trie,
    number: NumberReader | None,
    own: str | None,
    as_statement: bool,
    exclusive: bool,
    question: bool,
    found: Found,
) -> None:
    if not question or not as_statement:
        start = _bare(tokens, start, end, trie, found)
    events = _events(tokens, start, end, trie, number)
    judge = Judge(tokens, events, own, as_statement, exclusive, found)
    judge.run()
    if question and not as_statement:
        # A question inside an answer asserts nothing (`AML?` is a doubtful mention), but a following no answers it.
        found.self_asked |= {mention.symbol for mention in judge.mentions if mention.kind not in UNNAMED}
        if end - start > 3:
            return
        for mention in judge.mentions:
            mention.stance = "doubted"
    found.mentions += judge.mentions


def _bare(tokens: Tokens, start: int, end: int, trie: Trie, found: Found) -> int:
    """A yes or no that opens the sentence; returns where the rest starts."""
    words = tokens.words
    hit = longest(bare_answers(), words, start, end)
    if hit is None:
        return start
    own = longest(trie, words, start, end)
    if own is not None and own[1] >= hit[1]:
        return start
    (kind, _), after = hit
    following = words[after] if after < end else ""
    closed = not following or following in ",;:-)"
    if not closed and not (words[start] in ("yes", "no") and after == start + 1 and following in PRONOUNS):
        return start
    if words[start] == "no" and following in ("other", "a") and not closed:
        return start
    found.bare.append((kind == "yes", tokens.starts[start], tokens.ends[after - 1]))
    return after + 1 if closed and following else after


def _events(tokens: Tokens, start: int, end: int, trie: Trie, number: NumberReader | None) -> list[Event]:
    words = tokens.words
    cue = cue_trie()
    events: list[Event] = []
    at = start
    while at < end:
        word = words[at]
        if word not in trie and word not in cue and word not in _MARKS and number is None:
            at += 1
            continue
        own = longest(trie, words, at, end) if word in trie else None
        other = longest(cue, words, at, end) if word in cue else None
        if other is not None and own is None and other[1] > at + 1:
            # A phrase of the variable that begins inside the cue and goes beyond it cuts the cue short:
            # `no new vessels` holds `no`, not `no new`.
            for inner in range(at + 1, other[1]):
                phrase = longest(trie, words, inner, end) if words[inner] in trie else None
                if phrase is not None and phrase[1] > other[1]:
                    other = longest(cue, words, at, inner)
                    break
        if number is not None and own is None:
            quantity = number(tokens, at)
            if quantity is not None and (other is None or quantity[1] >= other[1]):
                events.append(Event("number", quantity[0], at, quantity[1]))
                at = quantity[1]
                continue
        if own is not None and (other is None or own[1] >= other[1]):
            after = _scale(words, own[1], end)
            events.append(Event(own[0][0], own[0][1], at, after))
            at = after
        elif other is not None:
            # `between 4 and 6` is a range, not a doubt.
            if number is None or word != "between" or number(tokens, other[1]) is None:
                events.append(Event(other[0][0], None, at, other[1]))
            at = other[1]
        else:
            if word in ";:":
                events.append(Event("turn", None, at, at + 1))
            elif word in ",()[]" or word in LIST_WORDS:
                events.append(Event(word, None, at, at + 1))
            elif word in PREDICATES:
                events.append(Event("predicate", None, at, at + 1))
            at += 1
    return events


def _scale(words: list[str], at: int, end: int) -> int:
    """Skip the scale of a score: `4/5`, `4 out of 5`."""
    if not words[at - 1].isdigit():
        return at
    step = at + 2 if words[at : at + 2] == ["out", "of"] else at + 1 if words[at : at + 1] in (["/"], ["of"]) else at
    return step + 1 if at < step < end and words[step].isdigit() else at
