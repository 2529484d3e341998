"""A sentence taken apart into statements that one finding each must carry."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from medvlm.reporting.wording import NEGATION, NUMBER

Concepts = tuple[str, ...]
# "without" and "neither" begin a part and deny it; a comma parts only what stands for itself.
_JOINT = re.compile(r"\s*;\s*|,?\s+(?:and|but|with|plus|whereas|while|or|nor)\s+|,\s+|,?\s+(?=without\b)", re.I)
_PLACE = re.compile(r"\b(left|right|bilateral|both|each|(?:upper|middle|lower) lobe|lingula)\b", re.I)
RANK = re.compile(r"\b(?:(larger|largest|biggest|dominant|main|principal)|(smaller|smallest|lesser))\b", re.I)
COUNT_WORDS = {"one": 1, "single": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8}
BARE_COUNT = re.compile(rf"^(?:and\s+)?({'|'.join(COUNT_WORDS)}|\d+)\s+(?:on|in|of|at)\b", re.I)
_VERB = re.compile(r"\b(is|are|was|were|has|have|shows?|lies|contains?|measur\w+|appears?|demonstrates?)\b", re.I)
# Whose anatomy a part speaks of, where it names no finding: it takes over only a concept of that anatomy.
_ANATOMY = {"lung": ("lung", "pulmonary"), "pleura": ("pleura",), "heart": ("heart", "cardi")}


@dataclass(frozen=True)
class Statement:
    """Words that must be carried by one finding, or by all of a place; `concepts` are those they name or take over."""

    text: str
    concepts: Concepts


def statements(text: str, named: Callable[[str], Concepts], about: Callable[[str], str]) -> list[Statement]:
    """The statements of a sentence, in order.

    `A 14 mm nodule in the right upper lobe, solid, and a 6 mm nodule in the left lower lobe` → two; a part that names
    no finding, no further place, rank or count goes with the part before it.

    Args:
        text: in normal form.
        named: words → the concepts that they name.
        about: concept → its names, for telling whose anatomy it is of.
    """
    parts = _parts(text)
    made: list[Statement] = []
    for number, (joint, part) in enumerate(parts):
        own = named(part)
        if made and not own and not _stands_alone(made[-1].text, part, joint):
            made[-1] = Statement(f"{made[-1].text} {part}", made[-1].concepts)
            continue
        taken = own or next((names for _, later in parts[number + 1 :] if (names := named(later))), ())
        taken = own or (made[-1].concepts if made else ()) or taken
        if not own and not _fits(part, taken, about):
            taken = ()
        if made and own and _takes_denial(joint, part) and NEGATION.search(made[-1].text):
            part = f"no {part}"
        made.append(Statement(part, taken))
    return made


def _parts(text: str) -> list[tuple[str, str]]:
    """`(joint before it, part)`."""
    found, start, joint = [], 0, ""
    for match in _JOINT.finditer(text):
        found.append((joint, text[start : match.start()]))
        joint, start = match[0].strip().lower().removeprefix(", "), match.end()
    found.append((joint, text[start:]))
    return [(joint, part) for joint, part in found if re.search(r"\w", part)]


def _stands_alone(before: str, part: str, joint: str) -> bool:
    """A part without a name of its own that is not about the finding of the part before it."""
    if RANK.search(part) or BARE_COUNT.search(part):
        return True
    if joint == ";" or (NEGATION.search(part) and _PLACE.search(part)):
        return True
    return _PLACE.search(before) is not None and _PLACE.search(part) is not None


def _takes_denial(joint: str, part: str) -> bool:
    """A name in a list that is denied as a whole: `No effusion, nodule or cardiomegaly is seen`."""
    if NEGATION.search(part) or NUMBER.search(part) or _PLACE.search(part):
        return False
    return joint in ("or", "nor") or (joint == "," and not _VERB.search(part))


def _fits(part: str, concepts: Concepts, about: Callable[[str], str]) -> bool:
    spoken = [stems for stems in _ANATOMY.values() if any(re.search(rf"\b{stem}", part, re.I) for stem in stems)]
    return all(any(stem in about(concept) for stem in stems) for stems in spoken for concept in concepts)
