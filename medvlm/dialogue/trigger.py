"""The trigger grammar: how an assistant calls an expert, and how foreign text is kept from doing so.

    trigger  = "<" name "(" argument ")" ">"
    name     = capital letter, then up to 63 capital letters, digits or "_"
    argument = up to 64 characters, none of "<>()" and no line break; may be empty (everything)

A reply may hold several triggers. Anything that does not match whole is plain text.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

NAME_LIMIT = 64
ARGUMENT_LIMIT = 64

_CAPITALS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
_NAME = _CAPITALS | frozenset("0123456789_")
_NOT_IN_ARGUMENT = frozenset("<>()\r\n")


@dataclass(frozen=True)
class Trigger:
    """A call of one expert: `name` is the upper-case trigger name, `argument` what is asked (empty: everything)."""

    name: str
    argument: str = ""


def format_trigger(trigger: Trigger) -> str:
    """`<NAME(argument)>`, the inverse of `parse_triggers`.

    Raises:
        ValueError: name or argument are outside the grammar.
    """
    text = f"<{trigger.name}({trigger.argument})>"
    if parse_triggers(text) != [trigger]:
        raise ValueError(f"{text!r} is not a trigger: see the grammar in medvlm.dialogue.trigger")
    return text


def parse_triggers(text: str) -> list[Trigger]:
    """All triggers in `text`, in order; one pass, linear in its length."""
    triggers = []
    position = text.find("<")
    while position >= 0:
        parsed = _parse_at(text, position)
        if parsed is None:
            position = text.find("<", position + 1)
        else:
            trigger, end = parsed
            triggers.append(trigger)
            position = text.find("<", end)
    return triggers


def _parse_at(text: str, start: int) -> tuple[Trigger, int] | None:
    """The trigger that begins at `text[start] == "<"` and the index after it, or None."""
    name_end = start + 1
    while name_end < len(text) and text[name_end] in _NAME:
        name_end += 1
    name = text[start + 1 : name_end]
    if not 0 < len(name) <= NAME_LIMIT or name[0] not in _CAPITALS or text[name_end : name_end + 1] != "(":
        return None
    argument_end = name_end + 1
    while argument_end < len(text) and text[argument_end] not in _NOT_IN_ARGUMENT:
        argument_end += 1
    argument = text[name_end + 1 : argument_end].strip()
    if len(argument) > ARGUMENT_LIMIT or text[argument_end : argument_end + 2] != ")>":
        return None
    return Trigger(name, argument), argument_end + 2


# Comparisons are the honest use of angle brackets in medical text ("< 3 mm"): they become words.
_COMPARISONS = [
    (re.compile(r"[ \t]?<=\s*(?=[\d.])"), " at most "),
    (re.compile(r"[ \t]?>=\s*(?=[\d.])"), " at least "),
    (re.compile(r"[ \t]?<\s*(?=[\d.])"), " less than "),
    (re.compile(r"[ \t]?>\s*(?=[\d.])"), " more than "),
]
_ROLE_LINE = re.compile(
    r"^([\s#*|]*)(system|user|human|assistant|expert|model|gpt|tool|function)([\s*]*):", re.IGNORECASE | re.MULTILINE
)
# Characters that no tokenizer's Unicode normalisation turns back into a bracket.
_BRACKETS = {"<": "‹", ">": "›", "[": "(", "]": ")", "{": "(", "}": ")", "|": "/"}


def sanitize(text: str, limit: int | None = None) -> str:
    """Text from a file, made unable to act in a prompt: no trigger, image token, chat marker or role line survives.

    Numbers and words stay as they are, comparisons are written out, and control and invisible characters go.
    Applying it twice changes nothing more.

    Args:
        text: anything: a DICOM tag, a report, a file name.
        limit: cut after this many characters.
    """
    kept = "".join(_plain(character) for character in text)
    for pattern, words in _COMPARISONS:
        kept = pattern.sub(words, kept)
    kept = "".join(_BRACKETS.get(character, character) for character in kept)
    kept = _ROLE_LINE.sub(r"\1\2\3 -", kept)
    return kept if limit is None or len(kept) <= limit else kept[:limit].rstrip()


def _plain(character: str) -> str:
    """Drop control and format characters; give look-alikes of brackets as the brackets they normalise to."""
    if character in "\n\t":
        return character
    if character in "\r\u2028\u2029\x85":
        return "\n"
    if unicodedata.category(character) in ("Cc", "Cf", "Cs", "Co", "Cn"):
        return ""
    if character in "≮≯":
        return "≥" if character == "≮" else "≤"
    folded = unicodedata.normalize("NFKC", character)
    return folded if any(bracket in folded for bracket in _BRACKETS) or folded == ":" else character
