"""Numbers with units: `1.2 cm`, `6-8 mm`, `< 6 mm`, `14 x 10 mm`, `two`, `between 4 and 6`."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

from medvlm.pathways.cues import phrases, word_set
from medvlm.pathways.spec import Variable
from medvlm.pathways.tokens import Tokens, phrase_tokens
from medvlm.pathways.units import is_unit, normal_unit, unit_factor

_WORDS = {word: float(number) for number, word in enumerate(phrases("number_words"))}
_WORDS |= {"single": 1.0, "both": 2.0}
_LABELS = word_set("number_labels")
_CHANGES = word_set("changes")
_COMPARATORS: dict[tuple[str, ...], str] = {
    phrase_tokens(phrase): name
    for name in ("below", "above", "at_most", "at_least", "near")
    for phrase in phrases(name)
}
_LONGEST = max(len(words) for words in _COMPARATORS)
_TINY = 1e-6


@dataclass(frozen=True, slots=True)
class Interval:
    """A number known only as a range, in the variable's unit; `inf` where open."""

    low: float
    high: float

    def __str__(self) -> str:
        if self.high == inf:
            return f">= {self.low:g}"
        return f"<= {self.high:g}" if self.low == -inf else f"{self.low:g} to {self.high:g}"


@dataclass(frozen=True, slots=True)
class Quantity:
    """A number as met in a text: value or interval (None: `12 and 8`, two at once), and whether it carried its unit."""

    value: float | Interval | None
    has_unit: bool
    label: bool


class QuantityReader:
    """Reads quantities of one number variable."""

    def __init__(self, variable: Variable) -> None:
        self.variable = variable
        self.countable = normal_unit(variable.unit) in ("count", "point")

    def __call__(self, tokens: Tokens, at: int) -> tuple[Quantity, int] | None:
        """The quantity whose comparator or number starts at token `at`, and the token after it."""
        words = tokens.words
        name, start = self._comparator(words, at)
        first = self._number(words, start)
        if first is None or (name is None and start != at):
            return None
        values, at_end = [first], start + 1
        factor, at_end = self._unit(tokens, at_end)
        factors = [factor]
        joined = ""
        while at_end < len(words):
            join = words[at_end]
            following = self._number(words, at_end + 1) if at_end + 1 < len(words) else None
            ranged = join in ("-", "to", "or") or (join == "and" and self._between(words, at))
            several = join == "and"
            if following is None or not (join in ("x", "by", "*") or ranged or several):
                break
            joined = "range" if ranged else "several" if several else "size"
            values.append(following)
            factor, at_end = self._unit(tokens, at_end + 2)
            factors.append(factor)
            if ranged:
                break
        at_end = self._out_of(words, at_end)
        if joined == "range" and words[max(0, at - 1)] == "from" and _CHANGES.intersection(words[max(0, at - 5) : at]):
            joined = "change"
        known = [item for item in factors if item is not None]
        if any(item == 0.0 for item in known):
            return None
        # A unit after the last number belongs to all: `6-8 mm`, `1.2 x 0.8 cm`.
        last = known[-1] if known else 1.0
        scaled = [value * (item if item is not None else last) for value, item in zip(values, factors)]
        label = not known and at > 0 and words[at - 1] in _LABELS and not self._concept_before(words, at)
        return Quantity(self._value(scaled, joined, name), bool(known), label), at_end

    def _value(self, values: list[float], joined: str, name: str | None) -> float | Interval | None:
        if joined == "several":
            return None
        if joined == "change":
            return round(values[-1], 6)
        if joined == "range":
            return Interval(min(values), max(values))
        if joined == "size":
            choose = self.variable.dimension
            if choose == "mean":
                number = sum(values[:2]) / 2
            else:
                number = {"max": max(values), "min": min(values), "first": values[0]}[choose]
        else:
            number = values[0]
        number = round(number, 6)
        if name == "below":
            return Interval(-inf, number - _TINY)
        if name == "above":
            return Interval(number + _TINY, inf)
        if name == "at_most":
            return Interval(-inf, number)
        return Interval(number, inf) if name == "at_least" else number

    def _comparator(self, words: list[str], at: int) -> tuple[str | None, int]:
        for size in range(min(_LONGEST, len(words) - at), 0, -1):
            name = _COMPARATORS.get(tuple(words[at : at + size]))
            if name is not None:
                start = at + size
                if start < len(words) and words[start] in ("a", "an", "the", "about", "or"):
                    start += 1
                return name, start
        return None, at

    def _number(self, words: list[str], at: int) -> float | None:
        if at >= len(words):
            return None
        word = words[at]
        if word[0].isdigit():
            return _decimal(word)
        # `one` is a pronoun unless it counts something.
        if word in _WORDS and self.countable:
            following = words[at + 1] if at + 1 < len(words) else ""
            if word != "one" or following not in ("of", "can", "cannot", "could", "would", "should", "may", "might"):
                return _WORDS[word]
        return None

    def _unit(self, tokens: Tokens, at: int) -> tuple[float | None, int]:
        """Factor of the unit at `at` (None: no unit, 0: a unit of something else) and the token after it."""
        words = tokens.words
        if at >= len(words):
            return None, at
        word = words[at]
        if word in ("ng", "pg", "ug") and at + 2 < len(words) and words[at + 1] == "/":
            return unit_factor(f"{word}/{words[at + 2]}", self.variable.unit) or 0.0, at + 3
        cubed = words[at + 1 : at + 2] == ["3"] and tokens.ends[at] == tokens.starts[at + 1]
        if word in ("mm", "cm") and cubed:
            return unit_factor(f"{word}3", self.variable.unit) or 0.0, at + 2
        if not is_unit(word) or (word in ("m", "s", "d", "y", "l") and tokens.starts[at] > tokens.ends[at - 1] + 1):
            return None, at
        factor = unit_factor(word, self.variable.unit)
        return (factor if factor is not None else 0.0), at + 1

    def _between(self, words: list[str], at: int) -> bool:
        return at > 0 and words[at - 1] in ("between", "from")

    def _out_of(self, words: list[str], at: int) -> int:
        """Skip the whole of `3 of 4`, `three out of four`."""
        start = at
        if words[at : at + 2] == ["out", "of"]:
            at += 2
        elif words[at : at + 1] in (["of"], ["/"]):
            at += 1
        if at > start and words[at : at + 1] in (["the"], ["all"]):
            at += 1
        return at + 1 if at > start and self._number(words, at) is not None else start

    def _concept_before(self, words: list[str], at: int) -> bool:
        concept = {word for phrase in self.variable.concept for word in phrase_tokens(phrase)}
        return words[at - 1] in concept


def _decimal(word: str) -> float | None:
    head, comma, tail = word.partition(",")
    if comma:
        # 1,200 counts thousands; 1,2 is a decimal comma.
        word = head + tail if len(tail) == 3 and head != "0" else f"{head}.{tail}"
    try:
        number = float(word)
    except ValueError:
        return None
    return number if number < 1e12 else None
