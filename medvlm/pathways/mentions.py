"""What one scan of an answer finds: mentions of values and the stance taken to each."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

Stance = Literal["asserted", "denied", "doubted", "aside", "not_assessable"]
# A mention kind is `value`, `word`, `number`, or weak: `generic` (present, seen).
MENTION_KINDS = ("value", "word", "number")
# Kinds without a symbol: `not seen`, or what is asked about itself being denied (`no venous beading`).
UNNAMED = ("generic", "concept")


@dataclass(frozen=True, slots=True)
class IfDenied:
    """The symbol of a phrase that means it only where the phrase is denied (`no nodule`)."""

    symbol: Any


@dataclass(slots=True)
class Mention:
    """One mention of a symbol (or of the concept, or of something unnamed) with the stance taken to it."""

    kind: str
    symbol: Any
    stance: Stance
    start: int
    end: int
    member: str | None = None
    concept_near: bool = False


@dataclass(slots=True)
class Found:
    """Everything one scan of an answer found."""

    mentions: list[Mention]
    bare: list[tuple[bool, int, int]]
    self_asked: set[Any] = field(default_factory=set)
    doubt: tuple[int, int] | None = None
    not_assessable: tuple[int, int] | None = None


@dataclass(slots=True)
class Event:
    """A phrase or mark that matters, as tokens `[start, end)`."""

    kind: str
    symbol: Any
    start: int
    end: int
