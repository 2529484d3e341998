"""Phrase tables: token tries in which the longest phrase wins."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Any

from medvlm.pathways.cues import phrases
from medvlm.pathways.mentions import IfDenied
from medvlm.pathways.spec import Entity, Variable
from medvlm.pathways.tokens import phrase_tokens

# A payload is (kind, symbol): cues have symbol None.
Payload = tuple[str, Any]
Trie = dict[Any, Any]
_END = None

_CUES = (
    "generic",
    "turn",
    "aside",
    "back_aside",
    "either",
    "condition",
    "would",
    "doubt",
    "back_doubt",
    "negation",
    "not",
    "back_negation",
    "not_assessable",
    "pseudo",
)


def add_phrase(trie: Trie, phrase: str, payload: Payload) -> None:
    """Put a phrase into a trie."""
    _add(trie, phrase_tokens(phrase), payload)


def _add(trie: Trie, words: tuple[str, ...], payload: Payload) -> None:
    node = trie
    for word in words:
        node = node.setdefault(word, {})
    if node is not trie:
        node[_END] = payload


def longest(trie: Trie, words: list[str], start: int, end: int) -> tuple[Payload, int] | None:
    """The longest phrase that starts at `start` and ends before `end`: its payload and the position after it."""
    best, at = None, start
    node = trie
    while at < end and words[at] in node:
        node = node[words[at]]
        at += 1
        payload = node.get(_END)
        if payload is not None:
            best = (payload, at)
    return best


@cache
def bare_answers() -> Trie:
    """Yes and no, as phrases that stand for a whole answer."""
    trie: Trie = {}
    for phrase in phrases("yes"):
        add_phrase(trie, phrase, ("yes", None))
    for phrase in phrases("no"):
        add_phrase(trie, phrase, ("no", None))
    return trie


@cache
def cue_trie() -> Trie:
    """All cues, shared by all variables."""
    trie: Trie = {}
    for kind in _CUES:
        for phrase in phrases(kind):
            add_phrase(trie, phrase, (kind, None))
    return trie


def value_phrases(variable: Variable) -> Iterable[tuple[str, Payload]]:
    """Every phrase of a variable with what it means.

    Kinds: `value` (means the symbol anywhere), `word` (only in an answer or beside the concept), `concept`, `decoy`.
    """
    presence = variable.type == "boolean" and variable.frame == "presence"
    for phrase in variable.concept:
        yield phrase, ("value", True) if presence else ("concept", None)
    for value in variable.values:
        symbol: Any = value.symbol == "true" if variable.type == "boolean" else value.symbol
        for phrase in (*value.say, *value.words):
            yield phrase, ("word", symbol)
        for phrase in value.synonyms:
            yield phrase, ("value", symbol)
        for phrase in value.denied:
            yield phrase, ("value", IfDenied(symbol))
        for phrase in value.exclude:
            yield phrase, ("decoy", None)
    for phrase in variable.exclude:
        yield phrase, ("decoy", None)


def variable_trie(variable: Variable, entity: Entity | None) -> Trie:
    """The phrases of one variable and the names of the entity's members."""
    trie: Trie = {}
    if entity is not None:
        for member, phrases in entity.members.items():
            for phrase in phrases:
                add_phrase(trie, phrase, ("member", member))
    for phrase, payload in value_phrases(variable):
        words = phrase_tokens(phrase)
        # A leading article is no part of the phrase: `a ground-glass nodule with ...` must not stop at `nodule`.
        _add(trie, words[1:] if len(words) > 1 and words[0] in ("a", "an", "the") else words, payload)
    return trie
