"""Questions and answers in words: every symbol of every slot, for training and held out for testing."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

from medvlm.pathways.located import PathwayError
from medvlm.pathways.spec import NOT_ASSESSABLE, Pathway, Phrasings, Slot, Value
from medvlm.pathways.units import spoken_units

Split = Literal["train", "heldout"]
TRAIN_NEEDED, HELDOUT_NEEDED = 12, 5


def questions(pathway: Pathway, slot: Slot, split: Split = "train") -> list[str]:
    """The ways to ask for a slot; scoped questions name the member."""
    variable = slot.variable
    own = getattr(variable.ask, split)
    if not own:
        kind = variable.frame if variable.frame in ("presence", "number") else "attribute"
        own = [_fill(frame, slot, "") for frame in getattr(pathway.frames[f"ask.{kind}"], split)]
    if slot.member is None or variable.scope is None:
        return list(own)
    name = pathway.entities[variable.scope].members[slot.member][0]
    return [f"{_capital(name)}: {_small(question)}" for question in own]


def answers(pathway: Pathway, slot: Slot, symbol: Any, split: Split = "train") -> list[str]:
    """The ways to say that a slot has a symbol.

    Raises:
        PathwayError: the symbol has no wording.
    """
    variable = slot.variable
    frames = pathway.frames
    if symbol == NOT_ASSESSABLE:
        return _sentences(getattr(frames["not_assessable"], split), slot, [""])
    if variable.type == "number":
        return _sentences(getattr(frames[variable.frame], split), slot, _numbers(slot, float(symbol)))
    if variable.type == "set":
        if not symbol:
            return _sentences(getattr(frames["set.none"], split), slot, [""])
        return _sentences(getattr(frames[variable.frame], split), slot, _joined(slot, symbol, split))
    name = ("true" if symbol else "false") if variable.type == "boolean" else str(symbol)
    value = variable.by_symbol[name]
    found = list(getattr(value.phrasings, split))
    if variable.frame == "presence":
        found += _sentences(getattr(frames[f"presence.{name}"], split), slot, [""], variable.concept[:2])
    else:
        found += _sentences(getattr(frames[variable.frame], split), slot, _wordings(slot, value, split))
    return list(dict.fromkeys(found))


def unknown_answers(pathway: Pathway, slot: Slot, split: Split = "train") -> list[str]:
    """The ways to decline to answer."""
    return _sentences(getattr(pathway.frames["unknown"], split), slot, [""])


def claims(phrasings: Phrasings, split: Split) -> tuple[str, ...]:
    """Sentences around a `{claim}`."""
    return phrasings.heldout if split == "heldout" else phrasings.train


def _wordings(slot: Slot, value: Value, split: Split) -> list[str]:
    words = [*value.say, *(value.say_heldout if split == "heldout" else ())]
    if not words:
        words = list(value.synonyms[:3]) or list(value.words[:3])
    if not words:
        raise PathwayError(
            f"{slot.variable.id}: value '{value.symbol}' (line {value.line}) has no wording; add 'say: [...]' to it."
        )
    # The held-out wording comes first, so that it is used by most sentences.
    return words[::-1] if split == "heldout" else words


def _numbers(slot: Slot, number: float) -> list[str]:
    spoken = []
    for unit, factor, decimals in spoken_units(slot.variable.unit):
        scaled = round(number * factor, max(decimals, _decimals(slot.variable.step * factor)))
        spoken.append(f"{scaled:g} {unit}".strip() if unit != "%" else f"{scaled:g}%")
    return spoken


def _decimals(step: float) -> int:
    return 0 if step >= 1 else 1 if step >= 0.1 else 2 if step >= 0.01 else 3


def _joined(slot: Slot, symbols: Iterable[str], split: Split) -> list[str]:
    values = [slot.variable.by_symbol[symbol] for symbol in sorted(symbols)]
    columns = [_wordings(slot, value, split) for value in values]
    return [" and ".join(column[turn % len(column)] for column in columns) for turn in range(2)]


def _sentences(frames: Iterable[str], slot: Slot, words: list[str], subjects: tuple[str, ...] = ()) -> list[str]:
    """Every frame with the wordings in turn, twice over if there are several wordings."""
    frames = list(frames)
    found: dict[str, None] = {}
    for turn in range(min(2, max(len(words), len(subjects)))):
        for number, frame in enumerate(frames):
            subject = subjects[(number + turn) % len(subjects)] if subjects else slot.variable.subject
            found.setdefault(_fill(frame, slot, words[(number + turn) % len(words)], subject))
    return list(found)


def _fill(frame: str, slot: Slot, value: str, subject: str = "") -> str:
    variable = slot.variable
    subject = subject or variable.subject
    article = variable.article
    if article in ("a", "an"):
        article = "an" if subject[:1].lower() in "aeiou" else "a"
    with_article = f"{article} {subject}" if article else subject
    verb = "are" if variable.plural else "is"
    return frame.format(
        x=subject,
        X=_capital(subject),
        ax=with_article,
        Ax=_capital(with_article),
        v=value,
        V=_capital(value),
        unit=variable.unit,
        Is=_capital(verb),
        **{"is": verb, "has": "have" if variable.plural else "has"},
    )


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _small(text: str) -> str:
    """A sentence's first letter in lower case, unless the word is an abbreviation."""
    return text[:1].lower() + text[1:] if text[1:2].islower() or text[1:2] == " " else text
