"""Is an answer right? One small rule a kind of question; the rule travels with each test question in its symbols.

kinds:
    yes_no    the answer, or a later sentence of it, begins with yes or no; else a bare negation ("No nodule.", "not
              enlarged") counts as no
    count     the first whole number; a negation without a number counts as 0
    number    the first number before `unit` (any number where unit is ""), right within the larger of `absolute` and
              `relative` × truth
    choice    exactly one of `options` is named (the longest name wins: "part-solid" is not "solid")
    mentions  every one of `words` occurs
    exact     equal after lower-casing and dropping punctuation
    option    a letter ("B", "(b)", "B. focal", "the answer is B") or the text of exactly one of `options`; the truth is
              the letter
"""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from string import ascii_uppercase
from typing import Any, Literal, get_args

from medvlm.errors import MedVLMError

# Of the rules, for signatures; 2 reads an answer after a sentence that is none.
VERSION = "rules2"
Kind = Literal["yes_no", "count", "number", "choice", "mentions", "exact", "option"]

_NEGATION = re.compile(r"\b(no|not|none|without|absent|negative|nothing)\b")
# "The picture does not fit the expert. Yes, a nodule.": what comes first is not the answer.
_LATER = re.compile(r"[.!:;]\s+(yes|no)\b(?! longer)")
_AFFIRMATION = re.compile(r"\b(yes|present|there (is|are)|positive)\b")
# An answer that gives none: the "no" in it is not an answer to the question.
_ABSTAINED = re.compile(r"\b(no (result|answer)|(cannot|can't) (tell|say|answer|determine)|unable to|not sure)\b")
_NUMBER = r"(?<![\w.])(\d+(?:\.\d+)?)"
_NUMBER_WORDS = {"one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9}


@dataclass(frozen=True)
class Score:
    """How answers to one question are judged.

    Attributes:
        kind: see the module.
        unit: unit after the number, for `number`.
        absolute, relative: tolerance, for `number`; the larger one holds.
        options: the possible choices, for `choice`.
        words: what must be mentioned, for `mentions`.
    """

    kind: Kind
    unit: str = ""
    absolute: float = 0.0
    relative: float = 0.0
    options: tuple[str, ...] = ()
    words: tuple[str, ...] = ()

    def read(self, text: str) -> Any:
        """The value that an answer states, or None where it states none."""
        lowered = text.lower()
        match self.kind:
            case "yes_no" | "count" if _ABSTAINED.search(lowered):
                return None
            case "yes_no":
                return _read_yes_no(lowered)
            case "count":
                return _read_count(lowered)
            case "number":
                unit = rf"\s*{re.escape(self.unit.lower())}\b" if self.unit else r"(?!\w)"
                found = re.search(_NUMBER + unit, lowered)
                return float(found[1]) if found else None
            case "choice":
                return _read_choice(lowered, self.options)
            case "mentions":
                return all(re.search(rf"\b{re.escape(word.lower())}\b", lowered) for word in self.words)
            case "option":
                return _read_option(text, self.options)
            case "exact":
                return _plain(text)

    def correct(self, text: str, truth: Any) -> bool:
        """Whether the answer `text` is right, given the true value (a bool, number or text by kind)."""
        value = self.read(text)
        if value is None:
            return False
        if self.kind == "mentions":
            return bool(value)
        if self.kind == "number":
            # 1e-9: a difference of exactly the tolerance is right in spite of binary fractions.
            return bool(abs(value - truth) <= max(self.absolute, self.relative * abs(truth)) + 1e-9)
        if self.kind == "exact":
            return bool(value == _plain(str(truth)))
        return bool(value == truth)

    def to_json(self) -> dict[str, Any]:
        """Only what differs from the defaults."""
        data = {field.name: getattr(self, field.name) for field in fields(self)}
        return {key: list(item) if isinstance(item, tuple) else item for key, item in data.items() if item}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Score:
        """The inverse of `to_json`.

        Raises:
            MedVLMError: an unknown kind or key.
        """
        try:
            values: dict[str, Any] = {
                key: tuple(item) if isinstance(item, list) else item for key, item in data.items()
            }
            score = cls(**values)
        except TypeError as error:
            raise MedVLMError(f"not a score rule: {error}.") from None
        if score.kind not in get_args(Kind):
            raise MedVLMError(f"unknown kind of score '{score.kind}' (known: {', '.join(get_args(Kind))}).")
        return score


def _read_yes_no(text: str) -> bool | None:
    first = re.match(r"\W*(yes|no)\b", text) or _LATER.search(text)
    if first:
        return first[1] == "yes"
    if _NEGATION.search(text):
        return False
    return True if _AFFIRMATION.search(text) else None


def _read_count(text: str) -> int | None:
    found = re.search(r"(?<![\w.])(\d+)(?!\.\d|\w)", text)
    if found:
        return int(found[1])
    for word, number in _NUMBER_WORDS.items():
        if re.search(rf"\b{word}\b", text):
            return number
    return 0 if _NEGATION.search(text) else None


def _read_choice(text: str, options: tuple[str, ...]) -> str | None:
    named = []
    for option in sorted(options, key=len, reverse=True):
        text, count = re.subn(rf"(?<![\w-]){re.escape(option.lower())}(?!\w)", " ", text)
        if count:
            named.append(option)
    return named[0] if len(named) == 1 else None


def _read_option(text: str, options: tuple[str, ...]) -> str | None:
    letters = ascii_uppercase[: len(options)]
    for pattern in (r"^\W*([A-Za-z])(?:\W|$)", r"\b(?:[Aa]nswer|[Oo]ption|[Cc]hoice)\W+(?:is\W+)?([A-Za-z])\b"):
        found = re.search(pattern, text)
        # A sentence may begin with the article "A": a letter counts where it stands alone or before a mark.
        if found and found[1].upper() in letters and not re.match(r"^\W*[Aa] \w", text):
            return found[1].upper()
    named = _read_choice(text.lower(), options)
    return None if named is None else letters[options.index(named)]


def _plain(text: str) -> str:
    return " ".join(re.sub(r"[^\w\s.-]", " ", text.lower()).rstrip(". ").split())
